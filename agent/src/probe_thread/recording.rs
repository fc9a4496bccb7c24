//! What the probe thread keeps of its samples: one recorder a series, emptied once a second into a window.

use std::time::Duration;

use railgauge_core::histogram::{Recorder, Window};
use railgauge_core::session::{Outcome, Parts, Sample};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::TimestampSource;

/// Length of a window, and so of a block of the cluster-robust interval and of an `.hlog` interval.
pub const WINDOW: Duration = Duration::from_secs(1);

/// Combinations of stamp sources kept apart. One is the rule; a second appears when a reflector changes its mind.
const SOURCES: usize = 4;

/// The series of one window.
#[derive(Clone, Debug)]
pub struct WindowReport {
    /// Its number, from the first slot that counts.
    pub index: u64,
    /// When window 0 began.
    pub run_started_at: Wall,
    /// App RTT, time-outs as censored samples.
    pub app_rtt: Window,
    /// The split, by where its stamps were taken.
    pub split: Vec<(TimestampSource, SplitWindows)>,
    /// App RTT by flow; empty with one flow.
    pub flows: Vec<Window>,
    /// Series that only some transports have, by name.
    pub extras: Vec<(&'static str, Window)>,
}

/// The three parts of one window.
#[derive(Clone, Debug, Default)]
pub struct SplitWindows {
    /// Network RTT, time-outs as censored samples.
    pub network_rtt: Window,
    /// Prober delay.
    pub prober_delay: Window,
    /// Responder delay.
    pub responder_delay: Window,
}

struct Split {
    source: TimestampSource,
    network_rtt: Recorder,
    prober_delay: Recorder,
    responder_delay: Recorder,
}

/// Recorders of one run; nothing allocates once every combination of stamps has been seen.
pub struct Recording {
    start: Monotonic,
    started_at: Wall,
    index: u64,
    app_rtt: Recorder,
    splits: Vec<Split>,
    flows: Vec<Recorder>,
    extras: Vec<(&'static str, Recorder)>,
    /// All losses so far: those from before a split was first seen belong to its network RTT too.
    losses: u64,
    /// Samples with a split whose sources came after the table was full.
    pub unrecorded: u64,
}

impl Recording {
    /// For probes whose first slot is at `start`, which the wall clock calls `started_at`.
    pub fn new(start: Monotonic, started_at: Wall, flows: u16) -> Self {
        let flows = if flows > 1 { flows } else { 0 };
        Self {
            start,
            started_at,
            index: 0,
            app_rtt: Recorder::new(),
            splits: Vec::with_capacity(SOURCES),
            flows: (0..flows).map(|_| Recorder::new()).collect(),
            extras: Vec::new(),
            losses: 0,
            unrecorded: 0,
        }
    }

