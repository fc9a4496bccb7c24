//! One port of an RDMA device, opened, with the address that the rules choose.

use railgauge_core::path::{NameError, PortName};
use railgauge_core::rdma::endpoint::{Offer, RdmaEndpoint};
use railgauge_core::rdma::gid::{GidEntry, LinkLayer, NoGid, Peer, Which, Wish, choose};
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::operation::MemoryRoute;
use railgauge_fabric::verbs::{
    self, AddressVector, Context, DeviceAttributes, GlobalRoute, OpenError, PortAttributes,
    ProtectionDomain, Unavailable, VerbError,
};

/// Routers on the way at most: more than any fabric has. 0 and 1 would die at the first.
const HOP_LIMIT: u8 = 64;

/// Which port, and which of its addresses.
#[derive(Clone, Debug, Default)]
pub struct PortWish {
    /// `mlx5_0` or `mlx5_0/1`; `None` where the machine has one device alone.
    pub device: Option<String>,
    /// Which of its GIDs.
    pub which: Which,
}

/// Why a port cannot be used: each a sentence with the way out.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The device.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// libibverbs.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Several devices, and none named.
    #[error("this machine has several RDMA devices: name one of {0} with --device")]
    Several(String),
    /// Not a port number.
    #[error("{device} has no port {port}: its ports are 1 to {last}")]
    NoPort {
        /// The device.
        device: String,
        /// As asked for.
        port: String,
        /// The last one.
        last: u8,
    },
    /// A name that cannot be told to the peer.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The link is down.
    #[error("port {port} is not active ({state}): check the cable, `ip link` and `rdma link`")]
    Inactive {
        /// The port.
        port: PortName,
        /// Its state, in words.
        state: &'static str,
    },
    /// Neither InfiniBand nor Ethernet.
    #[error("port {port} is neither InfiniBand nor Ethernet: no probe here knows it")]
    LinkLayer {
        /// The port.
        port: PortName,
    },
    /// A number of the driver that none of the standard is.
    #[error("the driver says an MTU of port {port} that the standard does not have")]
    Mtu {
        /// The port.
        port: PortName,
    },
    /// No address.
    #[error("port {port}: {source}")]
    Gid {
        /// The port.
        port: PortName,
        /// Why not.
        source: NoGid,
    },
    /// The device does not answer.
    #[error(transparent)]
    Verb(#[from] VerbError),
}

impl PortError {
    /// Whether what was typed is wrong (exit code 2), as against the world (3).
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Several(_) | Self::NoPort { .. } | Self::Name(_))
    }
}

/// An open port. Clones share the device.
#[derive(Clone, Debug)]
pub struct Port {
    /// The device.
    pub context: Context,
    /// What is made on it is of this domain.
    pub domain: ProtectionDomain,
    /// From 1.
    pub number: u8,
    /// Device and number.
    pub name: PortName,
    /// What the device can do.
    pub device: DeviceAttributes,
    /// What changes.
    pub now: Now,
    which: Which,
}

/// A port as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Now {
    /// What carries it.
    pub link_layer: LinkLayer,
    /// Its address, and the place of that in the table.
    pub gid: GidEntry,
    /// Zero on Ethernet.
    pub lid: u16,
    /// Of its link.
    pub mtu: PathMtu,
    needs_global: bool,
}

impl Now {
    fn look(
        context: &Context,
        number: u8,
        name: &PortName,
        which: &Which,
        peer: Option<Peer>,
    ) -> Result<Self, PortError> {
        let attributes = context.port(number)?;
        let link_layer =
            attributes.link_layer.ok_or_else(|| PortError::LinkLayer { port: name.clone() })?;
        if !attributes.is_active() {
            return Err(PortError::Inactive { port: name.clone(), state: state(&attributes) });
        }
        let mtu = attributes.active_mtu.ok_or_else(|| PortError::Mtu { port: name.clone() })?;
        let wish = Wish { which: which.clone(), peer };
        let gid = choose(&context.gid_table(number)?, link_layer, &wish)
            .map_err(|source| PortError::Gid { port: name.clone(), source })?
            .entry;
        let lid = if link_layer == LinkLayer::Ethernet { 0 } else { attributes.lid };
        let needs_global = attributes.needs_global_route;
        Ok(Self { link_layer, gid, lid, mtu, needs_global })
    }
}

