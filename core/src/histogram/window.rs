//! What a recorder saw between two drains, or several of those merged.

use super::SparseCounts;
use super::counts::merge_sorted;
use super::layout;

/// The place of a sample above 60 s in the order of samples: above every bucket.
pub(super) const OVERFLOW_PLACE: u16 = 27_648;
/// The place of a time-out in the order of samples: above everything.
pub(super) const CENSORED_PLACE: u16 = 27_649;
const _: () = assert!(OVERFLOW_PLACE as usize == layout::COUNTERS);

/// Samples of one series over some time: bucket counts and what buckets alone lose.
///
/// Windows merge exactly: cutting a sample set in any way and merging the parts gives the counts, minimum,
/// maximum, sum and time-outs of the whole, and also its rises when it was cut along the order of recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub(super) counts: SparseCounts,
    pub(super) min_ns: u64,
    pub(super) max_ns: u64,
    pub(super) sum_ns: u128,
    pub(super) overflow: u64,
    pub(super) censored: u64,
    /// For each place, how many rises of the series end there minus how many start there; sorted, none zero.
    pub(super) rises: Vec<(u16, i64)>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            counts: SparseCounts::default(),
            min_ns: u64::MAX,
            max_ns: 0,
            sum_ns: 0,
            overflow: 0,
            censored: 0,
            rises: Vec::new(),
        }
    }
}

/// A window taken apart, for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowParts {
    /// Replies in range, by bucket.
    pub counts: SparseCounts,
    /// The smallest reply, exactly; any value without replies.
    pub min_ns: u64,
    /// The largest.
    pub max_ns: u64,
    /// All replies added up.
    pub sum_ns: u128,
    /// Replies above 60 s.
    pub overflow: u64,
    /// Time-outs.
    pub censored: u64,
    /// For each place, rises that end there minus rises that start there; places rise, none is zero.
    pub rises: Vec<(u16, i64)>,
}

/// Why parts are no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// Places of rises do not rise, or lie outside the layout.
    #[error("place {0} of a rise is out of order or out of range")]
    Place(u16),
    /// A rise that is none.
    #[error("place {0} has zero rises")]
    NoRise(u16),
}

impl Window {
    /// Takes it apart.
    pub fn into_parts(self) -> WindowParts {
        let Self { counts, min_ns, max_ns, sum_ns, overflow, censored, rises } = self;
        WindowParts { counts, min_ns, max_ns, sum_ns, overflow, censored, rises }
    }

    /// The rises by place, for sending.
    pub fn rises(&self) -> &[(u16, i64)] {
        &self.rises
    }

    /// Puts one together that was sent. Whether its numbers can be true is [`is_plausible`](Self::is_plausible)'s question.
    ///
    /// # Errors
    /// Where the rises are not what they should be.
    pub fn from_parts(parts: WindowParts) -> Result<Self, PartsError> {
        let WindowParts { counts, min_ns, max_ns, sum_ns, overflow, censored, rises } = parts;
        let mut least = 0;
        for &(place, rise) in &rises {
            if place < least || place > CENSORED_PLACE {
                return Err(PartsError::Place(place));
            }
            if rise == 0 {
                return Err(PartsError::NoRise(place));
            }
            least = place + 1;
        }
        let mut window = Self { counts, min_ns, max_ns, sum_ns, overflow, censored, rises };
        if window.replies() == 0 {
            (window.min_ns, window.max_ns) = (u64::MAX, 0);
        }
        Ok(window)
    }

    /// Whether minimum, maximum and sum agree with the buckets, and there are no more rises than samples.
    pub fn is_plausible(&self) -> bool {
        let (n, samples) = (self.replies(), self.samples());
        // Or sums of rises would stop at what 64 bits hold, and no longer agree with each other.
        if self.rises.iter().any(|rise| rise.1.unsigned_abs() > samples) {
            return false;
        }
        if n == 0 {
            return self.sum_ns == 0;
        }
        let Some((first, last)) = self.ends() else { return false };
        let in_bucket = |ns: u64, index: u16| {
            (layout::lowest_equivalent(index)..=layout::highest_equivalent(index)).contains(&ns)
        };
        let min = match first {
            Some(index) => in_bucket(self.min_ns, index),
            None => self.min_ns > layout::HIGHEST_NS,
        };
        let max = match last {
            Some(index) => in_bucket(self.max_ns, index),
            None => self.max_ns > layout::HIGHEST_NS,
        };
        let (least, most) =
            (u128::from(self.min_ns) * u128::from(n), u128::from(self.max_ns) * u128::from(n));
        let ended = self.rises.iter().fold(0i64, |sum, r| sum.saturating_add(r.1));
        let begun = ended <= i64::try_from(samples).unwrap_or(i64::MAX);
        min && max && (least..=most).contains(&self.sum_ns) && begun
    }

