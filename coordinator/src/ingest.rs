//! The one thread that writes the store. It gathers what sessions deliver, so that one fsync serves many, and tells each session
//! what became of its batches.
//!
//! Bounds: batches wait with at most 32 MiB in all, as each holds its share of a semaphore until it is settled; a
//! session that finds no room stops reading its stream, and the agent keeps its windows.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self as channel, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use railgauge_core::path::Path;
use railgauge_core::path_window::PathWindow;
use railgauge_core::time::{Monotonic, Wall};
use railgauge_metrics::Probes;
use railgauge_proto::convert::Batch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::clock::{self, Now};
use crate::store::Progress;
pub use crate::store::{Incoming, Outcome, Store};

/// Octets of encoded batches that wait at most. Decoded they take some four times as much.
const BACKLOG: usize = 32 << 20;
/// How long the first of a group waits for others: a fifth of a second more in the spool costs nothing.
const GATHER: Duration = Duration::from_millis(200);
/// Octets of a group at most.
const GROUP: usize = 8 << 20;
/// How often the store is maintained.
const MAINTAIN: Duration = Duration::from_secs(1);
/// The semaphore counts in these, as it counts to 2^29 or so only.
const UNIT: usize = 1 << 10;

/// What the thread does with batches: the store, or in tests something that fails.
pub trait Keeper: Send + 'static {
    /// Takes batches, each whole or not at all; what is answered is on the disk.
    fn ingest(&mut self, batches: &[Incoming], now: Wall) -> Vec<Outcome>;
    /// One bounded step of merging and forgetting; `true` when there is more to do.
    ///
    /// # Errors
    /// A sentence; it is tried again.
    fn maintain(&mut self, now: Wall) -> Result<bool, String>;
}

impl Keeper for Store {
    fn ingest(&mut self, batches: &[Incoming], now: Wall) -> Vec<Outcome> {
        Self::ingest(self, batches, now)
    }

    fn maintain(&mut self, now: Wall) -> Result<bool, String> {
        Self::maintain(self, now).map(|done| done == Progress::More).map_err(|e| e.to_string())
    }
}

/// What became of one batch.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its instance.
    pub instance: u64,
    /// Its first sequence number.
    pub first_sequence: u64,
    /// How many windows it has.
    pub windows: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// A batch on its way to the store.
#[derive(Debug)]
pub struct Delivery {
    /// What is to be stored.
    pub incoming: Incoming,
    /// Who wants to know; it must have room, as the thread does not wait.
    pub settled: mpsc::Sender<Settled>,
}

/// The thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is closed")]
pub struct Closed;

/// Since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Windows on the disk.
    pub windows_ingested: AtomicU64,
    /// Windows that came again.
    pub windows_duplicate: AtomicU64,
    /// Windows refused by the store.
    pub windows_refused: AtomicU64,
    /// Windows that could not be stored when they came, and stay with their agents.
    pub windows_failed: AtomicU64,
    /// Why the last group could not be stored.
    failing: Mutex<Option<String>>,
    /// When the thread last showed that it lives, nanoseconds of the monotonic clock.
    beat: AtomicU64,
}

impl Counters {
    /// Windows on the disk.
    pub fn windows_ingested(&self) -> u64 {
        self.windows_ingested.load(Relaxed)
    }

    /// Why windows cannot be stored now, if so.
    pub fn failing(&self) -> Option<String> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

enum Job<S> {
    Batch(Delivery, OwnedSemaphorePermit),
    Ask(Box<dyn FnOnce(&mut S) + Send>),
    Finish,
}

/// The way to the thread.
#[derive(Debug)]
pub struct Ingest<S = Store> {
    jobs: channel::Sender<Job<S>>,
    backlog: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl<S> Clone for Ingest<S> {
    fn clone(&self) -> Self {
        let Self { jobs, backlog, counters } = self;
        Self { jobs: jobs.clone(), backlog: Arc::clone(backlog), counters: Arc::clone(counters) }
    }
}

impl<S: Keeper> Ingest<S> {
    /// Starts the thread, which owns `store` from now on. What it stores, `probes` is told.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(store: S, probes: Arc<Probes>) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, received) = channel::channel();
        let counters = Arc::new(Counters::default());
        let backlog = Arc::new(Semaphore::new(BACKLOG / UNIT));
        let counted = Arc::clone(&counters);
        let writer = Writer {
            store,
            probes,
            jobs: received,
            counters: counted,
            trouble: None,
            failing: None,
        };
        let thread = thread::Builder::new().name("ingest".to_owned()).spawn(|| writer.run())?;
        Ok((Self { jobs, backlog, counters }, thread))
    }

