//! Losses, and what the paths that lose share.
//!
//! Shares of a few losses on single paths say little, so losses are pooled: over the paths to a node, from it, or both. A
//! node, port or rail is accused when its pool loses too much, still does so without its worst pair (else it is that pair), and
//! loses [`Settings::ratio`](super::Settings::ratio) times as much as the paths that do not touch it. Of several such the one
//! whose interval lies highest comes first: the paths of its peers dilute its losses with good ones.

use std::collections::BTreeSet;

use super::candidates::{self, Candidate, Side};
use super::facts::Facts;
use super::silence::{component_word, explained};
use super::{Accusation, Acquittal};
use super::{network, next_test, wilson, words};
use crate::finding::{Component, ComponentKind, Effect, FindingKind, Severity};
use crate::path::Transport;

/// Losses of several paths.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    settled: u64,
    lost: u64,
    events: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
impl Pool {
    fn of(facts: &Facts<'_>, paths: impl IntoIterator<Item = usize>) -> Self {
        paths.into_iter().fold(Self::default(), |mut pool, n| {
            let path = &facts.paths[n];
            pool.settled += path.settled();
            pool.lost += path.input.account.lost;
            pool.events += path.input.loss_events;
            pool
        })
    }

    fn share(&self) -> f64 {
        self.lost as f64 / self.settled.max(1) as f64
    }

    /// Losses close in time are one event: the interval is that of as many events among as many fewer probes.
    fn interval(&self) -> (f64, f64) {
        if self.lost == 0 {
            return wilson::interval(0.0, self.settled as f64);
        }
        let probes_per_event = self.lost as f64 / self.events;
        wilson::interval(self.events, self.settled as f64 / probes_per_event)
    }

    fn is_too_much(&self, facts: &Facts<'_>) -> bool {
        let least = facts.settings.least_losses;
        self.lost >= least && self.events >= least as f64 && self.interval().0 > facts.settings.loss
    }

    fn effect(&self) -> Effect {
        let (low, high) = self.interval();
        Effect::Loss { sent: self.settled, lost: self.lost, share: self.share(), low, high }
    }

    fn words(&self) -> String {
        let (low, high) = self.interval();
        let [share, low, high] = [self.share(), low, high].map(words::share);
        format!(
            "{} of {} lost, {share} [{low}, {high}]",
            self.lost,
            words::count(self.settled, "probe")
        )
    }
}

pub(super) fn accuse(facts: &Facts<'_>, silent: &[Accusation]) -> Vec<Accusation> {
    let silent = explained(silent);
    // What loses packets and what sends them again are not told as one: the connections of a port would dilute its losses with
    // probes that were late and not lost.
    let transport = |n: &usize| facts.paths[*n].input.path.transport;
    let open: Vec<usize> = (0..facts.paths.len())
        .filter(|n| facts.paths[*n].settled() > 0 && !silent.contains(n))
        .collect();
    let transports: BTreeSet<Transport> = open.iter().map(transport).collect();
    let each = transports.into_iter().flat_map(|one| {
        over_one(facts, open.iter().copied().filter(|n| transport(n) == one).collect())
    });
    each.collect()
}

/// Of paths over one transport.
fn over_one(facts: &Facts<'_>, mut open: Vec<usize>) -> Vec<Accusation> {
    let mut found: Vec<Accusation> = Vec::new();
    while let Some((candidate, side, paths)) = most_guilty(facts, &open) {
        let taken = facts.marked(&paths);
        open.retain(|&n| !taken[n]);
        found.push(accuse_component(facts, &open, candidate.component, side, &paths));
    }
    let too_much = |paths: &[usize]| Pool::of(facts, paths.iter().copied()).is_too_much(facts);
    let lossy: Vec<Vec<usize>> =
        network::by_pair(facts, &open).into_values().filter(|pair| too_much(pair)).collect();
    let lossy_paths: usize = lossy.iter().map(Vec::len).sum();
    if lossy.len() > 2 && lossy_paths * 2 > open.len() {
        // Half of all paths, and no component explains it.
        found.push(everywhere(facts, lossy.concat(), &open));
    } else {
        found.extend(lossy.iter().map(|pair| accuse_pair(facts, pair, &open)));
    }
    found
}

fn most_guilty(facts: &Facts<'_>, open: &[usize]) -> Option<(Candidate, Side, Vec<usize>)> {
    let stages = [candidates::nodes, candidates::rails, candidates::ports];
    let all = Pool::of(facts, open.iter().copied());
    let guilty = stages.into_iter().flat_map(|stage| stage(facts, open)).filter_map(|candidate| {
        let (low, side, paths) = guilt(facts, &candidate, all)?;
        Some((low, candidate, side, paths))
    });
    let best =
        guilty.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.component.cmp(&a.1.component)));
    best.map(|(_, candidate, side, paths)| (candidate, side, paths))
}

