//! `railgauge ping`: one path, now, without a coordinator.

mod begin;
mod causes;
pub mod rdma;
pub mod report;
mod series;
mod validity;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use railgauge_core::session::Outcome;
use railgauge_core::stamp::{Key, SizeError, TimestampFormat};
use railgauge_fabric::socket::OpenError;
use railgauge_fabric::thread::PinError;

use crate::WaitMode;
pub use crate::probe_thread::recording::{SplitWindows, WindowReport};
use crate::probe_thread::{FlowError, ProbeEnd, ProbeThread, StartError};
use crate::rdma::rc::RcStartError;
use crate::target::{Family, TargetError};
use begin::Run;
pub use rdma::{RdmaConfig, RdmaEnd, RdmaUsage};
pub use report::PingReport;
pub use series::RunSeries;

/// What carries the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: loss shows as loss.
    Udp,
    /// A connection: loss shows as delay.
    Tcp,
    /// RDMA datagrams: loss shows as loss.
    RdmaUd,
    /// An RDMA connection: loss shows as delay.
    RdmaRc,
}

impl Transport {
    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::RdmaUd => "rdma-ud",
            Self::RdmaRc => "rdma-rc",
        }
    }

    /// The port of a target that names none (contract: STAMP's own for UDP, the agent's for TCP and for exchanging RDMA endpoints).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp => 862,
            Self::Tcp | Self::RdmaUd | Self::RdmaRc => 7463,
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct PingConfig {
    /// As typed.
    pub target: String,
    /// Address family.
    pub family: Family,
    /// What carries the probes.
    pub transport: Transport,
    /// Time between intended sends.
    pub interval: Duration,
    /// Probes that count.
    pub count: u64,
    /// When a probe is lost.
    pub timeout: Duration,
    /// Probes before those.
    pub warmup: u64,
    /// Least octets of payload.
    pub size: usize,
    /// Base packets alone, without telemetry TLVs.
    pub bare: bool,
    /// Spin or sleep.
    pub mode: WaitMode,
    /// The processor for the probe thread.
    pub cpu: Option<usize>,
    /// The network or RDMA device whose NUMA node the thread should be on.
    pub device: Option<String>,
    /// Source address.
    pub source: Option<IpAddr>,
    /// Differentiated services code point.
    pub dscp: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Source ports that take turns.
    pub flows: u16,
    /// STAMP session identifier.
    pub ssid: u16,
    /// Format of our timestamps.
    pub format: TimestampFormat,
    /// With a key, authenticated.
    pub key: Option<Key>,
    /// Whether to keep every outcome.
    pub keep_outcomes: bool,
    /// What is asked of an RDMA device, where the transport is one.
    pub rdma: Option<RdmaConfig>,
    /// The address from which endpoints are exchanged for those, if that matters.
    pub exchange_from: Option<IpAddr>,
}

/// Why nothing was measured; each names the thing and the way out.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The packet size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Source and target differ in family.
    #[error("--source {source_address} cannot reach {target}: one is IPv4, the other IPv6")]
    SourceFamily {
        /// As typed.
        source_address: IpAddr,
        /// As resolved.
        target: SocketAddr,
    },
    /// The processor.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The device.
    #[error("{device}: {why}")]
    Device {
        /// As typed.
        device: String,
        /// What is the matter with it.
        why: String,
    },
    /// Sockets or schedule.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What cannot be asked of an RDMA device.
    #[error(transparent)]
    RdmaUsage(#[from] RdmaUsage),
    /// No RDMA connection.
    #[error(transparent)]
    Rdma(#[from] RcStartError),
    /// The thread could not be made.
    #[error("cannot start the probe thread")]
    Thread(#[source] std::io::Error),
}

impl PingError {
    /// Whether what was typed is wrong (exit code 2), as against the world (3).
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Target(e) => e.is_usage(),
            Self::Size(_) | Self::SourceFamily { .. } | Self::Pin(_) | Self::Device { .. } => true,
            Self::Start(StartError::Flow(FlowError::Open(e))) => {
                matches!(e, OpenError::NotOurs { .. })
            }
            Self::Start(StartError::Flow(FlowError::RdmaUd(e))) => rdma::is_usage_of_datagrams(e),
            Self::Start(e) => matches!(e, StartError::Session(_)),
            Self::RdmaUsage(_) => true,
            Self::Rdma(e) => rdma::is_usage(e),
            Self::Thread(_) => false,
        }
    }
}