impl Port {
    /// Opens it.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn open(wish: &PortWish) -> Result<Self, PortError> {
        let asked = wish.device.as_deref();
        let (device, number) = match asked.and_then(|asked| asked.split_once('/')) {
            Some((device, number)) => (device.to_owned(), Some(number)),
            None => (asked.map_or_else(only_device, |asked| Ok(asked.to_owned()))?, None),
        };
        let context = Context::open(&device)?;
        let attributes = context.attributes()?;
        let last = attributes.ports;
        let number = match number {
            None => 1,
            Some(text) => {
                text.parse().ok().filter(|number| (1..=last).contains(number)).ok_or_else(|| {
                    PortError::NoPort { device: device.clone(), port: text.to_owned(), last }
                })?
            }
        };
        let name = PortName::new(&format!("{device}/{number}"))?;
        let domain = context.protection_domain()?;
        let now = Now::look(&context, number, &name, &wish.which, None)?;
        let which = wish.which.clone();
        Ok(Self { context, domain, number, name, device: attributes, which, now })
    }

    /// The same port as it is now, with an address that reaches the peer's: links, MTUs and places in the GID table change.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn towards(&self, peer: Option<Peer>) -> Result<Self, PortError> {
        let now = Now::look(&self.context, self.number, &self.name, &self.which, peer)?;
        Ok(Self { now, ..self.clone() })
    }

    /// Whether the device said, since the last question, that addresses or links changed. Whoever asks first hears it.
    pub fn addresses_changed(&self) -> bool {
        let mut changed = false;
        // A device that fails tells by its absence.
        while let Ok(Some(event)) = self.context.next_event() {
            changed |= event.code.changes_addresses();
        }
        changed
    }

    /// Whether its address is not where it was: queue pairs and address handles name it by that place. A link that is down
    /// has not moved; what is sent meanwhile is sent again.
    pub fn has_moved(&self) -> bool {
        let table = self.context.gid_table(self.number);
        table.is_ok_and(|table| !table.contains(&self.now.gid))
    }

    /// What a peer is told of a queue pair here, but for the numbers of its own kind.
    pub fn endpoint(&self, queue_pair: u32) -> RdmaEndpoint {
        RdmaEndpoint {
            port: self.name.clone(),
            link_layer: self.now.link_layer,
            gid: self.now.gid.gid,
            gid_kind: self.now.gid.kind,
            lid: self.now.lid,
            mtu: self.now.mtu,
            queue_pair,
            packet_sequence: 0,
            queue_key: 0,
            reads_out: most(self.device.max_reads_as_initiator),
            reads_in: most(self.device.max_reads_as_responder),
            in_order: false,
            route: MemoryRoute::Host,
            region: None,
        }
    }

    /// The way to a peer, in the class and with the label of an offer.
    pub fn way(&self, peer: &RdmaEndpoint, offer: &Offer) -> AddressVector {
        let beyond = self.now.gid.gid.subnet_prefix() != peer.gid.subnet_prefix();
        let is_global =
            self.now.link_layer == LinkLayer::Ethernet || self.now.needs_global || beyond;
        let global = is_global.then(|| GlobalRoute {
            destination: peer.gid,
            source_index: u8::try_from(self.now.gid.index).unwrap_or(u8::MAX),
            flow_label: offer.flow_label,
            hop_limit: HOP_LIMIT,
            traffic_class: offer.traffic_class,
        });
        AddressVector {
            port: self.number,
            lid: peer.lid,
            source_path_bits: 0,
            service_level: offer.service_level,
            static_rate: 0,
            global,
        }
    }
}

/// Reads and atomics outstanding that an offer can say; more than 16 no NIC has.
fn most(reads: u32) -> u8 {
    u8::try_from(reads).unwrap_or(u8::MAX)
}

fn only_device() -> Result<String, PortError> {
    let mut devices = verbs::devices()?;
    if devices.len() > 1 {
        let names: Vec<String> = devices.into_iter().map(|device| device.name).collect();
        return Err(PortError::Several(names.join(", ")));
    }
    match devices.pop() {
        Some(device) => Ok(device.name),
        // Never: an empty list is an error of its own.
        None => Err(PortError::Several(String::new())),
    }
}

fn state(port: &PortAttributes) -> &'static str {
    match port.state {
        1 => "down",
        2 => "initialising",
        3 => "armed",
        5 => "active, deferred",
        _ => "in an unknown state",
    }
}
