//! The verdict, in one sentence.

use maud::{Markup, html};
use railgauge_core::finding::{Finding, FindingKind, Severity, Verdict};

use crate::doc::{NodeDoc, PathDoc};
use crate::number::counted;

/// The sign of a verdict: its shape says it without colour.
pub const fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "\u{2713}",
        Verdict::Unknown => "?",
        Verdict::Degraded => "!",
        Verdict::Failed => "\u{2715}",
    }
}

/// A severity as the verdict that it gives.
pub const fn of(severity: Severity) -> Verdict {
    match severity {
        Severity::Unknown => Verdict::Unknown,
        Severity::Degraded => Verdict::Degraded,
        Severity::Failed => Verdict::Failed,
    }
}

/// What is wrong, as words.
pub const fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::NetworkLatency => "network latency",
        FindingKind::HostDelay => "host delay",
        FindingKind::Loss => "loss",
        FindingKind::Unreachable => "unreachable",
        FindingKind::NoData => "no data",
    }
}

/// A small mark in tables.
pub fn mark(verdict: Verdict) -> Markup {
    html! { span.mark.{ "v-" (verdict.as_str()) } { (sign(verdict)) " " (verdict.as_str()) } }
}

/// The banner: the verdict, one sentence, and what it rests on.
pub fn banner(
    verdict: Verdict,
    findings: &[&Finding],
    nodes: &[NodeDoc],
    paths: &[PathDoc],
    error: Option<&str>,
) -> Markup {
    let word = verdict.as_str();
    let (first, rest) = word.split_at(1);
    html! {
        section.verdict.{ "v-" (word) } aria-label="Verdict" {
            span.sign aria-hidden="true" { (sign(verdict)) }
            div {
                p.word { (first.to_uppercase()) (rest) }
                p.sentence { (sentence(verdict, findings, paths)) }
                p.quiet { (extent(nodes, paths)) }
                @if let Some(error) = error { p.error { b { "Error: " } (error) } }
            }
        }
    }
}

fn sentence(verdict: Verdict, findings: &[&Finding], paths: &[PathDoc]) -> String {
    let top = findings.iter().find(|finding| of(finding.severity) == verdict);
    let more = findings.len().saturating_sub(1);
    let with_more = |text: &str| match more {
        0 => text.to_owned(),
        more => format!("{} And {}.", sentence_of(text), counted(more, "further finding")),
    };
    match (verdict, top) {
        (Verdict::Healthy, _) => {
            "Every path listed was measured: none is slow beside the others, loses too much or is silent."
                .to_owned()
        }
        (_, Some(finding)) => with_more(&sentence_of(&finding.summary)),
        (Verdict::Unknown, None) if measured(paths) == 0 => {
            "Nothing was measured, so nothing is known: this is no statement of health.".to_owned()
        }
        (Verdict::Unknown, None) => "Too little was measured for a statement.".to_owned(),
        (Verdict::Degraded, None) => "Something slows those who wait for it.".to_owned(),
        (Verdict::Failed, None) => "Something does not work.".to_owned(),
    }
}

/// With a full stop, and a capital unless it begins with a name.
pub fn sentence_of(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

fn measured(paths: &[PathDoc]) -> usize {
    paths.iter().filter(|path| path.measures.counts.sent > 0).count()
}

fn extent(nodes: &[NodeDoc], paths: &[PathDoc]) -> String {
    let probes: u64 = paths.iter().fold(0, |sum, p| sum.saturating_add(p.measures.counts.sent));
    let (measured, all) = (measured(paths), paths.len());
    let of_all = if measured == all { String::new() } else { format!(" of {all}") };
    format!(
        "{}, {measured}{of_all} {} measured, {} probes sent",
        counted(nodes.len(), "node"),
        if measured == 1 && all == 1 { "path" } else { "paths" },
        crate::number::count(probes),
    )
}
