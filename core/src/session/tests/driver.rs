//! The driver of a simulated world: does what the probe thread's loop does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;

use super::world::{Finished, S, Truth, World};
use crate::session::{Outcome, Probe, ProbeSession, Wake};
use crate::stamp::{Reply, TimestampFormat};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

/// What one turn of the driver, one read of a packet and one hand-over to the kernel take.
const TURN: u64 = 300;
const READ: u64 = 200;
const HAND_OVER: u64 = 900;
/// Packets read at once.
const BATCH: usize = 32;
/// What the prober's wall clock shows at simulated time 0.
const PROBER_EPOCH: u64 = 1_767_225_600 * S;

pub(super) enum Event {
    Request { number: u64, seq: u32, t1: [u8; 8] },
    Reply(Reply, u64),
    Stamp(u64, u64),
}

/// One STAMP session: its next sequence number, and the departures not told yet.
#[derive(Clone, Default)]
pub(super) struct Reflected {
    pub(super) next_seq: u32,
    pub(super) departures: VecDeque<(u32, u64)>,
}

pub(super) struct Run<'a> {
    pub(super) world: &'a World,
    random: u64,
    now: u64,
    pub(super) session: ProbeSession,
    events: BTreeMap<u64, Event>,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    next_event: u64,
    socket: VecDeque<(Reply, u64)>,
    pub(super) reflector_free: u64,
    /// What the reflector knows of each flow.
    pub(super) flows: Vec<Reflected>,
    pub(super) truth: BTreeMap<u64, Truth>,
    outcomes: Vec<Outcome>,
}

pub(super) fn wall(epoch: u64, step: (u64, i64), at: u64) -> Wall {
    let step = if at >= step.0 { step.1 } else { 0 };
    Wall::from_unix_nanos((epoch + at).wrapping_add_signed(step))
}

pub(super) fn after(stall: &Range<u64>, at: u64) -> u64 {
    if stall.contains(&at) { stall.end } else { at }
}

