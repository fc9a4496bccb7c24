//! One probe run, sans IO: what to send when, what each reply means, and an account in which nothing is lost.
//!
//! A driver asks [`ProbeSession::poll`] what to do at `now`, does it, and reports what happened:
//! [`sent`](ProbeSession::sent) and, where the kernel would not take it, [`refused`](ProbeSession::refused),
//! [`transmitted`](ProbeSession::transmitted) (the stamp of a departure), [`received`](ProbeSession::received), and
//! [`read_dry`](ProbeSession::read_dry) when nothing is left to read. [`settle`](ProbeSession::settle) hands out finished probes **in send
//! order**, so that runs of slow samples ("episodes") can be counted as they are.
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
mod completion;
mod config;
mod follow_up;
mod receiving;
mod ring;
mod split;
#[cfg(test)]
mod tests;
mod unsent;
mod waiting;

use crate::schedule::Schedule;
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

pub use account::Account;
pub use completion::Completion;
pub use config::{ConfigError, MAX_IN_FLIGHT, SessionConfig};
pub use split::{Outcome, Parts, PartsMissing, Sample};
pub use unsent::Unsent;

use follow_up::FlowState;
use ring::{Entry, Ring, State};
use split::split;
use unsent::UnsentSlots;

/// At most this many finished probes are handed out by one call of [`ProbeSession::settle`], so that the burst after
/// a loss (everything sent during the time-out) never keeps the probe thread from its next slot. One recorded sample
/// costs well under 0.2 us, so a call stays under 7 us.
const SETTLE_BATCH: usize = 32;

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

impl Probe {
    /// Whether it is in the account and the series: neither of the warm-up nor sent only to fetch a stamp.
    pub fn counts(&self) -> bool {
        self.purpose == Purpose::Measure
    }
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
    /// Everything that had arrived before this time has been received.
    read_dry_at: Monotonic,
    flows: Vec<FlowState>,
    account: Account,
    /// Probes without a verdict, those that do not count included.
    outstanding: u64,
    stopped: bool,
    /// No probe may leave now, for this reason.
    withheld: Option<&'static str>,
    unsent: Option<UnsentSlots>,
}

impl ProbeSession {
    /// A run whose first probe (of the warm-up) is due at `start`.
    pub fn new(config: SessionConfig, start: Monotonic) -> Result<Self, ConfigError> {
        Self::numbered_from(config, start, 0)
    }

    /// Moves the first slot to `start`: to be called, if at all, before the first [`poll`](Self::poll), by a driver that has taken
    /// its memory meanwhile, which for a long table of unfinished probes lasts many slots.
    pub fn begin_at(&mut self, start: Monotonic) {
        let SessionConfig { interval, warmup, count, .. } = self.config;
        self.schedule = Schedule::new(start, interval, warmup, count);
        self.read_dry_at = start;
    }

