//! One probe run, sans IO: what to send when, what each reply means, and an account in which nothing is lost.
//!
//! A driver asks [`ProbeSession::poll`] what to do at `now`, does it, and reports what happened:
//! [`sent`](ProbeSession::sent) and, where the kernel would not take it, [`refused`](ProbeSession::refused),
//! [`transmitted`](ProbeSession::transmitted) (the stamp of a departure), [`received`](ProbeSession::received). [`settle`](ProbeSession::settle) hands out
//! finished probes **in send order**, so that runs of slow samples ("episodes") can be counted as they are.
//!
//! The account (design D3) holds at every moment, for the probes that count (warm-up and follow-up probes do not):
//! `scheduled = sent + skipped + send_errors` and `sent = received + lost + in_flight`.
//!
//! How a sample is split, all in nanoseconds, exactly:
//!
//! ```text
//! app RTT         = received by the application - intended send time      (prober's CLOCK_MONOTONIC)
//! responder delay = t3 - t2                                               (responder's clock)
//! network RTT     = (t4 - t1) - (t3 - t2)
//! prober delay    = app RTT - (t4 - t1)                                   (lateness included)
//! ```
//!
//! A negative part means that a clock stepped or a stamp lies: the sample is invalid, counted, never clamped.

mod account;
mod follow_up;
mod ring;
mod split;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::schedule::Schedule;
use crate::stamp::Reply;
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

pub use account::Account;
pub use split::{Outcome, Parts, PartsMissing, Sample};

use follow_up::FlowState;
use ring::{Arrival, Entry, Ring, State};
use split::split;

/// At most this many finished probes are handed out by one call of [`ProbeSession::settle`], so that the burst after
/// a loss (everything sent during the time-out) never keeps the probe thread from its next slot. One recorded sample
/// costs well under 0.2 us, so a call stays under 7 us.
const SETTLE_BATCH: usize = 32;

/// How often the tail of a run is asked again for its last true t3, per flow, before the samples are given up as
/// unsplit: two retries survive the loss rates at which a split is still worth printing.
const FOLLOW_UP_TRIES: u8 = 3;

/// The largest table of unfinished probes: 2^20 entries of about 150 bytes. Reached at 500,000 probes/s with a 1 s time-out.
pub const MAX_IN_FLIGHT: usize = 1 << 20;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Time between intended sends.
    pub interval: Duration,
    /// Probes that count.
    pub count: u64,
    /// Probes sent before those, discarded and counted.
    pub warmup: u64,
    /// A probe without a reply this long after it left is lost.
    pub timeout: Duration,
    /// A probe sent more than this after its slot is a late start.
    pub late_threshold: Duration,
    /// Flows (source ports) that take turns, at least one.
    pub flows: u16,
    /// Whether departures are stamped after the fact ([`ProbeSession::transmitted`] will be called).
    pub transmit_stamps: bool,
}

/// Why a run cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too many probes would be under way at once.
    #[error(
        "{0} probes could be in flight at once, the limit is {MAX_IN_FLIGHT}: lengthen the interval or shorten the time-out"
    )]
    TooManyInFlight(u128),
}

/// What the driver should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Send this probe at once.
    Send(Probe),
    /// Nothing to do before this time but to receive.
    Wait(Monotonic),
    /// The run is over and everything is settled but what [`ProbeSession::settle`] still holds.
    Done,
}

/// One probe to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its number in this run, the low 32 bits of which travel as the STAMP sequence number.
    pub number: u64,
    /// The intended send time.
    pub slot: Monotonic,
    /// Which flow carries it.
    pub flow: u16,
    purpose: Purpose,
}

/// What a probe is for; only `Measure` is in the account and the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Warmup,
    Measure,
    FollowUp,
}

