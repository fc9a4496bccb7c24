//! Latencies accumulated since the start of the process.

use railgauge_core::histogram::Window;

use crate::buckets::{CLASSIC_NS, SCHEMA, ZERO_THRESHOLD, layout, seconds};
use crate::model;

/// Empty buckets that are written rather than skipped: a new span costs as much as so many zeros.
const SHORTEST_GAP: i32 = 3;

/// One series.
#[derive(Clone, Debug)]
pub struct Latency {
    cells: Box<[u64]>,
    sum_ns: u128,
}

impl Default for Latency {
    fn default() -> Self {
        Self { cells: vec![0; layout().cells().len()].into(), sum_ns: 0 }
    }
}

impl Latency {
    /// Adds the replies of a window. Time-outs are no samples: nobody knows how long they would have taken.
    pub fn add(&mut self, window: &Window) {
        let layout = layout();
        for (index, count) in window.counts().entries() {
            let cell = &mut self.cells[layout.cell_of(*index)];
            *cell = cell.wrapping_add(*count);
        }
        let overflow = &mut self.cells[layout.overflow()];
        *overflow = overflow.wrapping_add(window.overflow());
        self.sum_ns = self.sum_ns.wrapping_add(window.sum_ns());
    }

    /// As Prometheus wants it.
    pub fn histogram(&self) -> model::Histogram {
        let mut native = Native::default();
        let mut classic = [0u64; CLASSIC_NS.len() + 1];
        let (mut count, mut zero) = (0u64, 0u64);
        for (cell, samples) in layout().cells().iter().zip(&self.cells) {
            classic[cell.classic] = classic[cell.classic].wrapping_add(*samples);
            count = count.wrapping_add(*samples);
            match cell.native {
                Some(index) => native.add(index.into(), *samples),
                None => zero = zero.wrapping_add(*samples),
            }
        }
        let (positive_span, positive_delta) = native.finish();
        let mut below = 0u64;
        let buckets = classic.iter().enumerate().map(|(at, samples)| {
            below = below.wrapping_add(*samples);
            let bound = CLASSIC_NS.get(at).map_or(f64::INFINITY, |ns| seconds(*ns));
            model::Bucket { cumulative_count: Some(below), upper_bound: Some(bound) }
        });
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is printed as a double")]
        let sum = self.sum_ns as f64 / 1e9;
        model::Histogram {
            sample_count: Some(count),
            sample_sum: Some(sum),
            bucket: buckets.collect(),
            schema: Some(SCHEMA),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(zero),
            positive_span,
            positive_delta,
        }
    }
}

/// Native buckets, gathered by rising index.
#[derive(Default)]
struct Native {
    /// Index and samples of the bucket that is being filled.
    open: Option<(i32, u64)>,
    spans: Vec<model::Span>,
    deltas: Vec<i64>,
    /// The bucket after the last that was written.
    next: i32,
    last: i64,
}

impl Native {
    fn add(&mut self, index: i32, samples: u64) {
        match &mut self.open {
            Some((open, count)) if *open == index => *count = count.wrapping_add(samples),
            _ => {
                self.close();
                self.open = Some((index, samples));
            }
        }
    }

    fn close(&mut self) {
        let Some((index, count)) = self.open.take().filter(|(_, count)| *count > 0) else { return };
        let gap = index - self.next;
        match self.spans.last_mut() {
            Some(span) if gap < SHORTEST_GAP => {
                for _ in 0..gap {
                    self.deltas.push(-std::mem::take(&mut self.last));
                }
                let more = u32::try_from(gap + 1).unwrap_or(1);
                span.length = Some(span.length().saturating_add(more));
            }
            // The first begins at its index, as `next` is 0 then.
            _ => self.spans.push(model::Span { offset: Some(gap), length: Some(1) }),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.deltas.push(count - self.last);
        self.last = count;
        self.next = index + 1;
    }

    fn finish(mut self) -> (Vec<model::Span>, Vec<i64>) {
        self.close();
        (self.spans, self.deltas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use railgauge_core::histogram::Recorder;
    use std::collections::BTreeMap;

    fn of(samples: &[u64]) -> model::Histogram {
        let mut recorder = Recorder::new();
        samples.iter().for_each(|ns| recorder.record(*ns));
        recorder.record_censored();
        let mut latency = Latency::default();
        latency.add(&recorder.drain());
        latency.histogram()
    }

    /// Read as the server reads it.
    fn native(histogram: &model::Histogram) -> BTreeMap<i32, i64> {
        let (mut buckets, mut index, mut count) = (BTreeMap::new(), 0, 0);
        let mut deltas = histogram.positive_delta.iter();
        for span in &histogram.positive_span {
            index += span.offset();
            for _ in 0..span.length() {
                count += deltas.next().unwrap();
                buckets.insert(index, count);
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        buckets.retain(|_, count| *count != 0);
        buckets
    }

    #[test]
    fn spans_begin_at_their_index_and_bridge_short_gaps() {
        let histogram = of(&[990_000_000, 990_000_000, 1_100_000_000, 3_900_000_000]);
        let spans: Vec<_> =
            histogram.positive_span.iter().map(|s| (s.offset(), s.length())).collect();
        assert_eq!(spans, [(0, 4), (28, 1)]);
        assert_eq!(histogram.positive_delta, [2, -2, 0, 1, 0]);
        assert_eq!(histogram.sample_sum, Some(6.98));
    }

    #[test]
    fn nothing_is_a_native_histogram_too() {
        let histogram = of(&[]);
        assert_eq!((histogram.sample_count(), histogram.zero_count()), (0, 0));
        assert!(histogram.zero_threshold() > 0.0 && histogram.positive_span.is_empty());
        assert_eq!(histogram.bucket.len(), 21);
    }

    proptest! {
        #[test]
        fn both_kinds_of_buckets_hold_every_reply(
            samples in prop::collection::vec(0u64..200_000_000_000, 0..200),
        ) {
            let histogram = of(&samples);
            let replies = samples.len() as u64;
            prop_assert_eq!(histogram.sample_count(), replies);
            prop_assert_eq!(histogram.bucket.last().unwrap().cumulative_count(), replies);
            let in_native: i64 = native(&histogram).values().sum();
            prop_assert_eq!(histogram.zero_count() + u64::try_from(in_native).unwrap(), replies);
            let sum: u64 = samples.iter().sum();
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let seconds = sum as f64 / 1e9;
            prop_assert_eq!(histogram.sample_sum(), seconds);
            let mut by_index = BTreeMap::new();
            for ns in &samples {
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a test")]
                let exact = ((*ns as f64 / 1e9).log2() * 16.0).ceil() as i32;
                if *ns > 0 {
                    *by_index.entry(exact.min(96)).or_insert(0) += 1;
                }
            }
            // Samples within a thousandth of a bound may be in its neighbour.
            let moved: i64 = native(&histogram)
                .iter()
                .map(|(index, count)| (count - by_index.get(index).copied().unwrap_or(0)).abs())
                .sum();
            prop_assert!(moved <= i64::try_from(samples.len() / 10 + 8).unwrap(), "{moved}");
        }
    }
}