    /// The buckets that hold the smallest and the largest reply; `None` inside: it is above 60 s.
    fn ends(&self) -> Option<(Option<u16>, Option<u16>)> {
        let first = self.counts.entries().first().map(|e| e.0);
        let last = self.counts.entries().last().map(|e| e.0);
        let last = if self.overflow > 0 { None } else { Some(last?) };
        Some((first, last))
    }

    /// The replies in range, by bucket.
    pub const fn counts(&self) -> &SparseCounts {
        &self.counts
    }

    /// Replies: in range and above it.
    pub const fn replies(&self) -> u64 {
        self.counts.total().saturating_add(self.overflow)
    }

    /// Replies and time-outs together: what quantiles rank.
    pub const fn samples(&self) -> u64 {
        self.replies().saturating_add(self.censored)
    }

    /// Replies above 60 s. They are in the exact maximum and sum but in no bucket.
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Time-outs: samples of which only a lower bound is known.
    pub const fn censored(&self) -> u64 {
        self.censored
    }

    /// The smallest reply, exactly, in nanoseconds.
    pub fn min_ns(&self) -> Option<u64> {
        (self.replies() > 0).then_some(self.min_ns)
    }

    /// The largest reply, exactly, in nanoseconds.
    pub fn max_ns(&self) -> Option<u64> {
        (self.replies() > 0).then_some(self.max_ns)
    }

    /// All replies added up, exactly, in nanoseconds. 128 bits, as 64 are full after 3.1e8 replies of 60 s, which
    /// merged windows of a cluster can reach.
    pub const fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// The arithmetic mean of the replies, in nanoseconds.
    #[expect(clippy::cast_precision_loss, reason = "a mean is printed with far fewer than 53 bits")]
    pub fn mean_ns(&self) -> Option<f64> {
        (self.replies() > 0).then(|| self.sum_ns as f64 / self.replies() as f64)
    }

    /// Adds what `other` saw. Exact, commutative and associative.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        merge_sorted(&mut self.rises, &other.rises, i64::saturating_add);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.overflow = self.overflow.saturating_add(other.overflow);
        self.censored = self.censored.saturating_add(other.censored);
    }

    /// How many separate runs of samples ranked above rank `rank` there were, in order of recording: the samples
    /// at or above the bucket of rank `rank` + 1, so that ties with the first sample of the tail belong to it.
    /// Runs are separate when at least 16 samples lie between them (see [`Recorder`](super::Recorder)). Zero when
    /// nothing is ranked above. 10 stalls of 10 samples each are 10 runs.
    pub fn runs_above_rank(&self, rank: u64) -> u64 {
        if rank >= self.samples() {
            return 0;
        }
        self.runs_at_or_above(self.place_at_rank(rank + 1))
    }

    /// The samples among which [`Self::runs_above_rank`] counts runs: those ranked above `rank`, and those in the
    /// same bucket as the first of them.
    pub fn samples_in_tail(&self, rank: u64) -> u64 {
        if rank >= self.samples() {
            return 0;
        }
        let below = match self.place_at_rank(rank + 1) {
            CENSORED_PLACE => self.replies(),
            OVERFLOW_PLACE => self.counts.total(),
            0 => 0,
            place => self.counts.at_or_below(place - 1),
        };
        self.samples() - below
    }

    /// A run begins with a rise from below the threshold to it or above, so runs are the rises that end at or
    /// above it less those that also start there.
    fn runs_at_or_above(&self, place: u16) -> u64 {
        let begin = self.rises.partition_point(|r| r.0 < place);
        let runs = self.rises[begin..].iter().fold(0i64, |sum, r| sum.saturating_add(r.1));
        u64::try_from(runs).unwrap_or(0)
    }

    fn place_at_rank(&self, rank: u64) -> u16 {
        let beyond = if rank <= self.replies() { OVERFLOW_PLACE } else { CENSORED_PLACE };
        self.counts.index_at_rank(rank).unwrap_or(beyond)
    }
}