    /// As [`new`](Self::new), with another number than 0 for the first probe.
    fn numbered_from(
        config: SessionConfig,
        start: Monotonic,
        first: u64,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            schedule: Schedule::new(start, config.interval, config.warmup, config.count),
            next_slot: 0,
            ring: Ring::new(config.most_unfinished()?, first),
            expiry_cursor: first,
            read_dry_at: start,
            flows: vec![FlowState::default(); usize::from(config.flows.max(1))],
            account: Account::default(),
            outstanding: 0,
            stopped: false,
            withheld: None,
            unsent: None,
            config,
        })
    }

    /// Keeps the slots whose probe never leaves from now on, for [`drain_unsent`](Self::drain_unsent).
    pub fn keep_unsent(&mut self) {
        self.unsent.get_or_insert_default();
    }

    /// Hands over the slots whose probe never left, where they are kept.
    pub fn drain_unsent(&mut self, sink: impl FnMut(Monotonic, Unsent)) {
        if let Some(unsent) = &mut self.unsent {
            unsent.drain(&self.schedule, sink);
        }
    }

    /// Every slot before this time has been handed out, by [`settle`](Self::settle) or [`drain_unsent`](Self::drain_unsent) (if called since the last
    /// [`poll`](Self::poll)); `None`: all there will ever be.
    pub fn settled_before(&self) -> Option<Monotonic> {
        let oldest = self.ring.oldest().map(|entry| entry.probe.slot);
        oldest.into_iter().chain(self.schedule.slot(self.next_slot)).min()
    }

    /// For a reason, as that the key is not good any more, no probe may leave: slots whose time comes are skipped, and the reason counted
    /// for each. `None`: probes may leave again.
    pub const fn withhold(&mut self, reason: Option<&'static str>) {
        self.withheld = reason;
    }

    /// No slot that is not yet used will be: what is under way is waited for, then the run is done.
    pub fn finish(&mut self) {
        let SessionConfig { interval, warmup, .. } = self.config;
        let (used, start) = (self.next_slot, self.schedule.start());
        self.schedule =
            Schedule::new(start, interval, warmup.min(used), used.saturating_sub(warmup));
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
        self.expire();
        while let Some(slot) = self.next_slot(now) {
            if now < slot {
                return self.poll_between(now, slot);
            }
            if let Some(probe) = self.take_slot(slot, now) {
                return Wake::Send(probe);
            }
        }
        self.poll_tail(now)
    }

    /// When the next slot is; in a closed loop, now.
    fn next_slot(&self, now: Monotonic) -> Option<Monotonic> {
        let slot = self.schedule.slot(self.next_slot)?;
        Some(if self.config.interval.is_zero() { now } else { slot })
    }

    /// Uses up the next slot, whose time has come; `None` when it is skipped.
    fn take_slot(&mut self, slot: Monotonic, now: Monotonic) -> Option<Probe> {
        let purpose = self.purpose_of_slot();
        self.next_slot += 1;
        let measured = purpose == Purpose::Measure;
        self.account.scheduled += u64::from(measured);
        let age = now.saturating_since(slot);
        let unusable = self.withheld.or(self.ring.is_full().then_some("too_many_unfinished"));
        if let Some(reason) = unusable {
            self.account.error(reason);
            self.skip(purpose);
            return None;
        }
        if age > self.config.timeout {
            self.skip(purpose);
            return None;
        }
        self.account.late_starts += u64::from(measured && age > self.config.late_threshold);
        Some(self.probe(slot, purpose, self.flow_of_slot()))
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
            Purpose::Measure => {
                self.account.skipped += 1;
                if let Some(unsent) = &mut self.unsent {
                    unsent.skip(self.next_slot - 1);
                }
            }
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
            if let Some(unsent) = &mut self.unsent {
                unsent.refuse(probe.slot);
            }
        }
    }

    /// The departure of probe `number` was stamped. Stamps of unknown or finished probes are ignored.
    pub fn transmitted(&mut self, number: u64, t1: Wall, source: StampSource) {
        if let Some(entry) = self.ring.get_mut(number) {
            entry.t1 = Some((t1, source));
        }
    }

    /// `probe`, the last that was asked for, will not be sent after all: as if its slot had not come.
    pub fn withdraw(&mut self, probe: &Probe) {
        self.next_slot -= 1;
        self.account.scheduled -= u64::from(probe.counts());
    }

    /// Anything that went wrong outside the exchange itself (an ICMP message, a packet that does not parse, …).
    pub fn error(&mut self, reason: &'static str, count: u64) {
        self.account.errors(reason, count);
    }

    /// Ends the run now: what is outstanding stays `in_flight`.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The driver has received everything that had arrived before `at`. Only then is a probe lost whose time-out is over: a
    /// prober that stood still finds replies that came in time.
    pub fn read_dry(&mut self, at: Monotonic) {
        self.read_dry_at = self.read_dry_at.max(at);
    }

    /// Marks probes without a reply as lost once their time-out has passed.
    fn expire(&mut self) {
        while let Some(entry) = self.ring.get_mut(self.expiry_cursor) {
            let outstanding = entry.state == State::Outstanding;
            let waited = self.read_dry_at.saturating_since(entry.sent_at);
            if outstanding && waited < self.config.timeout {
                break;
            }
            if outstanding {
                let number = entry.probe.number;
                self.lose(number);
            }
            self.expiry_cursor += 1;
        }
    }

    fn lose(&mut self, number: u64) {
        let Some(entry) = self.ring.get_mut(number) else { return };
        if entry.state != State::Outstanding {
            return;
        }
        entry.state = State::Lost;
        self.outstanding -= 1;
        let flow = usize::from(entry.probe.flow);
        self.account.lost_one(entry.probe.purpose == Purpose::Measure);
        self.flows[flow].carrier_is_gone(number);
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
                    // What an operation lacks by its nature is no error of this sample.
                    Err(PartsMissing::ResponderStamps) | Ok(_) => {}
                    Err(missing) => self.account.error(missing.reason()),
                }
                sink(Outcome::Reply(sample));
            }
            State::Outstanding | State::SendFailed => {}
        }
    }
}
