//! Quantiles that can be defended: nearest rank, with a 95 % interval, or withheld (design D4).
//!
//! **Value.** Of n samples, time-outs included and ranked above all replies, the quantile q is the sample of rank
//! ceil(q n). Printed is the highest value of its bucket, but never more than the exact maximum. A quantile that
//! falls among the time-outs is only known to be at least the time-out.
//!
//! **Interval.** Equal-tailed, 95 %, made of order statistics, printed from the lowest value of the lower one's
//! bucket to the highest of the upper one's. The widest bound counts, on each side, of
//! - [`binomial`]: exact for independent samples of any distribution. Where its order statistics do not exist the
//!   quantile is withheld: below n = 6 (p50), 36 (p90), 368 (p99), 3,688 (p99.9) and 36,887 (p99.99).
//! - blocks: samples close in time are not independent, as stalls hit many at once. The share of samples at or
//!   under the quantile is compared between blocks of time (1 s); its standard error, by the sandwich estimator
//!   for a ratio with Student's t for the blocks there are, turned into ranks (Woodruff 1952), bounds the quantile.
//! - runs, for p99 and above: the variance that a tail in runs has at least.
//!
//! Where they ask for ranks beyond the sample they stop at the smallest or largest.
//!
//! **Episodes.** A tail made of few separate events says little, however many samples they hit: fewer than 10 are
//! noted, for p99 and above. The tail of a quantile is what is ranked above it; samples in the same bucket as the
//! first of those belong to it. Counted are its runs, at least 16 samples apart; or, where few long runs make most of
//! it and single samples the rest, what the runs of its upper half, quarter and so on make of it: 2, 4, … times those.
//!
//! **Limit.** No interval can know of what did not happen during the run: stalls so rare that a run met none are not
//! in its quantiles, nor in their intervals or notes. A stall no longer than ordinary samples cannot be told from them.

pub mod binomial;

mod blocks;
mod dependence;
mod student;
mod summary;

use std::fmt;

pub use blocks::Blocks;
pub(crate) use dependence::per_run;
pub use summary::{Note, Outcome, QuantileSummary, Summary, judge, summarize};

/// A quantile, in ten-thousandths, so that ranks are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantile(u16);

impl Quantile {
    /// The median.
    pub const P50: Self = Self(5_000);
    /// 90 % of samples are at or under it.
    pub const P90: Self = Self(9_000);
    /// 99 %.
    pub const P99: Self = Self(9_900);
    /// 99.9 %.
    pub const P99_9: Self = Self(9_990);
    /// 99.99 %.
    pub const P99_99: Self = Self(9_999);
    /// Those that every summary has, rising.
    pub const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P99, Self::P99_9, Self::P99_99];

    const ONE: u16 = 10_000;

    /// As a share, between 0 and 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE)
    }

    /// One minus the share, without the rounding of that subtraction.
    pub fn tail_share(self) -> f64 {
        f64::from(Self::ONE - self.0) / f64::from(Self::ONE)
    }

    /// The nearest rank among `n` samples: ceil(q n), counted from 1; 0 when there are none.
    pub fn rank(self, n: u64) -> u64 {
        let rank = (u128::from(n) * u128::from(self.0)).div_ceil(Self::ONE.into());
        u64::try_from(rank).unwrap_or(n)
    }

    /// Whether its episodes are counted: p99 and above, where few events can carry all of the tail.
    pub fn is_tail(self) -> bool {
        self >= Self::P99
    }
}

/// `p50`, `p99.9`.
impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "p{percent}"),
            (_, 0) => write!(f, "p{percent}.{}", rest / 10),
            _ => write!(f, "p{percent}.{rest:02}"),
        }
    }
}

#[cfg(test)]
mod tests;
