//! The counting half of a histogram: what runs in the measuring loop.

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

/// Counts the samples of one series. Owned by one thread.
///
/// Samples are handed over in the order in which they were sent, time-outs in their place among the replies, so
/// that separate runs above any threshold can be counted: for each step upwards from one sample to the next the
/// start and the end of the rise are noted, and the runs above a threshold are the rises that cross it. The
/// first sample ever rises from below everything; the last one before a drain is remembered across it.
///
/// Recording never allocates: all places (432 KiB) and the list of those in use (54 KiB) exist from the start.
/// Draining costs only the places in use.
pub struct Recorder {
    cells: Box<[Cell]>,
    /// Places whose cell is not zero, each once.
    touched: Vec<u16>,
    previous: Option<u16>,
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
            touched: Vec::with_capacity(PLACES),
            previous: None,
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
        let mut rise = 1;
        if let Some(previous) = self.previous {
            if previous < place {
                self.add(previous, 0, -1);
            } else {
                rise = 0;
            }
        }
        self.add(place, 1, rise);
        self.previous = Some(place);
    }

    /// A cell once touched stays different from zero until drained: samples only grow, and a cell without
    /// samples only loses rises.
    #[inline]
    fn add(&mut self, place: u16, samples: u64, rises: i64) {
        let cell = &mut self.cells[usize::from(place)];
        if *cell == Cell::default() {
            self.touched.push(place);
        }
        cell.samples += samples;
        cell.rises += rises;
    }

    /// Moves everything recorded since the last drain into a window.
    pub fn drain(&mut self) -> Window {
        let mut window = Window {
            min_ns: std::mem::replace(&mut self.min_ns, u64::MAX),
            max_ns: std::mem::take(&mut self.max_ns),
            sum_ns: std::mem::take(&mut self.sum_ns),
            ..Window::default()
        };
        self.touched.sort_unstable();
        let mut counts = Vec::with_capacity(self.touched.len());
        for place in self.touched.drain(..) {
            let cell = std::mem::take(&mut self.cells[usize::from(place)]);
            match place {
                OVERFLOW_PLACE => window.overflow = cell.samples,
                CENSORED_PLACE => window.censored = cell.samples,
                _ if cell.samples > 0 => counts.push((place, cell.samples)),
                _ => {}
            }
            if cell.rises != 0 {
                window.rises.push((place, cell.rises));
            }
        }
        window.counts = SparseCounts::from_sorted(counts);
        window
    }
}

#[cfg(test)]
mod tests;
