//! The table of unfinished probes, by number, in send order; finished ones stay until overwritten, so that late and
//! duplicate replies are known for what they are.

use std::time::Duration;

use super::{Probe, Purpose};
use crate::stamp::Reply;
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

/// Where a probe stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Outstanding,
    Replied,
    Lost,
    SendFailed,
}

/// A reply, as far as its probe's split needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub at: Monotonic,
    pub t4: (Wall, StampSource),
    pub t2: (Wall, StampSource),
    pub t3: (Wall, StampSource),
    /// The source of the true t3 that the reflector promised to send later.
    pub t3_follows: Option<StampSource>,
    /// Why these stamps are none.
    pub invalid: Option<&'static str>,
    /// The other side took part and stamps nothing.
    pub unstamped: bool,
}

impl Arrival {
    pub(super) fn new(at: Monotonic, t4: (Wall, StampSource), reply: &Reply) -> Self {
        let (t2_source, promised) =
            reply.sources.unwrap_or((StampSource::Unknown, StampSource::Unknown));
        let t3_follows = match promised {
            StampSource::Kernel | StampSource::Hardware | StampSource::Cqe => Some(promised),
            _ => None,
        };
        // The t3 in the reply itself was written before the reply left: by our own reflector, in user space.
        let t3_source =
            if reply.sources.is_some() { StampSource::User } else { StampSource::Unknown };
        let (t2, t3) = ((reply.t2, t2_source), (reply.t3, t3_source));
        let invalid = (!reply.stamps_readable).then_some("stamp_out_of_range");
        Self { at, t4, t2, t3, t3_follows, invalid, unstamped: false }
    }
}

/// One probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub probe: Probe,
    pub state: State,
    pub sent_at: Monotonic,
    /// The user-space t1, as the packet carries it.
    pub user_t1: Wall,
    pub packet_t1: [u8; 8],
    pub t1: Option<(Wall, StampSource)>,
    pub arrival: Option<Arrival>,
    pub follow_up_given_up: bool,
}

impl Entry {
    pub(super) const fn outstanding(
        probe: Probe,
        sent_at: Monotonic,
        user_t1: Wall,
        packet_t1: [u8; 8],
        t1: Option<(Wall, StampSource)>,
    ) -> Self {
        let state = State::Outstanding;
        let follow_up_given_up = false;
        Self { probe, state, sent_at, user_t1, packet_t1, t1, arrival: None, follow_up_given_up }
    }

    /// What the table holds where no probe has been yet.
    const fn never_sent() -> Self {
        let (slot, purpose) = (Monotonic::from_nanos(0), Purpose::FollowUp);
        let probe = Probe { number: u64::MAX, slot, flow: 0, purpose };
        let mut entry = Self::outstanding(probe, slot, Wall::from_unix_nanos(0), [0; 8], None);
        entry.state = State::SendFailed;
        entry
    }

    /// Whether a reply read at `at` had come when the time-out was over. One read in time has come in time; of one read later
    /// the kernel's stamp tells, which counts from the same epoch as `user_t1` (a NIC's need not). Without one it is
    /// taken to have come in time.
    pub(super) fn came_late(
        &self,
        timeout: Duration,
        at: Monotonic,
        t4: (Wall, StampSource),
    ) -> bool {
        let after = t4.0.minus(self.user_t1).non_negative().map(Duration::from_nanos);
        at.saturating_since(self.sent_at) >= timeout
            && t4.1 == StampSource::Kernel
            && after.is_some_and(|after| after >= timeout)
    }

    pub(super) fn awaits_follow_up(&self) -> bool {
        self.arrival.is_some_and(|a| a.t3_follows.is_some())
    }

    pub(super) fn set_followed_up_t3(&mut self, t3: Wall) {
        if let Some(arrival) = &mut self.arrival
            && let Some(source) = arrival.t3_follows.take()
        {
            // No reply leaves before it is written. A NIC's clock cannot tell.
            let left_unwritten = source == StampSource::Kernel && t3.minus(arrival.t3.0).0 < 0;
            arrival.invalid = arrival.invalid.or(left_unwritten.then_some("true_t3_before_t3"));
            arrival.t3 = (t3, source);
        }
    }

    /// Whether nothing more is to be learnt about this probe.
    pub(super) fn is_settled(&self, now: Monotonic, timeout: Duration) -> bool {
        self.settles_at(now, timeout).is_some_and(|at| at <= now)
    }

    /// When nothing more is to be learnt, if nothing comes until then: stamps that have not come within a time-out will not
    /// come, and only a probe that counts needs any. `None` while the reply is out.
    pub(super) fn settles_at(&self, now: Monotonic, timeout: Duration) -> Option<Monotonic> {
        match (self.state, &self.arrival) {
            (State::Outstanding, _) => None,
            (State::Replied, Some(arrival)) if self.probe.purpose == Purpose::Measure => {
                let complete =
                    self.t1.is_some() && (!self.awaits_follow_up() || self.follow_up_given_up);
                Some(if complete { now } else { arrival.at.saturating_add(timeout) })
            }
            _ => Some(now),
        }
    }
}

/// Entries of the last `capacity` probes; `finished..next` are unfinished.
#[derive(Debug)]
pub(super) struct Ring {
    entries: Vec<Entry>,
    finished: u64,
    next: u64,
    measured_open: u64,
}

impl Ring {
    /// For at least as many unfinished probes, the first of which will have the number `first`.
    pub(super) fn new(at_least: usize, first: u64) -> Self {
        let entries = vec![Entry::never_sent(); at_least.next_power_of_two()];
        Self { entries, finished: first, next: first, measured_open: 0 }
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    fn index(&self, number: u64) -> usize {
        number as usize & (self.entries.len() - 1)
    }

    pub(super) const fn next_number(&self) -> u64 {
        self.next
    }

    /// Probes below this number are finished.
    pub(super) const fn finished(&self) -> u64 {
        self.finished
    }

    pub(super) fn is_full(&self) -> bool {
        self.next - self.finished >= self.entries.len() as u64
    }

    pub(super) const fn nothing_measured_is_open(&self) -> bool {
        self.measured_open == 0
    }

    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.probe.number, self.next, "probes are numbered as they are sent");
        let index = self.index(self.next);
        self.measured_open += u64::from(entry.probe.purpose == Purpose::Measure);
        self.entries[index] = entry;
        self.next += 1;
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        Some(&self.entries[self.index(number)]).filter(|entry| entry.probe.number == number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let index = self.index(number);
        Some(&mut self.entries[index]).filter(|entry| entry.probe.number == number)
    }

    /// The probe number whose low 32 bits are `sequence`: the latest one sent that fits.
    pub(super) fn number_of(&self, sequence: u32) -> Option<u64> {
        let last = self.next.checked_sub(1)?;
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what travels")]
        let back = (last as u32).wrapping_sub(sequence);
        last.checked_sub(u64::from(back))
    }

    pub(super) fn oldest(&self) -> Option<&Entry> {
        if self.finished == self.next { None } else { self.get(self.finished) }
    }

    pub(super) fn finish_oldest(&mut self) {
        let measured = self.oldest().is_some_and(|e| e.probe.purpose == Purpose::Measure);
        self.measured_open -= u64::from(measured);
        self.finished += 1;
    }
}
