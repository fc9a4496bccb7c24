//! `railgauge reflect`: answers probes, without a coordinator.

mod datagrams;
mod key_ring;
pub mod report;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub use railgauge_core::reflector::PlainRequests;
use railgauge_core::reflector::{Counters, DropReason, Reflector, ReflectorConfig};
use railgauge_core::stamp::Key;
use railgauge_core::timestamp_source::StampSource;
pub use railgauge_fabric::socket::OpenError;
use railgauge_fabric::thread::PinError;

use crate::WaitMode;
use crate::ping::Transport;
use crate::rdma::responder::{self, ResponderConfig, RunError};
use crate::rdma::{Port, PortError, PortWish};
pub(crate) use datagrams::place;
pub use key_ring::KeyRing;
pub use report::ReflectReport;

/// How long the responder sleeps at most, so that a request to stop is heard.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// How to answer.
#[derive(Clone, Debug)]
pub struct ReflectConfig {
    /// What carries the probes.
    pub transport: Transport,
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Spin or sleep.
    pub mode: WaitMode,
    /// The processor for the responder thread.
    pub cpu: Option<usize>,
    /// Replies per second and source address; `None` for no bound.
    pub max_rate: Option<NonZeroU32>,
    /// Keys of authenticated requests, to begin with: [`Responder::key_ring`] takes others.
    pub keys: Vec<Key>,
    /// Whether other requests are answered.
    pub plain: PlainRequests,
    /// Which RDMA port, where the transport is one.
    pub rdma: PortWish,
}

/// Why a reflector cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ReflectError {
    /// A socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A listening TCP socket.
    #[error(
        "cannot listen on {listen} by TCP: choose another address or port (`ss -tlnp` shows who has it)"
    )]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The processor.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The RDMA port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// What answers RDMA.
    #[error(transparent)]
    Rdma(#[from] RunError),
    /// The thread could not be made.
    #[error("cannot start the responder thread")]
    Thread(#[source] io::Error),
    /// Waiting failed: the sockets are of no further use.
    #[error("cannot wait for requests")]
    Wait(#[source] io::Error),
}

impl ReflectError {
    /// Whether what was typed is wrong (exit code 2), as against the world (3).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pin(_) | Self::Open(OpenError::NotOurs { .. }) => true,
            Self::Port(e) => e.is_usage(),
            Self::Listen { source, .. } => {
                matches!(source.kind(), io::ErrorKind::AddrNotAvailable)
            }
            _ => false,
        }
    }
}

/// One address the reflector answers on.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The address, with the port that the kernel chose where it was 0.
    pub local: SocketAddr,
    /// Who stamps there, `Hardware` or `Kernel`, or why nobody does.
    pub stamps: Result<StampSource, String>,
}

/// What a responder to datagrams has done, readable while it runs.
#[derive(Debug, Default)]
pub struct Reflected {
    received: AtomicU64,
    replied: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Reflected {
    /// Requests judged.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Replies made.
    pub fn replied(&self) -> u64 {
        self.replied.load(Ordering::Relaxed)
    }

    /// Requests without one, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = self.dropped.iter().map(|count| count.load(Ordering::Relaxed));
        DropReason::ALL.into_iter().zip(counts)
    }

    fn publish(&self, counters: &Counters) {
        self.replied.store(counters.replied, Ordering::Relaxed);
        for (count, reason) in self.dropped.iter().zip(DropReason::ALL) {
            count.store(counters.dropped(reason), Ordering::Relaxed);
        }
        self.received.store(counters.received, Ordering::Relaxed);
    }
}

/// A reflector whose sockets are open.
pub struct Responder {
    config: ReflectConfig,
    keys: KeyRing,
    sockets: Sockets,
    reflected: Arc<Reflected>,
}

enum Sockets {
    Udp(Vec<railgauge_fabric::socket::UdpSocket>),
    Tcp(Vec<std::net::TcpListener>),
    Rdma(Vec<std::net::TcpListener>, Box<Port>),
}

impl Responder {
    /// Opens the sockets, and tries whether the responder thread can run where it should.
    pub fn open(config: ReflectConfig) -> Result<Self, ReflectError> {
        try_cpu(config.cpu)?;
        let sockets = match config.transport {
            Transport::Udp => Sockets::Udp(datagrams::open(&config)?),
            Transport::Tcp => Sockets::Tcp(streams::open(&config)?),
            Transport::RdmaUd | Transport::RdmaRc => {
                let port = Port::open(&config.rdma)?;
                Sockets::Rdma(streams::open(&config)?, Box::new(port))
            }
        };
        let keys = KeyRing::new(config.keys.clone());
        Ok(Self { keys, config, sockets, reflected: Arc::default() })
    }

    /// What it will have done, by datagrams.
    pub fn reflected(&self) -> Arc<Reflected> {
        Arc::clone(&self.reflected)
    }

    /// Where it listens.
    pub fn listening(&self) -> Vec<Listening> {
        match &self.sockets {
            Sockets::Udp(sockets) => sockets.iter().map(datagrams::listening).collect(),
            Sockets::Tcp(listeners) => listeners.iter().filter_map(streams::listening).collect(),
            Sockets::Rdma(listeners, port) => {
                let listening = listeners.iter().filter_map(streams::listening);
                let why = format!("on {} {}", port.name, port.now.gid);
                listening.map(|one| Listening { stamps: Err(why.clone()), ..one }).collect()
            }
        }
    }

    /// Its keys, which can be replaced while it runs.
    pub fn key_ring(&self) -> KeyRing {
        self.keys.clone()
    }

    /// Answers until `stop` is set.
    pub fn run(self, stop: &AtomicBool) -> Result<ReflectReport, ReflectError> {
        let config_of_reflector = ReflectorConfig {
            plain: self.config.plain,
            max_rate: self.config.max_rate,
            ..ReflectorConfig::default()
        };
        let reflector = Reflector::new(config_of_reflector.clone());
        let (mode, cpu, keys) = (self.config.mode, self.config.cpu, self.keys);
        let reflected = self.reflected;
        match self.sockets {
            Sockets::Tcp(listeners) => streams::run(listeners, reflector, keys, stop),
            Sockets::Rdma(listeners, port) => {
                let config = ResponderConfig {
                    port: self.config.rdma,
                    service: Some(self.config.transport.service()),
                    mode,
                    cpu,
                    reflector: config_of_reflector,
                    keys,
                };
                Ok(ReflectReport::of_rdma(responder::run(&listeners, Some(*port), &config, stop)?))
            }
            Sockets::Udp(sockets) => thread::scope(|scope| {
                let respond = move || -> Result<_, ReflectError> {
                    datagrams::place(cpu)?;
                    let responding = datagrams::Responding::new(sockets, reflector, mode);
                    responding.with(keys).told(reflected).run(stop)
                };
                let name = thread::Builder::new().name("responder".to_owned());
                let thread = name.spawn_scoped(scope, respond).map_err(ReflectError::Thread)?;
                match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }),
        }
    }
}

/// Pins a thread that ends at once, so that a CPU which cannot be had is told before anybody sends requests.
fn try_cpu(cpu: Option<usize>) -> Result<(), ReflectError> {
    thread::scope(|scope| match scope.spawn(|| datagrams::place(cpu)).join() {
        Ok(placed) => placed,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
