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
    if into.is_empty() {
        into.extend_from_slice(from);
    } else if into.len() / FEW > from.len() {
        merge_few(into, from, add);
    } else {
        *into = merge_alike(into, from, add);
    }
}

/// With so many times fewer indexes it is cheaper to look each up than to pass all of the others.
const FEW: usize = 16;

/// Whichever index is less goes first, and both where they are equal: decided without branches, as they come at random.
fn merge_alike<C: Copy + Default + PartialEq>(
    one: &[(u16, C)],
    other: &[(u16, C)],
    add: impl Fn(C, C) -> C,
) -> Vec<(u16, C)> {
    let mut out = vec![(0, C::default()); one.len() + other.len()];
    let (mut a, mut b, mut length) = (0, 0, 0);
    while let (Some(x), Some(y)) = (one.get(a), other.get(b)) {
        let (takes_x, takes_y) = (x.0 <= y.0, y.0 <= x.0);
        let left = if takes_x { x.1 } else { C::default() };
        let right = if takes_y { y.1 } else { C::default() };
        let sum = add(left, right);
        out[length] = (x.0.min(y.0), sum);
        length += usize::from(sum != C::default());
        a += usize::from(takes_x);
        b += usize::from(takes_y);
    }
    out.truncate(length);
    out.extend_from_slice(&one[a..]);
    out.extend_from_slice(&other[b..]);
    out
}

/// In place: values are added where their index is already, and only when indexes are new or sums zero does anything move.
fn merge_few<C: Copy + Default + PartialEq>(
    into: &mut Vec<(u16, C)>,
    from: &[(u16, C)],
    add: impl Fn(C, C) -> C,
) {
    let (mut at, mut new, mut zeros) = (0, 0, 0usize);
    for &(index, value) in from {
        at = position(into, at, index);
        match into.get_mut(at) {
            Some(own) if own.0 == index => {
                own.1 = add(own.1, value);
                zeros += usize::from(own.1 == C::default());
                at += 1;
            }
            _ => new += 1,
        }
    }
    insert_new(into, from, new);
    if zeros > 0 {
        into.retain(|own| own.1 != C::default());
    }
}

/// Where in `sorted`, from `at` on, `index` is or would be.
fn position<C>(sorted: &[(u16, C)], at: usize, index: u16) -> usize {
    let Some(first) = sorted.get(at).filter(|own| own.0 < index) else { return at };
    // Indexes rise by at least one a place, so it is no further on; where all are in use, it is there.
    let furthest = (at + usize::from(index - first.0)).min(sorted.len());
    match sorted.get(furthest) {
        Some(own) if own.0 == index => furthest,
        _ => at + 1 + sorted[at + 1..furthest].partition_point(|own| own.0 < index),
    }
}

/// Puts the `new` entries of `from` whose indexes are not in `into` to their places, from the last to the first.
fn insert_new<C: Copy + Default>(into: &mut Vec<(u16, C)>, from: &[(u16, C)], mut new: usize) {
    let mut read = into.len();
    into.resize(read + new, (0, C::default()));
    for &(index, value) in from.iter().rev() {
        if new == 0 {
            return;
        }
        while read > 0 && into[read - 1].0 > index {
            into[read - 1 + new] = into[read - 1];
            read -= 1;
        }
        if read == 0 || into[read - 1].0 < index {
            new -= 1;
            into[read + new] = (index, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entries(most: u16) -> impl Strategy<Value = Vec<(u16, i64)>> {
        let values = (-2i64..3).prop_filter("none is zero", |value| *value != 0);
        prop::collection::btree_map(0..most, values, 0..60).prop_map(Vec::from_iter)
    }

    proptest! {
        #[test]
        fn merging_is_adding_by_index(
            (one, other) in (1u16..200).prop_flat_map(|most| (entries(most), entries(most))),
        ) {
            let mut sums: BTreeMap<u16, i64> = one.iter().copied().collect();
            other.iter().for_each(|(index, value)| *sums.entry(*index).or_default() += value);
            sums.retain(|_, value| *value != 0);
            let mut merged = one;
            let mut in_place = merged.clone();
            merge_sorted(&mut merged, &other, i64::saturating_add);
            merge_few(&mut in_place, &other, i64::saturating_add);
            let sums = Vec::from_iter(sums);
            prop_assert_eq!(&merged, &sums);
            prop_assert_eq!(in_place, sums);
        }
    }
}
