//! The report of a sweep.

use maud::html;
use railgauge_core::finding::Finding;
use railgauge_core::quantile::Quantile;

use super::curves::{curves, fleet_curves, path_panels};
use super::heat::{View, heat_map, telling_view};
use super::worst::{telling, worst_paths};
use super::{appendix, findings::findings, frame, verdict};
use crate::doc::Sweep;
use crate::number::span;

/// The views of the map.
const VIEWS: [View; 6] = [
    View::Latency("network_rtt", Quantile::P50),
    View::Latency("network_rtt", Quantile::P99),
    View::Latency("network_rtt", Quantile::P99_9),
    View::Latency("app_rtt", Quantile::P99),
    View::Latency("prober_delay", Quantile::P99),
    View::Latency("responder_delay", Quantile::P99),
];

/// The whole page.
pub fn sweep_page(sweep: &Sweep) -> String {
    let list: Vec<&Finding> = sweep.findings.iter().collect();
    let nodes: Vec<String> = sweep.nodes.iter().map(|node| node.name.clone()).collect();
    let fleet = fleet_curves(&sweep.paths);
    let title = format!("Railgauge sweep {}: {}", sweep.id, sweep.verdict.as_str());
    let body = html! {
        header {
            h1 { "Fabric sweep " span.name { (sweep.id) } }
            p.quiet { (sweep.started_at) @if sweep.duration_ns > 0 { ", " (span(sweep.duration_ns)) }
                @if !sweep.suite.is_empty() { ", suite " (sweep.suite) } }
        }
        (verdict::banner(sweep.verdict, &list, &sweep.nodes, &sweep.paths, sweep.error.as_deref()))
        section { h2 { "Findings" } (findings(&list, &[])) }
        @if !sweep.paths.is_empty() {
        section { h2 { "Who is slow to whom" } (heat_map(&sweep.paths, &nodes, &VIEWS, telling_view(&VIEWS, &list), "map")) }
        section { h2 { "How long the tail is" } (curves("Percentiles of the fleet", &fleet)) }
        section {
            h2 { "Worst paths against the fleet" }
            (path_panels(&telling(&sweep.paths), &fleet))
            (worst_paths(&sweep.paths))
        }
        section { h2 { "Loss" } (heat_map(&sweep.paths, &nodes, &[View::Loss], 0, "loss")) }
        }
        section { h2 { "What is not known" }
            (appendix::unknown(&sweep.nodes, &sweep.paths, &sweep.not_measured, &sweep.validity)) }
        section { h2 { "Nodes" } (appendix::nodes(&sweep.nodes)) }
        section { h2 { "How it was measured" } (appendix::parameters(sweep)) }
        section { h2 { "How to read it" } (appendix::how_to_read(Some(&sweep.parameters))) }
    };
    frame::page(&title, None, &body)
}
