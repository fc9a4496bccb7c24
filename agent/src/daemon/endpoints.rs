//! Where probes leave and are answered: as configured, or the address from which the coordinator is reached.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use railgauge_core::path::{Endpoint, NameError};
use railgauge_core::reflector::DEFAULT_MAX_RATE;

use super::config::{Config, EXCHANGE_PORT, EndpointSetting, coordinator_place};
use crate::WaitMode;
use crate::ping::Transport;
use crate::reflect::{Listening, PlainRequests, ReflectConfig};

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// None is configured, and none could be found.
    #[error(
        "no [[endpoint]] is configured, and no address of this node leads to the coordinator at {coordinator}"
    )]
    NoRoute {
        /// As configured.
        coordinator: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One endpoint, as configured.
pub type Configured = (Endpoint, EndpointSetting);

/// Those of the configuration, or the one that a route leads from.
pub fn resolve(config: &Config) -> Result<Vec<Configured>, EndpointError> {
    let mut settings = config.endpoint.clone();
    if settings.is_empty() {
        settings.push(route(config)?);
    }
    settings.into_iter().map(|s| Ok((s.endpoint(&config.node)?, s))).collect()
}

fn route(config: &Config) -> Result<EndpointSetting, EndpointError> {
    // Connecting a datagram socket sends nothing: it asks the routing table.
    let towards = |coordinator: SocketAddr| {
        let any: IpAddr =
            if coordinator.is_ipv4() { [0; 4].into() } else { IpAddr::from([0u16; 8]) };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(coordinator)?;
        socket.local_addr()
    };
    let none = || io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    let local = coordinator_place(&config.coordinator)
        .to_socket_addrs()
        .and_then(|mut addresses| addresses.next().ok_or_else(none))
        .and_then(towards);
    let local = local.map_err(|source| EndpointError::NoRoute {
        coordinator: config.coordinator.clone(),
        source,
    })?;
    Ok(EndpointSetting {
        port: "default".to_owned(),
        rail: 0,
        address: local.ip(),
        udp_port: 862,
        advertise: None,
        rdma_device: None,
        rdma_port: None,
        exchange_port: EXCHANGE_PORT,
    })
}

/// What the responder needs to answer at all of them.
pub fn reflector(endpoints: &[Configured], answer_unauthenticated: bool) -> ReflectConfig {
    let at = |(_, setting): &Configured| SocketAddr::new(setting.address, setting.udp_port);
    ReflectConfig {
        transport: Transport::Udp,
        listen: endpoints.iter().map(at).collect(),
        mode: WaitMode::Sleep,
        cpu: None,
        max_rate: Some(DEFAULT_MAX_RATE),
        keys: Vec::new(),
        plain: if answer_unauthenticated { PlainRequests::Always } else { PlainRequests::Never },
        rdma: crate::rdma::PortWish::default(),
    }
}

/// An endpoint of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// As the fleet knows it.
    pub endpoint: Endpoint,
    /// Its own address, which probes leave from.
    pub address: IpAddr,
    /// Where others reach its responder.
    pub reached: SocketAddr,
    /// What it offers over verbs.
    pub rdma: Option<OwnRdma>,
}

/// What an endpoint of ours offers over verbs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRdma {
    /// As `mlx5_0/1`.
    pub port: Arc<str>,
    /// Where endpoints are exchanged here.
    pub listen: SocketAddr,
    /// Where others reach that.
    pub reached: SocketAddr,
}

impl Own {
    /// One without verbs.
    pub const fn plain(endpoint: Endpoint, address: IpAddr, reached: SocketAddr) -> Self {
        Self { endpoint, address, reached, rdma: None }
    }
}

/// Each endpoint with the ports that were granted.
pub fn bound(endpoints: Vec<Configured>, listening: &[Listening]) -> Vec<Own> {
    let with = |((endpoint, setting), at): (Configured, &Listening)| Own {
        endpoint,
        address: setting.address,
        reached: setting.advertise.unwrap_or(at.local),
        rdma: setting.rdma().map(|port| OwnRdma {
            port: port.into(),
            listen: SocketAddr::new(setting.address, setting.exchange_port),
            reached: setting.exchange(),
        }),
    };
    endpoints.into_iter().zip(listening).map(with).collect()
}
