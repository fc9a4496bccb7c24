//! What the rules look at: of each path its ends, its quantiles and its counts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{NodeInput, PathInput, Series, Settings, Step};
use crate::path::{Memory, NodeName, Path, Transport};
use crate::quantile::{Blocks, Outcome, judge};
use crate::timestamp_source::StampSource;

/// A part of app RTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Paths that can be compared: alike in what carries them, and in who stamps arrivals.
pub(super) type Class = (Transport, Memory, u8, bool, Awakened);

/// Whether arrivals are stamped by the application, at the responder and at the prober. If so, network RTT has in it how long
/// each host took to wake it, and is never held against one that has not.
pub(super) type Awakened = [bool; 2];

/// Paths whose series are told as one at most; of more an even selection, which makes the interval wider than it could be.
const MOST_POOLED: usize = 256;

/// What judgement keeps of a path: some 700 octets, however long it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct PathFacts {
    pub(super) path: Path,
    pub(super) account: Counts,
    /// Why there are no series, if so.
    pub(super) missing: Option<String>,
    /// Of network RTT, time-outs included.
    pub(super) samples: u64,
    timeout_ns: u64,
    awakened: Awakened,
    /// By part, then by step of the settings.
    parts: [[Option<Measured>; 3]; 3],
    /// Losses in separate events, as far as is known: each counted as a part of one.
    pub(super) loss_events: f64,
}

/// What became of probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Slots that passed without a probe.
    pub(super) unsent: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
}

impl PathFacts {
    /// Of what was measured; with the settings it will be judged by.
    pub fn of(input: &PathInput, settings: &Settings) -> Self {
        let account = &input.account;
        let series = input.series.as_ref();
        Self {
            path: input.path.clone(),
            account: Counts {
                unsent: account.skipped.saturating_add(account.send_errors),
                sent: account.sent,
                received: account.received,
                lost: account.lost,
            },
            missing: series.err().cloned(),
            samples: series.map_or(0, |series| series.network_rtt.total().samples()),
            timeout_ns: input.timeout_ns,
            awakened: series
                .ok()
                .and_then(|series| series.source)
                .map_or_else(Awakened::default, |source| {
                    [source.t2, source.t4].map(|by| by == StampSource::User)
                }),
            parts: parts(input, settings),
            loss_events: loss_events(input),
        }
    }

    /// Of which path.
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// Network RTT at the quantile of each step of the settings ([`Settings::network`]), nanoseconds. `None` where there are too few
    /// samples, or losses decide.
    pub fn network_rtt(&self) -> [Option<u64>; 3] {
        self.parts[Part::Network as usize].map(|measured| Some(measured?.value))
    }
}

/// A path among the others.
pub(super) struct Placed<'a> {
    pub(super) input: &'a PathFacts,
    /// The nodes at its ends, as indices.
    pub(super) src: usize,
    pub(super) dst: usize,
    /// Number of the pair of endpoints, the same in both directions.
    pub(super) pair: usize,
    pub(super) class: Class,
}

impl Placed<'_> {
    pub(super) fn at(&self, part: Part, step: usize) -> Option<Measured> {
        self.input.parts[part as usize][step]
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

/// Shows the series of some paths one after the other; `false` when it cannot.
pub(super) type Fetch<'a> = dyn FnMut(&[usize], &mut dyn FnMut(&Series)) -> bool + 'a;

/// Quantiles over several paths that were told as one.
type Pools = HashMap<(Part, Vec<usize>), [Option<Measured>; 3]>;

pub(super) struct Facts<'a> {
    pub(super) paths: Vec<Placed<'a>>,
    pub(super) nodes: Vec<NodeName>,
    /// The paths that begin or end at each node.
    pub(super) touching: Vec<Vec<usize>>,
    /// Why nodes are absent, by index.
    pub(super) absent: BTreeMap<usize, &'a str>,
    pub(super) settings: &'a Settings,
    fetch: RefCell<&'a mut Fetch<'a>>,
    pools: RefCell<Pools>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(
        paths: &'a [PathFacts],
        nodes: &'a [NodeInput],
        settings: &'a Settings,
        fetch: &'a mut Fetch<'a>,
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
            Placed {
                input,
                pair: *pairs.entry(ends).or_insert(number),
                src,
                dst,
                class: (path.transport, path.memory, path.dscp, src == dst, input.awakened),
            }
        });
        let paths: Vec<Placed<'_>> = facts.collect();
        let mut touching = vec![Vec::new(); names.len()];
        for (n, path) in paths.iter().enumerate() {
            touching[path.src].push(n);
            if path.src != path.dst {
                touching[path.dst].push(n);
            }
        }
        Self {
            paths,
            touching,
            fetch: RefCell::new(fetch),
            pools: RefCell::default(),
            absent: absent.collect(),
            nodes: names.iter().map(|name| (*name).clone()).collect(),
            settings,
        }
    }

    /// A quantile over several paths told as one. Where their series cannot be had again, the medians of what is known of
    /// each: its low end is lower than that of all samples together, so that less is accused, not more.
    pub(super) fn pooled(&self, part: Part, step: usize, paths: &[usize]) -> Option<Measured> {
        let some: Vec<usize> = match paths.len() {
            // A path is in it once, at the place that its number in the selection falls on.
            n if n > MOST_POOLED => {
                (0..MOST_POOLED).map(|at| paths[at * n / MOST_POOLED]).collect()
            }
            _ => paths.to_vec(),
        };
        let key = (part, some);
        if let Some(known) = self.pools.borrow().get(&key) {
            return known[step];
        }
        let some = &key.1;
        let mut all = Blocks::new();
        let mut show = |series: &Series| all.append(part.blocks(series));
        let measured = if (self.fetch.borrow_mut())(some, &mut show) {
            let timeout = some.iter().map(|&n| self.paths[n].input.timeout_ns).min();
            let timeout = timeout.unwrap_or(u64::MAX);
            part.steps(self.settings).each_ref().map(|step| measured(&all, step, timeout))
        } else {
            [0, 1, 2].map(|step| self.median(part, step, some))
        };
        self.pools.borrow_mut().insert(key, measured);
        measured[step]
    }

    fn median(&self, part: Part, step: usize, paths: &[usize]) -> Option<Measured> {
        let each: Vec<Measured> =
            paths.iter().filter_map(|&n| self.paths[n].at(part, step)).collect();
        let middle = |of: fn(&Measured) -> u64| {
            let mut values: Vec<u64> = each.iter().map(of).collect();
            values.sort_unstable();
            values.get(values.len().checked_sub(1)? / 2).copied()
        };
        let high = middle(|m| m.high.unwrap_or(u64::MAX))?;
        Some(Measured {
            value: middle(|m| m.value)?,
            low: middle(|m| m.low)?,
            high: (high < u64::MAX).then_some(high),
            runs: each.iter().map(|m| m.runs).sum(),
        })
    }

    /// Of each path whether it is among `paths`.
    pub(super) fn marked(&self, paths: &[usize]) -> Vec<bool> {
        let mut marked = vec![false; self.paths.len()];
        paths.iter().for_each(|&n| marked[n] = true);
        marked
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
