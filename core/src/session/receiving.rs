//! What a reply means.

use super::follow_up::Expected;
use super::ring::{Arrival, Entry, State};
use super::{ProbeSession, Purpose};
use crate::stamp::Reply;
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

impl ProbeSession {
    /// A reply was read by the application at `at`; `t4` is its arrival stamp. Returns whether it answered a probe of
    /// this run for the first time.
    pub fn received(&mut self, reply: &Reply, at: Monotonic, t4: (Wall, StampSource)) -> bool {
        if self.stopped {
            return false;
        }
        let Some(number) = self.ring.number_of(reply.sender_seq) else {
            self.account.error("unmatched_reply");
            return false;
        };
        let Some(entry) = self.ring.get_mut(number) else {
            self.account.error("unmatched_reply");
            return false;
        };
        if entry.packet_t1 != reply.sender_timestamp {
            // An answer to somebody else's probe, or to an earlier run from the same port.
            self.account.error("foreign_reply");
            return false;
        }
        if self.config.second_acknowledgements && reply.is_second_acknowledgement() {
            self.acknowledged_again(number, reply);
            return false;
        }
        let Some((entry, measured)) = self.answer(number, at, t4) else { return false };
        entry.arrival = Some(Arrival::new(at, t4, reply));
        let awaits = measured && entry.awaits_follow_up();
        let flow = usize::from(entry.probe.flow);
        let flow = &mut self.flows[flow];
        let told = reply.follow_up.as_ref();
        let told = told.and_then(|f| Some((flow.take(f.reflector_seq, f.t3)?, f.t3)));
        let expected = awaits.then(|| flow.expect(reply.reflector_seq, number));
        if let Some((earlier, t3)) = told {
            self.split_with(earlier, t3);
        }
        match expected {
            Some(Expected::Here(t3)) => self.split_with(number, t3),
            Some(Expected::Later { given_up: Some(longest) }) => self.give_up(longest),
            Some(Expected::Later { given_up: None }) | None => {}
        }
        true
    }

    /// The probe `number`, now answered for the first time and in time, and whether it counts; `None` otherwise, which is
    /// counted for what it is.
    pub(super) fn answer(
        &mut self,
        number: u64,
        at: Monotonic,
        t4: (Wall, StampSource),
    ) -> Option<(&mut Entry, bool)> {
        let entry = self.ring.get_mut(number)?;
        let measured = entry.probe.purpose == Purpose::Measure;
        match entry.state {
            State::Outstanding => self.outstanding -= 1,
            State::Replied => {
                self.account.duplicate += u64::from(measured);
                return None;
            }
            State::Lost => {
                self.account.late_replies += u64::from(measured);
                return None;
            }
            State::SendFailed => {
                self.account.error("unmatched_reply");
                return None;
            }
        }
        let flow = &mut self.flows[usize::from(entry.probe.flow)];
        flow.carrier_is_gone(number);
        if entry.came_late(self.config.timeout, at, t4) {
            // The prober was not there to see the time-out pass, but the arrival stamp is.
            entry.state = State::Lost;
            self.account.lost_one(measured);
            self.account.late_replies += u64::from(measured);
            return None;
        }
        entry.state = State::Replied;
        if measured {
            self.account.in_flight -= 1;
            self.account.received += 1;
            self.account.reordered += u64::from(flow.is_reordered(number));
        }
        Some((entry, measured))
    }

    /// The true t3 of the reply to `number`, in a packet of its own that answers nothing: it may come before the reply it
    /// tells of, or twice.
    fn acknowledged_again(&mut self, number: u64, reply: &Reply) {
        let Some(entry) = self.ring.get_mut(number) else { return };
        let Some(told) = reply.follow_up else { return };
        let reply_is_here = entry.state == State::Replied;
        let waits = entry.awaits_follow_up();
        let is_open = entry.state == State::Outstanding || (reply_is_here && waits);
        if !is_open || entry.probe.purpose != Purpose::Measure {
            return;
        }
        let flow = usize::from(entry.probe.flow);
        if let Some(waiting) = self.flows[flow].take(told.reflector_seq, told.t3) {
            self.split_with(waiting, told.t3);
        }
    }

    fn split_with(&mut self, number: u64, t3: Wall) {
        if let Some(entry) = self.ring.get_mut(number) {
            entry.set_followed_up_t3(t3);
        }
    }

    fn give_up(&mut self, number: u64) {
        if let Some(entry) = self.ring.get_mut(number) {
            entry.follow_up_given_up = true;
        }
    }
}
