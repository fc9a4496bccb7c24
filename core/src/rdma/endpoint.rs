//! What two ends tell each other over TCP before the first RDMA packet, and what they may say later.
//!
//! The prober connects to TCP 7463 and sends an [`Offer`]; the responder makes its queue pair ready, receives posted, and
//! answers with an [`Accept`] or a [`Refusal`]. The connection stays: [`Message::Keep`] shows that a silent end lives,
//! [`Message::Moved`] that one end has a new address or queue pair, to which the other answers [`Message::Settled`] with its own;
//! [`Message::Close`], or the end of the connection, is the end of the queue pairs. [`Conversation`] has the order, and a
//! deadline for each wait.
//!
//! A message is 8 octets of header (`RGRD`, version, kind, length of the body as `u16`) and a body of at most [`MOST_BODY`]
//! octets; numbers in network byte order. Read as the length of a frame of the `tcp` transport, which uses the same port, the magic is
//! beyond any: the first four octets of a connection tell which it is. A message is taken exactly as it is described or not
//! at all, and nothing is allocated by what it announces. The header and [`Refusal`] are the same in every version, so
//! that ends of two versions can say so.

use crate::path::PortName;

use super::flow_label::FlowLabel;
use super::gid::{Gid, GidKind, LinkLayer, Scope};
use super::mtu::PathMtu;
use super::operation::{
    ATOMIC_OCTETS, Completion, Impossible, Measure, MemoryRoute, Method, Operation, Service,
};
use super::reliability::Reliability;

mod check;
mod conversation;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use check::{Agreed, Disagreement, Wrong};
pub use conversation::{Conversation, Event, Role, Silence, Unexpected};
pub use decode::{DecodeError, Reader};
pub use encode::encode;

/// The first octets of every message.
pub const MAGIC: [u8; 4] = *b"RGRD";
/// The version of what is described here.
pub const VERSION: u8 = 1;
/// Octets before the body.
pub const HEADER: usize = 8;
/// The longest body, in octets: an offer of version 1 has 207 at most, a refusal's sentence 512.
pub const MOST_BODY: usize = 1024;
/// The longest sentence of a refusal, in octets.
pub const MOST_SENTENCE: usize = 512;

// Or a connection of one kind could begin like one of the other.
const _: () = assert!(u32::from_be_bytes(MAGIC) as usize > crate::frame::MAX_FRAME);

/// How one end can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaEndpoint {
    /// The port: device and number.
    pub port: PortName,
    /// What travels under it.
    pub link_layer: LinkLayer,
    /// Its GID.
    pub gid: Gid,
    /// That GID's packets.
    pub gid_kind: GidKind,
    /// Its local identifier; 0 on Ethernet (IB spec section 4.1.3).
    pub lid: u16,
    /// What its link carries now.
    pub mtu: PathMtu,
    /// The queue pair's number, 24 bits.
    pub queue_pair: u32,
    /// The first packet sequence number it sends, 24 bits; 0 for datagrams, which have none that matters.
    pub packet_sequence: u32,
    /// What datagrams to it must carry; 0 for connections (IB spec section 10.2.5).
    pub queue_key: u32,
    /// Reads and atomics it can have outstanding (`max_rd_atomic`).
    pub reads_out: u8,
    /// Reads and atomics it can answer at once (`max_dest_rd_atomic`).
    pub reads_in: u8,
    /// Whether data is placed in order in its memory, so that a write can be seen by its last octet.
    pub in_order: bool,
    /// How its device reaches the memory it probes with.
    pub route: MemoryRoute,
    /// The memory that the peer may write or read.
    pub region: Option<Region>,
}

/// Registered memory of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its address there.
    pub address: u64,
    /// Octets.
    pub len: u64,
    /// The key that opens it.
    pub remote_key: u32,
}

/// What a prober wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How it probes.
    pub method: Method,
    /// Octets of each message.
    pub size: u32,
    /// Operations outstanding at a time: 1 for latency.
    pub outstanding: u16,
    /// What both queue pairs are set to.
    pub reliability: Reliability,
    /// The octet of the GRH or IP header: DSCP times 4.
    pub traffic_class: u8,
    /// Service level, 0 to 15; on Ethernet the priority, 0 to 7.
    pub service_level: u8,
    /// For packets of either direction.
    pub flow_label: FlowLabel,
    /// The port of the responder that is meant, where it has several.
    pub wanted: Option<PortName>,
    /// The prober's end.
    pub endpoint: RdmaEndpoint,
}