impl<'a> Run<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let start = Monotonic::from_nanos(0);
        let session = ProbeSession::numbered_from(world.config, start, world.first_number).unwrap();
        Self {
            world,
            random: world.seed,
            now: 0,
            session,
            events: BTreeMap::new(),
            due: BinaryHeap::new(),
            next_event: 0,
            socket: VecDeque::new(),
            reflector_free: 0,
            flows: vec![Reflected::default(); world.config.flows.into()],
            truth: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// splitmix64 (Steele, Lea and Flood 2014).
    pub(super) fn next_u64(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn happens(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.next_u64() % 1000 < per_mille
    }

    pub(super) fn travel(&mut self) -> u64 {
        let jitter = self.world.jitter;
        self.world.delay + if jitter > 0 { self.next_u64() % jitter } else { 0 }
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.events.insert(self.next_event, event);
        self.due.push(Reverse((time, self.next_event)));
        self.next_event += 1;
    }

    /// As the probe thread's loop. Every turn must get somewhere, or wait for something.
    pub(super) fn run(mut self) -> Finished {
        let mut idle = 0;
        loop {
            self.turn(TURN);
            if self.now >= self.world.stop_at {
                self.session.stop();
            }
            let begun = (self.now, self.progress());
            let wake = self.send_due();
            let more = self.settle();
            let read = match wake {
                Wake::Wait(until) => self.rest(if more { self.now } else { until.as_nanos() }),
                Wake::Done if more => 1,
                Wake::Done | Wake::Send(_) => break,
            };
            let moved = self.now > begun.0 + 10 * TURN;
            let worked = read > 0 || self.progress() != begun.1;
            idle = if moved || worked || more { 0 } else { idle + 1 };
            assert!(idle < 4, "a busy loop at {} ns: {:?}", self.now, self.session.account());
        }
        let account = self.session.account().clone();
        Finished { account, outcomes: self.outcomes, truth: self.truth, ended_at: self.now }
    }

    fn progress(&self) -> (usize, u64, u64) {
        (self.truth.len(), self.session.ring.finished(), self.session.expiry_cursor)
    }

    fn turn(&mut self, cost: u64) {
        self.now = after(&self.world.prober_stall, self.now + cost);
        assert!(self.session.account().is_conserved(), "{:?}", self.session.account());
    }

    fn send_due(&mut self) -> Wake {
        loop {
            let wake = self.session.poll(Monotonic::from_nanos(self.now));
            let Wake::Send(probe) = wake else { return wake };
            self.send(probe);
            self.turn(HAND_OVER);
        }
    }

    fn send(&mut self, probe: Probe) {
        let (sent_at, number) = (self.now, probe.number);
        let t1 = wall(PROBER_EPOCH, self.world.prober_step, sent_at);
        let octets = TimestampFormat::Ntp.encode(t1);
        self.session.sent(probe, Monotonic::from_nanos(sent_at), t1, octets);
        let refused = self.happens(self.world.refusal);
        let left = sent_at + HAND_OVER;
        let truth = Truth { probe, sent_at, left, refused, replies: Vec::new() };
        assert!(self.truth.insert(number, truth).is_none(), "probe {number} sent twice");
        if refused {
            return self.session.refused(number, "no_buffer_space");
        }
        if self.world.config.transmit_stamps && !self.happens(self.world.stamp_loss) {
            self.at(left + self.world.stamp_delay, Event::Stamp(number, left));
        }
        let seq = u32::try_from(number % (1 << 32)).unwrap();
        for _ in 0..=u64::from(self.happens(self.world.duplication)) {
            if !self.happens(self.world.loss) {
                let arrives = left + self.travel();
                self.at(arrives, Event::Request { number, seq, t1: octets });
            }
        }
    }

    fn settle(&mut self) -> bool {
        let outcomes = &mut self.outcomes;
        let more = self.session.settle(Monotonic::from_nanos(self.now), |o| outcomes.push(o));
        self.turn(TURN);
        more
    }

    /// Sleeps until `until` or until something comes, and takes what came.
    fn rest(&mut self, until: u64) -> usize {
        let asked_at = self.now;
        while self.socket.is_empty()
            && let Some(&Reverse((time, event))) = self.due.peek()
            && time <= until.max(self.now)
        {
            self.due.pop();
            self.now = if self.happen(time, event) { self.now.max(time) } else { self.now };
        }
        let waited = if self.socket.is_empty() { until } else { self.now };
        self.now = self.now.max(waited);
        self.turn(TURN);
        // What came while the prober stood still.
        while let Some(&Reverse((time, event))) = self.due.peek()
            && time <= self.now
        {
            self.due.pop();
            self.happen(time, event);
        }
        self.read(asked_at)
    }

    fn read(&mut self, asked_at: u64) -> usize {
        let mut count = 0;
        while count < BATCH
            && let Some((reply, arrived)) = self.socket.pop_front()
        {
            count += 1;
            let t4 = wall(PROBER_EPOCH, self.world.prober_step, arrived);
            let at = Monotonic::from_nanos(self.now);
            self.session.received(&reply, at, (t4, StampSource::Kernel));
            self.turn(READ);
        }
        if self.socket.is_empty() {
            self.session.read_dry(Monotonic::from_nanos(asked_at));
        }
        count
    }

    /// Returns whether the prober has something to read.
    fn happen(&mut self, time: u64, event: u64) -> bool {
        match self.events.remove(&event) {
            Some(Event::Request { number, seq, t1 }) => self.reflect(time, number, seq, t1),
            Some(Event::Stamp(number, left)) => {
                let t1 = wall(PROBER_EPOCH, self.world.prober_step, left);
                self.session.transmitted(number, t1, StampSource::Kernel);
            }
            Some(Event::Reply(reply, arrived)) => {
                self.socket.push_back((reply, arrived));
                return true;
            }
            None => {}
        }
        false
    }
}
