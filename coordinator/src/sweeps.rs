//! Sweeps: one task each, which owns the state machine of `core` and drives it with time, orders and results.

mod document;
mod drive;
mod suite;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use railgauge_core::time::Wall;
use railgauge_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::clock;
use crate::fleet::Fleet;
pub use document::series;

/// Finished sweeps that can still be asked for.
const KEPT: usize = 64;
/// Events that wait for a caller; one that does not read has its sweep held back no further than this: later ones are dropped,
/// but for the last.
const EVENTS: usize = 1_024;

/// One sweep, running or finished.
#[derive(Debug)]
struct Sweep {
    started: Wall,
    cancel: watch::Sender<bool>,
    done: u32,
    measurements: u32,
    /// `None` while it runs.
    finished: Option<Finished>,
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
    /// None yet.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, table: Arc::default() }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Sweep>> {
        // An entry is written whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one; its events end with `finished`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, request: v1::StartSweepRequest) -> Result<Events, Status> {
        let asked = suite::understand(&request, self.fleet.nodes())?;
        let now = clock::now().wall;
        let detach = request.detach;
        let (cancel, cancelled) = watch::channel(false);
        let (events, received) = mpsc::channel(EVENTS);
        let id = self.enter(now, cancel.clone());
        let mut run = Run {
            id,
            request,
            fleet: Arc::clone(&self.fleet),
            cancelled,
            sweeps: self.clone(),
            events,
        };
        tokio::spawn(async move {
            let finished = drive::drive(&mut run, asked).await;
            run.sweeps.finish(&run.id, finished.clone());
            let json = finished.json;
            let last = v1::sweep_event::Event::Finished(v1::SweepFinished { json });
            // The caller may be gone; the document stays in the table.
            drop(run.events.send(Ok(v1::SweepEvent { event: Some(last) })).await);
        });
        let cancel = (!detach).then_some(cancel);
        Ok(Events { inner: ReceiverStream::new(received), cancel })
    }

    /// A new entry, named by the time so that names sort; a second in the same millisecond gets the next.
    fn enter(&self, now: Wall, cancel: watch::Sender<bool>) -> String {
        let mut table = self.table();
        let mut millis = now.as_unix_nanos() / 1_000_000;
        while table.contains_key(&format!("s{millis}")) {
            millis += 1;
        }
        let id = format!("s{millis}");
        let sweep = Sweep { started: now, cancel, done: 0, measurements: 0, finished: None };
        table.insert(id.clone(), sweep);
        let finished = table.iter().filter(|(_, sweep)| sweep.finished.is_some());
        let oldest: Vec<String> = finished.map(|(id, _)| id.clone()).collect();
        for id in oldest.iter().take(oldest.len().saturating_sub(KEPT)) {
            table.remove(id);
        }
        id
    }

    fn finish(&self, id: &str, finished: Finished) {
        if let Some(sweep) = self.table().get_mut(id) {
            sweep.finished = Some(finished);
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// When it is not known.
    pub fn get(&self, id: &str) -> Result<v1::GetSweepResponse, Status> {
        let table = self.table();
        let sweep = table.get(id).ok_or_else(|| unknown(id))?;
        Ok(v1::GetSweepResponse {
            json: sweep.finished.as_ref().map(|finished| finished.json.clone()).unwrap_or_default(),
            running: sweep.finished.is_none(),
            done: sweep.done,
            measurements: sweep.measurements,
        })
    }

    /// All, oldest first.
    pub fn list(&self) -> Vec<v1::SweepEntry> {
        let entry = |(id, sweep): (&String, &Sweep)| v1::SweepEntry {
            id: id.clone(),
            started_at_unix_ns: sweep.started.as_unix_nanos(),
            running: sweep.finished.is_none(),
            verdict: sweep.finished.as_ref().map(|f| f.verdict.clone()).unwrap_or_default(),
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
            sweep.finished.is_none() && (id.is_empty() || name.as_str() == id)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_keeps_and_cancels() {
        let fleet = Arc::new(Fleet::new(std::time::Duration::from_secs(30)));
        let sweeps = Sweeps::new(fleet);
        let now = Wall::from_unix_nanos(5_000_000);
        let (cancel, cancelled) = watch::channel(false);
        assert_eq!(sweeps.enter(now, cancel), "s5");
        assert_eq!(sweeps.enter(now, watch::channel(false).0), "s6");
        assert_eq!(sweeps.cancel("s7").unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(sweeps.cancel("s5").unwrap(), ["s5"]);
        assert!(*cancelled.borrow());
        sweeps.finish("s5", Finished { json: b"{}".to_vec(), verdict: "healthy".into() });
        assert_eq!(sweeps.cancel("").unwrap(), ["s6"]);
        assert!(!sweeps.get("s5").unwrap().running);
        let list = sweeps.list();
        assert_eq!((list[0].verdict.as_str(), list[1].running), ("healthy", true));
        for n in 0..2 * KEPT {
            let id = sweeps.enter(now, watch::channel(false).0);
            sweeps.finish(&id, Finished::default());
            assert!(sweeps.list().len() <= KEPT + 2, "{n}");
        }
    }
}
