//! The probe thread: one pinned thread that sends on schedule, receives, stamps and records (design D5).
//!
//! It is never a task of a runtime, and nothing it calls blocks but its own sleep. What it records leaves once a second
//! through a channel without a bound: one message a second, read by a thread that does nothing else.

pub(crate) mod flow;
pub mod recording;
mod run;
#[cfg(test)]
mod tests;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use railgauge_core::session::{Outcome, Probe, ProbeSession, SessionConfig, Wake};
use railgauge_core::stamp::{Reply, ReplyError, RequestTemplate, TimestampFormat};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::socket::{ErrorQueue, ReceiveBatch, Waiter};

use crate::WaitMode;
use flow::{Flow, FlowEvent};

pub use flow::{FlowError, FlowOptions};
use recording::{Recording, WindowReport};
pub use run::{FlowEnd, ProbeEnd, ProbeRun, StartError};
use watch::ThreadWatch;

/// The longest sleep, so that a request to stop is heard.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Datagrams read with one call.
const RECEIVE_BATCH: usize = 32;

/// Replies to probes this far apart come one by one, and each wake-up finds one: a call for more would look in vain.
const SPREAD: Duration = Duration::from_micros(200);

/// Reads in a row that found something before the sockets pass for read dry all the same: a flood of packets that are no
/// replies must not keep losses from being seen. One packet each when spinning, so some 30,000: more than can be
/// outstanding on a schedule that this thread keeps up with.
const MOST_READS: u32 = 1 << 15;

/// Probes sent in a row, however many are due: on a schedule that this thread cannot keep up with, replies must be read all
/// the same, and a request to stop be heard.
const MOST_SENT: usize = 128;

/// In busy-poll mode the error queue is looked at this often even when no stamp is due: ICMP errors arrive there.
const LOOK_AT_ERRORS: Duration = Duration::from_millis(1);

/// While a backlog is sent, stamps are taken when this many are due: those of one burst.
const MANY_STAMPS: u32 = 16;

/// How long a reply has precedence over the stamps of what was sent: longer than one on the same host takes.
const REPLY_FIRST: Duration = Duration::from_micros(8);

/// A look at a socket that has nothing, rounded up.
const ONE_LOOK: Duration = Duration::from_nanos(500);

/// With fewer warm-up probes than this, silence and refusals say too little to give up on the target.
const ENOUGH_TO_GIVE_UP: u64 = 10;

/// What says that a target which answered nothing will not answer later.
const REFUSED_BY_THE_PATH: [&str; 4] =
    ["port_unreachable", "host_unreachable", "network_unreachable", "packet_too_big"];

/// What says so where not one probe was taken. Where some were, these pass: a queue that was full, a rule that limits a rate.
const REFUSED_BY_THIS_HOST: [&str; 4] =
    ["not_permitted", "interface_down", "no_buffer_space", "invalid_argument"];

/// Replies after which stamps of departures that never came are waited for no more; fewer at the end of the warm-up. The
/// kernel's precede the reply; a NIC's may come some milliseconds after it, and the kernel's then take their place.
pub(crate) const ENOUGH_TO_MISS_STAMPS: usize = 64;
const ENOUGH_AT_END_OF_WARM_UP: usize = 10;

/// A run on its thread.
pub struct ProbeThread<'a> {
    session: ProbeSession,
    template: RequestTemplate,
    format: TimestampFormat,
    flows: Vec<Flow>,
    waiter: Waiter,
    mode: WaitMode,
    watch: ThreadWatch,
    receive: ReceiveBatch,
    errors: ErrorQueue,
    errors_due: Monotonic,
    reads_without_end: u32,
    sent_at: Monotonic,
    recording: Recording,
    outcomes: Option<Vec<Outcome>>,
    windows: Sender<WindowReport>,
    stop: &'a AtomicBool,
    warm: bool,
    gave_up: bool,
    telemetry_unknown: bool,
    mtu: Option<u32>,
    started_at: Wall,
}

