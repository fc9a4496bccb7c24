//! One flow: a socket of its own, so a source port of its own, so an ECMP path of its own.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::socket::tcp::PacketStream;
use railgauge_fabric::socket::{
    BURST, ErrorQueue, OpenError, QueuedError, ReceiveBatch, SendBatch, Sent, UdpOptions,
    UdpSocket, send_reason,
};
use railgauge_fabric::verbs::PostError;

use crate::departures::DepartureStamps;
use crate::rdma::rc::Connected;
use crate::rdma::ud::link::UdLink;
use crate::rdma::ud::{UdFlowError, UdOptions};

/// How many sends may await their stamp: those of one burst and more, a power of two.
const NUMBERS: usize = 1024;

/// RDMA datagrams taken with one look at most, before what is due is sent.
const DATAGRAMS: usize = 32;

/// What carries a flow.
#[derive(Clone, Debug)]
pub enum FlowOptions {
    /// Datagrams.
    Udp(UdpOptions),
    /// A connection.
    Tcp {
        /// Where to.
        peer: SocketAddr,
        /// How long connecting may take.
        timeout: Duration,
    },
    /// RDMA datagrams.
    RdmaUd(UdOptions),
}

/// Why a flow could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No queue pair, or nobody to exchange endpoints with.
    #[error(transparent)]
    RdmaUd(#[from] UdFlowError),
    /// Nobody there, or nobody listening.
    #[error(
        "cannot connect to {peer} by TCP: is `railgauge reflect --transport tcp` running there, and is the port open?"
    )]
    Connect {
        /// Where to.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

enum Link {
    Udp { socket: UdpSocket, batch: SendBatch },
    Tcp { stream: PacketStream, packet: Box<[u8]>, failed: bool },
    RdmaUd { link: Box<UdLink>, packet: Box<[u8]>, is_told: bool },
}

/// Something a flow reports.
pub enum FlowEvent<'a> {
    /// Probe `number` left.
    Transmitted { number: u64, stamp: Wall, source: StampSource },
    /// The kernel would not take probe `number`.
    Refused { number: u64, reason: &'static str },
    /// Something else went wrong, so many times.
    Error { reason: &'static str, count: u64 },
    /// A datagram did not fit the path.
    TooBig { mtu: Option<u32> },
    /// A packet came.
    Packet { bytes: &'a [u8], stamp: Option<(Wall, StampSource)>, read_at: ReadAt },
}

/// A flow's socket and the numbers of what it sent.
pub struct Flow {
    link: Link,
    handed: Vec<u64>,
    /// What became of the last transmission, until it is concluded.
    sent: Option<Sent>,
    /// The number that the kernel gives to the next send's stamp.
    next_stamp: u32,
    probe_of_stamp: Box<[(u32, u64)]>,
    stamps_due: u32,
    departures: DepartureStamps,
    dropped: Option<u32>,
    /// Packets sent and received, warm-up included.
    pub counts: (u64, u64),
}

impl Flow {
    pub fn open(options: &FlowOptions, packet_bytes: usize) -> Result<Self, FlowError> {
        let link = match options {
            FlowOptions::Udp(options) => {
                let socket = UdpSocket::open(options)?;
                Link::Udp { socket, batch: SendBatch::new(packet_bytes) }
            }
            &FlowOptions::Tcp { peer, timeout } => {
                let connect = |source| FlowError::Connect { peer, source };
                let stream = PacketStream::connect(peer, timeout).map_err(connect)?;
                Link::Tcp { stream, packet: vec![0; packet_bytes].into(), failed: false }
            }
            FlowOptions::RdmaUd(options) => {
                let link = Box::new(UdLink::open(options, packet_bytes)?);
                Link::RdmaUd { link, packet: vec![0; packet_bytes].into(), is_told: false }
            }
        };
        Ok(Self {
            link,
            handed: Vec::with_capacity(BURST),
            sent: None,
            next_stamp: 0,
            probe_of_stamp: vec![(0, u64::MAX); NUMBERS].into(),
            stamps_due: 0,
            departures: DepartureStamps::default(),
            dropped: None,
            counts: (0, 0),
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Udp { socket, .. } => socket.as_fd(),
            Link::Tcp { stream, .. } => stream.as_fd(),
            Link::RdmaUd { link, .. } => link.side().fd(),
        }
    }

    /// The datagram socket, where there is one.
    pub const fn socket(&self) -> Option<&UdpSocket> {
        match &self.link {
            Link::Udp { socket, .. } => Some(socket),
            Link::Tcp { .. } | Link::RdmaUd { .. } => None,
        }
    }

    /// Whether departures are stamped after the fact.
    pub fn is_stamped(&self) -> bool {
        match &self.link {
            Link::Udp { socket, .. } => socket.stamps().is_ok(),
            Link::Tcp { .. } => false,
            Link::RdmaUd { link, .. } => link.side().is_stamped(),
        }
    }

    /// Who stamps, or why nobody does.
    pub fn stamps(&self) -> Result<StampSource, String> {
        match &self.link {
            Link::Udp { socket, .. } => socket.stamps().map_err(ToOwned::to_owned),
            Link::Tcp { .. } => Err("a byte stream has no packets to stamp".to_owned()),
            Link::RdmaUd { link, .. } if link.side().is_stamped() => Ok(StampSource::Cqe),
            Link::RdmaUd { link, .. } => Err(link.side().why_unstamped()),
        }
    }

    /// What both ends of a flow of RDMA datagrams were set to.
    pub fn connected(&self) -> Option<&Connected> {
        match &self.link {
            Link::RdmaUd { link, .. } => Some(&link.connected),
            Link::Udp { .. } | Link::Tcp { .. } => None,
        }
    }

    /// Whether so many replies came, and no stamp of a departure, though a kernel's precedes its reply.
    pub fn lacks_stamps(&self, replies: usize) -> bool {
        let at_once = Duration::ZERO;
        // A NIC that says that its completions are stamped stamps each of them.
        let by_kernel = self.socket().is_some_and(|socket| socket.stamps().is_ok());
        by_kernel && self.departures.are_absent(replies, at_once, clock::monotonic)
    }

    /// Waits for such stamps no more.
    pub fn give_up_stamps(&mut self) {
        let Link::Udp { socket, .. } = &mut self.link else { return };
        // Refused, the kernel stamps on as before, and nobody asks: `is_stamped` is false all the same.
        let _ = socket.give_up_departure_stamps();
        self.departures = DepartureStamps::default();
        self.forget_stamps();
    }

    pub fn source_port(&self) -> u16 {
        match &self.link {
            Link::Udp { socket, .. } => socket.local_addr().port(),
            Link::Tcp { stream, .. } => stream.local_addr().map_or(0, |addr| addr.port()),
            Link::RdmaUd { link, .. } => link.connected.offer.flow_label.udp_source_port(),
        }
    }

    /// The bytes of the next packet, for probe `number`; sent by [`transmit`](Self::transmit).
    pub fn next_packet(&mut self, number: u64) -> &mut [u8] {
        self.handed.push(number);
        match &mut self.link {
            Link::Udp { batch, .. } => batch.next_packet(),
            Link::Tcp { packet, .. } | Link::RdmaUd { packet, .. } => packet,
        }
    }

    /// Whether what was handed over must be sent before the next packet.
    pub fn is_full(&self) -> bool {
        match &self.link {
            Link::Udp { batch, .. } => batch.is_full(),
            Link::Tcp { .. } | Link::RdmaUd { .. } => !self.handed.is_empty(),
        }
    }

    pub fn has_unsent(&self) -> bool {
        !self.handed.is_empty()
    }

    /// Departures that have not been stamped yet.
    pub const fn stamps_due(&self) -> u32 {
        self.stamps_due
    }

    /// Whether there are any.
    pub const fn awaits_stamps(&self) -> bool {
        self.stamps_due > 0
    }

    /// Whether nothing can come any more.
    pub fn is_lost(&self) -> bool {
        match &self.link {
            Link::Udp { .. } => false,
            Link::Tcp { failed, .. } => *failed,
            Link::RdmaUd { link, .. } => link.is_lost(),
        }
    }

    /// Sends what was handed over; [`conclude`](Self::conclude) says what became of it. Nothing but the system call, as
    /// the time until it counts.
    pub fn transmit(&mut self) {
        match &mut self.link {
            Link::Udp { socket, batch } => self.sent = Some(batch.send(socket)),
            Link::Tcp { stream, packet, failed } => {
                let error = if *failed {
                    Some(io::ErrorKind::NotConnected.into())
                } else {
                    stream.send(packet).err()
                };
                let taken = usize::from(error.is_none());
                self.sent = Some(Sent { taken, retried: false, error });
            }
            Link::RdmaUd { link, packet, .. } => {
                let number = self.handed.first().copied().unwrap_or(0);
                let error = link.post(number, packet).err().map(post_error);
                let taken = usize::from(error.is_none());
                self.sent = Some(Sent { taken, retried: false, error });
            }
        }
    }

    /// Keeps the numbers of what [`transmit`](Self::transmit) sent, and reports what was refused; returns how many
    /// packets that was.
    pub fn conclude(
        &mut self,
        errors: &mut ErrorQueue,
        mut on: impl FnMut(FlowEvent<'_>),
    ) -> usize {
        let Some(sent) = self.sent.take() else { return 0 };
        let packets = self.handed.len();
        let stamped = self.is_stamped() && !sent.retried;
        for &number in &self.handed[..sent.taken] {
            let at = self.next_stamp as usize % NUMBERS;
            self.probe_of_stamp[at] = (self.next_stamp, number);
            self.next_stamp = self.next_stamp.wrapping_add(1);
            self.stamps_due += u32::from(stamped);
        }
        self.counts.0 += sent.taken as u64;
        if sent.retried {
            self.probe_of_stamp.fill((0, u64::MAX));
        }
        if sent.retried || sent.error.is_some() {
            self.after_refusal(errors, &mut on);
        }
        let reason = sent.error.as_ref().map_or("other", refusal_reason);
        for number in self.handed.drain(..).skip(sent.taken) {
            on(FlowEvent::Refused { number, reason });
        }
        packets
    }

    /// After a refused or repeated send the kernel's numbering of stamps is unknown: take what is queued, then begin anew.
    fn after_refusal(&mut self, errors: &mut ErrorQueue, on: &mut impl FnMut(FlowEvent<'_>)) {
        self.drain_errors(errors, &mut *on);
        let Link::Udp { socket, .. } = &self.link else { return };
        if socket.stamps().is_err() {
            return;
        }
        if socket.restart_transmit_numbering().is_err() {
            on(FlowEvent::Error { reason: "stamp_numbering_lost", count: 1 });
        }
        self.forget_stamps();
    }

    /// The kernel numbers stamps from 0 again; those of what was sent before are lost.
    fn forget_stamps(&mut self) {
        self.next_stamp = 0;
        self.stamps_due = 0;
        self.probe_of_stamp.fill((0, u64::MAX));
    }

    /// Reads the error queue: stamps of departures, and refusals that came back.
    pub fn drain_errors(&mut self, errors: &mut ErrorQueue, mut on: impl FnMut(FlowEvent<'_>)) {
        if matches!(self.link, Link::RdmaUd { .. }) {
            return self.reap(on);
        }
        let Link::Udp { socket, .. } = &self.link else { return };
        let (table, due) = (&self.probe_of_stamp, &mut self.stamps_due);
        let departures = &mut self.departures;
        let one_is_due = *due == 1;
        let sink = |entry| match entry {
            QueuedError::Transmitted { number, stamp, source } => {
                *due = due.saturating_sub(1);
                departures.stamped();
                let (key, probe) = table[number as usize % NUMBERS];
                if key == number && probe != u64::MAX {
                    on(FlowEvent::Transmitted { number: probe, stamp, source });
                }
            }
            QueuedError::TooBig { mtu } => on(FlowEvent::TooBig { mtu: Some(mtu) }),
            QueuedError::Refused { reason, mtu } => {
                on(FlowEvent::Error { reason, count: 1 });
                if mtu.is_some() {
                    on(FlowEvent::TooBig { mtu });
                }
            }
        };
        let drained =
            if one_is_due { errors.take_one(socket, sink) } else { errors.drain(socket, sink) };
        if drained.is_err() {
            on(FlowEvent::Error { reason: "error_queue_unreadable", count: 1 });
        }
    }

    /// Takes the completions of RDMA datagrams that were sent: their completion queue is to this link what the error queue is to
    /// a socket.
    fn reap(&mut self, mut on: impl FnMut(FlowEvent<'_>)) {
        let Link::RdmaUd { link, .. } = &mut self.link else { return };
        loop {
            match link.sent() {
                Ok(None) => return,
                Ok(Some(sent)) => {
                    self.stamps_due = self.stamps_due.saturating_sub(1);
                    let number = sent.id;
                    if !sent.left {
                        on(FlowEvent::Refused { number, reason: "send_failed" });
                    } else if let Some((stamp, source)) = sent.stamp {
                        on(FlowEvent::Transmitted { number, stamp, source });
                    }
                }
                Err(reason) => return on(FlowEvent::Error { reason, count: 1 }),
            }
        }
    }

    /// Reads what has arrived, at most a batch; returns whether there was nothing.
    pub fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        errors: &mut ErrorQueue,
        mut on: impl FnMut(FlowEvent<'_>),
    ) -> bool {
        match &mut self.link {
            Link::Udp { socket, .. } => {
                let Ok(count) = socket.receive(batch) else {
                    // A refusal is pending; reading the error queue clears it and says what it was.
                    self.drain_errors(errors, on);
                    return false;
                };
                if count == 0 {
                    return true;
                }
                let read_at = ReadAt::now();
                for datagram in batch.iter() {
                    let dropped = datagram.dropped_so_far.unwrap_or(0);
                    let before = self.dropped.replace(dropped).unwrap_or(0);
                    if dropped != before {
                        let count = u64::from(dropped.wrapping_sub(before));
                        on(FlowEvent::Error { reason: "receive_buffer_overflow", count });
                    }
                    self.counts.1 += 1;
                    let (bytes, stamp) = (datagram.payload, datagram.stamp);
                    on(FlowEvent::Packet { bytes, stamp, read_at });
                }
                self.departures.departed(count, clock::monotonic);
                false
            }
            Link::Tcp { stream, failed, .. } if !*failed => {
                let received = &mut self.counts.1;
                let result = stream.receive(|bytes| {
                    *received += 1;
                    on(FlowEvent::Packet { bytes, stamp: None, read_at: ReadAt::now() });
                });
                let flushed = stream.flush();
                if result.is_err() || flushed.is_err() {
                    *failed = true;
                    on(FlowEvent::Error { reason: "connection_lost", count: 1 });
                }
                !matches!(result, Ok(true))
            }
            Link::Tcp { .. } => true,
            Link::RdmaUd { .. } => self.receive_datagrams(on),
        }
    }

    fn receive_datagrams(&mut self, mut on: impl FnMut(FlowEvent<'_>)) -> bool {
        self.reap(&mut on);
        let Link::RdmaUd { link, is_told, .. } = &mut self.link else { return true };
        if link.is_lost() && !std::mem::replace(is_told, true) {
            on(FlowEvent::Error { reason: "connection_lost", count: 1 });
        }
        let received = &mut self.counts.1;
        let dry = link.receive(DATAGRAMS, |came| match came {
            Ok((bytes, arrived)) => {
                *received += 1;
                let (stamp, read_at) = (arrived.stamp, ReadAt::now());
                on(FlowEvent::Packet { bytes, stamp, read_at });
            }
            Err(reason) => on(FlowEvent::Error { reason, count: 1 }),
        });
        dry.unwrap_or_else(|reason| {
            on(FlowEvent::Error { reason, count: 1 });
            false
        })
    }
}

/// A request that the device did not take, as the kernel would say it of a socket.
fn post_error(error: PostError) -> io::Error {
    match error {
        PostError::Full => io::ErrorKind::WouldBlock.into(),
        PostError::Refused(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    }
}

fn refusal_reason(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotConnected
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted => "connection_lost",
        io::ErrorKind::WouldBlock => "send_queue_full",
        _ => send_reason(error),
    }
}

/// When the application had a packet, by both clocks.
#[derive(Clone, Copy)]
pub struct ReadAt {
    wall: Wall,
    /// The end of app RTT.
    pub monotonic: Monotonic,
}

impl ReadAt {
    /// Wall clock first: app RTT then ends after t4, whichever clock took it.
    fn now() -> Self {
        let wall = clock::wall();
        Self { wall, monotonic: clock::monotonic() }
    }

    /// The arrival stamp of the packet, taken here where the kernel gave none.
    pub fn arrival(&self, stamp: Option<(Wall, StampSource)>) -> (Wall, StampSource) {
        stamp.unwrap_or((self.wall, StampSource::User))
    }
}
