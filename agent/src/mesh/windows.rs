//! What became of the slots of one path, gathered into wall-aligned windows. A window is closed when every slot in it has been
//! handed over, so that its account is exact.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::path::Path;
use railgauge_core::path_window::{Parameters, WindowAccount};
use railgauge_core::rdma::parameters::RdmaParameters;
use railgauge_core::session::{Account, Outcome, Unsent};
use railgauge_core::time::Monotonic;

use super::LaneSetup;

/// One path over one interval, before its histograms are made.
#[derive(Debug)]
pub struct RawWindow {
    /// Which path.
    pub path: Arc<Path>,
    /// How it was probed.
    pub parameters: Parameters,
    /// Epoch of the plan.
    pub epoch: u64,
    /// Start, by the node's wall clock; a multiple of the length.
    pub start_unix_ns: u64,
    /// Length.
    pub length_ns: u64,
    /// The finished account.
    pub account: WindowAccount,
    /// Replies and losses, in the order in which they were sent.
    pub outcomes: Vec<Outcome>,
    /// Of operations over verbs, nanoseconds from post to completion, in that order.
    pub completions: Vec<u64>,
    /// The wall clock was stepped meanwhile.
    pub clock_stepped: bool,
}

struct Open {
    index: u64,
    account: WindowAccount,
    outcomes: Vec<Outcome>,
    completions: Vec<u64>,
    /// Probes sent and not yet handed over.
    unsettled: u64,
    clock_stepped: bool,
}

/// The open windows of one lane: one or two, or as many as losses keep open.
pub struct LaneWindows {
    path: Arc<Path>,
    parameters: Parameters,
    length_ns: u64,
    open: VecDeque<Open>,
    /// As many outcomes as the last window had.
    expected: usize,
    /// The counts that are given to windows when they are seen, as far as they have been.
    noted: WindowAccount,
}

