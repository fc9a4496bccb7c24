//! Bandwidth of writes and reads: as many under way as agreed, counted from the first post to the last completion.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use railgauge_core::session::Account;
use railgauge_core::time::{Monotonic, Wall};
use railgauge_fabric::clock;
use railgauge_fabric::verbs::Flags;

use super::engine::{RcStartError, reason};
use super::link::{RcLink, Seen};
use super::{Connected, RcPlan};
use crate::WaitMode;
use crate::probe_thread::watch::ThreadFindings;
use crate::probe_thread::{FlowEnd, ProbeEnd};

/// One completion for so many messages: each costs the processor time that the next post could have had, and a quarter of the
/// usual depth keeps the queue from running dry meanwhile.
const SIGNAL_EVERY: u64 = 32;

/// Looks without a completion between two readings of the clock.
const LOOKS: u32 = 1024;

/// What a run needs.
#[derive(Clone, Debug)]
pub struct BandwidthRun {
    /// The connection.
    pub plan: RcPlan,
    /// Messages that count, at most.
    pub count: u64,
    /// How long, at most; `None` for as many as `count`.
    pub duration: Option<Duration>,
    /// Messages before those.
    pub warmup: u64,
    /// After so long without a completion the path is dead.
    pub timeout: Duration,
}

/// What was moved in what time.
#[derive(Clone, Debug)]
pub struct Bandwidth {
    /// What both ends were set to.
    pub connected: Connected,
    /// Messages completed.
    pub messages: u64,
    /// Messages posted and not completed.
    pub unfinished: u64,
    /// Octets of payload in those completed.
    pub bytes: u64,
    /// From the first post to the last completion.
    pub elapsed: Duration,
    /// When that began.
    pub started_at: Wall,
    /// Why it ended before its time.
    pub failure: Option<&'static str>,
}

impl Bandwidth {
    /// Payload, in bits a nanosecond: Gbit/s of 10^9.
    #[expect(clippy::cast_precision_loss, reason = "a rate, not a count")]
    pub fn gbit_per_second(&self) -> Option<f64> {
        let nanos = self.elapsed.as_nanos();
        (nanos > 0 && self.bytes > 0).then(|| self.bytes as f64 * 8.0 / nanos as f64)
    }
}

impl Bandwidth {
    /// The run in the terms of any other: each message is a probe.
    pub fn end(&self) -> ProbeEnd {
        let mut account = Account::default();
        account.scheduled = self.messages + self.unfinished;
        (account.sent, account.received) = (account.scheduled, self.messages);
        let unfinished =
            if self.failure.is_some() { &mut account.lost } else { &mut account.in_flight };
        *unfinished = self.unfinished;
        let flow = FlowEnd {
            source_port: self.connected.offer.flow_label.udp_source_port(),
            packets_sent: account.sent,
            packets_received: account.received,
            stamps: Err("bandwidth: no message is stamped".to_owned()),
            receive_buffer_bytes: None,
        };
        ProbeEnd {
            account,
            findings: ThreadFindings::default(),
            unrecorded: 0,
            mtu: None,
            flows: vec![flow],
            connected: None,
            outcomes: Vec::new(),
            first_counted_slot: Monotonic::default(),
            started_at: self.started_at,
            gave_up: false,
            telemetry_unknown: false,
        }
    }
}

/// Messages under way.
struct Flight<'a> {
    link: RcLink,
    depth: u64,
    posted: u64,
    completed: u64,
    last: Monotonic,
    timeout: Duration,
    stop: &'a AtomicBool,
}

impl BandwidthRun {
    /// Connects, warms up, and measures until done or `stop` is set.
    ///
    /// # Errors
    /// A sentence that says why there is no connection.
    pub fn run(self, stop: &AtomicBool) -> Result<Bandwidth, RcStartError> {
        let link = RcLink::connect(&self.plan, WaitMode::BusyPoll)?;
        let depth = u64::from(self.plan.outstanding).max(1);
        let timeout = self.timeout;
        let last = clock::monotonic();
        let mut flight = Flight { link, depth, posted: 0, completed: 0, last, timeout, stop };
        let warm = flight.fly(self.warmup, None);
        let started_at = clock::wall();
        let begun = clock::monotonic();
        (flight.posted, flight.completed) = (0, 0);
        let until = self.duration.map(|duration| begun.saturating_add(duration));
        let measured = warm.and_then(|()| flight.fly(self.count, until));
        Ok(Bandwidth {
            connected: flight.link.connected.clone(),
            messages: flight.completed,
            unfinished: flight.posted - flight.completed,
            bytes: flight.completed * u64::from(self.plan.size),
            elapsed: flight.last.saturating_since(begun),
            started_at,
            failure: measured.err(),
        })
    }
}

impl Flight<'_> {
    /// Posts `count` messages, fewer where `until` comes first, and sees them complete.
    fn fly(&mut self, mut count: u64, until: Option<Monotonic>) -> Result<(), &'static str> {
        let mut looks = 0_u32;
        self.last = clock::monotonic();
        while self.completed < count {
            while self.posted < count && self.posted - self.completed < self.depth {
                let number = self.posted + 1;
                let signaled = number.is_multiple_of(self.signal_every()) || number == count;
                let flags = if signaled { Flags::SIGNALED } else { Flags::SILENT };
                self.link.post_bulk(number, flags).map_err(|_| "post_refused")?;
                self.posted = number;
            }
            match self.link.look_at_sends() {
                Some(Seen::Completed { id }) => {
                    self.completed = id;
                    self.last = clock::monotonic();
                    let over = until.is_some_and(|until| self.last >= until);
                    if over || self.stop.load(Ordering::Relaxed) {
                        // One more, with a completion that stands for all before it.
                        count = count.min(self.last_signaled());
                    }
                }
                Some(Seen::Failed(status)) => return Err(reason(status)),
                Some(Seen::Answered(_)) | None => {
                    looks = looks.wrapping_add(1);
                    if looks.is_multiple_of(LOOKS) {
                        if clock::monotonic().saturating_since(self.last) >= self.timeout {
                            return Err("no_completion");
                        }
                        if self.link.is_over() {
                            return Err("peer_gone");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn signal_every(&self) -> u64 {
        SIGNAL_EVERY.min(self.depth)
    }

    /// The next message at or after the last one posted that has a completion.
    fn last_signaled(&self) -> u64 {
        self.posted.next_multiple_of(self.signal_every())
    }
}
