//! The open-loop schedule: probes leave at fixed times, whether or not the last reply came (design D3).
//!
//! Latency counted from these *intended* times is free of coordinated omission (Tene, "How NOT to measure
//! latency"; wrk2's README): a stall of the path, the host or the prober delays no later slot's clock.

use std::time::Duration;

use crate::time::Monotonic;

/// `slots` intended send times, `interval` apart, the first at `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    start: Monotonic,
    interval: Duration,
    slots: u64,
}

impl Schedule {
    /// A schedule of `slots` sends, `interval` apart.
    pub const fn new(start: Monotonic, interval: Duration, slots: u64) -> Self {
        Self { start, interval, slots }
    }

    /// The intended send time of slot `index` (from 0), or `None` past the last.
    pub fn slot(&self, index: u64) -> Option<Monotonic> {
        if index >= self.slots {
            return None;
        }
        let after = self.interval.as_nanos().saturating_mul(u128::from(index));
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        Some(self.start.saturating_add(Duration::from_nanos(after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_drift() {
        let schedule =
            Schedule::new(Monotonic::from_nanos(7), Duration::from_nanos(3), 1_000_000_001);
        assert_eq!(schedule.slot(0), Some(Monotonic::from_nanos(7)));
        assert_eq!(schedule.slot(1_000_000_000), Some(Monotonic::from_nanos(3_000_000_007)));
        assert_eq!(schedule.slot(1_000_000_001), None);
    }
}