impl<'a> ProbeThread<'a> {
    /// Opens the sockets and takes all memory; the first probe is due at once.
    pub fn open(
        run: ProbeRun,
        windows: Sender<WindowReport>,
        stop: &'a AtomicBool,
    ) -> Result<Self, StartError> {
        let length = run.template.len();
        let open = |options: &FlowOptions| Flow::open(options, length);
        let flows: Vec<Flow> = run.flows.iter().map(open).collect::<Result<_, _>>()?;
        let transmit_stamps = flows.iter().all(Flow::is_stamped);
        let flow_count = u16::try_from(flows.len()).unwrap_or(u16::MAX);
        let kept = usize::try_from(run.session.count).unwrap_or(usize::MAX);
        let outcomes = run.keep_outcomes.then(|| Vec::with_capacity(kept));
        let spread = run.session.interval >= SPREAD;
        let batch = if spread { 1 } else { run.mode.batch(RECEIVE_BATCH) };
        let receive = ReceiveBatch::new(batch, length.max(2048));
        let config = SessionConfig { transmit_stamps, flows: flow_count, ..run.session };
        let start = clock::monotonic();
        let started_at = clock::wall();
        let mut thread = Self {
            session: ProbeSession::new(config, start)?,
            recording: Recording::new(start, started_at, flow_count),
            started_at,
            template: run.template,
            format: run.format,
            waiter: Waiter::new(flows.iter().map(Flow::fd)),
            flows,
            mode: run.mode,
            watch: ThreadWatch::begin(),
            receive,
            errors: ErrorQueue::default(),
            errors_due: start,
            reads_without_end: 0,
            sent_at: start,
            outcomes,
            windows,
            stop,
            warm: config.warmup == 0,
            gave_up: false,
            telemetry_unknown: false,
            mtu: None,
        };
        thread.begin();
        Ok(thread)
    }

    /// The first probe is due now: taking the memory above may have lasted a thousand slots.
    fn begin(&mut self) {
        self.session.begin_at(clock::monotonic());
        let first = self.session.first_counted_slot();
        let started_at = first.as_nanos().saturating_add_signed(clock::wall_offset());
        self.started_at = Wall::from_unix_nanos(started_at);
        self.recording.begin_at(first, self.started_at);
        self.watch = ThreadWatch::begin();
    }

