//! What an end may say, and whether two ends go together.

use super::{
    ATOMIC_OCTETS, Accept, Completion, Gid, GidKind, Impossible, LinkLayer, Measure, Offer,
    Operation, PathMtu, RdmaEndpoint, RefusalReason, Region, Scope, Service,
};
use crate::path::PortName;

/// The longest message of the standard (IB spec section 9.7.7, 2^31 octets).
const MOST_SIZE: u32 = 1 << 31;
/// More outstanding operations than any queue pair of ours has.
const MOST_OUTSTANDING: u16 = 1024;
/// Shorter would end conversations of busy ends, longer would keep queue pairs for the dead; milliseconds.
const SILENCE_MS: std::ops::RangeInclusive<u32> = 1_000..=600_000;
/// Queue pairs 0 and 1 belong to management, the last number is multicast's (IB spec section 3.5.10.1).
const QUEUE_PAIRS: std::ops::RangeInclusive<u32> = 2..=0xff_fffe;
/// Local identifiers of one port; higher ones are multicast (IB spec section 4.1.3).
const LIDS: std::ops::RangeInclusive<u16> = 1..=0xbfff;
/// 24 bits.
const MOST_SEQUENCE: u32 = 0xff_ffff;
/// With this bit set a sender takes the key of its own queue pair instead (IB spec section 10.2.5).
const CONTROLLED_KEY: u32 = 1 << 31;

/// What one end says contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// No method.
    #[error(transparent)]
    Method(#[from] Impossible),
    /// No size of a message.
    #[error("messages of {0} octets cannot be probed with")]
    Size(u32),
    /// Not 1 for latency, or not 1 to 1024.
    #[error("{0} outstanding operations are not what the measurement takes")]
    Outstanding(u16),
    /// An ACK time-out of 0.
    #[error("an ack time-out of 0 waits for ever")]
    WaitsForEver,
    /// ECN bits, or a service level beyond the link's.
    #[error("traffic class {traffic_class} with service level {service_level} is none")]
    Class {
        /// As offered.
        traffic_class: u8,
        /// As offered.
        service_level: u8,
    },
    /// Link layer, kind and scope of the GID, or local identifier do not go together.
    #[error("{gid} ({}) with lid {lid} is no address on {}", .kind.as_str(), .link_layer.as_str())]
    Address {
        /// Its link layer.
        link_layer: LinkLayer,
        /// Its GID.
        gid: Gid,
        /// The GID's kind.
        kind: GidKind,
        /// Its local identifier.
        lid: u16,
    },
    /// Reserved, multicast or beyond 24 bits.
    #[error("queue pair {0} is not one to talk to")]
    QueuePair(u32),
    /// Beyond 24 bits.
    #[error("packet sequence number {0} has more than 24 bits")]
    PacketSequence(u32),
    /// A key that a connection does not have, or one that would not be used.
    #[error("queue key {0:#x} does not fit the transport")]
    QueueKey(u32),
    /// Nothing, or around the end of the address space.
    #[error("{len} octets at {address:#x} are no memory")]
    Region {
        /// Its address.
        address: u64,
        /// Its length.
        len: u64,
    },
    /// Memory that is missing, too short, or given without need.
    #[error("the method takes {needed} octets of this end's memory, given are {given}")]
    Memory {
        /// What the peer will write or read.
        needed: u64,
        /// What is registered for it.
        given: u64,
    },
    /// No reads or atomics may be outstanding.
    #[error("no read or atomic may be outstanding at this end")]
    Reads,
    /// A limit of silence that is none.
    #[error("a limit of {0} ms of silence is not 1 s to 10 min")]
    Silence(u32),
}

impl RdmaEndpoint {
    /// Whether it can be one.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Wrong> {
        let &Self { link_layer, gid, gid_kind: kind, lid, queue_pair, packet_sequence, .. } = self;
        let address = match link_layer {
            LinkLayer::InfiniBand => kind == GidKind::Ib && LIDS.contains(&lid),
            LinkLayer::Ethernet => kind != GidKind::Ib && lid == 0,
        };
        if !address || matches!(gid.scope(), Scope::Multicast | Scope::Unusable) {
            return Err(Wrong::Address { link_layer, gid, kind, lid });
        }
        if !QUEUE_PAIRS.contains(&queue_pair) {
            return Err(Wrong::QueuePair(queue_pair));
        }
        if packet_sequence > MOST_SEQUENCE {
            return Err(Wrong::PacketSequence(packet_sequence));
        }
        match self.region {
            Some(Region { address, len, .. }) if len == 0 || address.checked_add(len).is_none() => {
                Err(Wrong::Region { address, len })
            }
            _ => Ok(()),
        }
    }

    /// What a transport asks of an end.
    fn check_service(&self, service: Service) -> Result<(), Wrong> {
        let fits = match service {
            Service::Datagram => self.queue_key & CONTROLLED_KEY == 0,
            Service::Connection => self.queue_key == 0,
        };
        if fits { Ok(()) } else { Err(Wrong::QueueKey(self.queue_key)) }
    }

    /// Exactly as much memory as the method needs is open: none, or at least one message.
    fn check_memory(&self, needed: u64) -> Result<(), Wrong> {
        let given = self.region.map_or(0, |region| region.len);
        let fits = if needed == 0 { given == 0 } else { given >= needed };
        if fits { Ok(()) } else { Err(Wrong::Memory { needed, given }) }
    }
}

