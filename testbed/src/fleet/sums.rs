//! Windows added up on their own: from the messages, by the `hdrhistogram` crate's reader, bucket by bucket, without the code
//! that merges in the daemons.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use prost::Message;
use railgauge_proto::v1;

use super::Trouble;

/// A path as sent, and how it was probed.
type SeriesKey = (Vec<u8>, u64, u64, u32);

/// Which samples of it: app RTT is 0; parts 1 to 3 with their four stamps.
type Part = (u8, [i32; 4]);

/// What windows of one series add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    account: [u64; 12],
    parts: BTreeMap<Part, Samples>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Samples {
    /// By the value that the reader gives a bucket.
    buckets: BTreeMap<u64, u64>,
    extremes: Option<(u64, u64)>,
    sum_ns: u128,
    overflow: u64,
    censored: u64,
}

/// All series.
#[derive(Debug, Default)]
pub struct Sums {
    series: BTreeMap<SeriesKey, Sum>,
    /// Probes with a reply.
    pub received: u64,
}

impl Sums {
    /// Adds one window of `path`.
    ///
    /// # Errors
    /// When a histogram does not decode.
    pub fn add(&mut self, path: &v1::Path, window: &v1::Window) -> Result<(), Trouble> {
        let key = (path.encode_to_vec(), window.interval_ns, window.timeout_ns, window.size_bytes);
        let sum = self.series.entry(key).or_default();
        let account = window.account.unwrap_or_default();
        self.received += account.received;
        let counts = [
            account.scheduled,
            account.sent,
            account.skipped,
            account.send_errors,
            account.received,
            account.lost,
            account.in_flight,
            account.late_replies,
            account.duplicate,
            account.reordered,
            account.late_starts,
            account.invalid_stamps,
        ];
        sum.account.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        sum.add((0, [0; 4]), window.app_rtt.as_ref())?;
        for split in &window.splits {
            let stamps = [split.t1, split.t2, split.t3, split.t4];
            let parts = [&split.network_rtt, &split.prober_delay, &split.responder_delay];
            for (n, part) in (1..).zip(parts) {
                sum.add((n, stamps), part.as_ref())?;
            }
        }
        Ok(())
    }

    /// How this differs from `other`, in a sentence; `None` where they are the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.series.len() != other.series.len() {
            return Some(format!("{} series, not {}", self.series.len(), other.series.len()));
        }
        for (key, own) in &self.series {
            let path = v1::Path::decode(key.0.as_slice()).unwrap_or_default();
            let Some(theirs) = other.series.get(key) else {
                return Some(format!("only one side has {path:?}"));
            };
            if own.account != theirs.account {
                return Some(format!(
                    "{path:?}: account {:?}, not {:?}",
                    own.account, theirs.account
                ));
            }
            if own.parts != theirs.parts {
                let part = own.parts.iter().find(|(part, own)| theirs.parts.get(part) != Some(own));
                return Some(format!("{path:?}: samples of {:?} differ", part.map(|p| p.0)));
            }
        }
        None
    }
}

impl Sum {
    fn add(&mut self, part: Part, series: Option<&v1::Series>) -> Result<(), Trouble> {
        let Some(series) = series else { return Ok(()) };
        if *series == v1::Series::default() {
            return Ok(());
        }
        let samples = self.parts.entry(part).or_default();
        let mut replies = series.overflow;
        if !series.hdr_v2.is_empty() {
            let read = Deserializer::new().deserialize(&mut series.hdr_v2.as_slice());
            let histogram: Histogram<u64> = read.map_err(|e| format!("{e:?}"))?;
            for bucket in histogram.iter_recorded() {
                let count = bucket.count_at_value();
                *samples.buckets.entry(bucket.value_iterated_to()).or_default() += count;
                replies += count;
            }
        }
        if replies > 0 {
            let (least, most) = samples.extremes.unwrap_or((u64::MAX, 0));
            samples.extremes = Some((least.min(series.min_ns), most.max(series.max_ns)));
            samples.sum_ns += u128::from(series.sum_ns_high) << 64 | u128::from(series.sum_ns_low);
        }
        samples.overflow += series.overflow;
        samples.censored += series.censored;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use railgauge_core::histogram::Recorder;
    use railgauge_core::path_window::{Parameters, PathWindow};
    use railgauge_proto::convert;

    use super::*;

    fn window(samples: &[u64]) -> PathWindow {
        let parameters = Parameters { interval_ns: 1, timeout_ns: 2, size_bytes: 44, rdma: None };
        let mut window = PathWindow::new(parameters);
        let count = samples.len() as u64;
        window.account.scheduled = count;
        window.account.sent = count;
        window.account.received = count;
        let mut recorder = Recorder::new();
        samples.iter().for_each(|ns| recorder.record(*ns));
        window.app_rtt = recorder.drain();
        window
    }

    fn sums(windows: &[PathWindow]) -> Sums {
        let mut sums = Sums::default();
        for window in windows {
            sums.add(&v1::Path::default(), &convert::window_message(0, window)).unwrap();
        }
        sums
    }

    #[test]
    fn a_merged_window_is_the_sum_and_one_sample_more_is_not() {
        let (one, other) = (window(&[5, 900, 70_000_000_000]), window(&[3, 900, 4_000_000]));
        let mut merged = one.clone();
        merged.merge(&other);
        let apart = sums(&[one.clone(), other.clone()]);
        assert_eq!((apart.difference(&sums(&[merged])), apart.received), (None, 6));
        let twice = sums(&[one.clone(), other.clone(), other]);
        assert!(twice.difference(&apart).unwrap().contains("account"));
        let mut moved = one.clone();
        moved.app_rtt = window(&[5, 901, 70_000_000_000]).app_rtt;
        assert!(sums(&[one]).difference(&sums(&[moved])).unwrap().contains("samples"));
    }
}