    /// Also with these series, which [`record_extra`](Self::record_extra) knows by their place.
    pub fn with_extras(self, names: &[&'static str]) -> Self {
        Self { extras: names.iter().map(|&name| (name, Recorder::new())).collect(), ..self }
    }

    /// Records a sample of one of those; `None` is one that never ended.
    pub fn record_extra(&mut self, place: usize, nanos: Option<u64>) {
        let Some((_, recorder)) = self.extras.get_mut(place) else { return };
        match nanos {
            Some(nanos) => recorder.record(nanos),
            None => recorder.record_censored(),
        }
    }

    /// Moves the first slot to `start`, before anything is recorded.
    pub const fn begin_at(&mut self, start: Monotonic, started_at: Wall) {
        (self.start, self.started_at) = (start, started_at);
    }

    /// Records `outcome`; when it belongs to a later window than the one before, that one is handed out first.
    pub fn record(&mut self, outcome: &Outcome, mut full: impl FnMut(WindowReport)) {
        let slot = match outcome {
            Outcome::Reply(sample) => sample.slot,
            Outcome::Lost { slot, .. } => *slot,
        };
        let index = self.index_of(slot);
        if index > self.index {
            full(self.drain());
            self.index = index;
        }
        match outcome {
            Outcome::Reply(sample) => self.record_reply(sample),
            Outcome::Lost { flow, .. } => self.record_loss(*flow),
        }
    }

    fn index_of(&self, slot: Monotonic) -> u64 {
        let since = slot.saturating_since(self.start).as_nanos();
        u64::try_from(since / WINDOW.as_nanos()).unwrap_or(u64::MAX)
    }

    fn record_reply(&mut self, sample: &Sample) {
        self.app_rtt.record(sample.app_rtt);
        if let Some(flow) = self.flows.get_mut(usize::from(sample.flow)) {
            flow.record(sample.app_rtt);
        }
        if let Ok(parts) = sample.parts {
            self.record_parts(sample.source, parts);
        }
    }

    fn record_parts(&mut self, source: TimestampSource, parts: Parts) {
        let known = self.splits.iter().position(|split| split.source == source);
        let Some(at) = known.or_else(|| self.add_source(source)) else {
            self.unrecorded += 1;
            return;
        };
        let split = &mut self.splits[at];
        split.network_rtt.record(parts.network_rtt);
        split.prober_delay.record(parts.prober_delay);
        split.responder_delay.record(parts.responder_delay);
    }

    fn add_source(&mut self, source: TimestampSource) -> Option<usize> {
        if self.splits.len() == SOURCES {
            return None;
        }
        let mut network_rtt = Recorder::new();
        for _ in 0..self.losses {
            network_rtt.record_censored();
        }
        self.splits.push(Split {
            source,
            network_rtt,
            prober_delay: Recorder::new(),
            responder_delay: Recorder::new(),
        });
        Some(self.splits.len() - 1)
    }

    /// A lost probe has no stamps: it is censored in app RTT, and in the network RTT of every kind of stamps, since nothing
    /// acquits the network of it and the one with most samples is printed, whichever that turns out to be.
    fn record_loss(&mut self, flow: u16) {
        self.losses += 1;
        self.app_rtt.record_censored();
        if let Some(flow) = self.flows.get_mut(usize::from(flow)) {
            flow.record_censored();
        }
        for split in &mut self.splits {
            split.network_rtt.record_censored();
        }
    }

    /// Hands out what was recorded since the last time.
    pub fn drain(&mut self) -> WindowReport {
        let split = |split: &mut Split| {
            let windows = SplitWindows {
                network_rtt: split.network_rtt.drain(),
                prober_delay: split.prober_delay.drain(),
                responder_delay: split.responder_delay.drain(),
            };
            (split.source, windows)
        };
        WindowReport {
            index: self.index,
            run_started_at: self.started_at,
            app_rtt: self.app_rtt.drain(),
            split: self.splits.iter_mut().map(split).collect(),
            flows: self.flows.iter_mut().map(Recorder::drain).collect(),
            extras: self.extras.iter_mut().map(|(name, of)| (*name, of.drain())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use railgauge_core::timestamp_source::StampSource;

    use super::*;

    const fn source(t2: StampSource) -> TimestampSource {
        let kernel = StampSource::Kernel;
        TimestampSource { t1: kernel, t2, t3: StampSource::User, t4: kernel }
    }

    fn reply(number: u64, t2: StampSource) -> Outcome {
        let parts = Ok(Parts { network_rtt: 1, prober_delay: 2, responder_delay: 3 });
        let slot = Monotonic::from_nanos(number);
        Outcome::Reply(Sample { number, slot, flow: 0, app_rtt: 6, parts, source: source(t2) })
    }

    fn lost(number: u64) -> Outcome {
        Outcome::Lost { number, slot: Monotonic::from_nanos(number), flow: 0 }
    }

    /// A reflector that changes its mind must not rid the series that is printed of its losses.
    #[test]
    fn a_loss_is_in_the_network_rtt_of_all_kinds_of_stamps() {
        let mut recording = Recording::new(Monotonic::default(), Wall::default(), 1);
        let (user, kernel) = (StampSource::User, StampSource::Kernel);
        let outcomes =
            [lost(0), reply(1, user), lost(2), reply(3, kernel), reply(4, kernel), lost(5)];
        for outcome in &outcomes {
            recording.record(outcome, |_| panic!("one window"));
        }
        let window = recording.drain();
        assert_eq!((window.app_rtt.replies(), window.app_rtt.censored()), (3, 3));
        let seen: Vec<_> = window
            .split
            .iter()
            .map(|(source, parts)| {
                (source.t2, parts.network_rtt.replies(), parts.network_rtt.censored())
            })
            .collect();
        assert_eq!(seen, [(user, 1, 3), (kernel, 2, 3)]);
        assert!(window.split.iter().all(|(_, parts)| parts.responder_delay.censored() == 0));
    }
}