/// A responder's yes: it is ready to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Probes a second it answers at most; 0: no limit but its own speed.
    pub most_per_second: u32,
    /// It ends the conversation when it hears nothing for so long, milliseconds. Probes do not count: a device that answers
    /// reads by itself tells nobody.
    pub silence_ms: u32,
    /// The responder's end.
    pub endpoint: RdmaEndpoint,
}

/// A responder's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, to be counted.
    pub reason: RefusalReason,
    /// Why, to be read: at most [`MOST_SENTENCE`] octets, without control characters.
    pub sentence: String,
}

/// Reasons that are told apart in counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// Its version is another one.
    Version,
    /// The offer is not one, or contradicts itself.
    Malformed,
    /// It has as many peers, or as much memory, as it may have.
    Busy,
    /// It has no such port, or none at all.
    NoPort,
    /// None of its addresses fits the prober's.
    NoAddress,
    /// Its device or memory cannot do that.
    Unsupported,
    /// Its device failed.
    Failed,
    /// One of a later version.
    Other(u8),
}

impl RefusalReason {
    const NAMED: [(Self, u8, &'static str); 7] = [
        (Self::Version, 1, "version"),
        (Self::Malformed, 2, "malformed"),
        (Self::Busy, 3, "busy"),
        (Self::NoPort, 4, "no_port"),
        (Self::NoAddress, 5, "no_address"),
        (Self::Unsupported, 6, "unsupported"),
        (Self::Failed, 7, "failed"),
    ];

    /// Its code on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            named => Self::NAMED.iter().find(|one| one.0 == named).map_or(0, |one| one.1),
        }
    }

    /// From its code.
    pub fn from_code(code: u8) -> Self {
        Self::NAMED.iter().find(|one| one.1 == code).map_or(Self::Other(code), |one| one.0)
    }

    /// The word in counters.
    pub fn as_str(self) -> &'static str {
        Self::NAMED.iter().find(|one| one.0 == self).map_or("other", |one| one.2)
    }
}

impl Refusal {
    /// With a sentence made fit to travel: cut, and without control characters.
    pub fn new(reason: RefusalReason, sentence: &str) -> Self {
        let mut clean: String = sentence.chars().filter(|c| !c.is_control()).collect();
        clean.truncate(clean.floor_char_boundary(MOST_SENTENCE));
        Self { reason, sentence: clean }
    }
}

/// All that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A prober's first.
    Offer(Box<Offer>),
    /// A responder's yes.
    Accept(Box<Accept>),
    /// A responder's no, and its last.
    Refuse(Refusal),
    /// This end has another address or queue pair from now on.
    Moved(Box<RdmaEndpoint>),
    /// The answer: the own end, as it is now connected to the moved one.
    Settled(Box<RdmaEndpoint>),
    /// This end lives.
    Keep,
    /// This end ends it.
    Close,
}

impl Message {
    /// Its word, for sentences and counters.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Accept(_) => "accept",
            Self::Refuse(_) => "refuse",
            Self::Moved(_) => "moved",
            Self::Settled(_) => "settled",
            Self::Keep => "keep",
            Self::Close => "close",
        }
    }
}

/// Codes of messages.
mod kind {
    pub const OFFER: u8 = 1;
    pub const ACCEPT: u8 = 2;
    pub const REFUSE: u8 = 3;
    pub const MOVED: u8 = 4;
    pub const SETTLED: u8 = 5;
    pub const KEEP: u8 = 6;
    pub const CLOSE: u8 = 7;
}

/// Codes of link layers and GID kinds on the wire.
const LINK_LAYERS: [(LinkLayer, u8); 2] = [(LinkLayer::InfiniBand, 1), (LinkLayer::Ethernet, 2)];
const GID_KINDS: [(GidKind, u8); 3] =
    [(GidKind::Ib, 1), (GidKind::RoceV1, 2), (GidKind::RoceV2, 3)];

/// Bits of an endpoint's flags.
const FLAG_IN_ORDER: u8 = 1;
const FLAG_REGION: u8 = 2;

fn code_of<T: Copy + PartialEq>(table: &[(T, u8)], value: T) -> u8 {
    table.iter().find(|one| one.0 == value).map_or(0, |one| one.1)
}

fn of_code<T: Copy>(table: &[(T, u8)], code: u8) -> Option<T> {
    table.iter().find(|one| one.1 == code).map(|one| one.0)
}