    /// Hands a batch over, when there is room.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn deliver(self, delivery: Delivery) -> Result<(), Closed> {
        let units = delivery.incoming.encoded.len().div_ceil(UNIT).clamp(1, BACKLOG / UNIT);
        let units = u32::try_from(units).map_err(|_| Closed)?;
        let room = Arc::clone(&self.backlog).acquire_many_owned(units).await.map_err(|_| Closed)?;
        self.jobs.send(Job::Batch(delivery, room)).map_err(|_| Closed)
    }

    /// Asks the store, between two groups.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn with_store<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        let (answer, answered) = oneshot::channel();
        let ask = move |store: &mut S| drop(answer.send(question(store)));
        self.jobs.send(Job::Ask(Box::new(ask))).map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }

    /// Ends the thread after all that was handed over before.
    pub fn finish(&self) {
        // An error says that it has ended already.
        drop(self.jobs.send(Job::Finish));
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How long the thread has shown no life.
    pub fn silent_for(&self, now: Monotonic) -> Duration {
        now.saturating_since(Monotonic::from_nanos(self.counters.beat.load(Relaxed)))
    }
}

struct Writer<S> {
    store: S,
    probes: Arc<Probes>,
    jobs: channel::Receiver<Job<S>>,
    counters: Arc<Counters>,
    /// What last went wrong with maintenance.
    trouble: Option<String>,
    /// What last kept windows from the disk.
    failing: Option<String>,
}

/// Batches that are stored together.
#[derive(Default)]
struct Group {
    deliveries: Vec<(Delivery, OwnedSemaphorePermit)>,
    octets: usize,
    first: Option<Now>,
}

impl Group {
    fn push(&mut self, delivery: Delivery, room: OwnedSemaphorePermit, now: Now) {
        self.octets += delivery.incoming.encoded.len();
        self.first.get_or_insert(now);
        self.deliveries.push((delivery, room));
    }

    /// How long to wait for more: nothing when it is full.
    fn wait(&self, now: Now) -> Option<Duration> {
        let waited = now.monotonic.saturating_since(self.first?.monotonic);
        Some(if self.octets >= GROUP { Duration::ZERO } else { GATHER.saturating_sub(waited) })
    }
}

