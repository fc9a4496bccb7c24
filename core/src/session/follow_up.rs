//! True t3 stamps come one reply later (RFC 8972 section 4.7, Follow-Up Telemetry): which probe is each for?

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::{Monotonic, Wall};

/// How many replies of one flow may wait for their true t3, and true t3s for their reply. A reflector of ours sends it with the next reply, so more
/// than a few wait only when replies are lost or reordered; the oldest is then given up.
const WAITING: usize = 64;

/// Follow-up probes in a row that bring nothing before the rest is given up: enough for the loss rates at which a split is
/// still worth printing. A reflector that is several replies behind tells one true t3 with each, so those that bring
/// one do not count.
const CARRIERS_IN_VAIN: u8 = 4;

/// What one flow (one STAMP session at the reflector) still owes.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowState {
    waiting: VecDeque<Waiting>,
    /// True t3s of replies that have not come: overtaken by the reply that carried the stamp, or lost.
    early: VecDeque<(u32, Wall)>,
    highest_received: Option<u64>,
    /// The follow-up probe under way, if any, and when it left.
    carrier: Option<(u64, Monotonic)>,
    /// Follow-up probes since the last true t3 that a probe waited for.
    carriers_in_vain: u8,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    reflector_seq: u32,
    number: u64,
}

/// What the true t3 of a reply is when the reply comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Known: the stamp was faster.
    Here(Wall),
    /// To come; for this probe no longer, which has waited for longest.
    Later { given_up: Option<u64> },
}

impl FlowState {
    /// The reply to probe `number` had `reflector_seq`.
    pub(super) fn expect(&mut self, reflector_seq: u32, number: u64) -> Expected {
        let early = self.early.iter().rposition(|&(seq, _)| seq == reflector_seq);
        if let Some((_, t3)) = early.and_then(|at| self.early.remove(at)) {
            return Expected::Here(t3);
        }
        let given_up = if self.waiting.len() >= WAITING { self.waiting.pop_front() } else { None };
        self.waiting.push_back(Waiting { reflector_seq, number });
        Expected::Later { given_up: given_up.map(|waiting| waiting.number) }
    }

    /// The reply with `reflector_seq` left at `t3`: returns the probe that waits for it. The latest, should a reflector
    /// have begun to number anew. Where none does the stamp is kept for a while.
    pub(super) fn take(&mut self, reflector_seq: u32, t3: Wall) -> Option<u64> {
        let Some(at) = self.waiting.iter().rposition(|w| w.reflector_seq == reflector_seq) else {
            if self.early.len() >= WAITING {
                self.early.pop_front();
            }
            self.early.push_back((reflector_seq, t3));
            return None;
        };
        self.carriers_in_vain = 0;
        self.waiting.remove(at).map(|waiting| waiting.number)
    }

    /// Whether the reply to `number` came after one to a later probe.
    pub(super) fn is_reordered(&mut self, number: u64) -> bool {
        let reordered = self.highest_received.is_some_and(|highest| number < highest);
        self.highest_received = self.highest_received.max(Some(number));
        reordered
    }

    /// When a further probe should leave only to carry back an outstanding true t3, if any should.
    /// Those of probes below `finished` are of no use any more. `patience` is how long one is waited for.
    pub(super) fn carrier_due(&self, finished: u64, patience: Duration) -> Option<Monotonic> {
        let wanted = self.waiting.iter().any(|w| w.number >= finished);
        let due = match self.carrier {
            None => Monotonic::default(),
            Some((_, left)) => left.saturating_add(patience),
        };
        (wanted && self.carriers_in_vain < CARRIERS_IN_VAIN).then_some(due)
    }

    pub(super) fn carrier_leaves(&mut self, number: u64, at: Monotonic) {
        self.carrier = Some((number, at));
        self.carriers_in_vain += 1;
    }

    /// A probe of this flow was answered, refused or lost; when it was the carrier, another may leave.
    pub(super) fn carrier_is_gone(&mut self, number: u64) {
        self.carrier = self.carrier.filter(|&(carrier, _)| carrier != number);
    }
}
