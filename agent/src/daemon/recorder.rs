//! The recorder: makes windows of what the mesh hands over and appends them to the spool, on a thread of its own, so that a
//! disk that stands still delays nothing but itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_proto::MOST_WINDOWS;
use tokio::sync::Notify;

use super::batch::{WindowMaker, batch};
use super::metrics::Metrics;
use crate::mesh::RawWindow;
use crate::pulse::Pulse;
use crate::spool::{Key, Spool};

/// How long windows of one interval are gathered into one batch, so into one fsync.
const GATHER: Duration = Duration::from_millis(500);

/// Outcomes in a batch at most: with the widest histograms some 2 MiB.
const MOST_OUTCOMES: usize = 100_000;

/// The recorder shows that it lives at least this often.
const PULSE: Duration = Duration::from_secs(5);

/// What the recorder shares with the uplink.
pub struct Recorded {
    /// What is recorded and not yet acknowledged.
    pub spool: Mutex<Spool>,
    /// Something was recorded.
    pub news: Notify,
    /// Windows that could not be written.
    pub windows_unrecorded: AtomicU64,
    /// Of the recorder.
    pub alive: Pulse,
}

impl Recorded {
    /// The spool. A panic while it was held leaves nothing half done that its next opening would not mend.
    pub fn spool(&self) -> std::sync::MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    /// Whether nothing waits for the coordinator; false while nobody can tell.
    pub fn is_empty(&self) -> bool {
        self.spool.try_lock().is_ok_and(|spool| spool.state().batches == 0)
    }
}

/// The recorder's state.
pub struct RecorderThread {
    node: String,
    instance: u64,
    next_sequence: u64,
    maker: WindowMaker,
    shared: Arc<Recorded>,
    metrics: Arc<Metrics>,
    gathered: Vec<RawWindow>,
    outcomes: usize,
    flush_at: Option<Monotonic>,
    failing: bool,
}

impl RecorderThread {
    /// For windows of `node`, recorded by this start of the process.
    pub fn new(node: String, instance: u64, shared: Arc<Recorded>, metrics: Arc<Metrics>) -> Self {
        Self {
            node,
            instance,
            next_sequence: 0,
            maker: WindowMaker::default(),
            shared,
            metrics,
            gathered: Vec::new(),
            outcomes: 0,
            flush_at: None,
            failing: false,
        }
    }

    /// Records until the mesh has ended.
    pub fn run(mut self, windows: &Receiver<RawWindow>) {
        loop {
            let now = clock::monotonic();
            self.shared.alive.beat(now);
            let wait = self.flush_at.map_or(PULSE, |at| at.saturating_since(now));
            match windows.recv_timeout(wait) {
                Ok(window) => self.gather(window),
                Err(RecvTimeoutError::Timeout) if self.flush_at.is_none() => {}
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn gather(&mut self, window: RawWindow) {
        let key = |w: &RawWindow| (w.start_unix_ns, w.length_ns, w.epoch);
        let full = self.gathered.len() >= MOST_WINDOWS || self.outcomes >= MOST_OUTCOMES;
        if full || self.gathered.first().is_some_and(|first| key(first) != key(&window)) {
            self.flush();
        }
        self.flush_at.get_or_insert_with(|| clock::monotonic().saturating_add(GATHER));
        self.outcomes += window.outcomes.len();
        self.gathered.push(window);
    }

    fn flush(&mut self) {
        self.flush_at = None;
        self.outcomes = 0;
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            return;
        }
        let made: Vec<_> = gathered.iter().map(|raw| (raw, self.maker.make(raw))).collect();
        // What was measured, whether or not the disk takes it.
        self.metrics.probes.add(made.iter().map(|(raw, window)| (&*raw.path, window)));
        let message = batch(&self.node, self.instance, self.next_sequence, &made);
        let windows = u32::try_from(message.windows.len()).unwrap_or(u32::MAX);
        let key = Key { instance: self.instance, first_sequence: self.next_sequence, windows };
        // A batch that was not recorded leaves a gap in the sequence: its numbers may be on the disk all the same.
        self.next_sequence += u64::from(windows);
        let payload = message.encode_to_vec();
        let appended = self.shared.spool().append(key, &payload);
        match appended {
            Ok(()) => {
                self.metrics.windows_recorded.inc_by(windows.into());
                if std::mem::take(&mut self.failing) {
                    tracing::warn!("recording windows again");
                }
                self.shared.news.notify_one();
            }
            Err(error) => {
                let lost = u64::from(windows);
                self.shared.windows_unrecorded.fetch_add(lost, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    let cause = std::error::Error::source(&error);
                    let cause = cause.map(|c| format!(": {c}")).unwrap_or_default();
                    tracing::error!("cannot record windows: {error}{cause}");
                }
            }
        }
    }
}