impl<S: Keeper> Writer<S> {
    fn run(mut self) {
        let mut group = Group::default();
        let (mut maintained, mut more) = (clock::now(), false);
        loop {
            let now = clock::now();
            self.counters.beat.store(now.monotonic.as_nanos(), Relaxed);
            if now.monotonic.saturating_since(maintained.monotonic) >= MAINTAIN {
                more = self.maintain(now);
                maintained = now;
            }
            let wait = group.wait(now);
            if wait == Some(Duration::ZERO) {
                self.store_group(&mut group, now);
                continue;
            }
            let idle = if more { Duration::ZERO } else { MAINTAIN };
            match self.jobs.recv_timeout(wait.unwrap_or(idle)) {
                Ok(Job::Batch(delivery, room)) => group.push(delivery, room, clock::now()),
                Ok(Job::Ask(question)) => question(&mut self.store),
                Ok(Job::Finish) | Err(RecvTimeoutError::Disconnected) => break,
                // Nothing waits: the time for what is left of maintenance.
                Err(RecvTimeoutError::Timeout) if more && wait.is_none() => {
                    more = self.maintain(now);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.store_group(&mut group, clock::now());
    }

    /// One step. A sentence is logged when it is another than the last.
    fn maintain(&mut self, now: Now) -> bool {
        let said = self.store.maintain(now.wall);
        let trouble = said.as_ref().err().cloned();
        if trouble != self.trouble {
            match &trouble {
                Some(sentence) => tracing::error!("the store: {sentence}"),
                None => tracing::warn!("the store is maintained again"),
            }
            self.trouble = trouble;
        }
        said.unwrap_or(false)
    }

    fn store_group(&mut self, group: &mut Group, now: Now) {
        let Group { deliveries, .. } = std::mem::take(group);
        let (mut batches, mut waiting) = (Vec::new(), Vec::new());
        for (Delivery { incoming, settled }, room) in deliveries {
            let Batch { instance, first_sequence, ref windows, .. } = incoming.batch;
            let windows = u32::try_from(windows.len()).unwrap_or(u32::MAX);
            batches.push(incoming);
            waiting.push((settled, room, instance, first_sequence, windows));
        }
        if batches.is_empty() {
            return;
        }
        let outcomes = self.store.ingest(&batches, now.wall);
        debug_assert_eq!(outcomes.len(), waiting.len(), "one outcome for each batch");
        self.tell(&outcomes);
        for (incoming, outcome) in batches.iter().zip(&outcomes) {
            if *outcome == Outcome::Stored {
                self.probes.add(windows(&incoming.batch));
            }
        }
        for ((settled, _room, instance, first_sequence, windows), outcome) in
            waiting.into_iter().zip(outcomes)
        {
            let counter = match &outcome {
                Outcome::Stored => &self.counters.windows_ingested,
                Outcome::Duplicate => &self.counters.windows_duplicate,
                Outcome::Refused(_) => &self.counters.windows_refused,
                Outcome::Failed(_) => &self.counters.windows_failed,
            };
            counter.fetch_add(windows.into(), Relaxed);
            // A session that is gone needs no answer: its agent sends the batch again, and it is a duplicate then.
            drop(settled.try_send(Settled { instance, first_sequence, windows, outcome }));
        }
    }

    /// Agents keep what cannot be stored and reconnect, so that without this line the fleet would seem to flap. A sentence is
    /// logged when it is another than the last.
    fn tell(&mut self, outcomes: &[Outcome]) {
        let failed = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Failed(why) => Some(why.clone()),
            _ => None,
        });
        if failed == self.failing {
            return;
        }
        match &failed {
            Some(why) => tracing::error!(
                "windows cannot be stored, they stay with their agents, which reconnect until they can be: {why}"
            ),
            None => tracing::warn!("windows are stored again"),
        }
        self.failing.clone_from(&failed);
        *self.counters.failing.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

/// The windows of a batch, each with its path.
fn windows(batch: &Batch) -> impl Iterator<Item = (&Path, &PathWindow)> {
    batch.windows.iter().filter_map(|(path, window)| Some((batch.paths.get(*path)?, window)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::batch;
    use railgauge_metrics::Registry;

    struct Full(usize);

    impl Keeper for Full {
        fn ingest(&mut self, batches: &[Incoming], _: Wall) -> Vec<Outcome> {
            self.0 += 1;
            batches.iter().map(|_| Outcome::Failed("no space left on device".into())).collect()
        }

        fn maintain(&mut self, _: Wall) -> Result<bool, String> {
            Err("no space left on device".into())
        }
    }

    #[tokio::test]
    async fn batches_are_stored_in_groups_and_every_sender_hears() {
        let registry = Registry::new("1");
        let (ingest, thread) = Ingest::start(Full(0), registry.probes()).unwrap();
        let (settled, mut heard) = mpsc::channel(4);
        for first_sequence in 0..3 {
            let mut batch = railgauge_proto::convert::batch(&batch("a", 3)).unwrap();
            batch.first_sequence = first_sequence;
            let incoming = Incoming { encoded: vec![0; 100], batch, skewed: false };
            let delivery = Delivery { incoming, settled: settled.clone() };
            ingest.clone().deliver(delivery).await.unwrap();
        }
        for first_sequence in 0..3 {
            let settled = heard.recv().await.unwrap();
            assert_eq!(settled.first_sequence, first_sequence);
            assert!(matches!(settled.outcome, Outcome::Failed(_)));
        }
        assert_eq!(ingest.with_store(|store| store.0).await, Ok(1), "one group");
        assert_eq!(ingest.counters().windows_failed.load(Relaxed), 3);
        assert_eq!(ingest.counters().failing().as_deref(), Some("no space left on device"));
        assert_eq!(ingest.backlog.available_permits(), BACKLOG / UNIT);
        let counted = registry.families().iter().any(|f| f.name() == "railgauge_probes_sent_total");
        assert!(!counted, "what is not stored is in no metric");
        ingest.finish();
        thread.join().unwrap();
        assert_eq!(ingest.with_store(|_| ()).await, Err(Closed));
    }
}
