//! From what was asked for to what the probe thread needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use railgauge_core::rdma::gid::{Gid, Which};
use railgauge_core::session::SessionConfig;
use railgauge_core::stamp::{ErrorEstimate, RequestTemplate, SenderConfig};
use railgauge_fabric::inventory::{self, Roots};
use railgauge_fabric::socket::UdpOptions;
use railgauge_fabric::thread;

use super::rdma::RdmaRun;
use super::{PingConfig, PingError, Transport};
use crate::probe_thread::{FlowOptions, ProbeRun};
use crate::rdma::PortWish;
use crate::rdma::ud::UdOptions;
use crate::target;
use crate::{WaitMode, receive_buffer_for};

/// Probes sent later than this after their slot are late starts (design D3).
const LATE_ASLEEP: Duration = Duration::from_millis(1);
const LATE_SPINNING: Duration = Duration::from_micros(50);

/// How long a TCP connection may take, at least.
const CONNECT: Duration = Duration::from_secs(3);

/// What the thread does.
pub enum Run {
    /// STAMP packets.
    Packets(Box<ProbeRun>),
    /// RDMA operations.
    Rdma(RdmaRun),
}

/// Everything that is known before the first packet.
pub struct Beginning {
    pub config: PingConfig,
    pub run: Run,
    pub peer: SocketAddr,
    pub size_bytes: usize,
    pub wanted_receive_buffer: usize,
    pub placement: Placement,
}

/// Where the probe thread runs.
pub enum Placement {
    /// On this processor.
    Cpu(usize),
    /// On one of these: the NUMA node of the device that was named.
    OneOf(Vec<usize>),
    /// Wherever the scheduler put it when it began.
    Here,
}

impl Placement {
    /// Pins the calling thread; returns the processor, or why it is not pinned.
    pub fn apply(&self) -> Result<Result<usize, String>, PingError> {
        if thread::set_timer_slack_to_minimum().is_err() {
            tracing::debug!(
                "timer slack stays at its default: sleeping probes may start 50 us late"
            );
        }
        match self {
            Self::Cpu(cpu) => {
                thread::pin_to(*cpu)?;
                Ok(Ok(*cpu))
            }
            Self::OneOf(cpus) => {
                let allowed = thread::allowed_cpus();
                let Some(&cpu) = cpus.iter().find(|cpu| allowed.contains(cpu)) else {
                    return Ok(Err(format!("none of the device's CPUs {cpus:?} is allowed")));
                };
                thread::pin_to(cpu)?;
                Ok(Ok(cpu))
            }
            Self::Here => {
                let cpu = thread::current_cpu().and_then(|cpu| usize::try_from(cpu).ok());
                let Some(cpu) = cpu else { return Ok(Err("current CPU unknown".to_owned())) };
                Ok(thread::pin_to(cpu).map(|()| cpu).map_err(|e| e.to_string()))
            }
        }
    }
}

/// How late a late start is.
pub const fn late_threshold(mode: WaitMode) -> Duration {
    match mode {
        WaitMode::BusyPoll => LATE_SPINNING,
        WaitMode::Sleep => LATE_ASLEEP,
    }
}

/// Resolves names, sizes and places.
pub fn resolve(mut config: PingConfig) -> Result<Beginning, PingError> {
    let peer = target::resolve(&config.target, config.transport.default_port(), config.family)?;
    if let Some(rdma) = config.rdma.clone() {
        let run = rdma.run(&config, peer, session(&config))?;
        config.timeout = rdma.timeout(config.timeout).map_err(super::RdmaUsage::from)?;
        let (size_bytes, placement) = (rdma.size() as usize, rdma_placement(&config));
        let run = Run::Rdma(run);
        return Ok(Beginning {
            config,
            run,
            peer,
            size_bytes,
            wanted_receive_buffer: 0,
            placement,
        });
    }
    resolve_packets(config, peer)
}