impl Offer {
    /// Whether it can be one.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Wrong> {
        let &Self { method, size, outstanding, traffic_class, service_level, .. } = self;
        self.endpoint.check()?;
        self.endpoint.check_service(method.service)?;
        method.check(self.endpoint.route)?;
        let sized = match (method.service, method.operation) {
            (Service::Datagram, _) => (1..=self.endpoint.mtu.datagram_room()).contains(&size),
            (_, Operation::Atomic) => size == ATOMIC_OCTETS,
            _ => (1..=MOST_SIZE).contains(&size),
        };
        if !sized {
            return Err(Wrong::Size(size));
        }
        let most = if method.measure == Measure::Latency { 1 } else { MOST_OUTSTANDING };
        if !(1..=most).contains(&outstanding) {
            return Err(Wrong::Outstanding(outstanding));
        }
        if self.reliability.ack_timeout.least().is_none() {
            return Err(Wrong::WaitsForEver);
        }
        let levels = if self.endpoint.link_layer == LinkLayer::Ethernet { 8 } else { 16 };
        if traffic_class & 3 != 0 || service_level >= levels {
            return Err(Wrong::Class { traffic_class, service_level });
        }
        if self.needs_reads() && self.endpoint.reads_out == 0 {
            return Err(Wrong::Reads);
        }
        self.endpoint.check_memory(self.memory_of_prober())
    }

    const fn needs_reads(&self) -> bool {
        matches!(self.method.operation, Operation::Read | Operation::Atomic)
    }

    /// Octets that the responder writes at the prober: the answer to a write whose latency is measured.
    pub const fn memory_of_prober(&self) -> u64 {
        match (self.method.operation, self.method.measure) {
            (Operation::Write, Measure::Latency) => self.size as u64,
            _ => 0,
        }
    }

    /// Octets that the prober writes or reads at the responder.
    pub const fn memory_of_responder(&self) -> u64 {
        match self.method.operation {
            Operation::Send => 0,
            Operation::Write | Operation::Read | Operation::Atomic => self.size as u64,
        }
    }

    /// Whether an end is what the offer asks for, and what both have in common. The responder asks it of its own end before it
    /// answers, the prober of the answer.
    ///
    /// # Errors
    /// What does not go together.
    pub fn agree(&self, responder: &RdmaEndpoint) -> Result<Agreed, Disagreement> {
        let ours = &self.endpoint;
        let wanted = self.wanted.as_ref().filter(|wanted| **wanted != responder.port);
        if let Some(wanted) = wanted {
            return Err(Disagreement::Port { wanted: wanted.clone(), is: responder.port.clone() });
        }
        let same_scope =
            ours.gid.scope() == responder.gid.scope() || ours.link_layer == LinkLayer::InfiniBand;
        if ours.link_layer != responder.link_layer
            || ours.gid_kind != responder.gid_kind
            || !same_scope
        {
            return Err(Disagreement::Address {
                ours: (ours.gid_kind, ours.gid),
                theirs: (responder.gid_kind, responder.gid),
            });
        }
        responder.check_service(self.method.service)?;
        self.method.check(responder.route).map_err(Wrong::from)?;
        if self.needs_reads() && responder.reads_in == 0 {
            return Err(Wrong::Reads.into());
        }
        responder.check_memory(self.memory_of_responder())?;
        let mtu = ours.mtu.between(responder.mtu);
        if self.method.service == Service::Datagram && self.size > mtu.datagram_room() {
            return Err(Disagreement::Datagram { size: self.size, mtu });
        }
        let watched = self.method.completion == Completion::Memory;
        Ok(Agreed { mtu, unordered: watched && !(ours.in_order && responder.in_order) })
    }
}

impl Accept {
    /// Whether it can be one.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Wrong> {
        if !SILENCE_MS.contains(&self.silence_ms) {
            return Err(Wrong::Silence(self.silence_ms));
        }
        self.endpoint.check()
    }
}

/// What two ends have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The path MTU both queue pairs are set to.
    pub mtu: PathMtu,
    /// Memory is watched though not both ends place data in order: somebody forced it, and the result has to say so.
    pub unordered: bool,
}

/// Two ends that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// Another port than the one that is meant.
    #[error("port {wanted} is meant, the answer is of {is}")]
    Port {
        /// Meant.
        wanted: PortName,
        /// Found.
        is: PortName,
    },
    /// Packets of one cannot reach the other.
    #[error("{} {} and {} {} do not reach each other", .ours.0.as_str(), .ours.1, .theirs.0.as_str(), .theirs.1)]
    Address {
        /// The prober's.
        ours: (GidKind, Gid),
        /// The responder's.
        theirs: (GidKind, Gid),
    },
    /// Datagrams cannot be cut.
    #[error("datagrams of {size} octets do not fit the path MTU of {mtu}")]
    Datagram {
        /// As offered.
        size: u32,
        /// Of both ends.
        mtu: PathMtu,
    },
    /// The responder's end lacks something.
    #[error(transparent)]
    Wrong(#[from] Wrong),
}

impl Disagreement {
    /// As which a responder refuses.
    pub const fn reason(&self) -> RefusalReason {
        match self {
            Self::Port { .. } => RefusalReason::NoPort,
            Self::Address { .. } => RefusalReason::NoAddress,
            Self::Datagram { .. } | Self::Wrong(_) => RefusalReason::Unsupported,
        }
    }
}
