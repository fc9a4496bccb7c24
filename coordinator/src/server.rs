//! Everything put together: started, reloaded, drained.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use railgauge_access::audit::{Audit, AuditError};
use railgauge_access::authorize::Rpcs;
use railgauge_access::connection::Peer;
use railgauge_access::credentials::Credentials;
use railgauge_access::door::{Door, Guard, Use};
use railgauge_access::files::{LoadError, WITHOUT};
use railgauge_core::access::{Identity, Role};
use railgauge_proto::v1::agents_server::AgentsServer;
use railgauge_proto::v1::operator_server::OperatorServer;
use railgauge_proto::{DESCRIPTORS, MAX_MESSAGE};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Server;

use crate::clock;
use crate::config::{Config, ConfigError, RELOADABLE};
use crate::epoch::{EpochError, Epochs};
use crate::fleet::Fleet;
use crate::http::{self, Pages};
use crate::ingest::{Ingest, Store};
use crate::judging::Judging;
use crate::metrics::{Metrics, Sources};
use crate::operator::Operator;
use crate::planning::{self, Plans};
use crate::probe_keys::{self, KeysError, ProbeKeys};
use crate::session::{Agents, Limits};
use crate::state_dir::{self, StateDirError, StateDirLock};
use crate::store;
use crate::sweeps::{KeptError, Sweeps};

/// A peer that answers no ping of HTTP/2 for these two together is gone: before its lease runs out.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(10);
/// What one stream may send unread: some batches. A thousand agents at once: 256 MiB.
const STREAM_WINDOW: u32 = 256 << 10;
/// Connections by gRPC at a time: some times the agents of the largest fleet.
const MOST_STREAMS: usize = 32_768;
/// An agent has one stream, an operator some. Each may hold a message that is still coming.
const STREAMS_OF_ONE: u32 = 16;
/// Ours take some hundred octets.
const LARGEST_HEADERS: u32 = 16 << 10;
/// Together with the wait for the store, below the 5 s that a stop may take.
const DRAIN: Duration = Duration::from_secs(3);
const FLUSH: Duration = Duration::from_millis(1_500);

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator's doing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process has the port.
    #[error(
        "{key} = {address}: the port is in use; `ss -ltnp 'sport = :{port}'` names who has it: stop that, or choose another \
         with {key}",
        port = address.port()
    )]
    PortInUse {
        /// Which key.
        key: &'static str,
        /// As configured.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error(
        "{key} = {address}: cannot listen there (`ip -br addr` lists this machine's addresses; ports below 1024 need privileges)"
    )]
    Listen {
        /// Which key.
        key: &'static str,
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its certificate.
    #[error(transparent)]
    Credentials(#[from] LoadError),
    /// It has none.
    #[error("{}; {WITHOUT}", crate::sentence(.0))]
    NoCertificate(LoadError),
    /// Somebody else's certificate.
    #[error(
        "{cert} is of {identity}: a coordinator needs one of the role coordinator, spiffe://TRUST-DOMAIN/railgauge/coordinator/NAME",
        cert = .cert.display()
    )]
    Identity {
        /// Which file.
        cert: PathBuf,
        /// Whose it is.
        identity: Identity,
    },
    /// Its audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Its directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The plan's epoch in it.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The keys of probes in it.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its finished sweeps.
    #[error(transparent)]
    Sweeps(#[from] KeptError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// A thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The descriptors in the binary: our own mistake.
    #[error("the descriptors of the wire are damaged")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// A coordinator that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it is reached by gRPC.
    pub grpc: SocketAddr,
    /// Where it is reached by HTTP.
    pub http: SocketAddr,
    /// Who is there.
    pub fleet: Arc<Fleet>,
    /// Where windows go.
    pub ingest: Ingest,
    /// Whether it is well.
    pub pages: Pages,
    /// By what it is known, where there is TLS.
    pub credentials: Option<Credentials>,
    /// What was decided.
    pub audit: Audit,
    sweeps: Sweeps,
    config: watch::Sender<Arc<Config>>,
    stopping: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
    writer: thread::JoinHandle<()>,
    _lock: StateDirLock,
}

fn store_config(config: &Config) -> store::Config {
    store::Config {
        dir: config.state_dir.join("store"),
        cap_octets: config.keep_bytes.as_bytes(),
        keep_raw: config.keep_raw.duration(),
        keep_minutes: config.keep_minutes.duration(),
        keep_hours: config.keep_hours.duration(),
    }
}