/// A finished run: everything that its report is made from.
#[derive(Debug)]
pub struct PingRun {
    /// What was asked for.
    pub config: PingConfig,
    /// The target as resolved.
    pub peer: SocketAddr,
    /// Octets of payload really sent.
    pub size_bytes: usize,
    /// Kernel memory wanted for replies of one second, bytes.
    pub wanted_receive_buffer: usize,
    /// The processor that the thread was pinned to, or why it was not.
    pub pinned: Result<usize, String>,
    /// What the thread left behind.
    pub end: ProbeEnd,
    /// And what RDMA left, where it was.
    pub rdma: Option<RdmaEnd>,
    /// The series.
    pub series: RunSeries,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Replies so far.
    pub received: u64,
    /// Losses so far.
    pub lost: u64,
    /// The median app RTT of the last second, ns.
    pub app_rtt_p50_ns: Option<u64>,
}

/// Measures until the schedule ends or `stop` is set, whichever is first. `on` hears of every finished window, and of the
/// time that passes without one.
pub fn run(
    config: PingConfig,
    stop: &AtomicBool,
    mut on: impl FnMut(Option<&WindowReport>, Progress),
) -> Result<PingRun, PingError> {
    let beginning = begin::resolve(config)?;
    let (windows, received) = mpsc::channel();
    let mut series = RunSeries::default();
    let (end, rdma, pinned) = thread::scope(|scope| {
        let (run, placement) = (beginning.run, beginning.placement);
        let probe = move || -> Result<_, PingError> {
            let pinned = placement.apply()?;
            match run {
                Run::Packets(run) => {
                    let end = ProbeThread::open(*run, windows, stop)?.run();
                    let rdma = end.connected.clone();
                    let rdma = rdma.map(|connected| RdmaEnd::Datagrams(Box::new(connected)));
                    Ok((end, rdma, pinned))
                }
                Run::Rdma(run) => {
                    let (end, rdma) = run.measure(windows, stop)?;
                    Ok((end, Some(rdma), pinned))
                }
            }
        };
        let name = thread::Builder::new().name("probe".to_owned());
        let probe = name.spawn_scoped(scope, probe).map_err(PingError::Thread)?;
        loop {
            // The bound only keeps a progress line alive on slow schedules; the thread's end closes the channel.
            match received.recv_timeout(Duration::from_secs(1)) {
                Ok(window) => {
                    let progress = series.add(&window);
                    on(Some(&window), progress);
                }
                Err(RecvTimeoutError::Timeout) => on(None, series.progress()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match probe.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let (peer, size_bytes) = (beginning.peer, beginning.size_bytes);
    let wanted_receive_buffer = beginning.wanted_receive_buffer;
    let config = beginning.config;
    Ok(PingRun { config, peer, size_bytes, wanted_receive_buffer, pinned, end, rdma, series })
}

/// One finished probe as a line of `--samples`: `seq,slot_ns,app_rtt_ns,network_rtt_ns,prober_delay_ns,responder_delay_ns`,
/// the slot counted from the first that counts, empty where there is no value.
pub fn sample_line(run: &PingRun, outcome: &Outcome) -> String {
    let since = |slot: railgauge_core::time::Monotonic| slot.minus(run.end.first_counted_slot).0;
    match outcome {
        Outcome::Lost { slot, number, .. } => format!("{number},{},,,,", since(*slot)),
        Outcome::Reply(sample) => {
            let (number, slot, app_rtt) = (sample.number, since(sample.slot), sample.app_rtt);
            match sample.parts {
                Ok(parts) => format!(
                    "{number},{slot},{app_rtt},{},{},{}",
                    parts.network_rtt, parts.prober_delay, parts.responder_delay
                ),
                Err(_) => format!("{number},{slot},{app_rtt},,,"),
            }
        }
    }
}

/// The first line of a file of samples.
pub const SAMPLES_HEADER: &str =
    "seq,slot_ns,app_rtt_ns,network_rtt_ns,prober_delay_ns,responder_delay_ns";
