//! Latency over a reliable connection: one operation under way at a time, on an open-loop schedule or one after the other.
//!
//! Slots that come due while an operation is under way wait, and their wait is in their app RTT. The hot loop allocates nothing, makes no
//! system call but those of the provider, and does its bookkeeping while the next message travels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use railgauge_core::session::{
    Completion, ConfigError, Outcome, Probe, ProbeSession, SessionConfig, Wake,
};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::verbs::{Flags, Status};

use super::connector::{Connector, Tried};
use super::link::{RcLink, Seen};
use super::{ConnectError, Connected, RcPlan};
use crate::WaitMode;
use crate::ping::rdma::counters::Rises;
use crate::probe_thread::recording::{Recording, WindowReport};
use crate::probe_thread::watch::ThreadWatch;
use crate::probe_thread::{FlowEnd, ProbeEnd};

/// The longest sleep, so that a request to stop is heard.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Looks between two readings of the clock while an operation is under way: a look costs as much as a reading, and only the
/// deadline and a request to stop need the clock.
const LOOKS: u32 = 1024;

/// Looks at memory in a row, once nothing else is awaited: so a look costs a load and a comparison.
const WATCH: u32 = 256;

/// Of a loop without a connection: it waits so long before it asks again.
const WITHOUT_LINK: Duration = Duration::from_millis(1);

/// The series beside those of every transport, by place.
pub(super) const EXTRAS: [&str; 3] = ["post_to_completion", "round_trip", "post_to_post"];
const POST_TO_COMPLETION: usize = 0;
const ROUND_TRIP: usize = 1;
const POST_TO_POST: usize = 2;