fn resolve_packets(config: PingConfig, peer: SocketAddr) -> Result<Beginning, PingError> {
    let template = RequestTemplate::new(SenderConfig {
        format: config.format,
        ssid: config.ssid,
        error_estimate: ErrorEstimate::UNSYNCHRONIZED,
        key: config.key.clone(),
        telemetry: !config.bare,
        min_size: config.size,
    })?;
    let size_bytes = template.len();
    let wanted_receive_buffer = receive_buffer_for(config.interval, config.timeout, size_bytes);
    let flows = flows(&config, peer, wanted_receive_buffer)?;
    let session = session(&config);
    let run = ProbeRun {
        session,
        template,
        format: config.format,
        flows,
        mode: config.mode,
        keep_outcomes: config.keep_outcomes,
    };
    let placement =
        if config.transport.is_rdma() { rdma_placement(&config) } else { placement(&config)? };
    let run = Run::Packets(Box::new(run));
    Ok(Beginning { config, run, peer, size_bytes, wanted_receive_buffer, placement })
}

fn session(config: &PingConfig) -> SessionConfig {
    SessionConfig {
        interval: config.interval,
        count: config.count,
        warmup: config.warmup,
        timeout: config.timeout,
        late_threshold: late_threshold(config.mode),
        flows: config.flows,
        transmit_stamps: true,
        second_acknowledgements: config.transport == Transport::RdmaUd,
    }
}

fn flows(
    config: &PingConfig,
    peer: SocketAddr,
    receive_buffer_bytes: usize,
) -> Result<Vec<FlowOptions>, PingError> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = config.source.unwrap_or(any);
    // Endpoints are exchanged from wherever the system likes; the source is one of the device's.
    if !config.transport.is_rdma() && source.is_ipv4() != peer.is_ipv4() {
        return Err(PingError::SourceFamily { source_address: source, target: peer });
    }
    let udp = UdpOptions {
        local: SocketAddr::new(source, 0),
        peer: Some(peer),
        dscp: config.dscp,
        ttl: config.ttl,
        receive_buffer_bytes,
        stamps: true,
    };
    let options = match config.transport {
        Transport::Udp => FlowOptions::Udp(udp),
        Transport::RdmaUd => return Ok(datagram_flows(config, peer)),
        // `RdmaRc` has come to its own run before.
        Transport::Tcp | Transport::RdmaRc => {
            FlowOptions::Tcp { peer, timeout: config.timeout.max(CONNECT) }
        }
    };
    Ok(vec![options; usize::from(config.flows.max(1))])
}

fn placement(config: &PingConfig) -> Result<Placement, PingError> {
    if let Some(cpu) = config.cpu {
        return Ok(Placement::Cpu(cpu));
    }
    let Some(device) = &config.device else { return Ok(Placement::Here) };
    let unknown = |why: String| PingError::Device { device: device.clone(), why };
    let roots = Roots::default();
    let node =
        inventory::numa_node_of_device(&roots, device).map_err(|e| unknown(e.to_string()))?;
    let cpus = inventory::cpus_of_numa_node(&roots, node).map_err(|e| unknown(e.to_string()))?;
    Ok(Placement::OneOf(cpus.into_iter().filter_map(|cpu| usize::try_from(cpu).ok()).collect()))
}

/// One queue pair and one label a flow.
fn datagram_flows(config: &PingConfig, peer: SocketAddr) -> Vec<FlowOptions> {
    let which = config.source.map_or(Which::ByRule, |address| Which::Address(Gid::from(address)));
    let port = PortWish { device: config.device.clone(), which };
    let (traffic_class, mode) = (config.dscp << 2, config.mode);
    let flow = |flow| {
        FlowOptions::RdmaUd(UdOptions {
            port: port.clone(),
            peer,
            local: config.exchange_from,
            flow,
            traffic_class,
            mode,
        })
    };
    (0..config.flows.max(1)).map(flow).collect()
}

/// On the NUMA node of the device where that is known: soft-RoCE's is on none.
fn rdma_placement(config: &PingConfig) -> Placement {
    let device = config.device.as_ref().map(|device| {
        device.split_once('/').map_or(device.as_str(), |(device, _)| device).to_owned()
    });
    let config = PingConfig { device, ..config.clone() };
    placement(&config).unwrap_or(Placement::Here)
}