/// The run's state.
#[derive(Debug)]
pub struct ProbeSession {
    config: SessionConfig,
    schedule: Schedule,
    next_slot: u64,
    ring: Ring,
    /// First probe that may still be outstanding: probes leave in order, so they expire in order.
    expiry_cursor: u64,
    flows: Vec<FlowState>,
    account: Account,
    /// Probes without a verdict, those that do not count included.
    outstanding: u64,
    stopped: bool,
}

impl ProbeSession {
    /// A run whose first probe (of the warm-up) is due at `start`.
    pub fn new(config: SessionConfig, start: Monotonic) -> Result<Self, ConfigError> {
        let interval = config.interval.as_nanos().max(1);
        // Twice the time-out: after a stall of the prober, the slots of one time-out leave at once while those of
        // the time-out before it may still be waiting. 1,024 more cover settling in batches and follow-up probes.
        let in_flight = 2 * config.timeout.as_nanos() / interval + 1024;
        let capacity = usize::try_from(in_flight).ok().filter(|&n| n <= MAX_IN_FLIGHT);
        let capacity = capacity.ok_or(ConfigError::TooManyInFlight(in_flight))?;
        Ok(Self {
            schedule: Schedule::new(start, config.interval, config.warmup, config.count),
            next_slot: 0,
            ring: Ring::with_capacity(capacity),
            expiry_cursor: 0,
            flows: vec![FlowState::default(); usize::from(config.flows.max(1))],
            account: Account::default(),
            outstanding: 0,
            stopped: false,
            config,
        })
    }

    /// The account so far.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// The first slot that counts.
    pub fn first_counted_slot(&self) -> Monotonic {
        self.schedule.first_counted()
    }

    /// Whether any probe is without a verdict, so that a reply may come at any time.
    pub const fn awaits_replies(&self) -> bool {
        self.outstanding > 0
    }

    /// Whether [`poll`](Self::poll) would answer `Send` or skip at `now` because of the schedule.
    pub fn has_slot_due(&self, now: Monotonic) -> bool {
        self.schedule.slot(self.next_slot).is_some_and(|slot| slot <= now)
    }

    /// What to do at `now`. A `Send` must be answered by `sent` before the next call.
    pub fn poll(&mut self, now: Monotonic) -> Wake {
        if self.stopped {
            return Wake::Done;
        }
        self.expire(now);
        while let Some(slot) = self.schedule.slot(self.next_slot) {
            if now < slot {
                return Wake::Wait(self.next_expiry().map_or(slot, |at| at.min(slot)));
            }
            let purpose = self.purpose_of_slot();
            self.next_slot += 1;
            if purpose == Purpose::Measure {
                self.account.scheduled += 1;
            }
            let age = now.saturating_since(slot);
            if age > self.config.timeout || self.ring.is_full() {
                self.skip(purpose);
                continue;
            }
            if purpose == Purpose::Measure && age > self.config.late_threshold {
                self.account.late_starts += 1;
            }
            return Wake::Send(self.probe(slot, purpose, self.flow_of_slot()));
        }
        self.poll_tail(now)
    }

    /// After the last slot: ask for outstanding true t3s, wait for outstanding replies, then stop.
    fn poll_tail(&mut self, now: Monotonic) -> Wake {
        if self.ring.nothing_measured_is_open() {
            return Wake::Done;
        }
        if let Some(flow) = self.flow_that_wants_a_carrier() {
            self.flows[usize::from(flow)].carrier_leaves(self.ring.next_number());
            return Wake::Send(self.probe(now, Purpose::FollowUp, flow));
        }
        // `settle` may hold finished probes: then come back at once.
        Wake::Wait(self.next_expiry().unwrap_or(now))
    }

    fn flow_that_wants_a_carrier(&self) -> Option<u16> {
        let wants = |state: &FlowState| state.wants_a_carrier(FOLLOW_UP_TRIES);
        let at = self.flows.iter().position(wants).filter(|_| !self.ring.is_full())?;
        u16::try_from(at).ok()
    }

