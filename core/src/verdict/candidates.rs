//! What several paths have in common, and whether they agree.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use crate::finding::{Component, ComponentKind};
use crate::path::Endpoint;

/// A component that more than one pair shares, with its paths.
pub(super) struct Candidate {
    pub(super) component: Component,
    /// Paths that are answered there (of a rail: all), and those that leave there.
    pub(super) to: Vec<usize>,
    pub(super) from: Vec<usize>,
}

/// On which of a component's paths something shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Both,
    To,
    From,
    /// A rail's.
    All,
}

impl Side {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Both => "paths to and from it",
            Self::To => "paths to it",
            Self::From => "paths from it",
            Self::All => "paths on it",
        }
    }
}

/// Enough of a component's paths show something.
pub(super) struct Agreement {
    pub(super) side: Side,
    pub(super) showing: Vec<usize>,
    pub(super) judged: Vec<usize>,
}

impl Candidate {
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.to.iter().chain(&self.from).copied()
    }

    /// The sets of paths that can agree, the largest first.
    pub(super) fn sides(&self) -> Vec<(Side, Vec<usize>)> {
        match self.component.kind {
            ComponentKind::Node | ComponentKind::Port => vec![
                (Side::Both, self.all().collect()),
                (Side::To, self.to.clone()),
                (Side::From, self.from.clone()),
            ],
            _ => vec![(Side::All, self.to.clone())],
        }
    }
}

/// The nodes at the ends of `paths`, each with its paths among them.
pub(super) fn nodes(facts: &Facts<'_>, paths: &[usize]) -> Vec<Candidate> {
    let mut found: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for &n in paths {
        let path = &facts.paths[n];
        if path.src != path.dst {
            found.entry(path.dst).or_default().0.push(n);
            found.entry(path.src).or_default().1.push(n);
        }
    }
    let candidates = found.into_iter().map(|(node, (to, from))| {
        let name = facts.nodes[node].to_string();
        Candidate { component: Component { kind: ComponentKind::Node, name }, to, from }
    });
    candidates.collect()
}

/// The ports of nodes that have several: with one only, node and port cannot be told apart, and a node is easier found.
pub(super) fn ports(facts: &Facts<'_>, paths: &[usize]) -> Vec<Candidate> {
    let mut found: BTreeMap<&Endpoint, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for &n in paths {
        let (src, dst) = (&facts.paths[n].input.path.src, &facts.paths[n].input.path.dst);
        if src.node != dst.node {
            found.entry(dst).or_default().0.push(n);
            found.entry(src).or_default().1.push(n);
        }
    }
    let mut ports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for end in facts.paths.iter().flat_map(|p| [&p.input.path.src, &p.input.path.dst]) {
        ports.entry(&end.node).or_default().insert(&end.port);
    }
    let several = found.into_iter().filter(|(end, _)| ports[&end.node].len() > 1);
    let candidates = several.map(|(end, (to, from))| {
        let component = Component { kind: ComponentKind::Port, name: end.to_string() };
        Candidate { component, to, from }
    });
    candidates.collect()
}

/// The rails of `paths`, where there are several.
pub(super) fn rails(facts: &Facts<'_>, paths: &[usize]) -> Vec<Candidate> {
    let mut found: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for &n in paths {
        let path = &facts.paths[n].input.path;
        if path.src.rail == path.dst.rail && path.src.node != path.dst.node {
            found.entry(path.src.rail).or_default().push(n);
        }
    }
    let several = found.len() > 1;
    let candidates = found.into_iter().filter(|_| several).map(|(rail, to)| {
        let component = Component { kind: ComponentKind::Rail, name: format!("rail {rail}") };
        Candidate { component, to, from: Vec::new() }
    });
    candidates.collect()
}

/// Whether two thirds of the candidate's paths (of a rail nine tenths) show something; of a node or port in both directions,
/// or in one. They must lie between more than one pair, as one pair alone may be ill itself.
pub(super) fn agree(
    facts: &Facts<'_>,
    candidate: &Candidate,
    judged: impl Fn(usize) -> bool,
    shows: impl Fn(usize) -> bool,
) -> Option<Agreement> {
    let settings = facts.settings;
    let is_rail = candidate.component.kind == ComponentKind::Rail;
    let least = if is_rail { settings.most_rail_paths } else { settings.most_paths };
    let count = |paths: &[usize]| {
        let judged: Vec<usize> = paths.iter().copied().filter(|&n| judged(n)).collect();
        let showing: Vec<usize> = judged.iter().copied().filter(|&n| shows(n)).collect();
        (judged, showing)
    };
    let enough = |judged: usize, showing: usize| at_least_share(showing, judged, least);
    let sides = candidate.sides().into_iter().filter_map(|(side, paths)| {
        let (judged, showing) = count(&paths);
        let pairs: BTreeSet<usize> = showing.iter().map(|&n| facts.paths[n].pair).collect();
        (pairs.len() > 1 && enough(judged.len(), showing.len())).then_some((side, showing, judged))
    });
    let each_way = [&candidate.to, &candidate.from].into_iter().all(|paths| {
        let (judged, showing) = count(paths);
        judged.is_empty() || enough(judged.len(), showing.len())
    });
    let found = sides.into_iter().find(|(side, ..)| *side != Side::Both || each_way);
    found.map(|(side, showing, judged)| Agreement { side, showing, judged })
}

#[expect(clippy::cast_precision_loss, reason = "numbers of paths are far below 2^53")]
pub(super) fn at_least_share(part: usize, all: usize, share: f64) -> bool {
    // 2 of 3 is two thirds, whatever binary fractions make of it.
    part as f64 + 1e-9 >= share * all as f64
}
