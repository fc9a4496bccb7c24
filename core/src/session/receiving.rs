//! What a reply means.

use super::follow_up::Expected;
use super::ring::{Arrival, State};
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
        let measured = entry.probe.purpose == Purpose::Measure;
        match entry.state {
            State::Outstanding => self.outstanding -= 1,
            State::Replied => {
                self.account.duplicate += u64::from(measured);
                return false;
            }
            State::Lost => {
                self.account.late_replies += u64::from(measured);
                return false;
            }
            State::SendFailed => {
                self.account.error("unmatched_reply");
                return false;
            }
        }
        let flow = &mut self.flows[usize::from(entry.probe.flow)];
        if entry.came_late(self.config.timeout, at, t4) {
            // The prober was not there to see the time-out pass, but the arrival stamp is.
            entry.state = State::Lost;
            flow.carrier_is_gone(number);
            self.account.lost_one(measured);
            self.account.late_replies += u64::from(measured);
            return false;
        }
        entry.state = State::Replied;
        entry.arrival = Some(Arrival::new(at, t4, reply));
        if measured {
            self.account.in_flight -= 1;
            self.account.received += 1;
            self.account.reordered += u64::from(flow.is_reordered(number));
        }
        let awaits = measured && entry.awaits_follow_up();
        flow.carrier_is_gone(number);
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
