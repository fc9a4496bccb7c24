//! What `ping` asks of an RDMA device, and what it says about it afterwards.

pub(crate) mod counters;
mod report;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Duration;

use railgauge_core::rdma::endpoint::Wrong;
use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::gid::{Gid, Which};
use railgauge_core::rdma::operation::{
    Completion, Impossible, Measure, MemoryRoute, Method, Operation, Service,
};
use railgauge_core::rdma::reliability::{Profile, WaitsForEver};
use railgauge_core::session::SessionConfig;

use super::{PingConfig, PingError, Transport, WindowReport};
use crate::WaitMode;
use crate::probe_thread::ProbeEnd;
use crate::rdma::rc::{
    Bandwidth, BandwidthRun, ConnectError, Connected, RcEnd, RcPlan, RcRun, RcStartError, RcThread,
};
use crate::rdma::ud::UdFlowError;
use crate::rdma::{ExchangeError, PortWish};
use counters::Before;
pub use counters::RetransmissionReport;
pub use report::{AsPerftest, BandwidthReport, EndReport, RdmaReport, ReliabilityReport};

/// Octets that an operation carries unless said otherwise: perftest's for latency, and for bandwidth.
pub const LATENCY_SIZE: u32 = 2;
/// See [`LATENCY_SIZE`].
pub const BANDWIDTH_SIZE: u32 = 1 << 16;
/// Outstanding operations for bandwidth: perftest's.
pub const DEPTH: u16 = 128;

/// How the end of a write is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompletionChoice {
    /// By memory where both devices place data in order and nobody sleeps, else by immediate data.
    #[default]
    Auto,
    /// By memory, whether or not order is promised.
    Memory,
    /// By immediate data.
    Immediate,
}

/// What is asked of the device.
#[derive(Clone, Debug)]
pub struct RdmaConfig {
    /// The operation.
    pub operation: Operation,
    /// Latency or bandwidth.
    pub measure: Measure,
    /// How the end of a write is seen.
    pub completion: CompletionChoice,
    /// Time-outs and retries.
    pub profile: Profile,
    /// Octets of each message; `None`: what is usual for the measure.
    pub size: Option<u32>,
    /// Operations outstanding, for bandwidth.
    pub depth: u16,
    /// For bandwidth, how long; else the count says.
    pub duration: Option<Duration>,
}

/// What cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum RdmaUsage {
    /// No such method.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// Sleeping and watching memory.
    #[error(
        "--completion memory watches memory without a pause: add --busy-poll, or use --completion imm"
    )]
    AsleepAndWatching,
    /// A time-out for ever.
    #[error(transparent)]
    WaitsForEver(#[from] WaitsForEver),
}

/// Either kind of run.
#[derive(Clone, Debug)]
pub(super) enum RdmaRun {
    Latency(RcRun),
    Bandwidth(BandwidthRun),
}

/// What is left of one.
#[derive(Clone, Debug)]
pub enum RdmaEnd {
    /// Of latency.
    Latency(RcEnd),
    /// Of bandwidth.
    Bandwidth(Bandwidth),
    /// Of datagrams, what both ends of the first flow were set to.
    Datagrams(Box<Connected>),
}

impl RdmaConfig {
    fn plan(&self, config: &PingConfig, peer: SocketAddr) -> Result<RcPlan, RdmaUsage> {
        let spins = config.mode == WaitMode::BusyPoll;
        let service = Service::Connection;
        let usual = Method::latency(service, self.operation, spins);
        let completion = match (self.operation, self.completion, self.measure) {
            (Operation::Write, CompletionChoice::Memory, Measure::Latency) if !spins => {
                return Err(RdmaUsage::AsleepAndWatching);
            }
            (Operation::Write, CompletionChoice::Memory, _) => Completion::Memory,
            (Operation::Write, CompletionChoice::Immediate, _) => Completion::Immediate,
            // Whether the order is promised is known only when the queue pair is there.
            (Operation::Write, CompletionChoice::Auto, Measure::Latency) => usual.completion,
            _ => Completion::Queue,
        };
        let method = Method { completion, measure: self.measure, ..usual };
        method.check(MemoryRoute::Host)?;
        Ok(RcPlan {
            port: PortWish { device: config.device.clone(), which: which(config.source) },
            peer,
            local: config.exchange_from,
            method,
            is_forced: self.completion == CompletionChoice::Memory,
            falls_back: self.completion == CompletionChoice::Auto,
            size: self.size(),
            outstanding: if self.measure == Measure::Bandwidth { self.depth } else { 1 },
            reliability: self.profile.reliability(),
            traffic_class: config.dscp << 2,
            service_level: 0,
            flow_label: FlowLabel::of_flow(0).unwrap_or(FlowLabel::UNSET),
        })
    }

