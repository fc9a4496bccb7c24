//! What the completion of an RDMA operation means: an answer without a packet.

use super::ProbeSession;
use super::ring::Arrival;
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

/// How an operation ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The responder's NIC alone served it (read, atomic): its delay is no part of it by construction, and all the time
    /// from post to completion is the network's.
    OneSided {
        /// When it was posted, and by whom stamped. Only the difference to `completed` counts, so any clock of this host.
        posted: (Wall, StampSource),
        /// When it completed, by the same clock.
        completed: (Wall, StampSource),
    },
    /// The responder's software answered with an operation of its own, and stamped nothing.
    PingPong,
}

impl ProbeSession {
    /// Probe `number` was answered without a packet, and the application saw it at `at`. Returns whether for the first time and in
    /// time.
    pub fn completed(&mut self, number: u64, at: Monotonic, completion: Completion) -> bool {
        if self.stopped {
            return false;
        }
        let never = Wall::from_unix_nanos(0);
        let (posted, completed) = match completion {
            Completion::OneSided { posted, completed } => (Some(posted), completed),
            Completion::PingPong => (None, (never, StampSource::User)),
        };
        let Some((entry, _)) = self.answer(number, at, completed) else { return false };
        entry.t1 = posted.or(entry.t1);
        let by_nobody = (never, StampSource::None);
        entry.arrival = Some(Arrival {
            at,
            t4: completed,
            t2: by_nobody,
            t3: by_nobody,
            t3_follows: None,
            invalid: None,
            unstamped: completion == Completion::PingPong,
        });
        true
    }

    /// Probe `number`, which was [`sent`](Self::sent), will not be answered: its operation ended with an error, or there was
    /// nothing to post it to. It is lost now, for `reason`, not at its time-out.
    pub fn failed(&mut self, number: u64, reason: &'static str) {
        self.account.error(reason);
        self.lose(number);
    }
}