    /// Runs to the end of the schedule, or until stopped.
    pub fn run(mut self) -> ProbeEnd {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.session.stop();
            }
            let now = self.watch.now();
            let wake = self.send_due(now);
            self.end_of_warm_up();
            let more = self.settle(now);
            match wake {
                Wake::Wait(until) if more => self.look(until),
                Wake::Wait(until) => self.rest(until),
                Wake::Done if more => {}
                Wake::Done | Wake::Send(_) => return self.end(),
            }
        }
    }

    /// Sends what is due, in bursts where there is a backlog, and reads between them where it is a long one.
    fn send_due(&mut self, mut now: Monotonic) -> Wake {
        for _ in 0..MOST_SENT {
            let late_before = self.session.account().late_starts;
            let wake = self.session.poll(now);
            if self.session.account().late_starts > late_before {
                self.watch.late_start();
            }
            let Wake::Send(probe) = wake else {
                self.send_rest();
                return wake;
            };
            self.hand_over(probe, now);
            if self.flows[usize::from(probe.flow)].has_unsent() {
                continue;
            }
            now = self.watch.now();
        }
        self.send_rest();
        let now = self.watch.now();
        let dry = self.take_all_packets();
        self.was_read(now, dry);
        Wake::Wait(self.watch.now())
    }

    /// Writes the packet, and sends it at once unless a backlog makes a burst of it.
    fn hand_over(&mut self, probe: Probe, now: Monotonic) {
        let flow = &mut self.flows[usize::from(probe.flow)];
        let stamped = flow.is_stamped();
        let packet = flow.next_packet(probe.number);
        #[expect(clippy::cast_possible_truncation, reason = "numbers wrap (RFC 8762 section 4.2)")]
        let sequence = probe.number as u32;
        let t1 = clock::wall();
        self.template.write(sequence, t1, packet);
        let gather = !flow.is_full() && self.session.has_slot_due(now);
        if !gather {
            flow.transmit();
        }
        // Bookkeeping comes after the system call: its cache misses are not the path's latency.
        self.session.sent(probe, now, t1, self.format.encode(t1));
        if !stamped {
            self.session.transmitted(probe.number, t1, StampSource::User);
        }
        if !gather {
            self.conclude(usize::from(probe.flow));
        }
    }

    fn send_rest(&mut self) {
        for flow in 0..self.flows.len() {
            if self.flows[flow].has_unsent() {
                self.flows[flow].transmit();
                self.conclude(flow);
            }
        }
    }

    /// Takes the stamps of what was sent: on most devices they are there when the call returns. Spinning, the reply is
    /// waited for first, as it may be there in the time that reading a stamp takes.
    fn conclude(&mut self, flow: usize) {
        let Self { session, flows, errors, mtu, .. } = self;
        let mut on = |event: FlowEvent<'_>| report(session, mtu, &event);
        let packets = flows[flow].conclude(errors, &mut on);
        let many = flows[flow].stamps_due() >= MANY_STAMPS;
        if many || (self.mode == WaitMode::Sleep && flows[flow].awaits_stamps()) {
            flows[flow].drain_errors(errors, &mut on);
        }
        self.sent_at = self.watch.sent(packets);
    }

    /// Sleeps or spins until `until` or until a packet came, and takes what came.
    fn rest(&mut self, until: Monotonic) {
        match self.mode {
            WaitMode::BusyPoll => self.look(until),
            WaitMode::Sleep => self.sleep(until),
        }
    }

    /// Looks for packets until one came, a stamp is overdue or `until` is near. Where nothing is expected, only the clock is
    /// read, so that the slot is met to within some 30 ns.
    fn look(&mut self, until: Monotonic) {
        loop {
            let now = self.watch.now();
            if now < until {
                self.watch.caught_up();
            }
            let awaits_stamps = self.flows.iter().any(Flow::awaits_stamps);
            let expecting = awaits_stamps || self.session.awaits_replies();
            let look_at_errors = now >= self.errors_due;
            // `until` lies in the past when a time-out is over that only a dry read makes a loss: then look, or the replies
            // in the socket wait while the clock is read.
            let past = now >= until && !self.session.has_slot_due(now);
            let time_to_look = past || until.saturating_since(now) > ONE_LOOK;
            let look = look_at_errors || (expecting && time_to_look);
            if !look {
                return self.spin(until.min(self.errors_due));
            }
            let dry = self.take_all_packets();
            self.was_read(now, dry);
            let overdue = awaits_stamps && now.saturating_since(self.sent_at) > REPLY_FIRST;
            if !dry || overdue || look_at_errors {
                self.errors_due = now.saturating_add(LOOK_AT_ERRORS);
                return (0..self.flows.len()).for_each(|flow| self.take_errors(flow));
            }
            if !expecting || now >= until {
                return;
            }
        }
    }

    /// Returns whether there was nothing to read.
    fn take_all_packets(&mut self) -> bool {
        (0..self.flows.len()).filter(|&flow| !self.take_packets(flow)).count() == 0
    }

    /// Reading the clock serves as the pause: a PAUSE instruction can make a hypervisor take the CPU away.
    fn spin(&mut self, until: Monotonic) {
        while self.watch.now() < until {}
    }

    fn sleep(&mut self, until: Monotonic) {
        let now = self.watch.now();
        let timeout = until.saturating_since(now).min(LONGEST_SLEEP);
        if timeout > Duration::ZERO {
            self.watch.caught_up();
        }
        let waited = self.waiter.wait(timeout);
        self.watch.woken(now.saturating_add(timeout));
        if waited.is_err() {
            self.session.error("wait_failed", 1);
            return self.look(until);
        }
        // The wait itself looks at every socket, later than `now`: one that is not readable had nothing then.
        let mut dry = true;
        for flow in 0..self.flows.len() {
            let ready = self.waiter.readiness(flow);
            if ready.error {
                self.take_errors(flow);
            }
            if ready.readable {
                dry &= self.take_packets(flow);
            }
            if self.flows[flow].is_lost() {
                self.waiter.forget(flow);
            }
        }
        self.was_read(now, dry);
    }

    /// Every flow was read after `at`, and had nothing or something.
    fn was_read(&mut self, at: Monotonic, dry: bool) {
        self.reads_without_end = if dry { 0 } else { self.reads_without_end + 1 };
        if dry || self.reads_without_end >= MOST_READS {
            self.reads_without_end = 0;
            self.session.read_dry(at);
        }
    }

    fn take_errors(&mut self, flow: usize) {
        let Self { session, flows, errors, mtu, .. } = self;
        flows[flow].drain_errors(errors, |event| report(session, mtu, &event));
    }

    /// Returns whether there was nothing to read.
    fn take_packets(&mut self, flow: usize) -> bool {
        let dry = self.read_packets(flow);
        if !dry {
            self.doubt_stamps(flow, ENOUGH_TO_MISS_STAMPS);
        }
        dry
    }

    /// Where so many replies came and no stamp of a departure did, the next best ones are taken.
    fn doubt_stamps(&mut self, flow: usize, replies: usize) {
        if self.flows[flow].lacks_stamps(replies) {
            // They may be there, unread.
            self.take_errors(flow);
            if self.flows[flow].lacks_stamps(replies) {
                self.flows[flow].give_up_stamps();
            }
        }
    }

    fn read_packets(&mut self, flow: usize) -> bool {
        let Self { session, flows, errors, mtu, receive, template, telemetry_unknown, .. } = self;
        flows[flow].receive(receive, errors, |event| match event {
            FlowEvent::Packet { bytes, stamp, read_at } => match template.parse_reply(bytes) {
                Ok(reply) => {
                    trouble(session, telemetry_unknown, &reply);
                    session.received(&reply, read_at.monotonic, read_at.arrival(stamp));
                }
                Err(e) => session.error(reply_reason(e), 1),
            },
            other => report(session, mtu, &other),
        })
    }

    /// Records what is finished; returns whether more waits.
    fn settle(&mut self, now: Monotonic) -> bool {
        let Self { session, recording, windows, outcomes, watch, .. } = self;
        session.settle(now, |outcome| {
            recording.record(&outcome, |window| {
                watch.look_at_clock();
                // The reader lives as long as the run; if it is gone, nobody wants the windows.
                let _ = windows.send(window);
            });
            if let Some(kept) = outcomes {
                kept.push(outcome);
            }
        })
    }

    /// When the first probe that counts has left: begins to watch anew, or gives up on a target that refuses.
    fn end_of_warm_up(&mut self) {
        let account = self.session.account();
        if self.warm || account.scheduled == 0 {
            return;
        }
        self.warm = true;
        self.watch.restart();
        (0..self.flows.len()).for_each(|flow| self.doubt_stamps(flow, ENOUGH_AT_END_OF_WARM_UP));
        let account = self.session.account();
        let sum = |of: fn(&Flow) -> u64| self.flows.iter().map(of).sum();
        let (sent, received) = (sum(|flow| flow.counts.0), sum(|flow| flow.counts.1));
        let tried = account.warmup_discarded >= ENOUGH_TO_GIVE_UP;
        if tried && is_hopeless(sent, received, account.errors_by_reason()) {
            self.gave_up = true;
            self.session.stop();
        }
    }

    fn end(mut self) -> ProbeEnd {
        let _ = self.windows.send(self.recording.drain());
        ProbeEnd {
            account: self.session.account().clone(),
            findings: self.watch.findings(),
            unrecorded: self.recording.unrecorded,
            mtu: self.mtu.or_else(|| self.flows.first()?.socket()?.path_mtu()),
            flows: self.flows.iter().map(FlowEnd::of).collect(),
            connected: self.flows.first().and_then(Flow::connected).cloned(),
            outcomes: self.outcomes.unwrap_or_default(),
            first_counted_slot: self.session.first_counted_slot(),
            started_at: self.started_at,
            gave_up: self.gave_up,
            telemetry_unknown: self.telemetry_unknown,
        }
    }
}

