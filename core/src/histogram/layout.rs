//! Index arithmetic of an HdrHistogram for 1 ns to 60 s with 3 significant digits.
//!
//! The layout is that of every HdrHistogram implementation with these three parameters: 2,048 counters one
//! nanosecond wide, then 1,024 per doubling, so that no bucket is wider than 1/1,024 of its values. Equality with
//! the `hdrhistogram` crate is tested bit by bit.

/// Smallest value told from zero, in nanoseconds.
pub const LOWEST_NS: u64 = 1;

/// Largest value counted in a bucket: 60 s in nanoseconds. Larger samples count as overflow.
pub const HIGHEST_NS: u64 = 60_000_000_000;

/// Significant decimal digits kept of every value.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// Number of counters: 26 doublings reach past 60 s, and (26 + 1) x 1,024 counters hold them.
pub const COUNTERS: usize = 27_648;

/// The highest index a value in range can have.
pub const HIGHEST_INDEX: u16 = index_of(HIGHEST_NS);

/// log2 of the counters that each doubling adds.
const HALF_MAGNITUDE: u32 = 10;
const HALF: u64 = 1 << HALF_MAGNITUDE;
/// Values up to this one have a counter each.
const UNIT_MASK: u64 = 2 * HALF - 1;

/// The index of the bucket that holds `ns`; values above [`HIGHEST_NS`] get [`HIGHEST_INDEX`].
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the largest index is 27,447")]
pub const fn index_of(ns: u64) -> u16 {
    let ns = if ns > HIGHEST_NS { HIGHEST_NS } else { ns };
    // How often the value must be halved to fit the first 2,048 counters.
    let doublings = 64 - (HALF_MAGNITUDE + 1) - (ns | UNIT_MASK).leading_zeros();
    let within = ns >> doublings;
    (((doublings as u64) << HALF_MAGNITUDE) + within) as u16
}

/// The smallest value that shares a bucket with the values of `index`, in nanoseconds.
#[inline]
pub const fn lowest_equivalent(index: u16) -> u64 {
    let doublings = doublings_of(index);
    (index as u64 - ((doublings as u64) << HALF_MAGNITUDE)) << doublings
}

/// The largest value that shares a bucket with the values of `index`, in nanoseconds.
#[inline]
pub const fn highest_equivalent(index: u16) -> u64 {
    lowest_equivalent(index) + (1 << doublings_of(index)) - 1
}

const fn doublings_of(index: u16) -> u32 {
    (index as u32 >> HALF_MAGNITUDE).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    fn oracle() -> Histogram<u64> {
        Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).unwrap()
    }

    fn agrees(oracle: &Histogram<u64>, ns: u64) {
        let index = index_of(ns);
        assert_eq!(lowest_equivalent(index), oracle.lowest_equivalent(ns), "{ns}");
        assert_eq!(highest_equivalent(index), oracle.highest_equivalent(ns), "{ns}");
    }

    #[test]
    fn has_the_counters_of_the_oracle() {
        assert_eq!(oracle().distinct_values(), COUNTERS);
        assert!(usize::from(HIGHEST_INDEX) < COUNTERS);
    }

    #[test]
    fn indexes_are_dense_and_ordered() {
        let oracle = oracle();
        let mut next = 0;
        for index in 0..=HIGHEST_INDEX {
            assert_eq!(lowest_equivalent(index), next);
            assert_eq!(index_of(next), index);
            agrees(&oracle, next);
            next = highest_equivalent(index) + 1;
        }
        assert!(next > HIGHEST_NS);
    }

    proptest! {
        #[test]
        fn any_value_in_range_has_the_oracles_bucket(ns in 0..=HIGHEST_NS) {
            agrees(&oracle(), ns);
        }
    }
}
