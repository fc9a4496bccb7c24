//! Reliable connections: one operation under way at a time, or many where bandwidth is measured.

mod bandwidth;
mod connector;
pub(crate) mod engine;
pub(crate) mod link;
pub(crate) mod respond;
mod side;

use std::net::{IpAddr, SocketAddr};

use railgauge_core::rdma::endpoint::{Offer, RdmaEndpoint};
use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::operation::Method;
use railgauge_core::rdma::reliability::Reliability;

use super::{PortError, PortWish};
pub use bandwidth::{Bandwidth, BandwidthRun};
pub use engine::{RcEnd, RcRun, RcStartError, RcThread};
pub use side::SideError;

/// What a connection is made for.
#[derive(Clone, Debug)]
pub struct RcPlan {
    /// Our port.
    pub port: PortWish,
    /// Where endpoints are exchanged.
    pub peer: SocketAddr,
    /// And from where, if that matters.
    pub local: Option<IpAddr>,
    /// What is done.
    pub method: Method,
    /// Whether memory is watched though a device does not promise its order.
    pub is_forced: bool,
    /// Whether immediate data does instead, where it is not promised.
    pub falls_back: bool,
    /// Octets of each message.
    pub size: u32,
    /// Operations outstanding at a time.
    pub outstanding: u16,
    /// What both queue pairs are set to.
    pub reliability: Reliability,
    /// DSCP times 4.
    pub traffic_class: u8,
    /// Service level, or priority.
    pub service_level: u8,
    /// Of either direction.
    pub flow_label: FlowLabel,
}

impl RcPlan {
    fn offer(&self, endpoint: RdmaEndpoint) -> Offer {
        Offer {
            method: self.method,
            size: self.size,
            outstanding: self.outstanding,
            reliability: self.reliability,
            traffic_class: self.traffic_class,
            service_level: self.service_level,
            flow_label: self.flow_label,
            wanted: None,
            endpoint,
        }
    }
}

/// Why there is no connection: each a sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Our queue pair.
    #[error(transparent)]
    Side(#[from] SideError),
    /// The other side.
    #[error(transparent)]
    Exchange(#[from] super::ExchangeError),
    /// Memory would be watched that is not written in order.
    #[error(
        "a device does not promise to write memory in order: use --completion imm, or force --completion memory"
    )]
    Unordered,
}

/// What both ends were set to: part of every result.
#[derive(Clone, Debug)]
pub struct Connected {
    /// What was offered, our end included.
    pub offer: Offer,
    /// The other end.
    pub peer: RdmaEndpoint,
    /// Of the path.
    pub mtu: PathMtu,
    /// Whether small messages travel inside their requests.
    pub is_inline: bool,
    /// The place of our GID in the table.
    pub gid_index: u32,
    /// Whether the order in memory is forced, not promised.
    pub is_unordered: bool,
}
