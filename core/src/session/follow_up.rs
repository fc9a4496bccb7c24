//! True t3 stamps come one reply later (RFC 8972 section 4.7, Follow-Up Telemetry): which probe is each for?

use std::collections::VecDeque;

/// How many replies of one flow may wait for their true t3. A reflector of ours sends it with the next reply, so more
/// than a few wait only when replies are lost or reordered; the oldest is then given up.
const WAITING: usize = 64;

/// What one flow (one STAMP session at the reflector) still owes.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowState {
    waiting: VecDeque<Waiting>,
    highest_received: Option<u64>,
    /// The follow-up probe under way after the last slot, if any.
    carrier: Option<u64>,
    carriers_sent: u8,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    reflector_seq: u32,
    number: u64,
    measured: bool,
}

impl FlowState {
    /// The reply to probe `number` had `reflector_seq`; its true t3 will follow. Returns a probe given up for it.
    pub(super) fn expect(
        &mut self,
        reflector_seq: u32,
        number: u64,
        measured: bool,
    ) -> Option<u64> {
        let given_up = if self.waiting.len() >= WAITING { self.waiting.pop_front() } else { None };
        self.waiting.push_back(Waiting { reflector_seq, number, measured });
        given_up.map(|waiting| waiting.number)
    }

    /// The probe whose reply had `reflector_seq`, no longer waiting.
    pub(super) fn take(&mut self, reflector_seq: u32) -> Option<u64> {
        let at = self.waiting.iter().position(|w| w.reflector_seq == reflector_seq)?;
        self.waiting.remove(at).map(|waiting| waiting.number)
    }

    /// Whether the reply to `number` came after one to a later probe.
    pub(super) fn is_reordered(&mut self, number: u64) -> bool {
        let reordered = self.highest_received.is_some_and(|highest| number < highest);
        self.highest_received = self.highest_received.max(Some(number));
        reordered
    }

    /// After the last slot: whether a further probe is wanted only to carry back an outstanding true t3.
    pub(super) fn wants_a_carrier(&self, tries: u8) -> bool {
        self.carrier.is_none()
            && self.carriers_sent < tries
            && self.waiting.back().is_some_and(|waiting| waiting.measured)
    }

    pub(super) fn carrier_leaves(&mut self, number: u64) {
        self.carrier = Some(number);
        self.carriers_sent += 1;
    }

    /// A probe of this flow was answered or lost; when it was the carrier, another may leave.
    pub(super) fn carrier_is_gone(&mut self, number: u64) {
        if self.carrier == Some(number) {
            self.carrier = None;
        }
    }
}
