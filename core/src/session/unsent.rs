//! Slots whose probe never left, by slot: what an account by window needs beside the outcomes.

use crate::schedule::Schedule;
use crate::time::Monotonic;

/// Why a probe did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Its slot was too old when its turn came, too many were unfinished, or none might leave.
    Skipped,
    /// The kernel refused it.
    Refused,
}

/// Those not yet handed over. Skipped slots come in runs, which are kept as such: after an hour's suspension there are
/// millions.
#[derive(Debug, Default)]
pub(super) struct UnsentSlots {
    skipped: Vec<(u64, u64)>,
    refused: Vec<Monotonic>,
}

impl UnsentSlots {
    pub(super) fn skip(&mut self, index: u64) {
        match self.skipped.last_mut() {
            Some(run) if run.1 + 1 == index => run.1 = index,
            _ => self.skipped.push((index, index)),
        }
    }

    pub(super) fn refuse(&mut self, slot: Monotonic) {
        self.refused.push(slot);
    }

    pub(super) fn drain(&mut self, schedule: &Schedule, mut sink: impl FnMut(Monotonic, Unsent)) {
        for (first, last) in self.skipped.drain(..) {
            for slot in (first..=last).map_while(|index| schedule.slot(index)) {
                sink(slot, Unsent::Skipped);
            }
        }
        for slot in self.refused.drain(..) {
            sink(slot, Unsent::Refused);
        }
    }
}