fn guilt(facts: &Facts<'_>, candidate: &Candidate, all: Pool) -> Option<(f64, Side, Vec<usize>)> {
    let own = Pool::of(facts, candidate.all());
    let rest = Pool {
        settled: all.settled - own.settled,
        lost: all.lost - own.lost,
        events: all.events - own.events,
    };
    // With two nodes there is nothing that would acquit the other.
    if own.lost == 0 || rest.settled == 0 {
        return None;
    }
    let judge = |paths: &[usize]| {
        let pool = Pool::of(facts, paths.iter().copied());
        let pairs = network::by_pair(facts, paths);
        let worst = pairs.values().max_by_key(|own| Pool::of(facts, own.iter().copied()).lost)?;
        let without = Pool::of(facts, paths.iter().copied().filter(|n| !worst.contains(n)));
        let guilty = pool.is_too_much(facts)
            && without.is_too_much(facts)
            && pool.share() >= facts.settings.ratio * rest.share();
        guilty.then(|| pool.interval().0)
    };
    let sides = candidate.sides();
    let judged: Vec<_> =
        sides.into_iter().map(|(side, paths)| (judge(&paths), side, paths)).collect();
    let found = judged.iter().filter_map(|(low, side, paths)| Some(((*low)?, *side, paths)));
    let (low, side, paths) = found.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // Both sides lose, one by chance more than the other: all of it is the component's.
    let both = judged.first().filter(|(low, both, _)| low.is_some() && *both != side);
    let loses = |(_, _, paths): &(_, _, Vec<usize>)| {
        Pool::of(facts, paths.iter().copied()).is_too_much(facts)
    };
    match both.filter(|_| judged.iter().all(loses)) {
        Some((_, both, all)) => Some((low, *both, all.clone())),
        None => Some((low, side, paths.clone())),
    }
}

fn accuse_component(
    facts: &Facts<'_>,
    open: &[usize],
    component: Component,
    side: Side,
    paths: &[usize],
) -> Accusation {
    let name = match component.kind {
        ComponentKind::Rail => component.name.clone(),
        kind => format!("{} {}", component_word(kind), component.name),
    };
    let lossy = paths.iter().filter(|&&n| facts.paths[n].input.account.lost > 0).count();
    let pool = Pool::of(facts, paths.iter().copied());
    let summary =
        format!("{name}: {}, on {lossy} of {} {}", pool.words(), paths.len(), side.words());
    let accused = facts.nodes.iter().position(|node| node.as_str() == component.name);
    let accused: Vec<usize> = match accused.filter(|_| component.kind == ComponentKind::Node) {
        Some(node) => vec![node],
        None => paths.iter().take(1).map(|&n| facts.paths[n].src).collect(),
    };
    accusation(facts, component, summary, paths, open, &accused)
}

fn accuse_pair(facts: &Facts<'_>, pair: &[usize], open: &[usize]) -> Accusation {
    let worst = pair.iter().rev().copied().max_by_key(|&n| facts.paths[n].input.account.lost);
    let worst = &facts.paths[worst.unwrap_or(pair[0])];
    let component = Component { kind: ComponentKind::Path, name: worst.input.path.to_string() };
    let pool = Pool::of(facts, pair.iter().copied());
    let lossy = pair.iter().filter(|&&n| facts.paths[n].input.account.lost > 0).count();
    let both = if lossy > 1 { ", in both directions together" } else { "" };
    let summary = format!("path {}: {}{both}", component.name, pool.words());
    let near: Vec<usize> = open
        .iter()
        .copied()
        .filter(|&n| facts.paths[n].touches(worst.src) || facts.paths[n].touches(worst.dst))
        .collect();
    accusation(facts, component, summary, pair, &near, &[worst.src, worst.dst])
}

fn everywhere(facts: &Facts<'_>, lossy: Vec<usize>, open: &[usize]) -> Accusation {
    let pool = Pool::of(facts, lossy.iter().copied());
    let summary = format!(
        "the whole fleet: {}, on {} of {} paths, and no node, rail or port that they share",
        pool.words(),
        lossy.len(),
        open.len(),
    );
    let component = Component { kind: ComponentKind::Fleet, name: "fleet".to_owned() };
    let accused: Vec<usize> = lossy.iter().take(1).map(|&n| facts.paths[n].src).collect();
    accusation(facts, component, summary, &lossy, open, &accused)
}

fn accusation(
    facts: &Facts<'_>,
    component: Component,
    summary: String,
    paths: &[usize],
    others: &[usize],
    accused: &[usize],
) -> Accusation {
    let kind = FindingKind::Loss;
    let pool = Pool::of(facts, paths.iter().copied());
    let losses = |n: usize| facts.paths[n].input.account.lost;
    let mut convict: Vec<usize> = paths.iter().copied().filter(|&n| losses(n) > 0).collect();
    convict.sort_by(|&a, &b| {
        let share = |n| Pool::of(facts, [n]).share();
        share(b).total_cmp(&share(a)).then(a.cmp(&b))
    });
    let own = facts.marked(paths);
    let is_clean = |n: &usize| losses(*n) == 0 && !own[*n] && facts.paths[*n].settled() > 0;
    let acquit: Vec<usize> = others.iter().copied().filter(is_clean).collect();
    let sentence =
        |n: usize| format!("{}: {}", facts.paths[n].input.path, Pool::of(facts, [n]).words());
    Accusation {
        severity: Severity::Degraded,
        kind,
        next_test: next_test::of(facts, kind, &component, accused, &acquit),
        component,
        summary,
        effect: pool.effect(),
        times: pool.interval().0 / facts.settings.loss,
        convict: convict.into_iter().map(|n| (n, sentence(n))).collect(),
        acquit: Acquittal::of(facts, &acquit, sentence),
    }
}
