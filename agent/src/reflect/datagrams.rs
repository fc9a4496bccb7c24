//! The responder thread: receives, lets the rules decide, answers, and keeps the true departure for the next reply.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use railgauge_core::reflector::{Received, Reflector, TransmitToken};
use railgauge_core::stamp::MAX_UDP_PAYLOAD;
use railgauge_core::time::Monotonic;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::socket::{
    Datagram, ErrorQueue, QueuedError, ReceiveBatch, ReplyRoute, UdpOptions, UdpSocket, Waiter,
    send_reason,
};
use railgauge_fabric::{clock, thread};

use super::{
    KeyRing, LONGEST_SLEEP, Listening, ReflectConfig, ReflectError, ReflectReport, Reflected,
};
use crate::WaitMode;
use crate::departures::DepartureStamps;

/// Requests read with one call.
const BATCH: usize = 32;

/// Kernel memory for requests not yet read: one second at 5,000/s of small ones where `net.core.rmem_max` is at its usual
/// 4 MiB, ten times that with CAP_NET_ADMIN.
const RECEIVE_BUFFER: usize = 50_000 * 832;

/// Replies whose departure stamp is awaited, per socket; a power of two.
const TOKENS: usize = 1024;

/// A socket that sent so many replies, the first of them so long ago, and got no stamp of any, will get none. A queueing
/// discipline may hold each for a while, and a stamp is taken only behind it.
const ENOUGH_TO_MISS_STAMPS: usize = 64;
const LONGEST_TO_A_STAMP: Duration = Duration::from_secs(1);

/// TTL of replies: the largest, so that they come back over any path the request came (RFC 5357 section 4.2.1).
const TTL: u8 = 255;

pub fn open(config: &ReflectConfig) -> Result<Vec<UdpSocket>, ReflectError> {
    let open = |&local| {
        let receive_buffer_bytes = RECEIVE_BUFFER;
        let options =
            UdpOptions { local, peer: None, dscp: 0, ttl: TTL, receive_buffer_bytes, stamps: true };
        UdpSocket::open(&options)
    };
    Ok(config.listen.iter().map(open).collect::<Result<_, _>>()?)
}

pub fn listening(socket: &UdpSocket) -> Listening {
    let stamps = socket.stamps().map_err(ToOwned::to_owned);
    Listening { local: socket.local_addr(), stamps }
}

/// Pins the calling thread where asked to.
pub fn place(cpu: Option<usize>) -> Result<(), ReflectError> {
    if thread::set_timer_slack_to_minimum().is_err() {
        tracing::debug!("timer slack stays at its default");
    }
    Ok(cpu.map_or(Ok(()), thread::pin_to)?)
}

/// One socket and the departures it waits for.
struct Answering {
    socket: UdpSocket,
    next_stamp: u32,
    tokens: Box<[Option<(u32, TransmitToken)>]>,
    stamps_due: u32,
    departures: DepartureStamps,
    dropped: u32,
}

/// The thread's state.
pub struct Responding {
    sockets: Vec<Answering>,
    waiter: Waiter,
    mode: WaitMode,
    reflector: Reflector,
    keys: KeyRing,
    keys_seen: u64,
    receive: ReceiveBatch,
    errors: ErrorQueue,
    reply: Box<[u8]>,
    trouble: BTreeMap<&'static str, u64>,
    reflected: Arc<Reflected>,
}

impl Responding {
    pub fn new(sockets: Vec<UdpSocket>, reflector: Reflector, mode: WaitMode) -> Self {
        let waiter = Waiter::new(sockets.iter().map(AsFd::as_fd));
        Self {
            sockets: sockets.into_iter().map(Answering::new).collect(),
            waiter,
            mode,
            reflector,
            keys: KeyRing::default(),
            keys_seen: 0,
            receive: ReceiveBatch::new(mode.batch(BATCH), MAX_UDP_PAYLOAD),
            errors: ErrorQueue::default(),
            reply: vec![0; MAX_UDP_PAYLOAD].into(),
            trouble: BTreeMap::new(),
            reflected: Arc::default(),
        }
    }

    /// With these keys.
    pub fn with(self, keys: KeyRing) -> Self {
        Self { keys, ..self }
    }

    /// What it does can be read there.
    pub fn told(self, reflected: Arc<Reflected>) -> Self {
        Self { reflected, ..self }
    }

    pub fn run(mut self, stop: &AtomicBool) -> Result<ReflectReport, ReflectError> {
        let mut published = 0;
        while !stop.load(Ordering::Relaxed) {
            if self.mode == WaitMode::Sleep {
                self.waiter.wait(LONGEST_SLEEP).map_err(ReflectError::Wait)?;
            }
            for index in 0..self.sockets.len() {
                let ready = self.waiter.readiness(index);
                if self.mode == WaitMode::BusyPoll || ready.readable {
                    self.answer_all(index);
                }
                if ready.error || self.sockets[index].stamps_due > 0 {
                    self.take_departures(index);
                }
            }
            let counters = self.reflector.counters();
            if counters.received != published {
                published = counters.received;
                self.reflected.publish(counters);
            }
        }
        Ok(ReflectReport::new(self.reflector.counters(), self.trouble))
    }

