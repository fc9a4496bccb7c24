//! Sweeps: one task each, which owns the state machine of `core` and drives it with time, orders and results.

mod again;
mod document;
mod drive;
mod kept;
mod suite;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use railgauge_core::access::Caps;
use railgauge_core::time::Wall;
use railgauge_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::clock;
use crate::config::Config;
use crate::fleet::Fleet;
pub use document::series;
pub use kept::KeptError;
use kept::{Document, Kept};
#[cfg(test)]
pub(crate) use suite::AUTHENTICATED_BYTES;

/// Finished sweeps that can still be asked for.
const KEPT: usize = 64;
/// Events that wait for a caller; one that does not read has its sweep held back no further than this: later ones are dropped,
/// but for the last.
const EVENTS: usize = 1_024;
/// How long the last event waits for a caller who does not read.
const LAST: Duration = Duration::from_secs(60);

/// One sweep, running or finished.
#[derive(Debug)]
struct Sweep {
    started: Wall,
    cancel: watch::Sender<bool>,
    done: u32,
    measurements: u32,
    /// `None` while it runs.
    ended: Option<Ended>,
}

/// A sweep that has ended: its verdict, and where its document is.
#[derive(Debug)]
struct Ended {
    verdict: String,
    document: Document,
}

/// What came of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// The document, schema `railgauge/sweep/v1`.
    pub json: Vec<u8>,
    /// `healthy`, `degraded`, `failed`, `unknown`.
    pub verdict: String,
}

/// All sweeps.
#[derive(Clone, Debug)]
pub struct Sweeps {
    fleet: Arc<Fleet>,
    table: Arc<Mutex<BTreeMap<String, Sweep>>>,
    kept: Arc<Kept>,
    config: watch::Receiver<Arc<Config>>,
    /// Those that ended since the start of the process, by verdict.
    ended: Arc<Mutex<BTreeMap<String, u64>>>,
}

/// What a sweep's task holds.
#[derive(Debug)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// What was asked.
    pub request: v1::StartSweepRequest,
    /// To order measurements.
    pub fleet: Arc<Fleet>,
    /// Becomes true when it is cancelled.
    pub cancelled: watch::Receiver<bool>,
    /// How much it may disturb.
    pub caps: Caps,
    sweeps: Sweeps,
    events: mpsc::Sender<Result<v1::SweepEvent, Status>>,
}

impl Run {
    /// Tells the caller, where there is one that reads; counts what is done.
    pub fn tell(&self, event: v1::sweep_event::Event) {
        if let v1::sweep_event::Event::PairDone(pair) = &event
            && let Some(sweep) = self.sweeps.table().get_mut(&self.id)
        {
            (sweep.done, sweep.measurements) = (pair.done, pair.measurements);
        }
        drop(self.events.try_send(Ok(v1::SweepEvent { event: Some(event) })));
    }

    /// Tells the caller why there is no sweep.
    pub fn refuse(&self, why: Status) {
        drop(self.events.try_send(Err(why)));
    }
}

/// The events of a sweep. Dropping them cancels it, unless it is detached.
#[derive(Debug)]
pub struct Events {
    inner: ReceiverStream<Result<v1::SweepEvent, Status>>,
    cancel: Option<watch::Sender<bool>>,
}

impl Stream for Events {
    type Item = Result<v1::SweepEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(cancel) = &self.cancel {
            cancel.send_replace(true);
        }
    }
}

