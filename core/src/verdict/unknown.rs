//! What is not known and should be.

use std::collections::BTreeMap;

use super::facts::{Facts, Part};
use super::{Accusation, Acquittal};
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
    let unsent = path.input.account.unsent;
    if unsent > 0 && path.settled() < unsent {
        return Some(format!(
            "{unsent} of its probes were never sent, and of {} it is known what became of them: those say nothing of the others",
            path.settled()
        ));
    }
    match &path.input.missing {
        missing if path.settled() < needed => {
            let why = missing.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let settled = path.settled();
            Some(format!("{} of the {needed} needed{why}", words::count(settled, "sample")))
        }
        Some(why) => Some(format!("its delays are not known: {why}")),
        // Of a path that loses half of its probes nothing more can be said; its losses are.
        None if path.at(Part::Network, 0).is_none() && path.input.samples < needed => {
            let samples = words::count(path.input.samples, "sample");
            Some(format!("delays of {samples} of the {needed} needed"))
        }
        None => None,
    }
}

/// Of the paths of a node that answers nobody no more is asked.
pub(super) fn accuse(facts: &Facts<'_>, silent: &[Accusation]) -> Vec<Accusation> {
    let mut found = Vec::new();
    if facts.paths.is_empty() && facts.absent.is_empty() {
        let summary = "nothing was measured: no paths".to_owned();
        found.push(accusation(facts, fleet(), summary, Vec::new(), &[]));
    }
    let mut unknown = Open::new(facts);
    let is_silent = |node: usize| {
        let name = facts.nodes[node].as_str();
        silent.iter().any(|a| a.component.kind == ComponentKind::Node && a.component.name == name)
    };
    for node in (0..facts.nodes.len()).filter(|&node| is_silent(node)) {
        unknown.take(facts, node);
    }
    for (&node, why) in &facts.absent {
        let paths = unknown.take(facts, node);
        // A node that answers nobody is accused of that already.
        if !is_silent(node) {
            let summary = format!("node {} was not measured: {why}", facts.nodes[node]);
            found.push(accusation(facts, node_of(facts, node), summary, paths, &[node]));
        }
    }
    while let Some(node) = unknown.whole_node(facts) {
        let paths = unknown.take(facts, node);
        let why = paths.first().map_or("", |(_, why)| why.as_str()).to_owned();
        let summary =
            format!("node {}: too little is known of all its paths; {why}", facts.nodes[node]);
        found.push(accusation(facts, node_of(facts, node), summary, paths, &[node]));
    }
    found.extend(single(facts, unknown.reasons));
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

/// Paths of which too little is known, and that no finding has yet.
struct Open {
    reasons: BTreeMap<usize, String>,
    /// How many of them each node has.
    by_node: Vec<usize>,
}

impl Open {
    fn new(facts: &Facts<'_>) -> Self {
        let reasons: BTreeMap<usize, String> =
            (0..facts.paths.len()).filter_map(|n| Some((n, reason(facts, n)?))).collect();
        let of_node = |own: &Vec<usize>| own.iter().filter(|n| reasons.contains_key(n)).count();
        let by_node = facts.touching.iter().map(of_node).collect();
        Self { reasons, by_node }
    }

    /// Those of a node, with their sentences: they are no longer open.
    fn take(&mut self, facts: &Facts<'_>, node: usize) -> Vec<(usize, String)> {
        let mut taken = Vec::new();
        for &n in &facts.touching[node] {
            let Some(why) = self.reasons.remove(&n) else { continue };
            let path = &facts.paths[n];
            self.by_node[path.src] -= 1;
            if path.src != path.dst {
                self.by_node[path.dst] -= 1;
            }
            taken.push((n, sentence(facts, n, &why)));
        }
        taken
    }

    /// The node with most paths of those of which nothing but unknown paths are left.
    fn whole_node(&self, facts: &Facts<'_>) -> Option<usize> {
        let whole = self
            .by_node
            .iter()
            .enumerate()
            .filter(|(node, open)| **open > 1 && **open == facts.touching[*node].len());
        whole.max_by_key(|(node, open)| (**open, std::cmp::Reverse(*node))).map(|(node, _)| node)
    }
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
        acquit: Acquittal::default(),
        times: 0.0,
    }
}
