//! The coordinator's page: the same pieces, of the last while.

use maud::{Markup, html};
use railgauge_core::finding::Finding;
use railgauge_core::quantile::Quantile;

use super::curves::{Curve, curves, fleet_curves, path_panels};
use super::heat::{View, heat_map, telling_view};
use super::worst::{telling, worst_paths};
use super::{appendix, findings::findings, frame, verdict};
use crate::doc::{Findings, Paths};
use crate::number::span;

/// Seconds between two looks: as often as a window of continuous probing ends.
const REFRESH_S: u32 = 10;

/// What the page can be asked for.
const CHOICE: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P99_9];

/// The quantile that `q` asks for: `p50`, `p99` or `p99.9`.
pub fn quantile_from(text: &str) -> Option<Quantile> {
    CHOICE.into_iter().find(|quantile| quantile.to_string() == text)
}

/// The whole page.
pub fn live_page(paths: &Paths, open: &Findings, quantile: Quantile) -> String {
    let list: Vec<&Finding> = open.findings.iter().map(|open| &open.finding).collect();
    let seen: Vec<String> = open
        .findings
        .iter()
        .map(|open| format!("first seen {}, last {}", open.first_seen, open.last_seen))
        .collect();
    let nodes: Vec<String> = paths.nodes.iter().map(|node| node.name.clone()).collect();
    let fleet = fleet(paths);
    let views = ["network_rtt", "app_rtt", "prober_delay", "responder_delay"]
        .map(|series| View::Latency(series, quantile));
    let error = paths.error.as_deref().or(open.error.as_deref());
    let title = format!("Railgauge: {}", open.verdict.as_str());
    let body = html! {
        header {
            h1 { "Railgauge" }
            p.quiet { "State of " (paths.at) ", from the last " (span(paths.since_ns)) " of continuous probing. "
                "The page asks again every " (REFRESH_S) " s." }
        }
        (verdict::banner(open.verdict, &list, &paths.nodes, &paths.paths, error))
        section { h2 { "Open findings" } (findings(&list, &seen)) }
        section {
            h2 { "Who is slow to whom" }
            (choice(quantile))
            (heat_map(&paths.paths, &nodes, &views, telling_view(&views, &list), "map"))
        }
        section { h2 { "How long the tail is" } (curves("Percentiles of the fleet", &fleet)) }
        section { h2 { "Worst paths against the fleet" }
            (path_panels(&telling(&paths.paths), &fleet)) (worst_paths(&paths.paths)) }
        section { h2 { "Loss" } (heat_map(&paths.paths, &nodes, &[View::Loss], 0, "loss")) }
        section { h2 { "What is not known" } (appendix::unknown(&paths.nodes, &paths.paths, &[], &[])) }
        section { h2 { "Nodes" } (appendix::nodes(&paths.nodes)) }
        section { h2 { "How to read it" } (appendix::how_to_read(None)) }
        section { h2 { "More" } p {
            a href="/sweeps" { "Sweeps" } ", and as JSON: " a href="/paths.json" { "paths" } ", "
            a href="/findings.json" { "findings" } ", " a href="/nodes.json" { "nodes" } "."
        } }
        footer.quiet { "coordinator " (paths.coordinator_version) }
    };
    frame::page(&title, Some(REFRESH_S), &body)
}

/// The coordinator's aggregate where the document has it, else the paths merged.
fn fleet(paths: &Paths) -> Vec<Curve> {
    let Some(fleet) = &paths.fleet else { return fleet_curves(&paths.paths) };
    let m = &fleet.measures;
    [
        ("app RTT", &m.app_rtt),
        ("network RTT", &m.network_rtt),
        ("prober delay", &m.prober_delay),
        ("responder delay", &m.responder_delay),
    ]
    .into_iter()
    .filter_map(|(name, series)| Curve::of(name, series.as_ref()?))
    .collect()
}

fn choice(shown: Quantile) -> Markup {
    html! {
        nav.choice aria-label="Quantile of the map" { @for quantile in CHOICE {
            @if quantile == shown { b aria-current="page" { (quantile) } }
            @else { a href={ "?q=" (quantile) } { (quantile) } }
        } }
    }
}
