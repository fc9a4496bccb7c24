//! `railgauge-agent`: probes what the coordinator plans, answers probes, records windows and brings them there.
//!
//! ```text
//! mesh thread -> recorder thread -> spool -> uplink (tokio) ~ coordinator
//! responder thread                            |  plan, lease, orders
//!          metrics (HTTP) reads all of them
//! ```

mod batch;
mod budget;
pub mod config;
mod endpoints;
mod engines;
mod flight;
mod http;
mod keys;
mod metrics;
mod news;
mod orders;
pub mod rdma;
mod recorder;
mod state;
mod target;
mod uplink;

/// What stands between a coordinator's wishes and the threads that fulfil them, for whoever tests it with anything.
pub mod checks {
    pub use super::news::printable;
    pub use super::orders::config as order;
    pub use super::state::lanes;
    pub use super::target::{Endpoints, Own};
}

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use railgauge_access::audit::{Audit, AuditError};
use railgauge_access::credentials::Credentials;
use railgauge_access::door::Guard;
use railgauge_access::files::{LoadError, WITHOUT};
use railgauge_core::access::{self, Role};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::inventory::{Roots, collect};
use crate::mesh::{Mesh, MeshCounters};
use crate::pulse::Pulse;
use crate::reflect::{ReflectError, Responder};
use crate::spool::{self, Limits, Spool};
use config::{Config, ConfigError, Flags};
use endpoints::EndpointError;
use engines::Engines;
use http::{Gate, Pages};
use keys::ReflectorKeys;
use metrics::Metrics;
use news::Said;
use orders::Orders;
use recorder::{Recorded, RecorderThread};
use state::{Identity, NodeState};
use uplink::{Phase, Uplink};

/// Until the coordinator says otherwise.
const WINDOW: Duration = Duration::from_secs(10);

/// Windows that the recorder may be behind: those of 4,096 paths.
const RECORDER_QUEUE: usize = 4_096;

/// How long the steps of the end may take, together less than 5 s: the last replies and their way to the disk, to the
/// coordinator, and the last notes in the spool.
const LAST_WINDOWS: Duration = Duration::from_millis(2_500);
const LAST_MESSAGES: Duration = Duration::from_millis(1_500);
const LAST_NOTES: Duration = Duration::from_millis(400);

/// Silent for longer, a thread hangs, and the service manager is told nothing any more. The recorder may wait for a slow disk.
const MESH_HANGS: Duration = Duration::from_secs(5);
const RECORDER_HANGS: Duration = Duration::from_secs(60);

/// An inventory that the coordinator would refuse, and with it the node, is not sent.
const LARGEST_INVENTORY: usize = 1 << 20;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its state directory.
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    /// Its endpoints.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Its responder.
    #[error(transparent)]
    Responder(#[from] ReflectError),
    /// What exchanges endpoints for verbs.
    #[error(transparent)]
    Exchange(#[from] rdma::ExchangeListenError),
    /// Its certificate.
    #[error(transparent)]
    Credentials(#[from] LoadError),
    /// It has none.
    #[error("{}; {WITHOUT}", with_cause(.0))]
    NoCertificate(LoadError),
    /// Somebody else's certificate.
    #[error(
        "{cert} is of {identity}, and this is node {node}: an agent needs spiffe://TRUST-DOMAIN/railgauge/agent/{node}; or set node = \"NAME\"",
        cert = .cert.display()
    )]
    Identity {
        /// Which file.
        cert: PathBuf,
        /// Whose it is.
        identity: access::Identity,
        /// Who we are.
        node: String,
    },
    /// Its audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Randomness.
    #[error("the kernel gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// Another process has the port of its pages.
    #[error(
        "http_listen = {address}: the port is in use; `ss -ltnp 'sport = :{port}'` names who has it: stop that, or choose another \
         with http_listen",
        port = address.port()
    )]
    PortInUse {
        /// As configured.
        address: SocketAddr,
    },
    /// The address of its pages cannot be had.
    #[error(
        "http_listen = {address}: cannot listen there (`ip -br addr` lists this machine's addresses; ports below 1024 need privileges)"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The file that was to name its addresses.
    #[error("cannot write {path}")]
    Addresses {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else that the system refuses.
    #[error("cannot {doing}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn cannot(doing: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { doing, source }
}

