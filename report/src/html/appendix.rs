//! What stands behind the numbers: nodes, parameters, what is not known, how to read it.

use std::collections::BTreeMap;

use maud::{Markup, html};
use railgauge_core::finding::Verdict;
use railgauge_core::quantile::Quantile;

use super::LISTED;
use super::reading::Reading;
use super::verdict::mark;
use crate::doc::{NodeDoc, NotMeasured, Parameters, PathDoc, Sweep};
use crate::number::{count, counted, latency, span};

/// The nodes.
pub fn nodes(nodes: &[NodeDoc]) -> Markup {
    if nodes.is_empty() {
        return html! { p.empty { "No node is known." } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Nodes" {
            table.nodes {
                thead { tr {
                    @for name in ["node", "verdict", "state", "ports", "labels", "version", "notes"] {
                        th scope="col" { (name) }
                    }
                } }
                tbody { @for node in nodes { tr {
                    th scope="row" { (node.name) }
                    td { (mark(node.verdict)) }
                    td { (node.state) }
                    td { @for (at, port) in node.ports.iter().enumerate() {
                        @if at > 0 { br; }
                        (port.port) " " span.quiet { (port.address) ", rail " (port.rail) }
                    } }
                    td { @for (at, (key, value)) in node.labels.iter().enumerate() {
                        @if at > 0 { br; }
                        (key) "=" (value)
                    } }
                    td { (node.version) }
                    td { (node.notes.join("; ")) }
                } } }
            }
        }
    }
}

/// How it was measured.
pub fn parameters(sweep: &Sweep) -> Markup {
    let p = &sweep.parameters;
    let rounds = format!("{} of {} planned", sweep.rounds, sweep.rounds_planned);
    let rows = [
        ("sweep", sweep.id.clone()),
        ("suite", sweep.suite.clone()),
        ("started", sweep.started_at.clone()),
        ("finished", sweep.finished_at.clone().unwrap_or_else(|| "not finished".to_owned())),
        ("took", span(sweep.duration_ns)),
        ("rounds", rounds),
        ("transport", p.transport.clone()),
        ("probes a path", format!("{}, after a warm-up of {}", count(p.count), count(p.warmup))),
        ("interval", latency(p.interval_ns)),
        ("time-out", latency(p.timeout_ns)),
        ("payload", format!("{} octets", p.size_bytes)),
        ("nodes asked for", if p.nodes.is_empty() { "all".to_owned() } else { p.nodes.clone() }),
        ("nodes expected", p.expected.join(", ")),
        ("stamps t1/t2/t3/t4", sources(&sweep.paths)),
        ("software", sweep.software_version.clone()),
        ("agents", versions(&sweep.nodes)),
    ];
    let never_begun = p == &Parameters::default();
    let told = |row: &(&str, String)| {
        let of_parameters = ["probes a path", "interval", "time-out", "payload", "rounds", "took"];
        !(row.1.is_empty() || never_begun && of_parameters.contains(&row.0))
    };
    html! {
        dl.parameters { @for (name, value) in rows.into_iter().filter(told) {
            div { dt { (name) } dd { (value) } }
        } }
    }
}

fn sources(paths: &[PathDoc]) -> String {
    tally(
        paths
            .iter()
            .filter_map(|p| p.measures.network_rtt.as_ref())
            .map(|s| s.timestamp_source.as_str()),
    )
}

fn versions(nodes: &[NodeDoc]) -> String {
    tally(nodes.iter().map(|node| node.version.as_str()).filter(|version| !version.is_empty()))
}

/// Each different one, with how many where they are several.
fn tally<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    values.for_each(|value| *kinds.entry(value).or_default() += 1);
    if kinds.len() == 1 {
        return kinds.into_keys().collect();
    }
    kinds.iter().map(|(kind, n)| format!("{kind} ({n})")).collect::<Vec<_>>().join(", ")
}

