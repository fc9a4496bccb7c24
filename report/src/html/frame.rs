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
