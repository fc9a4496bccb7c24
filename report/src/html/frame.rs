//! The frame of every page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Ours, not a document's: it goes in as it is.
const STYLE: &str = include_str!("style.css");

/// What a page may do: show its own style, and nothing else. A browser that obeys it fetches nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A whole page. `refresh_s`: after so many seconds the browser asks for it again.
pub fn page(title: &str, refresh_s: Option<u32>, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh_s { meta http-equiv="refresh" content=(seconds); }
                // An empty one, or the browser asks the server for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    markup.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `--bN:#rrggbb`: its luminance by ITU-R BT.601, 0 to 255.
    fn luminance(step: u8) -> f64 {
        let hex = STYLE.split(&format!("--b{step}:#")).nth(1).unwrap();
        let part = |at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        0.299 * part(0) + 0.587 * part(2) + 0.114 * part(4)
    }

    #[test]
    fn shades_grow_darker_step_by_step_in_grey() {
        let steps: Vec<f64> = (0..5).map(luminance).collect();
        assert!(steps.windows(2).all(|pair| pair[0] - pair[1] > 15.0), "{steps:?}");
    }
}
