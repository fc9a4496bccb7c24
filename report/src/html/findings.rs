//! Findings: each with how large, what speaks for and against, and what to do next.

use maud::{Markup, html};
use railgauge_core::finding::{ComponentKind, Effect, Finding};

use super::chart::f;
use super::heat::words;
use super::verdict::{kind, mark, of, sentence_of};
use crate::number::{count, interval, latency, percent};

/// Sentences of evidence that are open at once; the rest unfolds.
const OPEN: usize = 6;

/// Findings printed at most.
const MOST: usize = 50;

/// The list, in the order given (worst first). `seen` adds a line to each: when it was first and last seen.
pub fn findings(findings: &[&Finding], seen: &[String]) -> Markup {
    if findings.is_empty() {
        return html! { p.empty { "None." } };
    }
    html! {
        ol.findings { @for (at, finding) in findings.iter().enumerate().take(MOST) {
            li { (one(finding, seen.get(at))) }
        } }
        @if findings.len() > MOST { p.note { (findings.len() - MOST) " more are in the JSON document." } }
    }
}

fn one(finding: &Finding, seen: Option<&String>) -> Markup {
    let component = &finding.component;
    html! {
        article.finding {
            h3 {
                (mark(of(finding.severity))) " " span.name { (component.name) }
                " " span.quiet { (what(component.kind)) ", " (kind(finding.kind)) }
            }
            p.summary { (sentence_of(&finding.summary)) }
            (effect(&finding.effect))
            @if let Some(seen) = seen { p.quiet { (seen) } }
            div.evidence {
                (evidence("Speaks for it", &finding.evidence.convict))
                (evidence("Rules others out", &finding.evidence.acquit))
            }
            p.next { b { "Next: " } (sentence_of(&finding.next_test)) }
        }
    }
}

const fn what(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Path => "path",
        ComponentKind::Port => "port",
        ComponentKind::Node => "node",
        ComponentKind::Rail => "rail",
        ComponentKind::Fleet => "fleet",
    }
}

fn evidence(title: &str, sentences: &[String]) -> Markup {
    let (open, folded) = sentences.split_at(sentences.len().min(OPEN));
    html! {
        div {
            h4 { (title) }
            @if sentences.is_empty() { p.empty { "Nothing." } }
            ul { @for sentence in open { li { (sentence) } } }
            @if !folded.is_empty() {
                details {
                    summary { (folded.len()) " more" }
                    ul { @for sentence in folded { li { (sentence) } } }
                }
            }
        }
    }
}

fn effect(effect: &Effect) -> Markup {
    match effect {
        Effect::Latency {
            series,
            q,
            value_ns,
            low_ns,
            high_ns,
            fleet_median_ns,
            at_least_times,
        } => {
            html! {
                p.effect {
                    (words(series)) " p" (percentile(*q)) ": " b { (latency(*value_ns)) } " "
                    (interval(*value_ns, *low_ns, *high_ns)) ", median of the others " (latency(*fleet_median_ns))
                    ": at least " b { (times(*at_least_times)) " x" }
                }
                (bar(*value_ns, *low_ns, *high_ns, *fleet_median_ns))
            }
        }
        Effect::Loss { sent, lost, share, low, high } => html! {
            p.effect {
                (count(*lost)) " of " (count(*sent)) " probes lost: " b { (percent(*share)) }
                " [" (percent(*low)) " to " (percent(*high)) "]"
            }
        },
        // Only a comparison is missing.
        Effect::Samples { samples, needed } if samples >= needed => html! {
            p.effect { (count(*samples)) " samples a path at least, but nothing to hold them against" }
        },
        Effect::Samples { samples, needed } => html! {
            p.effect { (count(*samples)) " samples, " (count(*needed)) " needed for a statement" }
        },
    }
}

/// `99.9` of 0.999, without the noise of the product.
fn percentile(q: f64) -> f64 {
    (q * 1e6).round() / 1e4
}

fn times(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The interval beside the median of those that are not accused, on a log scale that both fit.
#[expect(clippy::cast_precision_loss, reason = "drawn to a tenth of a unit")]
fn bar(value_ns: u64, low_ns: u64, high_ns: Option<u64>, median_ns: u64) -> Markup {
    let log = |ns: u64| (ns.max(1) as f64).log10();
    let high = high_ns.unwrap_or(value_ns.saturating_mul(4)).max(value_ns);
    let least = log(median_ns).min(log(low_ns)) - 0.15;
    let most = log(median_ns).max(log(high)) + 0.15;
    let x = |ns: u64| f(6.0 + 308.0 * (log(ns) - least) / (most - least));
    html! {
        svg.bar viewBox="0 0 320 30" role="img"
            aria-label={ "interval " (interval(value_ns, low_ns, high_ns)) " beside the median of the others " (latency(median_ns)) } {
            line.base x1="0" x2="320" y1="12" y2="12" {}
            line.median x1=(x(median_ns)) x2=(x(median_ns)) y1="4" y2="20" {}
            line.range x1=(x(low_ns)) x2=(x(high)) y1="12" y2="12" {}
            circle cx=(x(value_ns)) cy="12" r="4" {}
            text x=(x(median_ns)) y="29" text-anchor="start" { "others" }
            text x=(x(value_ns)) y="29" text-anchor="end" { "here" }
        }
    }
}
