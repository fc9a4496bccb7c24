//! The account of a run: every probe is in exactly one place (design D3).

use std::collections::BTreeMap;

/// Counts of one run. Warm-up and follow-up probes are in their own two counts and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Slots whose time came.
    pub scheduled: u64,
    /// Probes handed to the kernel.
    pub sent: u64,
    /// Slots not sent because they were older than the time-out when the prober got to them.
    pub skipped: u64,
    /// Probes that the kernel refused.
    pub send_errors: u64,
    /// Probes with a reply in time.
    pub received: u64,
    /// Probes without one.
    pub lost: u64,
    /// Probes still without a verdict.
    pub in_flight: u64,
    /// Replies that came after their probe was lost (the probe stays lost).
    pub late_replies: u64,
    /// Further replies to a probe that had one.
    pub duplicate: u64,
    /// Replies that came after the reply to a later probe of the same flow (RFC 4737 section 3).
    pub reordered: u64,
    /// Probes sent later after their slot than the threshold.
    pub late_starts: u64,
    /// Warm-up slots, whatever became of them.
    pub warmup_discarded: u64,
    /// Probes sent only to fetch outstanding true t3s: after the last slot, or where the next of a flow is far off.
    pub follow_up_probes: u64,
    /// Replies whose stamps contradict each other (a negative part): kept in app RTT, kept out of the split.
    pub invalid_stamps: u64,
    errors: BTreeMap<&'static str, u64>,
}

impl Account {
    /// What went wrong, by reason, warm-up included; reasons that did not occur are absent.
    pub const fn errors_by_reason(&self) -> &BTreeMap<&'static str, u64> {
        &self.errors
    }

    /// Whether both equations of design D3 hold.
    pub const fn is_conserved(&self) -> bool {
        self.scheduled == self.sent + self.skipped + self.send_errors
            && self.sent == self.received + self.lost + self.in_flight
    }

    pub(super) fn error(&mut self, reason: &'static str) {
        self.errors(reason, 1);
    }

    pub(super) fn errors(&mut self, reason: &'static str, count: u64) {
        *self.errors.entry(reason).or_default() += count;
    }

    pub(super) fn lost_one(&mut self, measured: bool) {
        if measured {
            self.lost += 1;
            self.in_flight -= 1;
        }
    }
}
