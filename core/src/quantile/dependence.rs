//! What is left of a sample's size when its samples depend on each other: stalls hit many at once.

use super::blocks::Block;
use super::{Blocks, Quantile, student};
use crate::histogram::{SEPARATION, Window};

/// Fewer separate events in a tail than this are noted.
pub(super) const FEW_EPISODES: u64 = 10;

/// The 97.5 % point of the normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// Separate events in the tail above a rank: runs of samples; but where the upper half of the tail makes fewer than
/// half of the runs, twice those, and so on for its upper quarter, down to 10 samples. So a few long stalls do not pass
/// for many events because single samples lie beside them, just above the threshold.
pub(super) fn episodes_above(total: &Window, rank: u64) -> u64 {
    let samples = total.samples();
    let tail = samples.saturating_sub(rank);
    let deeper = (1..u64::BITS).take_while(|&halvings| tail >> halvings >= FEW_EPISODES);
    let runs = |halvings: u32| {
        let upper_part = tail >> halvings;
        total.runs_above_rank(samples - upper_part).saturating_mul(1u64 << halvings)
    };
    deeper.map(runs).fold(runs(0), u64::min)
}

/// Ranks between which the quantile lies with 95 %, from how much the share of samples at or under it differs between
/// blocks. `None` with fewer than two blocks, or when the quantile is in no bucket.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) fn block_ranks(blocks: &Blocks, quantile: Quantile) -> Option<(u64, u64)> {
    let n = blocks.total().samples();
    let index = blocks.total().counts().index_at_rank(quantile.rank(n))?;
    let count = blocks.occupied().count();
    if count < 2 {
        return None;
    }
    // A bucket can hold much of the sample. The true quantile is somewhere in it, so of the shares at its two edges
    // that with the larger error counts.
    let upper = squared_deviations(blocks.occupied(), n, |block| block.at_or_below(index));
    let lower = squared_deviations(blocks.occupied(), n, |block| {
        index.checked_sub(1).map_or(0, |below| block.at_or_below(below))
    });
    let correction = count as f64 / (count - 1) as f64;
    let error = student::t_975(count - 1) * (correction * upper.max(lower)).sqrt();
    Some(ranks_within(quantile, n, error))
}

/// Sum over blocks of the squared difference between the samples that `hits` counts in the block and those expected
/// by the block's size: the sandwich variance of their overall number.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn squared_deviations<'a>(
    blocks: impl Iterator<Item = &'a Block> + Clone,
    n: u64,
    hits: impl Fn(&Block) -> u64,
) -> f64 {
    let share = blocks.clone().map(&hits).sum::<u64>() as f64 / n as f64;
    blocks.map(|block| (hits(block) as f64 - share * block.samples() as f64).powi(2)).sum()
}

/// Ranks between which a tail quantile lies with 95 % if its tail comes in runs: of T samples in k runs the variance
/// is at least T / k times that of as many independent ones (Cauchy and Schwarz), which also holds where blocks are
/// too few, or happen to be too alike, to show it. `None` for quantiles that are not in the tail.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) fn run_ranks(total: &Window, quantile: Quantile) -> Option<(u64, u64)> {
    if !quantile.is_tail() {
        return None;
    }
    let n = total.samples();
    let rank = quantile.rank(n);
    let tail = total.samples_in_tail(rank) as f64;
    let runs = total.runs_above_rank(rank).max(1) as f64;
    let per_run = per_run(tail, n as f64, runs);
    let independent = n as f64 * quantile.share() * quantile.tail_share();
    Some(ranks_within(quantile, n, NORMAL * (independent * per_run).sqrt()))
}

/// How many samples of a tail of `tail` among `n`, in `runs` runs, stand for one event; at least 1.
pub(crate) fn per_run(tail: f64, n: f64, runs: f64) -> f64 {
    // Of independent samples some are near each other by chance and counted as one run.
    let alone = (1.0 - tail / n).powi(i32::try_from(SEPARATION).unwrap_or(i32::MAX));
    (tail / runs * alone).max(1.0)
}

/// The ranks `error` below and above that of the quantile, rounded outwards and kept within the sample.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are far below 2^53; float casts saturate"
)]
fn ranks_within(quantile: Quantile, n: u64, error: f64) -> (u64, u64) {
    let centre = n as f64 * quantile.share();
    let low = (centre - error).floor().max(1.0) as u64;
    let high = ((centre + error).ceil() as u64).saturating_add(1);
    (low, high.min(n))
}