/// Where the configuration came from, to read it again.
pub struct Source {
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// What was typed.
    pub flags: Flags,
    /// Where the addresses in use are to be written.
    pub addresses: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin.
pub async fn run(config: Config, source: Source) -> Result<(), DaemonError> {
    let mut signals = Signals::register().map_err(cannot("listen to signals"))?;
    let credentials = credentials(&config)?;
    let (http_listener, http) = http::bind(config.http_listen).await?;
    let (spool, opening) =
        Spool::open(&config.state_dir, Limits::of(config.spool_bytes.as_bytes()))?;
    if !opening.damage.is_empty() || !opening.unreadable.is_empty() {
        tracing::error!("{opening}");
    }
    let audit = Audit::open(&config.state_dir.join("audit.jsonl"))?;
    let instance = getrandom::u64().map_err(DaemonError::Random)?;
    let recorded = Arc::new(Recorded {
        spool: Mutex::new(spool),
        news: Notify::new(),
        windows_unrecorded: AtomicU64::new(0),
        alive: Pulse::begin(),
    });
    let endpoints = endpoints::resolve(&config)?;
    let answering = endpoints::reflector(&endpoints, config.answer_unauthenticated);
    let plain = answering.plain;
    let responder = Responder::open(answering)?;
    let keys = ReflectorKeys::open(&config.state_dir, responder.key_ring());
    let endpoints = endpoints::bound(endpoints, &responder.listening());
    let reflected = responder.reflected();
    let stop = Arc::new(AtomicBool::new(false));
    let ring = responder.key_ring();
    let mut responding = vec![spawn_responder(responder, Arc::clone(&stop))?];
    rdma::complaints(&config).iter().for_each(|complaint| tracing::warn!("{complaint}"));
    responding.extend(rdma::answer(&endpoints, &ring, plain, &stop)?);

    let (windows, received) = sync_channel(RECORDER_QUEUE);
    let has_verbs = endpoints.iter().any(|own| own.rdma.is_some());
    let verbs = has_verbs.then(|| Mesh::start(None, WINDOW, windows.clone())).transpose();
    let verbs = verbs.map_err(cannot("start the mesh of verbs"))?.map(Arc::new);
    let mesh = Mesh::start(config.cpu, WINDOW, windows).map_err(cannot("start the mesh"))?;
    let mesh = Engines::new(Arc::new(mesh), verbs);
    let counters: Vec<Arc<MeshCounters>> = mesh.counters().cloned().collect();
    let metrics = Arc::new(Metrics::new());
    metrics.watch(counters.clone(), Arc::clone(&recorded), reflected);
    let recorder = RecorderThread::new(
        config.node.clone(),
        instance,
        Arc::clone(&recorded),
        Arc::clone(&metrics),
    );
    let recording = thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || recorder.run(&received))
        .map_err(cannot("start the recorder"))?;

    let identity = Identity {
        node: config.node.clone(),
        identity: recorded.spool().identity(),
        instance,
        boot_id: boot_id(),
        endpoints,
        inventory_json: inventory(),
        coordinator: config.coordinator.clone(),
        refuses_unauthenticated: !config.answer_unauthenticated,
    };
    let (results, finished) = mpsc::unbounded_channel();
    let orders = Orders::new(config.node.clone(), instance, results);
    let labels = config.labels.clone();
    let node = NodeState::new(
        identity,
        labels,
        config.budget,
        mesh.clone(),
        orders,
        keys,
        Arc::clone(&metrics),
    );
    let (phase, phases) = watch::channel(Phase::Run);
    let (reconfigure, reconfigured) = mpsc::unbounded_channel();
    let (status, statuses) = watch::channel(String::new());
    let uplink = Uplink {
        node,
        credentials: credentials.clone(),
        recorded: Arc::clone(&recorded),
        results: finished,
        phase: phases,
        reconfigured,
        status,
    };
    let uplink = tokio::spawn(uplink.run());
    let watched = Arc::new(Watched {
        meshes: counters,
        recorded: Arc::clone(&recorded),
        uplink: uplink.abort_handle(),
    });
    let pages = Pages {
        node: config.node.as_str().into(),
        metrics: Arc::clone(&metrics),
        watched: Arc::clone(&watched),
    };
    let guarded = credentials.clone().filter(|_| config.http_tls);
    let gate = Gate {
        guard: guarded.map_or(Guard::Plain, Guard::Open),
        shown: config.shown(),
        audit: audit.clone(),
    };
    metrics.watch_access(credentials.clone(), audit);
    let serving = http::serve(http_listener, pages, gate);
    let serving = serving.map_err(cannot("serve pages"))?;
    if let Some(path) = &source.addresses {
        http::publish(path, http)?;
    }
    let notified = sd_notify::notify(&[NotifyState::Ready]);
    if let Err(error) = notified {
        tracing::debug!("no service manager to tell: {error}");
    }