async fn bind(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { key, address },
        _ => StartError::Listen { key, address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Starts all of it.
///
/// # Errors
/// A sentence for the operator; nothing is left running.
pub async fn start(config: Config, limits: Limits) -> Result<Running, StartError> {
    config.check_exposure()?;
    let (grpc_listener, grpc) = bind("listen", config.listen).await?;
    let (http_listener, http) = bind("http_listen", config.http_listen).await?;
    let lock = state_dir::take(&config.state_dir)?;
    let epochs = Epochs::open(&config.state_dir)?;
    let credentials = credentials(&config)?;
    let audit = Audit::open(&config.audit_log())?;
    let (keys, keeper) = ProbeKeys::open(&config.state_dir, &config, clock::now())?;
    let store = Store::open(store_config(&config))?;
    let reader = store.reader();
    let metrics = Arc::new(Metrics::default());
    let probes = Arc::clone(&metrics.probes);
    let (ingest, writer) = Ingest::start(store, probes).map_err(StartError::Thread)?;
    let fleet = Arc::new(Fleet::with_keys(config.lease.duration(), keys));
    let (stopping, stop) = watch::channel(false);
    let (window, shown, http_tls) = (config.window, config.shown(), config.http_tls);
    let sweeps_dir = config.state_dir.join("sweeps");
    let (config, configs) = watch::channel(Arc::new(config));
    let (plans, plan) = watch::channel(Arc::new(Plans::default()));
    let agents = Agents {
        fleet: Arc::clone(&fleet),
        ingest: ingest.clone(),
        plans: plan.clone(),
        stopping: stop.clone(),
        window,
        limits,
        audit: audit.clone(),
    };
    let sweeps = Sweeps::open(Arc::clone(&fleet), sweeps_dir, configs.clone())?;
    let judging = Judging::new(Arc::clone(&fleet), reader, plan.clone());
    let operator = Operator {
        fleet: Arc::clone(&fleet),
        judging: judging.clone(),
        sweeps: sweeps.clone(),
        ingest: ingest.clone(),
        audit: audit.clone(),
    };
    metrics.watch(Sources {
        fleet: Arc::clone(&fleet),
        ingest: ingest.clone(),
        judging: judging.clone(),
        sweeps: sweeps.clone(),
        plans: plan,
        config: configs.clone(),
    });
    metrics.watch_access(credentials.clone(), audit.clone());
    let pages = Pages {
        metrics,
        ingest: ingest.clone(),
        stopping: stop.clone(),
        fleet: Arc::clone(&fleet),
        judging: judging.clone(),
        sweeps: sweeps.clone(),
        shown: http::Shown::default(),
    };
    let guard = credentials.clone().map_or(Guard::Insecure, Guard::Closed);
    let purpose = Use { alpn: b"h2", most: MOST_STREAMS, longest: None };
    let door = Door::open(grpc_listener, guard, purpose, audit.clone());
    let door =
        door.map_err(|source| StartError::Listen { key: "listen", address: grpc, source })?;
    let gate = Rpcs(audit.clone());
    let pages_guard = credentials.clone().filter(|_| http_tls).map_or(Guard::Plain, Guard::Open);
    let pages_audit = audit.clone();
    let pages_door = || Door::open(http_listener, pages_guard, http::USE, pages_audit);
    let servers = vec![
        serve_grpc(door, gate, agents, operator, stop.clone()).await?,
        serve_http(pages_door, http::router(pages.clone(), shown, audit.clone()), stop)
            .map_err(StartError::Thread)?,
    ];
    let helpers = vec![
        tokio::spawn(planning::run(Arc::clone(&fleet), configs.clone(), epochs, plans)),
        tokio::spawn(probe_keys::run(Arc::clone(&fleet), configs, keeper)),
        tokio::spawn(watch_leases(Arc::clone(&fleet))),
        tokio::spawn(judging.run()),
    ];
    Ok(Running {
        grpc,
        http,
        fleet,
        ingest,
        pages,
        credentials,
        audit,
        sweeps,
        config,
        stopping,
        servers,
        helpers,
        writer,
        _lock: lock,
    })
}

/// What it is known by, and that this makes it a coordinator.
fn credentials(config: &Config) -> Result<Option<Credentials>, StartError> {
    let Some(files) = config.tls() else { return Ok(None) };
    let cert = files.cert.clone();
    let credentials = Credentials::load(files).map_err(|error| {
        if error.is_missing() {
            StartError::NoCertificate(error)
        } else {
            StartError::Credentials(error)
        }
    })?;
    let identity = credentials.current().identity.clone();
    if identity.role() != Role::Coordinator {
        return Err(StartError::Identity { cert, identity });
    }
    Ok(Some(credentials))
}

async fn serve_grpc(
    door: Door,
    gate: Rpcs,
    agents: Agents,
    operator: Operator,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, StartError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentsServer<Agents>>().await;
    health.set_serving::<OperatorServer<Operator>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WAIT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(2 * STREAM_WINDOW)
        .max_concurrent_streams(Some(STREAMS_OF_ONE))
        .http2_max_header_list_size(Some(LARGEST_HEADERS))
        .layer(gate)
        .add_service(AgentsServer::new(agents).max_decoding_message_size(MAX_MESSAGE))
        .add_service(OperatorServer::new(operator))
        .add_service(health_service)
        .add_service(reflection);
    Ok(tokio::spawn(async move {
        let stopped = async move {
            told(stop).await;
            health.set_not_serving::<AgentsServer<Agents>>().await;
            health.set_not_serving::<OperatorServer<Operator>>().await;
        };
        if let Err(error) = router.serve_with_incoming_shutdown(door, stopped).await {
            tracing::error!("gRPC ended: {}", crate::sentence(&error));
        }
    }))
}

/// On a thread of its own: a whole fleet delivers its windows at the same instant, and who asks for a page or for health then does not
/// queue behind all of it.
fn serve_http(
    open: impl FnOnce() -> io::Result<Door>,
    router: Router,
    stop: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let door = {
        let _there = runtime.enter();
        open()?
    };
    let (ended, end) = oneshot::channel::<()>();
    let serve = async move {
        let service = router.into_make_service_with_connect_info::<Peer>();
        let server = axum::serve(door, service);
        if let Err(error) = server.with_graceful_shutdown(told(stop)).await {
            tracing::error!("HTTP ended: {error}");
        }
    };
    let run = move || {
        runtime.block_on(serve);
        // What is still being made is for nobody any more.
        runtime.shutdown_background();
        drop(ended);
    };
    thread::Builder::new().name("http".to_owned()).spawn(run)?;
    Ok(tokio::spawn(async move { drop(end.await) }))
}

/// Waits for the stop.
async fn told(mut stop: watch::Receiver<bool>) {
    // The sender being gone is a stop too.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Leases are whole seconds long, so each second is often enough.
async fn watch_leases(fleet: Arc<Fleet>) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        fleet.tick(clock::now());
    }
}

impl Running {
    /// Takes over what can change; says what cannot.
    pub fn reload(&self, new: Config) {
        let mut next = Config::clone(&self.config.borrow());
        for key in next.differences(&new) {
            if !RELOADABLE.contains(&key) {
                tracing::warn!("{key} has changed: that takes effect at the next start");
            }
        }
        next.take_reloadable(&new);
        if let Some(credentials) = &self.credentials {
            credentials.look();
        }
        if let Err(error) = self.audit.reopen() {
            tracing::error!("{}", crate::sentence(&error));
        }
        self.fleet.set_lease(next.lease.duration());
        self.config.send_replace(Arc::new(next));
    }

    /// Stops taking new things in, stores what has come, ends the streams with a sentence. Takes at most 5 s.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        // All that run; it is no error that none does.
        drop(self.sweeps.cancel(""));
        let abort: Vec<_> = self.servers.iter().map(JoinHandle::abort_handle).collect();
        let ended = async {
            for server in self.servers {
                // A panic in it has been printed, and the rest is to be stopped all the same.
                drop(server.await);
            }
        };
        if timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("not all streams ended within {DRAIN:?}");
            abort.iter().for_each(tokio::task::AbortHandle::abort);
        }
        self.helpers.iter().for_each(JoinHandle::abort);
        self.ingest.finish();
        let writer = self.writer;
        let joined = tokio::task::spawn_blocking(move || drop(writer.join()));
        if timeout(FLUSH, joined).await.is_err() {
            tracing::warn!(
                "the store did not end in time; what it had not stored stays with the agents"
            );
        }
    }
}
