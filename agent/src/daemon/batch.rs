//! From outcomes to windows with histograms, and from those to a batch.

use railgauge_core::histogram::{Recorder, Window};
use railgauge_core::path::Transport;
use railgauge_core::path_window::{PathWindow, Split};
use railgauge_core::session::{Outcome, Parts, Sample};
use railgauge_core::timestamp_source::TimestampSource;
use railgauge_proto::{convert, v1};

use crate::mesh::RawWindow;

/// Kinds of stamps kept apart in one window; samples of further ones are in app RTT only.
const SOURCES: usize = 4;

/// Makes histograms with one recorder's memory for all paths and series.
#[derive(Default)]
pub struct WindowMaker {
    recorder: Recorder,
}

impl WindowMaker {
    /// The window that `raw` is.
    pub fn make(&mut self, raw: &RawWindow) -> PathWindow {
        let outcomes = &raw.outcomes;
        let app = |outcome: &Outcome| match outcome {
            Outcome::Reply(sample) => Seen::Reply(sample.app_rtt),
            Outcome::Lost { .. } => Seen::Loss,
        };
        let app_rtt = self.series(outcomes, app);
        let splits = sources(outcomes).into_iter().map(|source| self.split(outcomes, source));
        PathWindow {
            parameters: raw.parameters,
            account: raw.account,
            app_rtt,
            splits: splits.collect(),
            post_to_completion: self.completions(raw),
            clock_stepped: raw.clock_stepped,
        }
    }

    /// `None` where the path has no such series: it is not over verbs, or over datagrams, which end when they leave.
    fn completions(&mut self, raw: &RawWindow) -> Option<Window> {
        (raw.path.transport == Transport::RdmaRc).then(|| {
            self.recorder.begin_series();
            // After a step of the clock its slot may be in another window than the operation.
            let most = usize::try_from(raw.account.sent).unwrap_or(usize::MAX);
            raw.completions.iter().take(most).for_each(|nanos| self.recorder.record(*nanos));
            self.recorder.drain()
        })
    }

    fn split(&mut self, outcomes: &[Outcome], source: TimestampSource) -> Split {
        // A lost probe has no stamps. Nothing acquits the network of it, so it is in the network RTT of every kind of them.
        let mut part = |of: fn(&Parts) -> u64, loss: Seen| {
            self.series(outcomes, |outcome| match outcome {
                Outcome::Reply(Sample { source: own, parts: Ok(parts), .. }) if *own == source => {
                    Seen::Reply(of(parts))
                }
                Outcome::Reply(_) => Seen::Nothing,
                Outcome::Lost { .. } => loss,
            })
        };
        Split {
            source,
            network_rtt: part(|parts| parts.network_rtt, Seen::Loss),
            prober_delay: part(|parts| parts.prober_delay, Seen::Nothing),
            responder_delay: part(|parts| parts.responder_delay, Seen::Nothing),
        }
    }

    fn series(&mut self, outcomes: &[Outcome], mut of: impl FnMut(&Outcome) -> Seen) -> Window {
        self.recorder.begin_series();
        for outcome in outcomes {
            match of(outcome) {
                Seen::Reply(ns) => self.recorder.record(ns),
                Seen::Loss => self.recorder.record_censored(),
                Seen::Nothing => {}
            }
        }
        self.recorder.drain()
    }
}

#[derive(Clone, Copy)]
enum Seen {
    Reply(u64),
    Loss,
    Nothing,
}

/// The kinds of stamps among the replies with a split, in order of appearance.
fn sources(outcomes: &[Outcome]) -> Vec<TimestampSource> {
    let mut sources: Vec<TimestampSource> = Vec::new();
    for outcome in outcomes {
        if let Outcome::Reply(Sample { source, parts: Ok(_), .. }) = outcome
            && !sources.contains(source)
            && sources.len() < SOURCES
        {
            sources.push(*source);
        }
    }
    sources
}

/// A batch of windows of one interval and epoch.
pub fn batch(
    agent: &str,
    instance: u64,
    first_sequence: u64,
    windows: &[(&RawWindow, PathWindow)],
) -> v1::WindowBatch {
    let mut paths = Vec::new();
    let mut messages = Vec::with_capacity(windows.len());
    for (raw, window) in windows {
        let path = convert::path_message(&raw.path);
        let index = paths.iter().position(|known| *known == path).unwrap_or_else(|| {
            paths.push(path);
            paths.len() - 1
        });
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        messages.push(convert::window_message(index, window));
    }
    let first = windows.first().map(|(raw, _)| *raw);
    v1::WindowBatch {
        agent: agent.to_owned(),
        instance,
        first_sequence,
        start_unix_ns: first.map_or(0, |raw| raw.start_unix_ns),
        length_ns: first.map_or(0, |raw| raw.length_ns),
        plan_epoch: first.map_or(0, |raw| raw.epoch),
        paths,
        windows: messages,
    }
}
