//! The open-loop schedule: probes leave at fixed times, whether or not the last reply came (design D3).
//!
//! Latency counted from these *intended* times is free of coordinated omission (Tene, "How NOT to measure
//! latency"; wrk2's README): a stall of the path, the host or the prober delays no later slot's clock.

use std::time::Duration;

use crate::time::Monotonic;

/// The longest time between two probes of the warm-up. It is there to fill caches, tables and queues, which need
/// packets, not time: 50 probes at a 10 s interval need not take eight minutes.
pub(crate) const WARMUP_INTERVAL: Duration = Duration::from_millis(10);

/// Intended send times: those of the warm-up, then those that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    start: Monotonic,
    interval: Duration,
    warmup: u64,
    count: u64,
}

impl Schedule {
    /// `count` slots `interval` apart, behind `warmup` slots that are at most 10 ms apart, the first of all at `start`.
    pub const fn new(start: Monotonic, interval: Duration, warmup: u64, count: u64) -> Self {
        Self { start, interval, warmup, count }
    }

    /// The first slot of all.
    pub(crate) const fn start(&self) -> Monotonic {
        self.start
    }

    /// The intended send time of slot `index` (from 0, warm-up included), or `None` past the last.
    pub fn slot(&self, index: u64) -> Option<Monotonic> {
        let warmup_interval = self.interval.min(WARMUP_INTERVAL);
        match index.checked_sub(self.warmup) {
            None => Some(after(self.start, warmup_interval, index)),
            Some(counted) if counted < self.count => {
                let first = after(self.start, warmup_interval, self.warmup);
                Some(after(first, self.interval, counted))
            }
            Some(_) => None,
        }
    }

    /// Whether slot `index` belongs to the warm-up.
    pub const fn is_warmup(&self, index: u64) -> bool {
        index < self.warmup
    }

    /// The first slot that counts.
    pub fn first_counted(&self) -> Monotonic {
        after(self.start, self.interval.min(WARMUP_INTERVAL), self.warmup)
    }
}

fn after(start: Monotonic, interval: Duration, times: u64) -> Monotonic {
    let after = interval.as_nanos().saturating_mul(u128::from(times));
    start.saturating_add(Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_drift() {
        let start = Monotonic::from_nanos(7);
        let schedule = Schedule::new(start, Duration::from_nanos(3), 0, 1_000_000_001);
        assert_eq!(schedule.slot(0), Some(start));
        assert_eq!(schedule.slot(1_000_000_000), Some(Monotonic::from_nanos(3_000_000_007)));
        assert_eq!(schedule.slot(1_000_000_001), None);
    }

    #[test]
    fn warm_up_does_not_wait_for_a_slow_schedule() {
        let schedule = Schedule::new(Monotonic::default(), Duration::from_secs(10), 2, 2);
        let at = |index| schedule.slot(index).map(|slot| slot.as_nanos() / 1_000_000);
        assert_eq!(
            [at(0), at(1), at(2), at(3), at(4)],
            [Some(0), Some(10), Some(20), Some(10_020), None]
        );
        assert_eq!(Some(schedule.first_counted()), schedule.slot(2));
        assert!(schedule.is_warmup(1) && !schedule.is_warmup(2));
    }
}
