//! The counting half of a histogram: what runs in the measuring loop.

use super::counts::MAX_COUNT;
use super::layout;
use super::window::{CENSORED_PLACE, OVERFLOW_PLACE};
use super::{SparseCounts, Window};

/// Buckets, then the places of samples above 60 s and of time-outs.
const PLACES: usize = layout::COUNTERS + 2;

#[derive(Clone, Copy, Default, PartialEq)]
struct Cell {
    samples: u64,
    /// Rises of the series that end here minus those that start here.
    rises: i64,
}

/// Samples under a threshold that separate two runs above it. A stall that some probes escape is one event, so runs
/// closer than this are one (runs declustering of extreme value theory: Smith and Weissman 1994); with independent
/// samples it joins no more than 15 % of the runs above p99 and 1.6 % of those above p99.9.
pub(crate) const SEPARATION: usize = 16;

/// Counts the samples of one series. Owned by one thread.
///
/// Samples are handed over in the order in which they were sent, time-outs in their place among the replies, so
/// that separate runs above any threshold can be counted. A sample begins a run above those thresholds that it
/// reaches and that none of the 16 samples before it reached: it is a rise from their maximum to itself, and
/// the runs above a threshold are the rises that cross it. Only the ends of rises are counted, by place. The
/// first sample ever rises from below everything; the 16 are remembered across drains.
///
/// Recording never allocates: all places (432 KiB) and the bits of those in use exist from the start.
/// Draining costs only the places in use.
pub struct Recorder {
    cells: Box<[Cell]>,
    /// One bit for each place: whether its cell is in use. Draining reads them in order, which spares a sort.
    touched: Box<[u64]>,
    recent: Recent,
    min_ns: u64,
    max_ns: u64,
    sum_ns: u128,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recorder, with all the memory it will ever use.
    pub fn new() -> Self {
        Self {
            cells: vec![Cell::default(); PLACES].into_boxed_slice(),
            touched: vec![0; PLACES.div_ceil(64)].into_boxed_slice(),
            recent: Recent::default(),
            min_ns: u64::MAX,
            max_ns: 0,
            sum_ns: 0,
        }
    }

    /// Counts a reply that took `ns` nanoseconds. One above 60 s counts as overflow, never as a clamped value.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns += u128::from(ns);
        let place = if ns > layout::HIGHEST_NS { OVERFLOW_PLACE } else { layout::index_of(ns) };
        self.count(place);
    }

    /// Counts a probe that was not answered in time: a sample larger than all replies.
    #[inline]
    pub fn record_censored(&mut self) {
        self.count(CENSORED_PLACE);
    }

    #[inline]
    fn count(&mut self, place: u16) {
        let before = self.recent.max();
        let rises = before.is_none_or(|before| before < place);
        if let Some(before) = before.filter(|_| rises) {
            self.add(before, 0, -1);
        }
        self.add(place, 1, i64::from(rises));
        self.recent.push(place);
    }

    #[inline]
    fn add(&mut self, place: u16, samples: u64, rises: i64) {
        self.touched[usize::from(place / 64)] |= 1 << (place % 64);
        let cell = &mut self.cells[usize::from(place)];
        cell.samples += samples;
        cell.rises += rises;
    }

    /// Counts what another recorder saw in a window: the same as merging it into the next window that is drained, and cheaper
    /// where many windows are merged at once.
    pub fn add_window(&mut self, window: &Window) {
        for &(place, samples) in window.counts.entries() {
            self.merge_cell(place, samples, 0);
        }
        for (place, samples) in
            [(OVERFLOW_PLACE, window.overflow), (CENSORED_PLACE, window.censored)]
        {
            if samples > 0 {
                self.merge_cell(place, samples, 0);
            }
        }
        for &(place, rises) in &window.rises {
            self.merge_cell(place, 0, rises);
        }
        self.min_ns = self.min_ns.min(window.min_ns);
        self.max_ns = self.max_ns.max(window.max_ns);
        self.sum_ns = self.sum_ns.saturating_add(window.sum_ns);
    }

    /// As [`Self::add`], with counts that somebody may have made up.
    #[inline]
    fn merge_cell(&mut self, place: u16, samples: u64, rises: i64) {
        self.touched[usize::from(place / 64)] |= 1 << (place % 64);
        let cell = &mut self.cells[usize::from(place)];
        cell.samples = cell.samples.saturating_add(samples);
        cell.rises = cell.rises.saturating_add(rises);
    }

    /// What comes next belongs to another series: no sample before it counts as near. To be called after a drain.
    pub fn begin_series(&mut self) {
        self.recent = Recent::default();
    }

    /// Moves everything recorded since the last drain into a window.
    pub fn drain(&mut self) -> Window {
        let mut window = Window {
            min_ns: std::mem::replace(&mut self.min_ns, u64::MAX),
            max_ns: std::mem::take(&mut self.max_ns),
            sum_ns: std::mem::take(&mut self.sum_ns),
            ..Window::default()
        };
        let in_use = self.touched.iter().map(|bits| bits.count_ones() as usize).sum();
        let mut counts = Vec::with_capacity(in_use);
        for (first, bits) in (0u16..).step_by(64).zip(&mut self.touched) {
            let mut left = std::mem::take(bits);
            while left != 0 {
                let place = first + u16::try_from(left.trailing_zeros()).unwrap_or(0);
                left &= left - 1;
                let cell = std::mem::take(&mut self.cells[usize::from(place)]);
                match place {
                    OVERFLOW_PLACE => window.overflow = cell.samples,
                    CENSORED_PLACE => window.censored = cell.samples,
                    _ if cell.samples > 0 => counts.push((place, cell.samples.min(MAX_COUNT))),
                    _ => {}
                }
                if cell.rises != 0 {
                    window.rises.push((place, cell.rises));
                }
            }
        }
        window.counts = SparseCounts::from_sorted(counts);
        window
    }
}

/// The largest of the last [`SEPARATION`] places, at a cost that does not depend on how many they are: maxima from
/// each place of the last full block to its end, and one of the block being filled (van Herk 1992).
///
/// Kept is place + 1, and 0 for none: half as large as an `Option`, and its maximum is one instruction.
#[derive(Default)]
struct Recent {
    filling: [u16; SEPARATION],
    /// Places in `filling`.
    filled: usize,
    /// The largest of those.
    filling_max: u16,
    /// For each position of the full block, the largest from there to its end.
    full_max: [u16; SEPARATION],
}

impl Recent {
    /// `None` before the first.
    #[inline]
    fn max(&self) -> Option<u16> {
        self.filling_max.max(self.full_max[self.filled]).checked_sub(1)
    }

    #[inline]
    fn push(&mut self, place: u16) {
        let kept = place + 1;
        self.filling[self.filled] = kept;
        self.filling_max = self.filling_max.max(kept);
        self.filled += 1;
        if self.filled == SEPARATION {
            self.begin_block();
        }
    }

    fn begin_block(&mut self) {
        let mut max = 0;
        for (suffix, kept) in self.full_max.iter_mut().zip(self.filling).rev() {
            max = max.max(kept);
            *suffix = max;
        }
        self.filled = 0;
        self.filling_max = 0;
    }
}

#[cfg(test)]
mod tests;
