//! What the rules look at: of each path its ends, its quantiles and its counts.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeInput, PathInput, Series, Settings, Step};
use crate::path::{Memory, NodeName, Transport};
use crate::quantile::{Blocks, Outcome, judge};

/// A part of app RTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Network,
    Prober,
    Responder,
}

impl Part {
    /// The name of the series in results.
    pub(super) const fn series(self) -> &'static str {
        match self {
            Self::Network => "network_rtt",
            Self::Prober => "prober_delay",
            Self::Responder => "responder_delay",
        }
    }

    const fn blocks(self, series: &Series) -> &Blocks {
        match self {
            Self::Network => &series.network_rtt,
            Self::Prober => &series.prober_delay,
            Self::Responder => &series.responder_delay,
        }
    }

    pub(super) const fn steps(self, settings: &Settings) -> &[Step; 3] {
        match self {
            Self::Network => &settings.network,
            Self::Prober | Self::Responder => &settings.host,
        }
    }

    /// The same in a sentence.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Network => "network RTT",
            Self::Prober => "prober delay",
            Self::Responder => "responder delay",
        }
    }
}

/// One quantile of one series of one path; nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) value: u64,
    pub(super) low: u64,
    /// `None`: at or beyond the time-out.
    pub(super) high: Option<u64>,
    /// Separate runs in the tail above it.
    pub(super) runs: u64,
}

/// Paths that can be compared: alike in what carries them.
pub(super) type Class = (Transport, Memory, u8, bool);

pub(super) struct PathFacts<'a> {
    pub(super) input: &'a PathInput,
    /// The nodes at its ends, as indices.
    pub(super) src: usize,
    pub(super) dst: usize,
    /// Number of the pair of endpoints, the same in both directions.
    pub(super) pair: usize,
    pub(super) class: Class,
    /// By part, then by step of the settings.
    parts: [[Option<Measured>; 3]; 3],
    /// Losses in separate events, as far as is known: each counted as a part of one.
    pub(super) loss_events: f64,
}

impl PathFacts<'_> {
    pub(super) fn at(&self, part: Part, step: usize) -> Option<Measured> {
        self.parts[part as usize][step]
    }

    pub(super) fn touches(&self, node: usize) -> bool {
        self.src == node || self.dst == node
    }

    pub(super) fn other_end(&self, node: usize) -> usize {
        if self.src == node { self.dst } else { self.src }
    }

    /// Probes of which it is known what became of them.
    pub(super) const fn settled(&self) -> u64 {
        self.input.account.received.saturating_add(self.input.account.lost)
    }

    pub(super) const fn is_silent(&self, settings: &Settings) -> bool {
        self.input.account.received == 0 && self.input.account.lost >= settings.least_unanswered
    }
}

pub(super) struct Facts<'a> {
    pub(super) paths: Vec<PathFacts<'a>>,
    pub(super) nodes: Vec<NodeName>,
    /// Why nodes are absent, by index.
    pub(super) absent: BTreeMap<usize, &'a str>,
    pub(super) settings: &'a Settings,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(
        paths: &'a [PathInput],
        nodes: &'a [NodeInput],
        settings: &'a Settings,
    ) -> Self {
        let ends = paths.iter().flat_map(|p| [&p.path.src.node, &p.path.dst.node]);
        let names: BTreeSet<&NodeName> = ends.chain(nodes.iter().map(|n| &n.name)).collect();
        let index: BTreeMap<&NodeName, usize> =
            names.iter().enumerate().map(|(n, name)| (*name, n)).collect();
        let absent = nodes.iter().filter_map(|n| Some((index[&n.name], n.absent.as_deref()?)));
        let mut pairs = BTreeMap::new();
        let facts = paths.iter().map(|input| {
            let path = &input.path;
            let (src, dst) = (index[&path.src.node], index[&path.dst.node]);
            let ends = ((&path.src).min(&path.dst), (&path.src).max(&path.dst));
            let number = pairs.len();
            PathFacts {
                input,
                pair: *pairs.entry(ends).or_insert(number),
                src,
                dst,
                class: (path.transport, path.memory, path.dscp, src == dst),
                parts: parts(input, settings),
                loss_events: loss_events(input),
            }
        });
        Self {
            paths: facts.collect(),
            absent: absent.collect(),
            nodes: names.iter().map(|name| (*name).clone()).collect(),
            settings,
        }
    }

    /// A quantile over several paths told as one.
    pub(super) fn pooled(&self, part: Part, step: usize, paths: &[usize]) -> Option<Measured> {
        let mut all = Blocks::new();
        let mut timeout_ns = u64::MAX;
        for &n in paths {
            let input = self.paths[n].input;
            timeout_ns = timeout_ns.min(input.timeout_ns);
            if let Ok(series) = &input.series {
                all.append(part.blocks(series));
            }
        }
        measured(&all, &part.steps(self.settings)[step], timeout_ns)
    }

    pub(super) fn classes(&self) -> BTreeSet<Class> {
        self.paths.iter().map(|p| p.class).collect()
    }
}

fn parts(input: &PathInput, settings: &Settings) -> [[Option<Measured>; 3]; 3] {
    let Ok(series) = &input.series else {
        return Default::default();
    };
    [Part::Network, Part::Prober, Part::Responder].map(|part| {
        let quantile = |step: &Step| measured(part.blocks(series), step, input.timeout_ns);
        part.steps(settings).each_ref().map(quantile)
    })
}

/// `None` also where losses make up half of the tail or more: they are judged as losses, and push up every
/// quantile that has to count past them.
fn measured(blocks: &Blocks, step: &Step, timeout_ns: u64) -> Option<Measured> {
    let total = blocks.total();
    let rank = step.quantile.rank(total.samples());
    if total.censored() > 0 && total.censored() * 2 >= total.samples() - rank {
        return None;
    }
    let summary = judge(blocks, step.quantile, timeout_ns);
    let Outcome::Value { value_ns: value, low_ns: low, high_ns: high } = summary.outcome else {
        return None;
    };
    let runs = summary.episodes.unwrap_or_else(|| total.runs_above_rank(rank));
    Some(Measured { value, low, high, runs })
}

/// Losses in one run are one event, unless so many are lost that runs join by chance.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn loss_events(input: &PathInput) -> f64 {
    let lost = input.account.lost as f64;
    let Ok(series) = &input.series else { return lost };
    let total = series.network_rtt.total();
    if total.censored() == 0 {
        return lost;
    }
    let censored = total.censored() as f64;
    let runs = total.runs_above_rank(total.replies()).max(1) as f64;
    lost / crate::quantile::per_run(censored, total.samples() as f64, runs)
}
