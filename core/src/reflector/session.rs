//! The sessions of a stateful reflector: each has its own sequence numbers and its own true t3s to tell.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::counters::Counters;
use super::least_recent::{LeastRecent, Touch};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

/// A sender that is silent for so long has ended its session: the default of TWAMP's REFWAIT (RFC 5357 section
/// 4.2); RFC 8762 leaves the end of a session to its configuration.
const IDLE_END: Duration = Duration::from_secs(900);
/// A sequence number 0 this close to others of its session is a late or duplicate packet, or the wrap of
/// the counter; farther away, the sender has begun anew. RFC 8762 leaves open how a reflector can know.
const RESTART_DISTANCE: u32 = 64;
/// True t3s kept for a session until its next replies carry them, one each: a driver that answers requests
/// in batches learns the stamps of a whole batch before it answers the next. So the reply told of is not
/// always the last one, as RFC 8972 section 4.7 has it, but an earlier one; its sequence number says which.
const FOLLOW_UPS: usize = 32;

/// Who a session belongs to: our side of the 4-tuple is the socket, the rest is here (RFC 8972 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    source: IpAddr,
    /// Tells link-local senders on different links apart.
    scope: u32,
    port: u16,
    ssid: u16,
}

impl SessionKey {
    /// `source` is the canonical address of `from`.
    pub fn new(source: IpAddr, from: SocketAddr, ssid: u16) -> Self {
        let scope = match from {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(from) => from.scope_id(),
        };
        Self { source, scope, port: from.port(), ssid }
    }
}

/// One reply whose true transmit time is wanted; see [`super::Prepared::token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransmitToken {
    slot: u32,
    /// Which of the sessions that this slot has held.
    generation: u64,
    pub(super) reflector_seq: u32,
}

/// When an earlier reply left, as a later one will tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub reflector_seq: u32,
    pub t3: Wall,
    pub source: StampSource,
}

#[derive(Debug)]
struct Session {
    generation: u64,
    next_seq: u32,
    last_sender_seq: u32,
    last_seen: Monotonic,
    /// Ring of the departures not told yet: `waiting` of them from `first` on.
    departures: [Departure; FOLLOW_UPS],
    first: usize,
    waiting: usize,
}

const NO_DEPARTURE: Departure =
    Departure { reflector_seq: 0, t3: Wall::from_unix_nanos(0), source: StampSource::None };

impl Session {
    fn begin(generation: u64, now: Monotonic, sender_seq: u32) -> Self {
        Self {
            generation,
            next_seq: 0,
            last_sender_seq: sender_seq,
            last_seen: now,
            departures: [NO_DEPARTURE; FOLLOW_UPS],
            first: 0,
            waiting: 0,
        }
    }

    fn begins_anew(&self, now: Monotonic, sender_seq: u32) -> bool {
        let distance = self.last_sender_seq.min(self.last_sender_seq.wrapping_neg());
        let restarted = sender_seq == 0 && distance >= RESTART_DISTANCE;
        restarted || now.saturating_since(self.last_seen) >= IDLE_END
    }

    /// Keeps a departure, over the oldest when the ring is full; says whether it was.
    fn keep(&mut self, departure: Departure) -> bool {
        self.departures[(self.first + self.waiting) % FOLLOW_UPS] = departure;
        let overrun = self.waiting == FOLLOW_UPS;
        if overrun {
            self.first = (self.first + 1) % FOLLOW_UPS;
        } else {
            self.waiting += 1;
        }
        overrun
    }

    fn take(&mut self) -> Option<Departure> {
        self.waiting = self.waiting.checked_sub(1)?;
        let departure = self.departures[self.first];
        self.first = (self.first + 1) % FOLLOW_UPS;
        Some(departure)
    }
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    table: LeastRecent<SessionKey, Session>,
    generations: u64,
}

impl Sessions {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { table: LeastRecent::new(capacity), generations: 0 }
    }

    /// The sequence number for the next reply of a session, which begins here if it is not known.
    /// It starts at zero and grows by one with each reply (RFC 8762 section 4.3.1, stateful mode).
    pub fn next_turn(
        &mut self,
        key: SessionKey,
        now: Monotonic,
        sender_seq: u32,
        counters: &mut Counters,
    ) -> TransmitToken {
        let generation = self.generations + 1;
        let fresh = || Session::begin(generation, now, sender_seq);
        let (slot, session, touch) = self.table.touch(key, fresh);
        let restarted = touch == Touch::Known && session.begins_anew(now, sender_seq);
        if restarted {
            *session = Session::begin(generation, now, sender_seq);
        }
        if restarted || touch != Touch::Known {
            self.generations = generation;
            counters.sessions_started += 1;
        }
        counters.sessions_restarted += u64::from(restarted);
        counters.sessions_evicted += u64::from(touch == Touch::Replaced);
        let reflector_seq = session.next_seq;
        session.next_seq = reflector_seq.wrapping_add(1);
        (session.last_sender_seq, session.last_seen) = (sender_seq, now);
        TransmitToken { slot, generation: session.generation, reflector_seq }
    }

    /// The oldest departure that the session of this reply has not been told.
    pub fn take_follow_up(&mut self, token: TransmitToken) -> Option<Departure> {
        self.session(token)?.take()
    }

    pub fn keep_follow_up(
        &mut self,
        token: TransmitToken,
        t3: Wall,
        source: StampSource,
        counters: &mut Counters,
    ) {
        let departure = Departure { reflector_seq: token.reflector_seq, t3, source };
        match self.session(token) {
            Some(session) => counters.follow_ups_overrun += u64::from(session.keep(departure)),
            None => counters.follow_ups_stale += 1,
        }
    }

    fn session(&mut self, token: TransmitToken) -> Option<&mut Session> {
        self.table.get_mut(token.slot).filter(|session| session.generation == token.generation)
    }
}