    fn answer_all(&mut self, index: usize) {
        let Self { sockets, reflector, keys, keys_seen, receive, errors, reply, trouble, .. } =
            self;
        let answering = &mut sockets[index];
        if answering.socket.receive(receive).is_err() {
            // An ICMP error for an earlier reply is pending: the prober is gone. Reading the queue clears it.
            return answering.take_departures(errors, reflector, trouble);
        }
        keys.refresh(reflector, keys_seen);
        for datagram in receive.iter() {
            answering.answer(&datagram, reflector, errors, reply, trouble);
        }
    }

    fn take_departures(&mut self, index: usize) {
        let Self { sockets, reflector, errors, trouble, .. } = self;
        sockets[index].take_departures(errors, reflector, trouble);
    }
}

impl Answering {
    fn new(socket: UdpSocket) -> Self {
        let tokens = vec![None; TOKENS].into();
        let departures = DepartureStamps::default();
        Self { socket, next_stamp: 0, tokens, stamps_due: 0, departures, dropped: 0 }
    }

    fn answer(
        &mut self,
        datagram: &Datagram<'_>,
        reflector: &mut Reflector,
        errors: &mut ErrorQueue,
        reply: &mut [u8],
        trouble: &mut BTreeMap<&'static str, u64>,
    ) {
        self.count_drops(datagram, trouble);
        let Some(from) = datagram.from else { return };
        let (t2, t2_source) = datagram.stamp.unwrap_or_else(|| (clock::wall(), StampSource::User));
        let t3_source = self.socket.stamps().unwrap_or(StampSource::User);
        let rx = Received { t2, t2_source, t3_source, ttl: datagram.ttl };
        let now = clock::monotonic();
        // Why a request gets no reply is counted by the rules.
        let Ok(prepared) = reflector.receive(now, from, datagram.payload, rx, reply) else {
            return;
        };
        let route = ReplyRoute { to: from, local: datagram.local, tos: datagram.tos };
        let packet = prepared.finish(clock::wall(), reply);
        match self.socket.reply(packet, &route) {
            Ok(()) => {
                self.left(prepared.token());
                self.departures.departed(1, || now);
            }
            Err(error) => {
                *trouble.entry(send_reason(&error)).or_default() += 1;
                self.restart_numbering(errors, reflector, trouble);
            }
        }
        if self.stamps_due > 0 {
            self.take_departures(errors, reflector, trouble);
            self.doubt_stamps(now, trouble);
        }
    }

    /// Promises no true t3 any more where the stamps do not come: each prober would wait for it in vain.
    fn doubt_stamps(&mut self, now: Monotonic, trouble: &mut BTreeMap<&'static str, u64>) {
        if !self.departures.are_absent(ENOUGH_TO_MISS_STAMPS, LONGEST_TO_A_STAMP, || now) {
            return;
        }
        *trouble.entry("transmit_stamps_missing").or_default() += 1;
        // Refused, the kernel stamps on as before, and nobody asks.
        let _ = self.socket.give_up_departure_stamps();
        self.departures = DepartureStamps::default();
        self.forget_tokens();
    }

    /// The kernel numbers stamps from 0 again; those of replies before are lost, and never taken for another clock's.
    fn forget_tokens(&mut self) {
        self.tokens.fill(None);
        (self.next_stamp, self.stamps_due) = (0, 0);
    }

    fn count_drops(&mut self, datagram: &Datagram<'_>, trouble: &mut BTreeMap<&'static str, u64>) {
        let dropped = datagram.dropped_so_far.unwrap_or(self.dropped);
        if dropped != self.dropped {
            let more = u64::from(dropped.wrapping_sub(self.dropped));
            *trouble.entry("receive_buffer_overflow").or_default() += more;
            self.dropped = dropped;
        }
    }

    /// A reply left: its stamp will have the next number.
    fn left(&mut self, token: Option<TransmitToken>) {
        if self.socket.stamps().is_err() {
            return;
        }
        let at = self.next_stamp as usize % TOKENS;
        self.tokens[at] = token.map(|token| (self.next_stamp, token));
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.stamps_due += 1;
    }

    /// After a refused send the kernel's numbering of stamps is unknown: begins it anew.
    fn restart_numbering(
        &mut self,
        errors: &mut ErrorQueue,
        reflector: &mut Reflector,
        trouble: &mut BTreeMap<&'static str, u64>,
    ) {
        self.take_departures(errors, reflector, trouble);
        if self.socket.stamps().is_ok() && self.socket.restart_transmit_numbering().is_err() {
            *trouble.entry("stamp_numbering_lost").or_default() += 1;
        }
        self.forget_tokens();
    }

    fn take_departures(
        &mut self,
        errors: &mut ErrorQueue,
        reflector: &mut Reflector,
        trouble: &mut BTreeMap<&'static str, u64>,
    ) {
        let Self { socket, tokens, stamps_due, departures, .. } = self;
        let one_is_due = *stamps_due == 1;
        let sink = |entry| match entry {
            QueuedError::Transmitted { number, stamp, source } => {
                *stamps_due = stamps_due.saturating_sub(1);
                departures.stamped();
                let waiting = tokens[number as usize % TOKENS].take();
                if let Some((_, token)) = waiting.filter(|(key, _)| *key == number) {
                    reflector.transmitted(token, stamp, source);
                }
            }
            // Counted by the send that was refused.
            QueuedError::TooBig { .. } => {}
            // A prober that went away before its last reply.
            QueuedError::Refused { reason, .. } => *trouble.entry(reason).or_default() += 1,
        };
        let drained =
            if one_is_due { errors.take_one(socket, sink) } else { errors.drain(socket, sink) };
        if drained.is_err() {
            *trouble.entry("error_queue_unreadable").or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests;
