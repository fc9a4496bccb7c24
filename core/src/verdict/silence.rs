//! Paths on which no probe is answered, and the nodes behind them.

use std::collections::BTreeSet;

use super::candidates::{self, Candidate, Side};
use super::facts::Facts;
use super::{Accusation, Acquittal};
use super::{network, next_test, words};
use crate::finding::{Component, ComponentKind, Effect, FindingKind, Severity};

pub(super) fn accuse(facts: &Facts<'_>) -> Vec<Accusation> {
    let silent = |n: usize| facts.paths[n].is_silent(facts.settings);
    let alive = |n: usize| facts.paths[n].input.account.received > 0;
    let mut open: Vec<usize> = (0..facts.paths.len()).filter(|&n| silent(n) || alive(n)).collect();
    let mut found = Vec::new();
    for stage in [candidates::nodes, candidates::ports] {
        loop {
            let candidates = stage(facts, &open);
            let guilty = candidates.iter().filter_map(|candidate| {
                let (side, showing) = dead(facts, &open, candidate)?;
                Some((showing.len(), side, showing, candidate))
            });
            let Some((_, side, showing, candidate)) =
                guilty.max_by(|a, b| (a.0, &b.3.component).cmp(&(b.0, &a.3.component)))
            else {
                break;
            };
            let shown = facts.marked(&showing);
            open.retain(|&n| !shown[n]);
            let others = open.iter().copied().filter(|&n| alive(n)).collect();
            found.push(accusation(facts, candidate.component.clone(), Some(side), showing, others));
        }
    }
    let left: Vec<usize> = open.iter().copied().filter(|&n| silent(n)).collect();
    for (_, pair) in network::by_pair(facts, &left) {
        let worst = &facts.paths[pair[0]];
        let name = worst.input.path.to_string();
        let near: BTreeSet<usize> = [worst.src, worst.dst]
            .into_iter()
            .flat_map(|end| &facts.touching[end])
            .copied()
            .collect();
        let acquit = near.into_iter().filter(|&n| alive(n)).collect();
        let component = Component { kind: ComponentKind::Path, name };
        found.push(accusation(facts, component, None, pair, acquit));
    }
    found
}

/// Whether the component answers nobody, or gets no answers, while others do.
fn dead(facts: &Facts<'_>, open: &[usize], candidate: &Candidate) -> Option<(Side, Vec<usize>)> {
    let silent = |n: usize| facts.paths[n].is_silent(facts.settings);
    let absent = candidate.component.kind == ComponentKind::Node
        && facts.absent.keys().any(|&n| facts.nodes[n].as_str() == candidate.component.name);
    if absent && !candidate.to.is_empty() && candidate.to.iter().all(|&n| silent(n)) {
        // Who is not there needs no acquittal of others.
        return Some((Side::Both, candidate.all().filter(|&n| silent(n)).collect()));
    }
    let own: Vec<usize> = candidate.all().collect();
    open.iter().find(|n| !own.contains(n) && !silent(**n))?;
    let agreement = candidates::agree(facts, candidate, |_| true, silent)?;
    Some((agreement.side, agreement.showing))
}

fn accusation(
    facts: &Facts<'_>,
    component: Component,
    side: Option<Side>,
    convict: Vec<usize>,
    acquit: Vec<usize>,
) -> Accusation {
    let kind = FindingKind::Unreachable;
    let sentence = |n: usize| {
        let (path, account) = (&facts.paths[n].input.path, &facts.paths[n].input.account);
        let (sent, received) = (account.sent, account.received);
        format!("{path}: {received} of {} answered", words::count(sent, "probe"))
    };
    let sent = convict.iter().map(|&n| facts.paths[n].settled()).sum();
    let paths = words::count(convict.len() as u64, "path");
    let summary = match side {
        None => format!(
            "path {}: none of {} was answered{}",
            component.name,
            words::count(sent, "probe"),
            if convict.len() > 1 { ", in both directions" } else { "" },
        ),
        Some(side) => {
            let (what, name) = (component_word(component.kind), &component.name);
            let does = match side {
                Side::From => "gets no answers",
                _ => "does not answer",
            };
            format!(
                "{what} {name} {does}: no reply on {paths}, {} lost",
                words::count(sent, "probe")
            )
        }
    };
    let accused: Vec<usize> = match component.kind {
        ComponentKind::Node => facts
            .nodes
            .iter()
            .position(|name| name.as_str() == component.name)
            .into_iter()
            .collect(),
        _ => vec![facts.paths[convict[0]].src, facts.paths[convict[0]].dst],
    };
    let convict: Vec<_> = convict.into_iter().map(|n| (n, sentence(n))).collect();
    Accusation {
        severity: Severity::Failed,
        kind,
        next_test: next_test::of(facts, kind, &component, &accused, &acquit),
        component,
        summary,
        effect: Effect::Loss { sent, lost: sent, share: 1.0, low: low_of(sent), high: 1.0 },
        times: 1.0 / facts.settings.loss,
        convict,
        acquit: Acquittal::of(facts, &acquit, sentence),
    }
}

pub(super) const fn component_word(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Path => "path",
        ComponentKind::Port => "port",
        ComponentKind::Node => "node",
        ComponentKind::Rail => "rail",
        ComponentKind::Fleet => "fleet",
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn low_of(sent: u64) -> f64 {
    super::wilson::interval(sent as f64, sent as f64).0
}

/// Which paths a list of accusations of silence explains.
pub(super) fn explained(silent: &[Accusation]) -> BTreeSet<usize> {
    silent.iter().flat_map(|a| a.convict.iter().map(|(n, _)| *n)).collect()
}
