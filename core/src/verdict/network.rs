//! Paths on which the network takes long, and what they share.
//!
//! Greedy: of the components whose paths agree that which explains most is accused, its paths are set aside, and what is left is
//! looked at again; nodes first, then rails, ports, and at last the pairs that nothing explains. A rail comes before its ports
//! because each port of an ill rail looks ill.

use std::collections::BTreeMap;

use super::candidates::{self, Agreement, Candidate, Side};
use super::excess::{self, Excess, Ranked};
use super::facts::{Class, Facts, Part};
use super::{Accusation, Acquittal};
use super::{next_test, words};
use crate::finding::{Component, ComponentKind, FindingKind, Severity};

/// References that acquit: two paths, as among three nodes there are two that do not touch the third.
const LEAST_ACQUITTING: usize = 2;

pub(super) fn accuse(facts: &Facts<'_>) -> Vec<Accusation> {
    facts.classes().into_iter().flat_map(|class| in_class(facts, class)).collect()
}

fn in_class(facts: &Facts<'_>, class: Class) -> Vec<Accusation> {
    let all: Vec<usize> = (0..facts.paths.len())
        .filter(|&n| facts.paths[n].class == class && !facts.paths[n].is_silent(facts.settings))
        .collect();
    let mut open = all.clone();
    let mut found = Vec::new();
    for stage in [candidates::nodes, candidates::rails, candidates::ports] {
        while let Some((candidate, side, excess)) = most_guilty(facts, &open, stage) {
            let showing = facts.marked(&excess.showing);
            open.retain(|&n| !showing[n]);
            found.push(accuse_component(facts, &all, &candidate, side, &excess));
        }
    }
    found.extend(alone(facts, &open, &all));
    found
}

type Guilty = (Candidate, Side, Excess);

