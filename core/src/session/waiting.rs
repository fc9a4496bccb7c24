//! What to do, and how long to wait, while no slot is due.

use super::{Probe, ProbeSession, Purpose, Wake};
use crate::time::Monotonic;

/// Probes that leave during one time-out, per flow, to fetch the last true t3s while none of them is answered: the samples
/// that wait are given up a time-out after their reply, so a retry must not wait for the loss of the one before it.
const CARRIERS_A_TIMEOUT: u32 = 4;

/// Whether a probe should leave only to fetch a true t3.
enum Carrier {
    Due(Probe),
    DueAt(Monotonic),
    NotWanted,
}

impl ProbeSession {
    /// Nothing is due before `slot`. Where a flow's next probe is too far off to bring the true t3 of its last one in time,
    /// ask for that.
    pub(super) fn poll_between(&mut self, now: Monotonic, slot: Monotonic) -> Wake {
        let mut until = self.next_event(now).map_or(slot, |at| at.min(slot));
        if self.config.flows_are_slow() {
            match self.poll_carriers(now) {
                Carrier::Due(probe) => return Wake::Send(probe),
                Carrier::DueAt(at) => until = until.min(at),
                Carrier::NotWanted => {}
            }
        }
        Wake::Wait(until)
    }

    /// After the last slot: ask for outstanding true t3s, wait for outstanding replies, then stop.
    pub(super) fn poll_tail(&mut self, now: Monotonic) -> Wake {
        if self.ring.nothing_measured_is_open() {
            return Wake::Done;
        }
        if self.has_settled(now) {
            return Wake::Wait(now);
        }
        let next = self.next_event(now);
        match self.poll_carriers(now) {
            Carrier::Due(probe) => Wake::Send(probe),
            Carrier::DueAt(at) => Wake::Wait(next.map_or(at, |next| next.min(at))),
            Carrier::NotWanted => Wake::Wait(next.unwrap_or(now)),
        }
    }

    fn poll_carriers(&mut self, now: Monotonic) -> Carrier {
        if self.withheld.is_some() || self.config.second_acknowledgements {
            return Carrier::NotWanted;
        }
        let (finished, mut next) = (self.ring.finished(), None);
        let patience = self.config.timeout / CARRIERS_A_TIMEOUT;
        for flow in (0..).take(self.flows.len()).filter(|_| !self.ring.is_full()) {
            let state = &mut self.flows[usize::from(flow)];
            match state.carrier_due(finished, patience) {
                Some(at) if at <= now => {
                    state.carrier_leaves(self.ring.next_number(), now);
                    return Carrier::Due(self.probe(now, Purpose::FollowUp, flow));
                }
                due => next = next.into_iter().chain(due).min(),
            }
        }
        next.map_or(Carrier::NotWanted, Carrier::DueAt)
    }

    fn has_settled(&self, now: Monotonic) -> bool {
        self.ring.oldest().is_some_and(|oldest| oldest.is_settled(now, self.config.timeout))
    }

    /// When the oldest unfinished probe can be settled, or the next one is lost, if nothing comes until then. What can be
    /// settled already is no event: the driver settles before it waits.
    fn next_event(&self, now: Monotonic) -> Option<Monotonic> {
        let timeout = self.config.timeout;
        let settles = self.ring.oldest().and_then(|oldest| oldest.settles_at(now, timeout));
        let settles = settles.filter(|&at| at > now);
        let expires = self.ring.get(self.expiry_cursor).map(|e| e.sent_at.saturating_add(timeout));
        settles.into_iter().chain(expires).min()
    }
}
