//! From accusations to verdicts of paths, nodes and the fleet.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::{Accusation, PathVerdict, network, unknown};
use crate::finding::{ComponentKind, Severity, Verdict};
use crate::path::NodeName;

type Verdicts = (Vec<PathVerdict>, BTreeMap<NodeName, Verdict>, Verdict);

pub(super) fn of(facts: &Facts<'_>, accusations: &[Accusation]) -> Verdicts {
    let paths = paths(facts, accusations);
    let nodes: BTreeMap<NodeName, Verdict> = (0..facts.nodes.len())
        .map(|node| (facts.nodes[node].clone(), of_node(facts, accusations, &paths, node)))
        .collect();
    let mut verdicts = accusations.iter().map(|a| verdict(a.severity));
    // `Verdict` rises from healthy over unknown to failed: the worst is the largest.
    let worst = verdicts.by_ref().max().unwrap_or(Verdict::Healthy);
    let worst =
        nodes.values().copied().filter(|v| *v == Verdict::Unknown).fold(worst, Verdict::max);
    let worst = if facts.paths.is_empty() { worst.max(Verdict::Unknown) } else { worst };
    (paths, nodes, worst)
}

const fn verdict(severity: Severity) -> Verdict {
    match severity {
        Severity::Unknown => Verdict::Unknown,
        Severity::Degraded => Verdict::Degraded,
        Severity::Failed => Verdict::Failed,
    }
}

fn paths(facts: &Facts<'_>, accusations: &[Accusation]) -> Vec<PathVerdict> {
    let healthy = || PathVerdict { verdict: Verdict::Healthy, reasons: Vec::new() };
    let mut verdicts: Vec<PathVerdict> = facts.paths.iter().map(|_| healthy()).collect();
    let mut say = |n: usize, verdict: Verdict, reason: String| {
        verdicts[n].verdict = verdicts[n].verdict.max(verdict);
        verdicts[n].reasons.push(reason);
    };
    for accusation in accusations.iter().filter(|a| a.severity > Severity::Unknown) {
        for (n, sentence) in &accusation.convict {
            // The path is in its own row: its name is not repeated, but whose fault it is.
            let path = facts.paths[*n].input.path.to_string();
            let what = sentence.strip_prefix(&path).and_then(|rest| rest.strip_prefix(": "));
            let what = what.unwrap_or(sentence);
            let by = match accusation.component.kind {
                ComponentKind::Path => String::new(),
                _ => format!(" ({})", accusation.component.name),
            };
            say(*n, verdict(accusation.severity), format!("{what}{by}"));
        }
    }
    for n in 0..facts.paths.len() {
        if let Some(why) = unknown::reason(facts, n) {
            say(n, Verdict::Unknown, why);
        }
    }
    for (n, why) in network::incomparable(facts) {
        say(n, Verdict::Unknown, why);
    }
    verdicts
}

/// Its own findings; else `Unknown` if it is absent, or of more than half of its paths too little is known.
fn of_node(
    facts: &Facts<'_>,
    accusations: &[Accusation],
    paths: &[PathVerdict],
    node: usize,
) -> Verdict {
    let name = facts.nodes[node].as_str();
    let is_of_node = |a: &&Accusation| match a.component.kind {
        ComponentKind::Node => a.component.name == name,
        ComponentKind::Port => {
            a.component.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
        }
        ComponentKind::Path | ComponentKind::Rail | ComponentKind::Fleet => false,
    };
    let own = accusations.iter().filter(is_of_node).map(|a| verdict(a.severity)).max();
    let worst = own.unwrap_or(Verdict::Healthy);
    let of_node: Vec<Verdict> = facts.touching[node]
        .iter()
        // A path to an absent node is no sign of this one.
        .filter(|&&n| !facts.absent.contains_key(&facts.paths[n].other_end(node)))
        .map(|&n| paths[n].verdict)
        .collect();
    let unknown = of_node.iter().filter(|v| **v == Verdict::Unknown).count();
    let too_little = of_node.is_empty() || unknown * 2 > of_node.len();
    let is_unknown = facts.absent.contains_key(&node) || too_little;
    if is_unknown { worst.max(Verdict::Unknown) } else { worst }
}
