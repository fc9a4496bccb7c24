//! The series of a run, gathered from the probe thread's windows.

use railgauge_core::quantile::{Blocks, Outcome, Quantile, summarize};
use railgauge_core::timestamp_source::TimestampSource;

use super::Progress;
use crate::probe_thread::recording::WindowReport;

/// The three parts of app RTT.
#[derive(Debug, Default)]
pub struct SplitSeries {
    /// Network RTT.
    pub network_rtt: Blocks,
    /// Prober delay.
    pub prober_delay: Blocks,
    /// Responder delay.
    pub responder_delay: Blocks,
}

/// All series of a run; a block is a window of one second.
#[derive(Debug, Default)]
pub struct RunSeries {
    /// App RTT.
    pub app_rtt: Blocks,
    /// The split, by where its stamps were taken: never merged.
    pub splits: Vec<(TimestampSource, SplitSeries)>,
    /// App RTT by flow; empty with one flow.
    pub flows: Vec<Blocks>,
    /// Series that only some transports have.
    pub extras: Vec<(&'static str, Blocks)>,
    /// Windows with samples.
    pub occupied_windows: usize,
}

impl RunSeries {
    /// Takes in the next window.
    pub fn add(&mut self, window: &WindowReport) -> Progress {
        self.app_rtt.push(&window.app_rtt);
        self.occupied_windows += usize::from(window.app_rtt.samples() > 0);
        for (source, parts) in &window.split {
            let known = self.splits.iter().position(|(s, _)| s == source);
            let at = known.unwrap_or_else(|| {
                self.splits.push((*source, SplitSeries::default()));
                self.splits.len() - 1
            });
            let series = &mut self.splits[at].1;
            series.network_rtt.push(&parts.network_rtt);
            series.prober_delay.push(&parts.prober_delay);
            series.responder_delay.push(&parts.responder_delay);
        }
        self.flows.resize_with(window.flows.len(), Blocks::default);
        for (series, window) in self.flows.iter_mut().zip(&window.flows) {
            series.push(window);
        }
        self.extras.resize_with(window.extras.len(), || ("", Blocks::default()));
        for ((name, series), (of, window)) in self.extras.iter_mut().zip(&window.extras) {
            *name = of;
            series.push(window);
        }
        let mut last = Blocks::default();
        last.push(&window.app_rtt);
        Progress { app_rtt_p50_ns: median(&last), ..self.progress() }
    }

    /// Totals so far.
    pub fn progress(&self) -> Progress {
        let total = self.app_rtt.total();
        Progress { received: total.replies(), lost: total.censored(), app_rtt_p50_ns: None }
    }

    /// The split that most samples have.
    pub fn main_split(&self) -> Option<&(TimestampSource, SplitSeries)> {
        self.splits.iter().max_by_key(|(_, series)| series.network_rtt.total().replies())
    }
}

fn median(blocks: &Blocks) -> Option<u64> {
    let summary = summarize(blocks, u64::MAX);
    let entry = summary.quantiles.iter().find(|q| q.quantile == Quantile::P50)?;
    match entry.outcome {
        Outcome::Value { value_ns, .. } => Some(value_ns),
        _ => None,
    }
}