fn most_guilty(
    facts: &Facts<'_>,
    open: &[usize],
    stage: fn(&Facts<'_>, &[usize]) -> Vec<Candidate>,
) -> Option<Guilty> {
    let candidates = stage(facts, open);
    let mut best: Option<((usize, f64), Guilty)> = None;
    for step in 0..3 {
        let ranked = Ranked::new(facts, Part::Network, step, open);
        for candidate in &candidates {
            let Some((agreement, reference)) = guilt(facts, &ranked, candidate, step) else {
                continue;
            };
            let Agreement { side, showing, judged } = agreement;
            let quantile = (Part::Network, step);
            let Some(excess) = Excess::of_all(facts, quantile, reference, showing, &judged) else {
                continue;
            };
            let score = (excess.showing.len(), excess.times());
            if best.as_ref().is_none_or(|(known, _)| *known < score) {
                let Candidate { component, to, from } = candidate;
                let (component, to, from) = (component.clone(), to.clone(), from.clone());
                best = Some((score, (Candidate { component, to, from }, side, excess)));
            }
        }
    }
    best.map(|(_, guilty)| guilty)
}

fn guilt(
    facts: &Facts<'_>,
    ranked: &Ranked,
    candidate: &Candidate,
    step: usize,
) -> Option<(Agreement, u64)> {
    let settings = facts.settings;
    let least = match candidate.component.kind {
        ComponentKind::Node => LEAST_ACQUITTING,
        _ => settings.least_references,
    };
    let reference = ranked.median_without(candidate.all(), least)?;
    let shows = |n: usize| {
        let measured = facts.paths[n].at(Part::Network, step);
        measured.is_some_and(|m| excess::shows(settings, &settings.network[step], &m, reference))
    };
    let agreement = candidates::agree(facts, candidate, |n| ranked.contains(n), shows)?;
    Some((agreement, reference))
}

fn accuse_component(
    facts: &Facts<'_>,
    all: &[usize],
    candidate: &Candidate,
    side: Side,
    excess: &Excess,
) -> Accusation {
    let component = candidate.component.clone();
    // What its name already tells: `rail 3`, but `node a`.
    let name = match component.kind {
        ComponentKind::Rail => component.name.clone(),
        ComponentKind::Port => format!("port {}", component.name),
        _ => format!("node {}", component.name),
    };
    let summary = format!(
        "{name}: {}, on {} of {} {}",
        excess.words(facts),
        excess.showing.len(),
        excess.judged,
        side.words(),
    );
    let own = facts.marked(&candidate.all().collect::<Vec<usize>>());
    let acquit = excess.acquit(facts, all.iter().copied().filter(|&n| !own[n]));
    let accused = accused_nodes(facts, &component, &excess.showing);
    accusation(facts, component, summary, excess, acquit, &accused)
}

/// For the sweep that is proposed: the node itself, or the ends of its worst path.
fn accused_nodes(facts: &Facts<'_>, component: &Component, showing: &[usize]) -> Vec<usize> {
    let ends = showing.iter().flat_map(|&n| [facts.paths[n].src, facts.paths[n].dst]);
    let of_it = |node: &usize| {
        let name = facts.nodes[*node].as_str();
        component
            .name
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let ends: Vec<usize> = ends.take(2).collect();
    match component.kind {
        ComponentKind::Node | ComponentKind::Port => ends.into_iter().filter(of_it).collect(),
        _ => ends,
    }
}

/// Pairs of ends that are slow by themselves: one accusation a pair, as both directions share the same links.
fn alone(facts: &Facts<'_>, open: &[usize], all: &[usize]) -> Vec<Accusation> {
    let settings = facts.settings;
    let mut slow: BTreeMap<usize, Vec<Excess>> = BTreeMap::new();
    let pairs = by_pair(facts, all);
    for (step, rule) in settings.network.iter().enumerate() {
        let [ranked_open, ranked_all] =
            [open, all].map(|paths| Ranked::new(facts, Part::Network, step, paths));
        for (&pair, own) in &pairs {
            let mates = || own.iter().copied();
            let least = settings.least_references;
            let reference = ranked_open.median_without(mates(), least);
            // Where accused nodes leave too few to compare with, all that were measured are better than none.
            let reference = reference.or_else(|| ranked_all.median_without(mates(), least));
            let Some(reference) = reference else { continue };
            let judged: Vec<usize> = mates().filter(|&n| ranked_open.contains(n)).collect();
            let shows = |n: &usize| {
                let measured = facts.paths[*n].at(Part::Network, step);
                measured.is_some_and(|m| excess::shows_alone(settings, rule, &m, reference))
            };
            let showing: Vec<usize> = judged.iter().copied().filter(shows).collect();
            let quantile = (Part::Network, step);
            let excess = Excess::of_worst(facts, quantile, reference, showing, judged.len());
            if let Some(excess) = excess {
                slow.entry(pair).or_default().push(excess);
            }
        }
    }
    let accusations = slow.into_iter().filter_map(|(pair, mut found)| {
        found.sort_by(|a, b| {
            let times = || b.times().total_cmp(&a.times());
            b.showing.len().cmp(&a.showing.len()).then_with(times)
        });
        let excess = found.first()?;
        Some(accuse_pair(facts, open, all, pair, excess))
    });
    accusations.collect()
}

fn accuse_pair(
    facts: &Facts<'_>,
    open: &[usize],
    all: &[usize],
    pair: usize,
    excess: &Excess,
) -> Accusation {
    let worst = &facts.paths[excess.showing[0]];
    let component = Component { kind: ComponentKind::Path, name: worst.input.path.to_string() };
    let both = if excess.showing.len() > 1 { ", in both directions" } else { "" };
    let summary = format!("path {}: {}{both}", component.name, excess.words(facts));
    let accused = [worst.src, worst.dst];
    // Other paths of the same two nodes say most: neither end is at fault alone.
    let near = |n: &usize| accused.iter().any(|&node| facts.paths[*n].touches(node));
    let others = || open.iter().chain(all).copied().filter(|&n| facts.paths[n].pair != pair);
    let mut acquit = excess.acquit(facts, others().filter(near));
    if acquit.is_empty() {
        acquit = excess.acquit(facts, others());
    }
    accusation(facts, component, summary, excess, acquit, &accused)
}

fn accusation(
    facts: &Facts<'_>,
    component: Component,
    summary: String,
    excess: &Excess,
    acquit: Vec<usize>,
    accused: &[usize],
) -> Accusation {
    let kind = FindingKind::NetworkLatency;
    Accusation {
        severity: Severity::Degraded,
        kind,
        next_test: next_test::of(facts, kind, &component, accused, &acquit),
        component,
        summary,
        effect: excess.effect(facts),
        times: excess.times(),
        convict: excess.convict(facts),
        acquit: Acquittal::of(facts, &acquit, |n| excess.sentence(facts, n)),
    }
}

pub(super) fn by_pair(facts: &Facts<'_>, paths: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut pairs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &n in paths {
        pairs.entry(facts.paths[n].pair).or_default().push(n);
    }
    pairs
}

/// Why the network RTT of this path cannot be judged although it was measured, if so.
pub(super) fn incomparable(facts: &Facts<'_>) -> BTreeMap<usize, String> {
    let mut reasons = BTreeMap::new();
    for class in facts.classes() {
        let measured: Vec<usize> = (0..facts.paths.len())
            .filter(|&n| facts.paths[n].class == class)
            .filter(|&n| facts.paths[n].at(Part::Network, 0).is_some())
            .collect();
        for own in by_pair(facts, &measured).into_values() {
            let others = measured.len() - own.len();
            if others < facts.settings.least_references {
                let reason = format!(
                    "its network RTT cannot be judged: {} of other pairs, carried and stamped alike, to compare it with, at least {} are needed",
                    words::count(others as u64, "path"),
                    facts.settings.least_references,
                );
                reasons.extend(own.into_iter().map(|n| (n, reason.clone())));
            }
        }
    }
    reasons
}