impl Sweeps {
    /// Those that ended before, from their files in `dir`.
    ///
    /// # Errors
    /// When the directory cannot be used. A damaged file is skipped.
    pub fn open(
        fleet: Arc<Fleet>,
        dir: PathBuf,
        config: watch::Receiver<Arc<Config>>,
    ) -> Result<Self, KeptError> {
        let (kept, found) = Kept::open(dir)?;
        let table = found.into_iter().map(|found| {
            let ended = Ended { verdict: found.verdict, document: found.document };
            let cancel = watch::channel(false).0;
            let started = found.started;
            (found.id, Sweep { started, cancel, done: 0, measurements: 0, ended: Some(ended) })
        });
        let table = Arc::new(Mutex::new(table.collect()));
        let sweeps = Self { fleet, table, kept: Arc::new(kept), config, ended: Arc::default() };
        sweeps.forget_oldest(&mut sweeps.table(), "");
        Ok(sweeps)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Sweep>> {
        // An entry is written whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that ended since the start of the process, by verdict.
    pub fn ended(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one; its events end with `finished`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, request: v1::StartSweepRequest) -> Result<Events, Status> {
        let mut asked = suite::understand(&request, self.fleet.nodes())?;
        if self.fleet.keys.is_on() && asked.transport.has_packets() {
            asked.settings.size_bytes = suite::AUTHENTICATED_BYTES;
        }
        let now = clock::now().wall;
        let detach = request.detach;
        let (cancel, cancelled) = watch::channel(false);
        let (events, received) = mpsc::channel(EVENTS);
        let id = self.enter(now, cancel.clone(), request.dry_run)?;
        let run = Run {
            id,
            request,
            fleet: Arc::clone(&self.fleet),
            cancelled,
            caps: self.config.borrow().caps(),
            sweeps: self.clone(),
            events,
        };
        tokio::spawn(self.clone().run(run, asked));
        let cancel = (!detach).then_some(cancel);
        Ok(Events { inner: ReceiverStream::new(received), cancel })
    }

    /// One that has not ended.
    pub fn running(&self) -> Option<String> {
        Self::running_in(&self.table())
    }

    fn running_in(table: &BTreeMap<String, Sweep>) -> Option<String> {
        let mut running = table.iter().filter(|(_, sweep)| sweep.ended.is_none());
        running.next().map(|(id, _)| id.clone())
    }

    /// Runs it, in a task of its own: if that panics, it has ended all the same.
    async fn run(self, mut run: Run, asked: suite::Asked) {
        let (id, events) = (run.id.clone(), run.events.clone());
        let driven = tokio::spawn(async move { drive::drive(&mut run, asked).await });
        let last = match driven.await {
            Ok(finished) => {
                let (own, id, kept) = (self.clone(), id.clone(), finished.clone());
                let stored = tokio::task::spawn_blocking(move || own.finish(&id, kept));
                if stored.await.is_err() {
                    tracing::error!("a finished sweep could not be kept: see above");
                }
                let json = finished.json;
                let last = v1::sweep_event::Event::Finished(v1::SweepFinished { json });
                Ok(v1::SweepEvent { event: Some(last) })
            }
            Err(_) => {
                tracing::error!("sweep {id} failed by a mistake of this program");
                self.table().remove(&id);
                Err(Status::internal("the sweep failed: see the coordinator's log"))
            }
        };
        // The caller may be gone; the document is kept.
        drop(events.send_timeout(last, LAST).await);
    }

    /// A new entry, named by the time so that names sort; a second in the same millisecond gets the next. Whether one runs is looked
    /// at under the same lock: of two that are asked for at once, one starts.
    fn enter(
        &self,
        now: Wall,
        cancel: watch::Sender<bool>,
        is_dry: bool,
    ) -> Result<String, Status> {
        let mut table = self.table();
        if let Some(other) = Self::running_in(&table).filter(|_| !is_dry) {
            // Two would measure each other (design D9).
            return Err(Status::failed_precondition(format!(
                "sweep {other} is running, and two would disturb each other: wait for its end, or `railgauge sweep cancel {other}`"
            )));
        }
        let mut millis = now.as_unix_nanos() / 1_000_000;
        while table.contains_key(&format!("s{millis}")) {
            millis += 1;
        }
        let id = format!("s{millis}");
        let sweep = Sweep { started: now, cancel, done: 0, measurements: 0, ended: None };
        table.insert(id.clone(), sweep);
        Ok(id)
    }

    /// But for that which has just ended, which is the oldest by name when the clock was set back.
    fn forget_oldest(&self, table: &mut BTreeMap<String, Sweep>, last: &str) {
        let ended = table.iter().filter(|(id, sweep)| sweep.ended.is_some() && id.as_str() != last);
        let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
        for id in
            ended.iter().take((ended.len() + usize::from(!last.is_empty())).saturating_sub(KEPT))
        {
            table.remove(id);
            self.kept.remove(id);
        }
    }

    /// Keeps what came of it; without a document there is nothing to be kept. Blocks.
    fn finish(&self, id: &str, finished: Finished) {
        if finished.json.is_empty() {
            self.table().remove(id);
            return;
        }
        *self.ended().entry(finished.verdict.clone()).or_default() += 1;
        let document = self.kept.write(id, finished.json);
        let mut table = self.table();
        if let Some(sweep) = table.get_mut(id) {
            sweep.ended = Some(Ended { verdict: finished.verdict, document });
        }
        self.forget_oldest(&mut table, id);
    }

    /// One of them, with its document if it has ended.
    ///
    /// # Errors
    /// When it is not known, or its document cannot be read any more.
    pub async fn get(&self, id: &str) -> Result<v1::GetSweepResponse, Status> {
        let (mut found, document) = {
            let table = self.table();
            let sweep = table.get(id).ok_or_else(|| unknown(id))?;
            let found = v1::GetSweepResponse {
                json: Vec::new(),
                running: sweep.ended.is_none(),
                done: sweep.done,
                measurements: sweep.measurements,
            };
            (found, sweep.ended.as_ref().map(|ended| ended.document.clone()))
        };
        if let Some(document) = document {
            let read = tokio::task::spawn_blocking(move || document.read()).await;
            let json = read.map_err(|_| Status::internal("the document cannot be read"))?;
            found.json = json.map_err(|error| {
                Status::data_loss(format!("the document of {id} cannot be read: {error}"))
            })?;
        }
        Ok(found)
    }

    /// As one that has ended.
    #[cfg(test)]
    pub(crate) fn entered(&self, id: &str, json: &[u8]) {
        let started = Wall::default();
        let (cancel, ended) = (watch::channel(false).0, None);
        let sweep = Sweep { started, cancel, done: 0, measurements: 0, ended };
        self.table().insert(id.to_owned(), sweep);
        self.finish(id, Finished { json: json.to_vec(), verdict: "failed".to_owned() });
    }

    /// All, oldest first.
    pub fn list(&self) -> Vec<v1::SweepEntry> {
        let entry = |(id, sweep): (&String, &Sweep)| v1::SweepEntry {
            id: id.clone(),
            started_at_unix_ns: sweep.started.as_unix_nanos(),
            running: sweep.ended.is_none(),
            verdict: sweep.ended.as_ref().map(|ended| ended.verdict.clone()).unwrap_or_default(),
        };
        self.table().iter().map(entry).collect()
    }

    /// Cancels one, or with an empty name all that run. Returns which.
    ///
    /// # Errors
    /// When the one is not known.
    pub fn cancel(&self, id: &str) -> Result<Vec<String>, Status> {
        let table = self.table();
        if !id.is_empty() && !table.contains_key(id) {
            return Err(unknown(id));
        }
        let meant = table.iter().filter(|(name, sweep)| {
            sweep.ended.is_none() && (id.is_empty() || name.as_str() == id)
        });
        Ok(meant
            .map(|(name, sweep)| {
                sweep.cancel.send_replace(true);
                name.clone()
            })
            .collect())
    }
}

fn unknown(id: &str) -> Status {
    let id: String = crate::hello::printable(id).chars().take(60).collect();
    Status::not_found(format!("there is no sweep {id:?}; the last {KEPT} are kept"))
}