/// What a run needs.
#[derive(Clone, Debug)]
pub struct RcRun {
    /// The connection.
    pub plan: RcPlan,
    /// Schedule and account.
    pub session: SessionConfig,
    /// Spin or sleep.
    pub mode: WaitMode,
    /// Whether every outcome is kept and handed over at the end.
    pub keep_outcomes: bool,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RcStartError {
    /// The connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The schedule.
    #[error(transparent)]
    Session(#[from] ConfigError),
    /// The thread that connects.
    #[error("cannot start the thread that connects")]
    Thread(#[source] std::io::Error),
}

/// What a run leaves behind, beside what every transport does.
#[derive(Clone, Debug)]
pub struct RcEnd {
    /// What both ends were set to, the last time they were.
    pub connected: Connected,
    /// Queue pairs made again after the first.
    pub recreated: u64,
    /// Tries to make one that failed.
    pub failed_tries: u64,
    /// Why the last of those did.
    pub last_failure: Option<String>,
    /// Operations that ended with an error, by its word.
    pub failures: BTreeMap<&'static str, u64>,
    /// By how much the counters of our port rose, where it has any.
    pub rises: Option<Rises>,
}

/// An operation that has ended well and waits to be booked.
#[derive(Clone, Copy)]
struct Done {
    probe: Probe,
    posted: Monotonic,
    completed: Monotonic,
    answered: Option<Monotonic>,
}

/// A run on its thread.
pub struct RcThread<'a> {
    session: ProbeSession,
    link: Option<RcLink>,
    connector: Connector,
    /// The probe that a tag stands for.
    numbers: Box<[u64; 256]>,
    tag: u8,
    /// The last octet of the landing place.
    landed: u8,
    done: Option<Done>,
    posted_before: Option<Monotonic>,
    /// The closed loop's next probe, asked for while the one before travels.
    next: Option<Probe>,
    is_closed_loop: bool,
    /// The responder's program answers with an operation of its own.
    awaits_answer: bool,
    timeout: Duration,
    mode: WaitMode,
    watch: ThreadWatch,
    recording: Recording,
    outcomes: Option<Vec<Outcome>>,
    windows: Sender<WindowReport>,
    stop: &'a AtomicBool,
    warm: bool,
    started_at: Wall,
    counts: (u64, u64),
    end: RcEnd,
}

impl<'a> RcThread<'a> {
    /// Connects and takes all memory; the first probe is due at once.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn open(
        run: RcRun,
        windows: Sender<WindowReport>,
        stop: &'a AtomicBool,
    ) -> Result<Self, RcStartError> {
        let link = RcLink::connect(&run.plan, run.mode)?;
        let awaits_answer = run.plan.method.is_answered_by_program();
        let end = RcEnd {
            connected: link.connected.clone(),
            recreated: 0,
            failed_tries: 0,
            last_failure: None,
            failures: BTreeMap::new(),
            rises: None,
        };
        let connector = Connector::start(run.plan, run.mode).map_err(RcStartError::Thread)?;
        let kept = usize::try_from(run.session.count).unwrap_or(usize::MAX);
        let outcomes = run.keep_outcomes.then(|| Vec::with_capacity(kept));
        let (start, started_at) = (clock::monotonic(), clock::wall());
        let mut thread = Self {
            session: ProbeSession::new(run.session, start)?,
            link: Some(link),
            connector,
            numbers: Box::new([u64::MAX; 256]),
            tag: 0,
            landed: 0,
            done: None,
            posted_before: None,
            next: None,
            is_closed_loop: run.session.interval.is_zero(),
            awaits_answer,
            timeout: run.session.timeout,
            mode: run.mode,
            watch: ThreadWatch::begin(),
            recording: Recording::new(start, started_at, 1).with_extras(&EXTRAS),
            outcomes,
            windows,
            stop,
            warm: run.session.warmup == 0,
            started_at,
            counts: (0, 0),
            end,
        };
        thread.begin();
        Ok(thread)
    }

    /// What both ends were set to.
    pub const fn connected(&self) -> &Connected {
        &self.end.connected
    }

    fn begin(&mut self) {
        self.session.begin_at(clock::monotonic());
        let first = self.session.first_counted_slot();
        let started_at = first.as_nanos().saturating_add_signed(clock::wall_offset());
        self.started_at = Wall::from_unix_nanos(started_at);
        self.recording.begin_at(first, self.started_at);
        self.watch = ThreadWatch::begin();
    }

    /// Runs to the end of the schedule, or until stopped.
    pub fn run(mut self) -> (ProbeEnd, RcEnd) {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.book();
                if let Some(next) = self.next.take() {
                    self.session.withdraw(&next);
                }
                self.session.stop();
            }
            let now = self.watch.now();
            self.session.read_dry(now);
            self.tend_link();
            if self.is_closed_loop && self.link.is_none() && !self.stop.load(Ordering::Relaxed) {
                self.idle(WITHOUT_LINK);
                continue;
            }
            let next = self.next.take().map_or_else(|| self.poll(now), Wake::Send);
            match next {
                Wake::Send(probe) if self.is_closed_loop => self.one_after_the_other(probe),
                Wake::Send(probe) => self.probe(&probe, clock::monotonic()),
                Wake::Wait(until) => {
                    if !self.settle(now) {
                        self.rest(until);
                    }
                }
                Wake::Done => {
                    if !self.settle(now) {
                        return self.finish();
                    }
                }
            }
        }
    }

    fn poll(&mut self, now: Monotonic) -> Wake {
        let late_before = self.session.account().late_starts;
        let wake = self.session.poll(now);
        if self.session.account().late_starts > late_before {
            self.watch.late_start();
        }
        wake
    }

    /// The closed loop: between the end of one operation and the next post there is nothing but the reading of the clock that
    /// ends the one and begins the other.
    fn one_after_the_other(&mut self, first: Probe) {
        let (mut probe, mut posted) = (first, clock::monotonic());
        loop {
            // Its slot was set when it was asked for, which was while the one before travelled.
            probe.slot = posted;
            self.probe(&probe, posted);
            let ended = self
                .done
                .map(|done| done.answered.map_or(done.completed, |at| at.max(done.completed)));
            let (Some(next), Some(ended)) = (self.next, ended) else { return };
            if self.is_disturbed() {
                return;
            }
            self.next = None;
            (probe, posted) = (next, ended);
        }
    }

    /// Posts the operation, books the one before while this one travels, and sees it end.
    fn probe(&mut self, probe: &Probe, posted: Monotonic) {
        let Some(link) = &mut self.link else { return self.lose_unposted(probe) };
        self.tag = self.tag.wrapping_add(1);
        let taken = link.post(probe.number, self.tag, Flags::SIGNALED);
        self.numbers[usize::from(self.tag)] = probe.number;
        let replenished = link.replenish();
        self.book();
        self.session.sent(*probe, posted, as_wall(posted), [0; 8]);
        if taken.is_err() || replenished.is_err() {
            self.session.failed(probe.number, "post_refused");
            self.censor(probe, true);
            return self.replace_link("post_refused");
        }
        self.counts.0 += 1;
        if self.is_closed_loop {
            let before = self.posted_before.replace(posted);
            if let Some(before) = before.filter(|_| probe.counts()) {
                let cycle = nanos_since(posted, before);
                self.recording.record_extra(POST_TO_POST, Some(cycle));
            }
        }
        self.end_of_warm_up();
        self.settle_some(posted);
        if self.is_closed_loop
            && let Wake::Send(next) = self.session.poll(posted)
        {
            self.next = Some(next);
        }
        self.see_the_end(probe, posted);
    }

    /// A slot for which there is nothing to post to counts as sent and lost: a dead path must not look like an idle prober.
    fn lose_unposted(&mut self, probe: &Probe) {
        let now = clock::monotonic();
        self.session.sent(*probe, now, as_wall(now), [0; 8]);
        self.session.failed(probe.number, "no_queue_pair");
        self.censor(probe, true);
        self.end_of_warm_up();
        self.settle_some(now);
    }

    /// Looks until the operation has ended, its time-out has passed, or the run is stopped.
    fn see_the_end(&mut self, probe: &Probe, posted: Monotonic) {
        let Some(link) = &mut self.link else { return };
        let awaits_answer = self.awaits_answer;
        let (mut completed, mut answered) = (None, None);
        let (mut looks, mut last_reading) = (0_u32, posted);
        let failure = loop {
            if completed.is_some() && awaits_answer {
                link.watch(self.landed, WATCH);
            }
            match link.look(completed.is_some(), &mut self.landed) {
                Some(Seen::Completed { id }) if id == probe.number => {
                    completed = Some(clock::monotonic());
                }
                // Of an operation that was given up.
                Some(Seen::Completed { .. }) => {}
                Some(Seen::Answered(tag)) => {
                    let (now, number) = (clock::monotonic(), self.numbers[usize::from(tag)]);
                    if number == probe.number {
                        answered = Some(now);
                    } else {
                        // Late, or twice: counted for what it is.
                        self.session.completed(number, now, Completion::PingPong);
                    }
                }
                Some(Seen::Failed(status)) => break Some(reason(status)),
                None => {
                    looks = looks.wrapping_add(1);
                    if self.mode == WaitMode::Sleep || looks.is_multiple_of(LOOKS) {
                        let now = self.watch.woken(last_reading);
                        last_reading = now;
                        let left = self.timeout.saturating_sub(now.saturating_since(posted));
                        if left.is_zero() || self.stop.load(Ordering::Relaxed) {
                            break completed.is_none().then_some("no_completion");
                        }
                        if link.is_over() {
                            break Some("peer_gone");
                        }
                        if self.mode == WaitMode::Sleep {
                            if looks == 1 {
                                // What came before the arming wakes nobody: look again first.
                                if link.arm().is_err() {
                                    break Some("device_failed");
                                }
                                continue;
                            }
                            looks = 0;
                            if link.sleep(left.min(LONGEST_SLEEP)).is_err() {
                                break Some("device_failed");
                            }
                            last_reading = clock::monotonic();
                        }
                    }
                }
            }
            if completed.is_some() && (answered.is_some() || !awaits_answer) {
                break None;
            }
        };
        match (failure, completed) {
            (None, Some(completed)) if answered.is_some() || !awaits_answer => {
                self.counts.1 += 1;
                self.done = Some(Done { probe: *probe, posted, completed, answered });
            }
            (failure, completed) => {
                let stopped = self.stop.load(Ordering::Relaxed);
                if let Some(reason) = failure.filter(|_| !stopped) {
                    self.session.failed(probe.number, reason);
                    self.replace_link(reason);
                }
                if !stopped {
                    self.censor(probe, completed.is_none());
                }
            }
        }
    }

    /// A loss in the series beside those of the session.
    fn censor(&mut self, probe: &Probe, also_completion: bool) {
        if probe.counts() {
            if self.awaits_answer {
                self.recording.record_extra(ROUND_TRIP, None);
            }
            if also_completion {
                self.recording.record_extra(POST_TO_COMPLETION, None);
            }
        }
    }

    /// Books the operation that ended last.
    fn book(&mut self) {
        let Some(Done { probe, posted, completed, answered }) = self.done.take() else { return };
        let (at, meaning) = match answered {
            Some(at) => (at, Completion::PingPong),
            None => {
                let stamp = |at| (as_wall(at), StampSource::User);
                let (posted, ended) = (stamp(posted), stamp(completed));
                (completed, Completion::OneSided { posted, completed: ended })
            }
        };
        if !self.session.completed(probe.number, at, meaning) || !probe.counts() {
            return;
        }
        let to_completion = nanos_since(completed, posted);
        self.recording.record_extra(POST_TO_COMPLETION, Some(to_completion));
        if let Some(answered) = answered {
            self.recording.record_extra(ROUND_TRIP, Some(nanos_since(answered, posted)));
        }
    }

    /// Puts a connection that is of no more use in the hands of the thread that makes another.
    fn replace_link(&mut self, reason: &'static str) {
        *self.end.failures.entry(reason).or_default() += 1;
        // Between two posts over two connections lies more than a cycle.
        self.posted_before = None;
        self.numbers.fill(u64::MAX);
        (self.tag, self.landed) = (0, 0);
        if let Some(broken) = self.link.take() {
            self.connector.replace(broken);
        }
    }

    fn tend_link(&mut self) {
        match &self.link {
            Some(link) if link.is_over() => self.replace_link("peer_gone"),
            Some(_) => {}
            None => match self.connector.news() {
                Some(Tried::Connected(link)) => {
                    self.end.recreated += 1;
                    self.end.connected = link.connected.clone();
                    self.link = Some(*link);
                }
                Some(Tried::Failed(why)) => {
                    self.end.failed_tries += 1;
                    self.end.last_failure = Some(why.to_string());
                }
                None => {}
            },
        }
    }

    /// Nothing is due before `until`.
    fn rest(&mut self, until: Monotonic) {
        self.watch.caught_up();
        match self.mode {
            WaitMode::BusyPoll => while self.watch.now() < until && !self.is_disturbed() {},
            WaitMode::Sleep => {
                let limit = until.saturating_since(clock::monotonic());
                self.idle(limit.min(LONGEST_SLEEP));
            }
        }
    }

    fn is_disturbed(&self) -> bool {
        let over = self.link.as_ref().is_none_or(RcLink::is_over);
        over || self.stop.load(Ordering::Relaxed)
    }

    fn idle(&mut self, limit: Duration) {
        let due = clock::monotonic().saturating_add(limit);
        // Nobody to wait for: it only sleeps. A signal ends it early, which costs a turn of the loop.
        let _ = Waiter::new(std::iter::empty()).wait(limit);
        self.watch.woken(due);
    }

    fn settle_some(&mut self, now: Monotonic) {
        // What is left waits for the next time: one operation makes one outcome.
        let _ = self.settle_batch(now);
    }

    /// Books and records what is finished; returns whether more waits.
    fn settle(&mut self, now: Monotonic) -> bool {
        self.book();
        self.settle_batch(now)
    }

    fn settle_batch(&mut self, now: Monotonic) -> bool {
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

    fn end_of_warm_up(&mut self) {
        if !self.warm && self.session.account().scheduled > 0 {
            self.warm = true;
            self.watch.restart();
        }
    }

    fn finish(mut self) -> (ProbeEnd, RcEnd) {
        let _ = self.windows.send(self.recording.drain());
        let stamps = "completions are seen by the program: the clock is read when it looks";
        let flow = FlowEnd {
            source_port: self.end.connected.offer.flow_label.udp_source_port(),
            packets_sent: self.counts.0,
            packets_received: self.counts.1,
            stamps: Err(stamps.to_owned()),
            receive_buffer_bytes: None,
        };
        let end = ProbeEnd {
            account: self.session.account().clone(),
            findings: self.watch.findings(),
            unrecorded: self.recording.unrecorded,
            mtu: None,
            flows: vec![flow],
            connected: None,
            outcomes: self.outcomes.unwrap_or_default(),
            first_counted_slot: self.session.first_counted_slot(),
            started_at: self.started_at,
            gave_up: false,
            telemetry_unknown: false,
        };
        (end, self.end)
    }
}

/// The word for a completion that failed.
pub(crate) fn reason(status: Status) -> &'static str {
    match status {
        Status::RETRIES_EXCEEDED => "retries_exceeded",
        Status::RNR_RETRIES_EXCEEDED => "receiver_not_ready",
        Status::FLUSHED => "flushed",
        Status::REMOTE_ACCESS => "remote_access",
        Status::REMOTE_INVALID_REQUEST => "remote_invalid_request",
        Status::REMOTE_OPERATION => "remote_operation",
        Status::LOCAL_LENGTH => "local_length",
        Status::LOCAL_PROTECTION => "local_protection",
        Status::LOCAL_OPERATION => "local_operation",
        _ => "device_failed",
    }
}

/// The monotonic clock as a stamp: only differences of two such are ever taken.
const fn as_wall(at: Monotonic) -> Wall {
    Wall::from_unix_nanos(at.as_nanos())
}

const fn nanos_since(later: Monotonic, earlier: Monotonic) -> u64 {
    later.as_nanos().saturating_sub(earlier.as_nanos())
}
