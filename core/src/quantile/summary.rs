//! What is said about a series.

use std::fmt;

use super::{Blocks, Quantile, binomial, dependence};
use crate::histogram::{Window, layout};

/// The numbers of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Replies.
    pub count: u64,
    /// The smallest reply, exactly, in nanoseconds; `None` without replies.
    pub min_ns: Option<u64>,
    /// The largest reply, exactly, in nanoseconds.
    pub max_ns: Option<u64>,
    /// The arithmetic mean of the replies, in nanoseconds.
    pub mean_ns: Option<f64>,
    /// All replies added up, in nanoseconds.
    pub sum_ns: u128,
    /// Replies above 60 s: counted, in the maximum and the sum, but in no bucket.
    pub overflow: u64,
    /// Time-outs, which quantiles rank above all replies.
    pub censored: u64,
    /// What a time-out is known to have reached, in nanoseconds.
    pub censored_at_ns: u64,
    /// One for each of [`Quantile::ALL`], in that order.
    pub quantiles: Vec<QuantileSummary>,
    /// What limits the numbers above.
    pub notes: Vec<Note>,
}

/// One quantile of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantileSummary {
    /// Which.
    pub quantile: Quantile,
    /// What is known of it.
    pub outcome: Outcome,
    /// Separate events in the tail above it, for p99 and above; `None` below, and where withheld.
    pub episodes: Option<u64>,
}

/// What is known of a quantile. All in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A reply has that rank.
    Value {
        /// Highest value of the bucket of the nearest rank, at most the exact maximum.
        value_ns: u64,
        /// Lower end of the 95 % interval.
        low_ns: u64,
        /// Upper end; `None`: at or beyond the time-out.
        high_ns: Option<u64>,
    },
    /// A time-out has that rank: the quantile is at least this.
    AtLeast {
        /// The time-out.
        timeout_ns: u64,
    },
    /// Too few samples for the interval to exist.
    Withheld {
        /// The fewest for which it does.
        needed: u64,
    },
}

/// A validity note about a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Few separate events are all that a tail quantile rests on.
    FewEpisodes {
        /// The quantile.
        quantile: Quantile,
        /// Its events: fewer than 10.
        episodes: u64,
    },
    /// There is one block, so that dependence between samples could not be seen.
    OneBlock,
    /// Replies above 60 s are in no bucket.
    Overflow {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewEpisodes { quantile, episodes } => {
                let events = if *episodes == 1 { "event" } else { "events" };
                write!(f, "{quantile} tail rests on {episodes} {events}")
            }
            Self::OneBlock => {
                write!(f, "intervals assume independent samples: only one block of time")
            }
            Self::Overflow { count } => {
                write!(f, "{count} replies above 60 s are outside the histogram")
            }
        }
    }
}

/// Judges a series. `censored_at_ns` is the time-out of its probes, in nanoseconds.
pub fn summarize(blocks: &Blocks, censored_at_ns: u64) -> Summary {
    let total = blocks.total();
    let quantiles: Vec<_> =
        Quantile::ALL.iter().map(|&q| judge(blocks, q, censored_at_ns)).collect();
    Summary {
        count: total.replies(),
        min_ns: total.min_ns(),
        max_ns: total.max_ns(),
        mean_ns: total.mean_ns(),
        sum_ns: total.sum_ns(),
        overflow: total.overflow(),
        censored: total.censored(),
        censored_at_ns,
        notes: notes(blocks, &quantiles),
        quantiles,
    }
}

fn notes(blocks: &Blocks, quantiles: &[QuantileSummary]) -> Vec<Note> {
    let few = quantiles.iter().filter_map(|q| {
        let episodes = q.episodes.filter(|&runs| runs < dependence::FEW_EPISODES)?;
        Some(Note::FewEpisodes { quantile: q.quantile, episodes })
    });
    let shown = quantiles.iter().any(|q| matches!(q.outcome, Outcome::Value { .. }));
    let one_block = (shown && blocks.occupied().nth(1).is_none()).then_some(Note::OneBlock);
    let count = blocks.total().overflow();
    let overflow = (count > 0).then_some(Note::Overflow { count });
    few.chain(one_block).chain(overflow).collect()
}

/// Judges one quantile of a series, as [`summarize`] does all.
pub fn judge(blocks: &Blocks, quantile: Quantile, timeout_ns: u64) -> QuantileSummary {
    let total = blocks.total();
    let n = total.samples();
    let Some(ranks) = binomial::interval_ranks(quantile, n) else {
        let outcome = Outcome::Withheld { needed: binomial::least_samples(quantile) };
        return QuantileSummary { quantile, outcome, episodes: None };
    };
    let rank = quantile.rank(n);
    let outcome = match upper_value(total, rank) {
        None => Outcome::AtLeast { timeout_ns },
        Some(value_ns) => {
            let blocks = dependence::block_ranks(blocks, quantile);
            let runs = dependence::run_ranks(total, quantile);
            let (low, high) = [blocks, runs].into_iter().flatten().fold(ranks, wider);
            Outcome::Value {
                value_ns,
                low_ns: lower_value(total, low),
                high_ns: upper_value(total, high),
            }
        }
    };
    let episodes = quantile.is_tail().then(|| dependence::episodes_above(total, rank));
    QuantileSummary { quantile, outcome, episodes }
}

fn wider(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0.min(b.0), a.1.max(b.1))
}

/// The most that the reply of this rank can have taken; `None` when it is a time-out.
fn upper_value(total: &Window, rank: u64) -> Option<u64> {
    let max = total.max_ns()?;
    if rank > total.replies() {
        return None;
    }
    // A reply above 60 s is in no bucket, but at most the maximum.
    let bucket = total.counts().index_at_rank(rank);
    Some(bucket.map_or(max, |index| layout::highest_equivalent(index).min(max)))
}

/// The least that the reply of this rank can have taken.
fn lower_value(total: &Window, rank: u64) -> u64 {
    let min = total.min_ns().unwrap_or(0);
    let bucket = total.counts().index_at_rank(rank);
    bucket.map_or(layout::HIGHEST_NS, layout::lowest_equivalent).max(min)
}

#[cfg(test)]
mod tests;
