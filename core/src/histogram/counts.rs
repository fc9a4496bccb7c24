//! Bucket counts as a sorted list of those that are not zero.

use super::layout;

/// The largest count a bucket can hold: what the HDR V2 encoding can carry. Merging stops there; at one sample a
/// nanosecond that is 292 years away.
pub(super) const MAX_COUNT: u64 = i64::MAX.cast_unsigned();

/// How many samples fell in each bucket of [`layout`]: (index, count), sorted by index, no count zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseCounts {
    entries: Vec<(u16, u64)>,
    total: u64,
}

impl SparseCounts {
    /// From entries sorted by index, each index once and in range, each count between 1 and [`MAX_COUNT`].
    pub(super) fn from_sorted(entries: Vec<(u16, u64)>) -> Self {
        debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
        debug_assert!(entries.last().is_none_or(|e| e.0 <= layout::HIGHEST_INDEX));
        let total = entries.iter().fold(0u64, |sum, e| sum.saturating_add(e.1));
        Self { entries, total }
    }

    /// The buckets that hold samples, by rising index, with their counts.
    pub fn entries(&self) -> &[(u16, u64)] {
        &self.entries
    }

    /// Samples in all buckets together.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Samples in buckets up to and including `index`.
    pub fn at_or_below(&self, index: u16) -> u64 {
        let end = self.entries.partition_point(|e| e.0 <= index);
        // Counts of a decoded histogram are whatever its sender wrote.
        self.entries[..end].iter().fold(0, |sum: u64, e| sum.saturating_add(e.1))
    }

    /// The bucket that holds the sample of the given rank (1 is the smallest), or `None` when there are fewer.
    pub fn index_at_rank(&self, rank: u64) -> Option<u16> {
        let mut seen = 0u64;
        self.entries.iter().find_map(|&(index, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then_some(index)
        })
    }

    /// Adds every count of `other`: exact, in any order and grouping.
    pub fn merge(&mut self, other: &Self) {
        merge_sorted(&mut self.entries, &other.entries, |a, b| a.saturating_add(b).min(MAX_COUNT));
        self.total = self.total.saturating_add(other.total);
    }
}

/// Merges sorted `from` into sorted `into`, adding the values of equal indexes and dropping sums that are zero.
pub(super) fn merge_sorted<C: Copy + Default + PartialEq>(
    into: &mut Vec<(u16, C)>,
    from: &[(u16, C)],
    add: impl Fn(C, C) -> C,
) {
    let left = std::mem::replace(into, Vec::with_capacity(into.len() + from.len()));
    let (mut a, mut b) = (left.as_slice(), from);
    while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
        if x.0 < y.0 {
            into.push(*x);
            a = rest_a;
        } else if y.0 < x.0 {
            into.push(*y);
            b = rest_b;
        } else {
            let sum = add(x.1, y.1);
            if sum != C::default() {
                into.push((x.0, sum));
            }
            (a, b) = (rest_a, rest_b);
        }
    }
    into.extend_from_slice(a);
    into.extend_from_slice(b);
}