impl LaneWindows {
    pub fn new(setup: &LaneSetup, size: usize, length: Duration) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let parameters = Parameters {
            interval_ns: nanos(setup.interval),
            timeout_ns: nanos(setup.timeout),
            size_bytes: u32::try_from(size).unwrap_or(u32::MAX),
            rdma: None,
        };
        Self {
            path: Arc::clone(&setup.path),
            parameters,
            length_ns: nanos(length).max(1),
            open: VecDeque::new(),
            expected: 0,
            noted: WindowAccount::default(),
        }
    }

    const fn index(&self, slot: Monotonic, wall_offset: i64) -> u64 {
        slot.as_nanos().saturating_add_signed(wall_offset) / self.length_ns
    }

    fn at(&mut self, slot: Monotonic, wall_offset: i64) -> &mut Open {
        let index = self.index(slot, wall_offset);
        let at = self.open.partition_point(|open| open.index < index);
        if self.open.get(at).is_none_or(|open| open.index != index) {
            let account = WindowAccount::default();
            let outcomes = Vec::with_capacity(self.expected);
            let (completions, unsettled, clock_stepped) = (Vec::new(), 0, false);
            let open = Open { index, account, outcomes, completions, unsettled, clock_stepped };
            self.open.insert(at, open);
        }
        &mut self.open[at]
    }

    /// How it is probed over verbs from now on; windows that are open are of the last way.
    pub const fn probed_over(&mut self, rdma: Option<RdmaParameters>) {
        if rdma.is_some() {
            self.parameters.rdma = rdma;
        }
    }

    /// The operation of this slot took so long from post to completion.
    pub fn completed(&mut self, slot: Monotonic, nanos: u64, wall_offset: i64) {
        self.at(slot, wall_offset).completions.push(nanos);
    }

    /// A probe that counts was sent for this slot.
    pub fn sent(&mut self, slot: Monotonic, wall_offset: i64) {
        self.at(slot, wall_offset).unsettled += 1;
    }

    pub fn outcome(&mut self, outcome: Outcome, wall_offset: i64) {
        let (slot, answered) = match outcome {
            Outcome::Reply(sample) => (sample.slot, true),
            Outcome::Lost { slot, .. } => (slot, false),
        };
        let open = self.at(slot, wall_offset);
        // After a step of the clock it was counted in another window.
        open.unsettled = open.unsettled.saturating_sub(1);
        open.account.scheduled += 1;
        open.account.sent += 1;
        open.account.received += u64::from(answered);
        open.account.lost += u64::from(!answered);
        open.outcomes.push(outcome);
    }

    pub fn unsent(&mut self, slot: Monotonic, why: Unsent, wall_offset: i64) {
        let open = self.at(slot, wall_offset);
        open.account.scheduled += 1;
        match why {
            Unsent::Skipped => open.account.skipped += 1,
            Unsent::Refused => {
                open.account.send_errors += 1;
                open.unsettled = open.unsettled.saturating_sub(1);
            }
        }
    }

    /// Counts what belongs to no slot, in the oldest window that is open; where none is, it waits for one.
    pub fn note(&mut self, run: &Account) {
        let Some(open) = self.open.front_mut() else { return };
        let seen = [
            (run.late_replies, &mut self.noted.late_replies, &mut open.account.late_replies),
            (run.duplicate, &mut self.noted.duplicate, &mut open.account.duplicate),
            (run.reordered, &mut self.noted.reordered, &mut open.account.reordered),
            (run.late_starts, &mut self.noted.late_starts, &mut open.account.late_starts),
            (run.invalid_stamps, &mut self.noted.invalid_stamps, &mut open.account.invalid_stamps),
        ];
        for (now, before, window) in seen {
            *window += now.saturating_sub(*before);
            *before = now;
        }
    }

    /// The lane has ended at `now` with so many probes without a verdict: they go to the windows of their slots, or, where a step of
    /// the clock has moved those, to the last.
    pub fn in_flight(&mut self, mut count: u64, now: Monotonic, wall_offset: i64) {
        fn give(open: &mut Open, count: u64) {
            open.account.scheduled += count;
            open.account.sent += count;
            open.account.in_flight += count;
        }
        for open in self.open.iter_mut().rev() {
            let of_this = open.unsettled.min(count);
            give(open, of_this);
            open.unsettled -= of_this;
            count -= of_this;
        }
        if count > 0 {
            if self.open.is_empty() {
                self.at(now, wall_offset);
            }
            self.open.back_mut().into_iter().for_each(|open| give(open, count));
        }
    }

    pub fn clock_stepped(&mut self) {
        self.open.iter_mut().for_each(|open| open.clock_stepped = true);
    }

    /// Hands over the windows all of whose slots lie before `settled_before` (`None`: all), and those that lie ahead of `now`: the
    /// clock was set back under them, and when it comes there again they are not the same windows any more.
    pub fn close(
        &mut self,
        settled_before: Option<Monotonic>,
        now: Monotonic,
        wall_offset: i64,
        epoch: u64,
        mut deliver: impl FnMut(RawWindow),
    ) {
        let first_unsettled = settled_before.map(|slot| self.index(slot, wall_offset));
        let current = self.index(now, wall_offset);
        loop {
            let is_over = |open: &Open| first_unsettled.is_none_or(|first| open.index < first);
            let next = if self.open.front().is_some_and(is_over) {
                self.open.pop_front()
            } else {
                self.open.pop_back_if(|open| open.index > current)
            };
            let Some(Open { index, account, outcomes, completions, clock_stepped, .. }) = next
            else {
                return;
            };
            self.expected = outcomes.len();
            deliver(RawWindow {
                path: Arc::clone(&self.path),
                parameters: self.parameters,
                epoch,
                start_unix_ns: index * self.length_ns,
                length_ns: self.length_ns,
                account,
                outcomes,
                completions,
                clock_stepped,
            });
        }
    }
}
