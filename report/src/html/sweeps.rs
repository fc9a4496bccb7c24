//! The coordinator's list of sweeps.

use maud::{Markup, html};

use super::frame;

/// A sweep in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepLine {
    /// What the coordinator calls it: letters and digits.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Its verdict; `None` while it runs.
    pub verdict: Option<String>,
}

/// The whole page; `sweeps` as they are to be listed.
pub fn sweeps_page(sweeps: &[SweepLine]) -> String {
    let body = html! {
        header {
            h1 { "Sweeps" }
            p.quiet { "Those that run and the last that ended, the newest first. " a href="/" { "State of the fleet" } }
        }
        section {
            @if sweeps.is_empty() {
                p.empty { "None yet: `railgauge sweep` runs one." }
            } @else {
                table { thead { tr { th { "Began" } th { "Verdict" } th { "Report" } th { "Document" } } }
                    tbody { @for sweep in sweeps { (line(sweep)) } } }
            }
        }
    };
    frame::page("Railgauge: sweeps", None, &body)
}

fn line(sweep: &SweepLine) -> Markup {
    // A link is made of our own names only.
    let plain = sweep.id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    html! { tr {
        td { (sweep.started_at) }
        td { (sweep.verdict.as_deref().unwrap_or("running")) }
        @if plain && sweep.verdict.is_some() {
            td { a href={ "/sweeps/" (sweep.id) } { (sweep.id) } }
            td { a href={ "/sweeps/" (sweep.id) ".json" } { (sweep.id) ".json" } }
        } @else { td { (sweep.id) } td {} }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_what_has_ended_and_names_are_escaped() {
        let of = |id: &str, verdict: Option<&str>| SweepLine {
            id: id.into(),
            started_at: "2026-11-23T07:00:00Z".into(),
            verdict: verdict.map(str::to_owned),
        };
        let page =
            sweeps_page(&[of("s1", None), of("s2", Some("failed")), of("\"><b>", Some("x"))]);
        assert!(page.contains("href=\"/sweeps/s2\"") && !page.contains("/sweeps/s1"));
        assert!(page.contains("running") && !page.contains("<b>"));
        assert!(sweeps_page(&[]).contains("None yet"));
    }
}
