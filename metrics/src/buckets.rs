//! Which native and which classic bucket a sample falls in.
//!
//! Windows count nanoseconds in some 27,000 HDR buckets no wider than 1/1,024 of their values, exactly up to 2 us. Native buckets
//! of schema 4 are 4.4 % wide, classic ones are few. All bounds of both cut the axis into some 600 cells, of which each lies in one bucket
//! of either kind; an HDR bucket counts where its middle lies. So one addition a bucket feeds both.

use std::sync::LazyLock;

use railgauge_core::histogram::layout;

/// Bounds are 2^(i/16): 4.4 % apart.
pub const SCHEMA: i32 = 4;
const BUCKETS_PER_DOUBLING: f64 = 16.0;

/// Up to here is the zero bucket. What clients of Prometheus use by default, so that histograms of others merge with ours.
pub const ZERO_THRESHOLD: f64 = f64::from_bits(0x37F0_0000_0000_0000);

/// The native bucket with 1 ns in it, 2^(-478/16) s being 1.01 ns.
const LOWEST: i16 = -478;
/// The native bucket from 61.3 s on: all samples beyond what windows tell apart, 60 s.
const HIGHEST: i16 = 96;

/// Bounds of classic buckets in nanoseconds: 1, 2, 5 from a microsecond to a second, and the longest that a time-out may be of
/// use; above that is +Inf.
pub const CLASSIC_NS: [u64; 20] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    10_000_000_000,
];

/// Where the samples of a cell belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Index of the native bucket; `None`: the zero bucket.
    pub native: Option<i16>,
    /// Index in [`CLASSIC_NS`]; beyond it: +Inf.
    pub classic: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Layout {
    cells: Vec<Cell>,
    /// The cell of each HDR bucket.
    of: Vec<u16>,
}

/// The layout; all histograms have the same.
pub fn layout() -> &'static Layout {
    static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::new);
    &LAYOUT
}

impl Layout {
    fn new() -> Self {
        let native = |index: i16| 1e9 * (f64::from(index) / BUCKETS_PER_DOUBLING).exp2();
        let mut bounds: Vec<f64> = (LOWEST..=HIGHEST).map(native).chain(classic()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let mut cells = vec![Cell { native: None, classic: 0 }];
        cells.extend(bounds.iter().map(|bound| Cell {
            native: (LOWEST..=HIGHEST).find(|index| native(*index) >= *bound),
            classic: classic().take_while(|of_classic| of_classic < bound).count(),
        }));
        let of = (0..=layout::HIGHEST_INDEX).map(|index| {
            let (low, high) = (layout::lowest_equivalent(index), layout::highest_equivalent(index));
            #[expect(clippy::cast_precision_loss, reason = "the middle of 60 s has 36 bits")]
            let middle = low.midpoint(high) as f64;
            let above = bounds.partition_point(|bound| *bound < middle);
            // Before the first bound is the cell of zero, and 0 ns is all that is in it.
            if middle > 0.0 { cell_number(above + 1) } else { 0 }
        });
        Self { of: of.collect(), cells }
    }

    /// All cells, by rising samples.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cell of an HDR bucket.
    #[inline]
    pub fn cell_of(&self, index: u16) -> usize {
        self.of[usize::from(index.min(layout::HIGHEST_INDEX))].into()
    }

    /// The cell of what is longer than any HDR bucket.
    pub const fn overflow(&self) -> usize {
        self.cells.len() - 1
    }
}

fn cell_number(cell: usize) -> u16 {
    u16::try_from(cell).unwrap_or(u16::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "10 s has 34 bits")]
fn classic() -> impl Iterator<Item = f64> {
    CLASSIC_NS.iter().map(|ns| *ns as f64)
}

/// A classic bound in seconds.
#[expect(clippy::cast_precision_loss, reason = "10 s has 34 bits")]
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell(ns: u64) -> Cell {
        let layout = layout();
        layout.cells()[layout.cell_of(layout::index_of(ns))]
    }

    #[test]
    fn bounds_are_where_prometheus_has_them() {
        // Bucket i ends at 2^(i/16), itself included.
        for (ns, native) in [
            (1, -478),
            (499_000_000, -16),
            (999_000_000, 0),
            (1_000_900_000, 1),
            (60_000_000_000, 95),
        ] {
            assert_eq!(cell(ns).native, Some(native), "{ns}");
        }
        assert_eq!(cell(0), Cell { native: None, classic: 0 });
        let cells = layout().cells();
        assert_eq!(cells[layout().overflow()], Cell { native: Some(96), classic: 20 });
        assert_eq!(ZERO_THRESHOLD, (-128.0_f64).exp2());
        assert!(cells.len() < 640, "{} cells of 8 octets in every series", cells.len());
    }

    #[test]
    fn classic_bounds_are_inclusive_and_exact_where_windows_are() {
        assert_eq!((cell(1_000).classic, cell(1_001).classic), (0, 1));
        assert_eq!((cell(2_000).classic, cell(2_001).classic), (1, 2));
        assert_eq!((cell(9_990_000_000).classic, cell(10_010_000_000).classic), (19, 20));
    }

    proptest! {
        #[test]
        fn a_sample_lies_in_its_bucket_or_within_a_thousandth_of_it(ns in 1..=layout::HIGHEST_NS) {
            let Cell { native, classic } = cell(ns);
            #[expect(clippy::cast_precision_loss, reason = "36 bits")]
            let seconds = ns as f64 / 1e9;
            let high = (f64::from(native.unwrap()) / 16.0).exp2();
            let low = (f64::from(native.unwrap() - 1) / 16.0).exp2();
            prop_assert!(seconds > low * 0.999 && seconds < high * 1.001, "{low} {seconds} {high}");
            let bound = CLASSIC_NS.get(classic).map_or(f64::INFINITY, |ns| super::seconds(*ns));
            prop_assert!(seconds < bound * 1.001);
            let below = classic.checked_sub(1).map_or(0.0, |at| super::seconds(CLASSIC_NS[at]));
            prop_assert!(seconds > below * 0.999);
        }
    }
}
