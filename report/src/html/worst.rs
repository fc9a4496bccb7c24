//! The table of the worst paths, with n and intervals.

use std::cmp::Reverse;
use std::collections::HashMap;

use maud::{Markup, html};
use railgauge_core::finding::Verdict;
use railgauge_core::quantile::Quantile;

use super::LISTED;
use super::reading::Reading;
use super::verdict::mark;
use crate::doc::PathDoc;
use crate::number::{count, percent};

/// Paths, worst first: those that failed, then degraded ones, then by p99 of RTT.
pub fn by_worst(paths: &[PathDoc]) -> Vec<&PathDoc> {
    let key = |path: &&PathDoc| {
        let judged = matches!(path.verdict, Verdict::Degraded | Verdict::Failed);
        let p99 = Reading::of(path.measures.rtt(), Quantile::P99).reached_ns();
        let p50 = Reading::of(path.measures.rtt(), Quantile::P50).reached_ns();
        Reverse((judged.then_some(path.verdict), path.measures.counts.is_silent(), p99, p50))
    };
    let mut order: Vec<&PathDoc> = paths.iter().collect();
    order.sort_by_key(key);
    order
}

/// Those of which a drawing says something: the worst, but at most 4 of any node, so that one bad node does not hide another, and
/// healthy ones only to make up 3.
pub fn telling(paths: &[PathDoc]) -> Vec<&PathDoc> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut chosen: Vec<&PathDoc> = Vec::new();
    for path in by_worst(paths) {
        let ends = [path.src_node.as_str(), path.dst_node.as_str()];
        let judged = matches!(path.verdict, Verdict::Degraded | Verdict::Failed);
        let often = ends.iter().any(|node| seen.get(node).is_some_and(|times| *times >= 4));
        if path.measures.counts.received == 0 || often || !(judged || chosen.len() < 3) {
            continue;
        }
        ends.into_iter().for_each(|node| *seen.entry(node).or_default() += 1);
        chosen.push(path);
    }
    chosen
}

/// The table of the 20 worst.
pub fn worst_paths(paths: &[PathDoc]) -> Markup {
    if paths.is_empty() {
        return html! { p.empty { "No path was measured." } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Worst paths" {
            table.paths {
                caption { "RTT is network RTT where packets have stamps, else app RTT. In brackets the 95 % interval; "
                    "- is withheld: too few samples." }
                thead { tr {
                    th scope="col" { "path" } th scope="col" { "verdict" }
                    th.n scope="col" { "n" } th.n scope="col" { "loss" }
                    @for quantile in SHOWN { th.n scope="col" { "RTT " (quantile) } }
                    @for (name, _) in BESIDE { th.n scope="col" { (name) } }
                } }
                tbody { @for path in by_worst(paths).into_iter().take(LISTED) { (row(path)) } }
            }
        }
        @if paths.len() > LISTED { p.note { (paths.len() - LISTED) " more are in the JSON document." } }
    }
}

/// Where a tail is that the network has not: their p99, without intervals.
const BESIDE: [(&str, &str); 3] = [
    ("app RTT p99", "app_rtt"),
    ("prober p99", "prober_delay"),
    ("responder p99", "responder_delay"),
];

const SHOWN: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P99_9];

fn row(path: &PathDoc) -> Markup {
    let counts = &path.measures.counts;
    let series = path.measures.rtt();
    html! { tr {
        th scope="row" { (path.name()) @if let Some(error) = &path.error { br; span.quiet { (error) } } }
        td { (mark(path.verdict)) }
        td.n { (count(series.map_or(0, |s| s.count))) }
        td.n { @match counts.loss() { Some(loss) => { (percent(loss)) }, None => { "-" } } }
        @for quantile in SHOWN {
            @let reading = Reading::of(series, quantile);
            td.n { (reading.short()) " " span.quiet { (reading.interval()) } }
        }
        @for (_, series) in BESIDE {
            td.n { (Reading::of(path.measures.series(series), Quantile::P99).short()) }
        }
    } }
}