/// Whether a target that answered nothing will not answer later either: the path refused probes, or this host let none out.
fn is_hopeless(sent: u64, received: u64, errors: &BTreeMap<&'static str, u64>) -> bool {
    let any = |reasons: &[&str]| reasons.iter().any(|&reason| errors.contains_key(reason));
    received == 0 && (any(&REFUSED_BY_THE_PATH) || (sent == 0 && any(&REFUSED_BY_THIS_HOST)))
}

/// Tells the session what a flow reports.
pub(crate) fn report(session: &mut ProbeSession, mtu: &mut Option<u32>, event: &FlowEvent<'_>) {
    match *event {
        FlowEvent::Transmitted { number, stamp, source } => {
            session.transmitted(number, stamp, source);
        }
        FlowEvent::Refused { number, reason } => session.refused(number, reason),
        FlowEvent::Error { reason, count } => session.error(reason, count),
        FlowEvent::TooBig { mtu: limit } => *mtu = limit,
        FlowEvent::Packet { .. } => {}
    }
}

pub(crate) fn trouble(session: &mut ProbeSession, telemetry_unknown: &mut bool, reply: &Reply) {
    *telemetry_unknown |= reply.trouble.unrecognized;
    for (is_so, reason) in [
        (reply.trouble.malformed, "reply_tlv_malformed"),
        (reply.trouble.integrity, "request_tlv_altered"),
        (reply.trouble.hmac_tlv_failed, "reply_tlv_hmac_wrong"),
    ] {
        if is_so {
            session.error(reason, 1);
        }
    }
}

pub(crate) const fn reply_reason(error: ReplyError) -> &'static str {
    match error {
        ReplyError::TooShort { .. } => "reply_too_short",
        ReplyError::BadHmac => "reply_hmac_wrong",
        ReplyError::OtherSession { .. } => "reply_other_session",
    }
}
