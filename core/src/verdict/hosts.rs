//! Hosts in which probes or replies wait.
//!
//! Prober delay is measured in the prober's host alone, responder delay in the responder's. So every value has one
//! owner, and each node is compared with the medians of the others. A node is accused when two paths at least show it, in one
//! of its two roles or one in each: with two nodes each has one path in each role.

use std::collections::BTreeMap;

use super::candidates::at_least_share;
use super::excess::{self, Excess};
use super::facts::{Class, Facts, Part, Placed};
use super::next_test;
use super::{Accusation, Acquittal};
use crate::finding::{Component, ComponentKind, FindingKind, Severity};

pub(super) fn accuse(facts: &Facts<'_>) -> Vec<Accusation> {
    let mut by_owner: BTreeMap<usize, Vec<Excess>> = BTreeMap::new();
    for class in facts.classes() {
        for part in [Part::Prober, Part::Responder] {
            for (owner, excess) in excesses(facts, class, part) {
                by_owner.entry(owner).or_default().push(excess);
            }
        }
    }
    let guilty = by_owner
        .into_iter()
        .filter(|(_, found)| found.iter().map(|excess| excess.showing.len()).sum::<usize>() >= 2);
    guilty.map(|(owner, found)| accusation(facts, owner, &found)).collect()
}

const fn owner(path: &Placed<'_>, part: Part) -> usize {
    match part {
        Part::Responder => path.dst,
        Part::Network | Part::Prober => path.src,
    }
}

/// For each node that shows it, that quantile which shows it most.
fn excesses(facts: &Facts<'_>, class: Class, part: Part) -> BTreeMap<usize, Excess> {
    let mut largest: BTreeMap<usize, Excess> = BTreeMap::new();
    for step in 0..3 {
        for (owner, excess) in at_step(facts, class, part, step) {
            let times = |e: &Excess| (e.showing.len(), e.times());
            let known = largest.get(&owner).map(times);
            if known.is_none_or(|known| known < times(&excess)) {
                largest.insert(owner, excess);
            }
        }
    }
    largest
}

fn at_step(facts: &Facts<'_>, class: Class, part: Part, step: usize) -> Vec<(usize, Excess)> {
    let rule = &part.steps(facts.settings)[step];
    let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (n, path) in facts.paths.iter().enumerate() {
        if path.class == class && path.at(part, step).is_some() {
            owned.entry(owner(path, part)).or_default().push(n);
        }
    }
    let value = |n: &usize| facts.paths[*n].at(part, step).map(|m| m.value);
    let mut medians: Vec<(u64, usize)> = Vec::new();
    for (&owner, paths) in &owned {
        let mut values: Vec<u64> = paths.iter().filter_map(value).collect();
        values.sort_unstable();
        medians.push((values[(values.len() - 1) / 2], owner));
    }
    medians.sort_unstable();
    let candidates = owned.iter().filter_map(|(&owner, paths)| {
        let others: Vec<u64> =
            medians.iter().filter(|(_, other)| *other != owner).map(|(value, _)| *value).collect();
        let reference = *others.get(others.len().checked_sub(1)? / 2)?;
        // Hosts differ by what else runs there: who stands out must do so among three quarters of the others as well, which
        // of up to three is all.
        let most = others[(others.len() * 3).div_ceil(4) - 1];
        let shows = |n: &usize| {
            let measured = facts.paths[*n].at(part, step);
            measured.is_some_and(|m| {
                m.value >= most && excess::shows(facts.settings, rule, &m, reference)
            })
        };
        let showing: Vec<usize> = paths.iter().copied().filter(shows).collect();
        let enough = !showing.is_empty()
            && at_least_share(showing.len(), paths.len(), facts.settings.most_paths);
        if !enough {
            return None;
        }
        let excess = Excess::of_all(facts, (part, step), reference, showing, paths)?;
        (excess.measured.low >= most).then_some((owner, excess))
    });
    candidates.collect()
}

fn accusation(facts: &Facts<'_>, owner: usize, found: &[Excess]) -> Accusation {
    let mut found: Vec<&Excess> = found.iter().collect();
    found.sort_by(|a, b| b.times().total_cmp(&a.times()));
    let worst = found[0];
    let component = Component { kind: ComponentKind::Node, name: facts.nodes[owner].to_string() };
    let convict: Vec<_> = found.iter().flat_map(|excess| excess.convict(facts)).collect();
    let others = (0..facts.paths.len())
        .filter(|&n| super::hosts::owner(&facts.paths[n], worst.part) != owner);
    let acquit = worst.acquit(facts, others);
    let judged: usize = found.iter().map(|excess| excess.judged).sum();
    let roles: Vec<&str> = [(Part::Prober, "probes"), (Part::Responder, "replies")]
        .into_iter()
        .filter(|(part, _)| found.iter().any(|excess| excess.part == *part))
        .map(|(_, what)| what)
        .collect();
    let summary = format!(
        "node {}: {} wait in the host: {}, on {} of {} paths",
        component.name,
        roles.join(" and "),
        worst.words(facts),
        convict.len(),
        judged,
    );
    Accusation {
        severity: Severity::Degraded,
        kind: FindingKind::HostDelay,
        next_test: next_test::of(facts, FindingKind::HostDelay, &component, &[owner], &acquit),
        component,
        summary,
        effect: worst.effect(facts),
        times: worst.times(),
        convict,
        acquit: Acquittal::of(facts, &acquit, |n| worst.sentence(facts, n)),
    }
}