    let running = Running { config, source, credentials, reconfigure, metrics };
    watch_over(running, &mut signals, statuses, &watched).await;
    serving.abort();

    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    end(mesh, recording, &recorded).await;
    // The receiver lives as long as the uplink.
    let _ = phase.send(Phase::Flush);
    if tokio::time::timeout(LAST_MESSAGES, uplink).await.is_err() {
        tracing::warn!("the coordinator did not take everything: the rest waits in the spool");
    }
    let flushed = tokio::task::spawn_blocking(move || recorded.spool().flush());
    match tokio::time::timeout(LAST_NOTES, flushed).await {
        Ok(Ok(Err(error))) => {
            tracing::warn!(
                "acknowledgements are not on disk ({error}): their windows are sent again"
            );
        }
        Ok(_) => {}
        Err(_) => tracing::warn!("acknowledgements are not on disk: their windows are sent again"),
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let join = move || responding.into_iter().for_each(|thread| drop(thread.join()));
    let joined = tokio::task::spawn_blocking(join);
    let _ = tokio::time::timeout(LAST_NOTES, joined).await;
    Ok(())
}

/// By what it is known, and that this is the node.
fn credentials(config: &Config) -> Result<Option<Credentials>, DaemonError> {
    let Some(files) = config.tls() else { return Ok(None) };
    let cert = files.cert.clone();
    let credentials = Credentials::load(files).map_err(|error| {
        if error.is_missing() {
            DaemonError::NoCertificate(error)
        } else {
            DaemonError::Credentials(error)
        }
    })?;
    let identity = credentials.current().identity.clone();
    if identity.role() != Role::Agent || identity.name() != config.node {
        return Err(DaemonError::Identity { cert, identity, node: config.node.clone() });
    }
    Ok(Some(credentials))
}

/// Ends the meshes, and with them the recorder.
async fn end(mesh: Engines, recording: thread::JoinHandle<()>, recorded: &Recorded) {
    let ended = tokio::task::spawn_blocking(move || {
        mesh.drain();
        drop(mesh);
        recording.join()
    });
    if tokio::time::timeout(LAST_WINDOWS, ended).await.is_err() {
        tracing::error!("the disk under the spool stands still: the last windows are not recorded");
    }
    recorded.news.notify_one();
}

struct Running {
    config: Config,
    source: Source,
    credentials: Option<Credentials>,
    reconfigure: mpsc::UnboundedSender<uplink::Reconfigured>,
    metrics: Arc<Metrics>,
}

/// Those that must not hang.
struct Watched {
    meshes: Vec<Arc<MeshCounters>>,
    recorded: Arc<Recorded>,
    uplink: AbortHandle,
}

impl Watched {
    fn hangs(&self) -> Option<&'static str> {
        if self.meshes.iter().any(|mesh| mesh.alive.age() > MESH_HANGS) {
            Some("the probe thread")
        } else if self.recorded.alive.age() > RECORDER_HANGS {
            Some("the recorder")
        } else if self.uplink.is_finished() {
            Some("the uplink")
        } else {
            None
        }
    }
}

/// Tells the service manager that we live, and minds signals, until one says that it is time to go.
async fn watch_over(
    mut running: Running,
    signals: &mut Signals,
    mut statuses: watch::Receiver<String>,
    watched: &Watched,
) {
    let pulse = sd_notify::watchdog_enabled().map_or(Duration::from_secs(5), |bound| bound / 2);
    let mut pulse = tokio::time::interval(pulse);
    let mut said = Said::default();
    loop {
        tokio::select! {
            _ = signals.term.recv() => return,
            _ = signals.int.recv() => return,
            _ = signals.hup.recv() => running.reload(),
            _ = pulse.tick() => {
                if let Some(who) = watched.hangs() {
                    if said.is_news(who) {
                        tracing::error!("{who} hangs: the service manager's watchdog is not fed");
                    }
                } else {
                    said.forget();
                    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                }
            }
            Ok(()) = statuses.changed() => {
                let status = statuses.borrow_and_update().clone();
                let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
            }
        }
    }
}

impl Running {
    fn reload(&mut self) {
        if let Ok(time) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[NotifyState::Reloading, time]);
        }
        if let Some(credentials) = &self.credentials {
            credentials.look();
        }
        let read = self.read();
        self.metrics.reloaded(read.is_ok());
        match read {
            Ok(new) => self.apply(new),
            Err(error) => {
                tracing::error!("the configuration stays as it was: {}", with_cause(&error));
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    fn read(&self) -> Result<Config, ConfigError> {
        config::load(self.source.file.as_deref(), &self.source.flags, host_name())
    }

    fn apply(&mut self, new: Config) {
        let (labels_now, budget) = (new.labels.clone(), new.budget);
        let effective = Config { labels: new.labels.clone(), budget, ..self.config.clone() };
        if effective != new {
            tracing::warn!(
                "labels and budget are reloaded; what else has changed waits for a restart"
            );
        }
        self.config = effective;
        let news = uplink::Reconfigured { labels: labels_now, budget };
        // The uplink ends only when told to.
        let _ = self.reconfigure.send(news);
    }
}

/// An error with what caused it, in one line.
pub fn with_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn register() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

fn spawn_responder(
    responder: Responder,
    stop: Arc<AtomicBool>,
) -> Result<thread::JoinHandle<()>, DaemonError> {
    let run = move || {
        if let Err(error) = responder.run(&stop) {
            tracing::error!("probes are answered no more: {}", with_cause(&error));
        }
    };
    let spawned = thread::Builder::new().name("responding".to_owned()).spawn(run);
    spawned.map_err(cannot("start the responder"))
}

fn inventory() -> Vec<u8> {
    let json = serde_json::to_vec(&collect(&Roots::default())).unwrap_or_default();
    if json.len() > LARGEST_INVENTORY {
        tracing::warn!("the inventory has {} octets and is not sent", json.len());
        return Vec::new();
    }
    json
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// What the host calls itself, if it does.
pub fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = text.trim();
    (!name.is_empty() && name != "(none)").then(|| name.to_owned())
}