    /// Octets of each message.
    pub const fn size(&self) -> u32 {
        match (self.operation, self.measure, self.size) {
            (Operation::Atomic, ..) => railgauge_core::rdma::operation::ATOMIC_OCTETS,
            (.., Some(size)) => size,
            (_, Measure::Bandwidth, None) => BANDWIDTH_SIZE,
            (_, Measure::Latency, None) => LATENCY_SIZE,
        }
    }

    /// The probe time-out: longer than all that the queue pair does about loss.
    pub fn timeout(&self, wished: Duration) -> Result<Duration, WaitsForEver> {
        let reliability = self.profile.reliability();
        reliability.probe_timeout(reliability.rnr_timer, wished)
    }

    pub(super) fn run(
        &self,
        config: &PingConfig,
        peer: SocketAddr,
        session: SessionConfig,
    ) -> Result<RdmaRun, RdmaUsage> {
        let plan = self.plan(config, peer)?;
        let timeout = self.timeout(config.timeout)?;
        let (mode, keep_outcomes) = (config.mode, config.keep_outcomes);
        Ok(match self.measure {
            Measure::Latency => {
                let session =
                    SessionConfig { timeout, transmit_stamps: false, flows: 1, ..session };
                RdmaRun::Latency(RcRun { plan, session, mode, keep_outcomes })
            }
            Measure::Bandwidth => {
                let (count, duration) = match self.duration {
                    Some(duration) => (u64::MAX >> 1, Some(duration)),
                    None => (config.count, None),
                };
                RdmaRun::Bandwidth(BandwidthRun {
                    plan,
                    count,
                    duration,
                    warmup: config.warmup,
                    timeout,
                })
            }
        })
    }
}

/// An address that is asked for is one of the GIDs.
fn which(source: Option<IpAddr>) -> Which {
    source.map_or(Which::ByRule, |address| Which::Address(Gid::from(address)))
}

impl RdmaRun {
    /// Measures.
    pub fn measure(
        self,
        windows: Sender<WindowReport>,
        stop: &AtomicBool,
    ) -> Result<(ProbeEnd, RdmaEnd), PingError> {
        match self {
            Self::Latency(run) => {
                let thread = RcThread::open(run, windows, stop)?;
                let before = Before::read(&thread.connected().offer.endpoint.port);
                let (end, mut rdma) = thread.run();
                rdma.rises = before.rises();
                Ok((end, RdmaEnd::Latency(rdma)))
            }
            Self::Bandwidth(run) => {
                let bandwidth = run.run(stop)?;
                Ok((bandwidth.end(), RdmaEnd::Bandwidth(bandwidth)))
            }
        }
    }
}

/// Whether what was typed is wrong, as against the world.
pub(super) const fn is_usage(error: &RcStartError) -> bool {
    match error {
        RcStartError::Connect(ConnectError::Port(e)) => e.is_usage(),
        RcStartError::Connect(ConnectError::Exchange(ExchangeError::Offer(why))) => {
            matches!(why, Wrong::Size(_) | Wrong::Outstanding(_) | Wrong::Class { .. })
        }
        RcStartError::Session(_) => true,
        _ => false,
    }
}

/// The same for datagrams.
pub(super) const fn is_usage_of_datagrams(error: &UdFlowError) -> bool {
    match error {
        UdFlowError::Port(e) => e.is_usage(),
        UdFlowError::Exchange(ExchangeError::Offer(Wrong::Size(_))) => true,
        _ => false,
    }
}

impl Transport {
    /// Whether it goes through libibverbs.
    pub const fn is_rdma(self) -> bool {
        matches!(self, Self::RdmaUd | Self::RdmaRc)
    }

    /// The kind of queue pair, of those that do.
    pub(crate) const fn service(self) -> Service {
        match self {
            Self::RdmaRc => Service::Connection,
            _ => Service::Datagram,
        }
    }
}
