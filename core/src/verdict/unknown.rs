//! What is not known and should be.

use std::collections::{BTreeMap, BTreeSet};

use super::Accusation;
use super::facts::{Facts, Part};
use super::{network, next_test, words};
use crate::finding::{Component, ComponentKind, Effect, FindingKind, Severity};

/// More single paths than this become one finding of the fleet.
const MOST_PATHS: usize = 8;

/// Why too little is known of a path, if so.
pub(super) fn reason(facts: &Facts<'_>, n: usize) -> Option<String> {
    let path = &facts.paths[n];
    if path.is_silent(facts.settings) {
        return None;
    }
    let needed = facts.settings.least_samples;
    match &path.input.series {
        _ if path.settled() < needed => {
            let why = path.input.series.as_ref().err();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let settled = path.settled();
            Some(format!("{} of the {needed} needed{why}", words::count(settled, "sample")))
        }
        Err(why) => Some(format!("its delays are not known: {why}")),
        // Of a path that loses half of its probes nothing more can be said; its losses are.
        Ok(series)
            if path.at(Part::Network, 0).is_none()
                && series.network_rtt.total().samples() < needed =>
        {
            let samples = series.network_rtt.total().samples();
            Some(format!("delays of {} of the {needed} needed", words::count(samples, "sample")))
        }
        Ok(_) => None,
    }
}

/// Of the paths of a node that answers nobody no more is asked.
pub(super) fn accuse(facts: &Facts<'_>, silent: &[Accusation]) -> Vec<Accusation> {
    let mut found = Vec::new();
    if facts.paths.is_empty() && facts.absent.is_empty() {
        let summary = "nothing was measured: no paths".to_owned();
        found.push(accusation(facts, fleet(), summary, Vec::new(), &[]));
    }
    let mut unknown: BTreeMap<usize, String> =
        (0..facts.paths.len()).filter_map(|n| Some((n, reason(facts, n)?))).collect();
    let is_silent = |node: usize| {
        let name = facts.nodes[node].as_str();
        silent.iter().any(|a| a.component.kind == ComponentKind::Node && a.component.name == name)
    };
    for node in (0..facts.nodes.len()).filter(|&node| is_silent(node)) {
        take(facts, &mut unknown, node);
    }
    for (&node, why) in &facts.absent {
        let paths = take(facts, &mut unknown, node);
        // A node that answers nobody is accused of that already.
        if !is_silent(node) {
            let summary = format!("node {} was not measured: {why}", facts.nodes[node]);
            found.push(accusation(facts, node_of(facts, node), summary, paths, &[node]));
        }
    }
    while let Some(node) = all_unknown(facts, &unknown) {
        let paths = take(facts, &mut unknown, node);
        let why = paths.first().map_or("", |(_, why)| why.as_str()).to_owned();
        let summary =
            format!("node {}: too little is known of all its paths; {why}", facts.nodes[node]);
        found.push(accusation(facts, node_of(facts, node), summary, paths, &[node]));
    }
    found.extend(single(facts, unknown));
    found.extend(without_reference(facts));
    found
}

fn single(facts: &Facts<'_>, unknown: BTreeMap<usize, String>) -> Vec<Accusation> {
    let sentences: Vec<_> =
        unknown.into_iter().map(|(n, why)| (n, sentence(facts, n, &why))).collect();
    if sentences.len() > MOST_PATHS {
        let summary =
            format!("too little is known of {} of {} paths", sentences.len(), facts.paths.len());
        return vec![accusation(facts, fleet(), summary, sentences, &[])];
    }
    let each = sentences.into_iter().map(|(n, sentence)| {
        let path = &facts.paths[n];
        let component = Component { kind: ComponentKind::Path, name: path.input.path.to_string() };
        let summary = format!("path {sentence}");
        accusation(facts, component, summary, vec![(n, sentence)], &[path.src, path.dst])
    });
    each.collect()
}

/// With too few nodes nobody can be compared.
fn without_reference(facts: &Facts<'_>) -> Option<Accusation> {
    let reasons = network::incomparable(facts);
    let why = reasons.values().next()?.clone();
    let summary = if facts.nodes.len() == 2 {
        "the fleet: with two nodes the network RTT of neither can be compared with any other; losses and hosts are judged"
            .to_owned()
    } else {
        format!("the fleet: of {}, {why}", words::count(reasons.len() as u64, "path"))
    };
    let convict = reasons.iter().map(|(&n, why)| (n, sentence(facts, n, why))).collect();
    Some(accusation(facts, fleet(), summary, convict, &[]))
}

fn sentence(facts: &Facts<'_>, n: usize, why: &str) -> String {
    format!("{}: {why}", facts.paths[n].input.path)
}

/// The unknown paths of a node, with their sentences, removed from `unknown`.
fn take(
    facts: &Facts<'_>,
    unknown: &mut BTreeMap<usize, String>,
    node: usize,
) -> Vec<(usize, String)> {
    let own: Vec<usize> =
        unknown.keys().copied().filter(|&n| facts.paths[n].touches(node)).collect();
    own.into_iter().filter_map(|n| Some((n, sentence(facts, n, &unknown.remove(&n)?)))).collect()
}

/// The node with most paths of those of which nothing but unknown paths are left.
fn all_unknown(facts: &Facts<'_>, unknown: &BTreeMap<usize, String>) -> Option<usize> {
    let mut paths: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (n, path) in facts.paths.iter().enumerate() {
        for node in BTreeSet::from([path.src, path.dst]) {
            let entry = paths.entry(node).or_default();
            entry.0 += 1;
            entry.1 += usize::from(unknown.contains_key(&n));
        }
    }
    let all = paths.into_iter().filter(|(_, (all, unknown))| *unknown > 1 && all == unknown);
    all.max_by_key(|(node, (all, _))| (*all, std::cmp::Reverse(*node))).map(|(node, _)| node)
}

fn fleet() -> Component {
    Component { kind: ComponentKind::Fleet, name: "fleet".to_owned() }
}

fn node_of(facts: &Facts<'_>, node: usize) -> Component {
    Component { kind: ComponentKind::Node, name: facts.nodes[node].to_string() }
}

fn accusation(
    facts: &Facts<'_>,
    component: Component,
    summary: String,
    convict: Vec<(usize, String)>,
    accused: &[usize],
) -> Accusation {
    let kind = FindingKind::NoData;
    let samples = convict.iter().map(|(n, _)| facts.paths[*n].settled()).min().unwrap_or(0);
    Accusation {
        severity: Severity::Unknown,
        kind,
        next_test: next_test::of(facts, kind, &component, accused, &[]),
        component,
        summary,
        effect: Effect::Samples { samples, needed: facts.settings.least_samples },
        convict,
        acquit: Vec::new(),
        times: 0.0,
    }
}