/// What this page does not say, and why not.
pub fn unknown(
    nodes: &[NodeDoc],
    paths: &[PathDoc],
    left_out: &[NotMeasured],
    notes: &[String],
) -> Markup {
    let mut sentences: Vec<String> = nodes
        .iter()
        .filter(|node| node.verdict == Verdict::Unknown)
        .map(|node| match node.notes.first() {
            Some(note) => format!("{}: {note}", node.name),
            None => format!(
                "{}: {}",
                node.name,
                if node.state.is_empty() { "unknown" } else { &node.state }
            ),
        })
        .collect();
    sentences.extend(left_out.iter().map(|left| format!("{}: {}", left.what, left.reason)));
    let unmeasured = paths.iter().filter(|path| path.measures.counts.sent == 0);
    sentences.extend(unmeasured.map(|path| {
        format!("{}: {}", path.name(), path.error.as_deref().unwrap_or("no probe was sent"))
    }));
    let unseen = sentences.len().saturating_sub(LISTED);
    html! {
        @if paths.is_empty() {
            p { "Everything: no path was measured." }
        } @else if sentences.is_empty() {
            p { "Every node and path that was asked for was measured." }
        }
        @if !sentences.is_empty() {
            ul {
                @for sentence in sentences.iter().take(LISTED) { li { (sentence) } }
                @if unseen > 0 { li { "and " (unseen) " more, in the JSON document" } }
            }
        }
        ul {
            @for (sentence, paths) in limits(paths).into_iter().take(LISTED) {
                li { (sentence) " (" (counted(paths, "path")) ")" }
            }
            @for note in notes { li { (note) } }
            li { "What did not happen while it was measured: stalls rarer than that are in no number here." }
        }
    }
}

/// Withheld quantiles and validity notes, with the number of paths that they hold for; most first.
fn limits(paths: &[PathDoc]) -> Vec<(String, usize)> {
    let mut limits: BTreeMap<String, usize> = BTreeMap::new();
    for path in paths {
        for note in &path.measures.validity {
            *limits.entry(note.clone()).or_default() += 1;
        }
        for quantile in [Quantile::P50, Quantile::P99, Quantile::P99_9] {
            let series = path.measures.rtt();
            if series.is_some() && Reading::of(series, quantile) == Reading::Withheld {
                *limits.entry(format!("{quantile} is withheld: too few samples")).or_default() += 1;
            }
        }
    }
    let mut limits: Vec<_> = limits.into_iter().collect();
    limits.sort_by_key(|limit| std::cmp::Reverse(limit.1));
    limits
}

/// What the words mean.
pub fn how_to_read(parameters: Option<&Parameters>) -> Markup {
    let timeout =
        parameters.filter(|p| p.timeout_ns > 0).map(|p| latency(p.timeout_ns)).unwrap_or_default();
    html! {
        dl.words {
            dt { "network RTT" } dd { "What the wire and the switches took, both ways: the time the responder held the packet is taken off." }
            dt { "prober delay, responder delay" } dd { "What the sending and the answering host added. They accuse a host, never the network." }
            dt { "app RTT" } dd { "From the intended send time to the reply in the application's hands: the three above added up, for each sample." }
            dt { "p99" } dd { "99 of 100 samples took this long or less. Lost probes rank above all replies"
                @if !timeout.is_empty() { " (time-out " (timeout) ")" } "." }
            dt { "[low-high]" } dd { "The interval that holds the true value with 95 % confidence, allowing for samples that came in bursts." }
            dt { "-" } dd { "Withheld: too few samples for such an interval. p50 takes 6, p99 takes 368, p99.9 takes 3,688." }
            dt { "degraded" } dd { "An interval that lies clear of the others' median and at least 3 times above it, or more than 0.1 % lost." }
            dt { "unknown" } dd { "Not measured, or too little. It is never counted as healthy." }
            dt { "curves" } dd { "Across: the share of samples at or under, so that each step to the right is a tail ten times rarer. "
                "Solid as far as intervals exist, dashed beyond; an arrow where time-outs begin." }
        }
    }
}