    fn probe(&self, slot: Monotonic, purpose: Purpose, flow: u16) -> Probe {
        Probe { number: self.ring.next_number(), slot, flow, purpose }
    }

    fn purpose_of_slot(&self) -> Purpose {
        if self.schedule.is_warmup(self.next_slot) { Purpose::Warmup } else { Purpose::Measure }
    }

    fn flow_of_slot(&self) -> u16 {
        let flow = (self.next_slot - 1) % u64::from(self.config.flows.max(1));
        u16::try_from(flow).unwrap_or(0)
    }

    fn skip(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Measure => self.account.skipped += 1,
            Purpose::Warmup => self.account.warmup_discarded += 1,
            Purpose::FollowUp => {}
        }
    }

    /// `probe` is handed to the kernel at `at`, carrying `t1` as `packet_t1` (the 8 octets on the wire).
    pub fn sent(&mut self, probe: Probe, at: Monotonic, t1: Wall, packet_t1: [u8; 8]) {
        match probe.purpose {
            Purpose::Measure => {
                self.account.sent += 1;
                self.account.in_flight += 1;
            }
            Purpose::Warmup => self.account.warmup_discarded += 1,
            Purpose::FollowUp => self.account.follow_up_probes += 1,
        }
        self.outstanding += 1;
        let source = if self.config.transmit_stamps { None } else { Some((t1, StampSource::User)) };
        self.ring.push(Entry::outstanding(probe, at, t1, packet_t1, source));
    }

    /// The kernel refused probe `number`, which was reported as [`sent`](Self::sent) when it was handed over.
    pub fn refused(&mut self, number: u64, reason: &'static str) {
        self.account.error(reason);
        let Some(entry) = self.ring.get_mut(number) else { return };
        if entry.state != State::Outstanding {
            return;
        }
        entry.state = State::SendFailed;
        self.outstanding -= 1;
        let probe = entry.probe;
        self.flows[usize::from(probe.flow)].carrier_is_gone(number);
        if probe.purpose == Purpose::Measure {
            self.account.sent -= 1;
            self.account.in_flight -= 1;
            self.account.send_errors += 1;
        }
    }

    /// The departure of probe `number` was stamped. Stamps of unknown or finished probes are ignored.
    pub fn transmitted(&mut self, number: u64, t1: Wall, source: StampSource) {
        if let Some(entry) = self.ring.get_mut(number) {
            entry.t1 = Some((t1, source));
        }
    }

    /// A reply was read by the application at `at`; `t4` is its arrival stamp. Returns whether it answered a probe of
    /// this run for the first time.
    pub fn received(&mut self, reply: &Reply, at: Monotonic, t4: (Wall, StampSource)) -> bool {
        let Some(number) = self.ring.number_of(reply.sender_seq) else {
            self.account.error("unmatched_reply");
            return false;
        };
        let Some(entry) = self.ring.get_mut(number) else {
            self.account.error("unmatched_reply");
            return false;
        };
        if entry.packet_t1 != reply.sender_timestamp {
            // An answer to somebody else's probe, or to an earlier run from the same port.
            self.account.error("foreign_reply");
            return false;
        }
        let measured = entry.probe.purpose == Purpose::Measure;
        match entry.state {
            State::Outstanding => self.outstanding -= 1,
            State::Replied => {
                self.account.duplicate += u64::from(measured);
                return false;
            }
            State::Lost => {
                self.account.late_replies += u64::from(measured);
                return false;
            }
            State::SendFailed => {
                self.account.error("unmatched_reply");
                return false;
            }
        }
        let flow = &mut self.flows[usize::from(entry.probe.flow)];
        if entry.arrived_after(self.config.timeout, t4) {
            // The prober was not there to see the time-out pass, but the arrival stamp is.
            entry.state = State::Lost;
            flow.carrier_is_gone(number);
            self.account.lost_one(measured);
            self.account.late_replies += u64::from(measured);
            return false;
        }
        entry.state = State::Replied;
        entry.arrival = Some(Arrival::new(at, t4, reply));
        if measured {
            self.account.in_flight -= 1;
            self.account.received += 1;
            self.account.reordered += u64::from(flow.is_reordered(number));
        }
        let (probe, awaits) = (entry.probe, entry.awaits_follow_up());
        self.follow_up(&probe, reply, awaits);
        true
    }

    /// Settles the true t3 that the reply to `probe` carries, and notes whether its own is still to come.
    fn follow_up(&mut self, probe: &Probe, reply: &Reply, awaits: bool) {
        let flow = &mut self.flows[usize::from(probe.flow)];
        flow.carrier_is_gone(probe.number);
        let stamped =
            reply.follow_up.as_ref().and_then(|f| Some((flow.take(f.reflector_seq)?, f.t3)));
        if let Some((number, t3)) = stamped
            && let Some(entry) = self.ring.get_mut(number)
        {
            entry.set_followed_up_t3(t3);
        }
        if !awaits {
            return;
        }
        let measured = probe.purpose == Purpose::Measure;
        if let Some(given_up) = flow.expect(reply.reflector_seq, probe.number, measured)
            && let Some(entry) = self.ring.get_mut(given_up)
        {
            entry.follow_up_given_up = true;
        }
    }

    /// Anything that went wrong outside the exchange itself (an ICMP message, a packet that does not parse, …).
    pub fn error(&mut self, reason: &'static str, count: u64) {
        self.account.errors(reason, count);
    }

    /// Ends the run now: what is outstanding stays `in_flight`.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Marks probes without a reply as lost once their time-out has passed.
    fn expire(&mut self, now: Monotonic) {
        while let Some(entry) = self.ring.get_mut(self.expiry_cursor) {
            let outstanding = entry.state == State::Outstanding;
            if outstanding && now.saturating_since(entry.sent_at) < self.config.timeout {
                break;
            }
            if outstanding {
                entry.state = State::Lost;
                self.outstanding -= 1;
                let (number, flow) = (entry.probe.number, usize::from(entry.probe.flow));
                self.account.lost_one(entry.probe.purpose == Purpose::Measure);
                self.flows[flow].carrier_is_gone(number);
            }
            self.expiry_cursor += 1;
        }
    }

    fn next_expiry(&self) -> Option<Monotonic> {
        let entry = self.ring.get(self.expiry_cursor).or_else(|| self.ring.oldest())?;
        let since = entry.arrival.map_or(entry.sent_at, |arrival| arrival.at);
        Some(since.saturating_add(self.config.timeout))
    }

    /// Hands out finished probes in send order, at most a batch; returns whether the batch was full (more may wait).
    pub fn settle(&mut self, now: Monotonic, mut sink: impl FnMut(Outcome)) -> bool {
        for _ in 0..SETTLE_BATCH {
            let Some(entry) = self.ring.oldest() else { return false };
            if !self.stopped && !entry.is_settled(now, self.config.timeout) {
                return false;
            }
            let entry = *entry;
            if entry.probe.purpose == Purpose::Measure {
                self.report(&entry, &mut sink);
            }
            self.ring.finish_oldest();
        }
        true
    }

    fn report(&mut self, entry: &Entry, sink: &mut impl FnMut(Outcome)) {
        match entry.state {
            State::Lost => {
                let Probe { number, slot, flow, .. } = entry.probe;
                sink(Outcome::Lost { number, slot, flow });
            }
            State::Replied => {
                let sample = split(entry);
                match sample.parts {
                    Err(PartsMissing::Invalid(reason)) => {
                        self.account.invalid_stamps += 1;
                        self.account.error(reason);
                    }
                    Err(missing) => self.account.error(missing.reason()),
                    Ok(_) => {}
                }
                sink(Outcome::Reply(sample));
            }
            State::Outstanding | State::SendFailed => {}
        }
    }
}
