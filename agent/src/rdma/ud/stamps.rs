//! Completion stamps as times whose differences mean something.

use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::verbs::{Stamp, StampClock};

/// Ticks that wrap, laid end to end. Stamps come in nearly the order of time (sends and receives each in order), so one is
/// within half a round of the last.
#[derive(Debug)]
pub(super) struct Unwrapped {
    clock: StampClock,
    last: u64,
    /// Ticks since the first, with all rounds.
    total: i128,
}

impl Unwrapped {
    pub const fn new(clock: StampClock) -> Self {
        Self { clock, last: 0, total: 0 }
    }

    /// Whether there are any.
    pub const fn is_stamped(&self) -> bool {
        !matches!(self.clock, StampClock::None)
    }

    /// A stamp as a time of this device's clock, good for differences alone.
    pub fn stamp(&mut self, stamp: Stamp) -> Option<(Wall, StampSource)> {
        let nanos = match (self.clock, stamp) {
            (StampClock::Wallclock, Stamp::Wallclock(nanos)) => nanos,
            (StampClock::Raw { mask, khz }, Stamp::Raw(ticks)) if khz > 0 => {
                let forward = ticks.wrapping_sub(self.last) & mask;
                let backward = self.last.wrapping_sub(ticks) & mask;
                let by =
                    if forward <= backward { i128::from(forward) } else { -i128::from(backward) };
                (self.last, self.total) = (ticks, self.total + by);
                // Far from zero, so that a first stamp that is overtaken stays positive.
                u64::try_from((self.total * 1_000_000 / i128::from(khz)) + FAR).ok()?
            }
            _ => return None,
        };
        Some((Wall::from_unix_nanos(nanos), StampSource::Cqe))
    }
}

/// An hour.
const FAR: i128 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_that_wrap_go_on() {
        let mask = (1 << 16) - 1;
        let mut clock = Unwrapped::new(StampClock::Raw { mask, khz: 1_000 });
        let mut at = |ticks: u64| {
            let (wall, source) = clock.stamp(Stamp::Raw(ticks & mask)).unwrap();
            assert_eq!(source, StampSource::Cqe);
            wall.as_unix_nanos()
        };
        let first = at(65_000);
        // 1 MHz: a tick is a microsecond.
        assert_eq!(at(65_500) - first, 500_000);
        assert_eq!(at(65_536 + 100) - first, 636_000, "over the wrap");
        assert_eq!(
            at(65_530) - first,
            530_000,
            "a send that completed before the receive was read"
        );
        assert_eq!(at(65_536 + 20_000) - first, 20_536_000);
    }

    #[test]
    fn a_device_without_stamps_has_none() {
        let mut clock = Unwrapped::new(StampClock::None);
        assert!(!clock.is_stamped());
        assert_eq!(clock.stamp(Stamp::Raw(5)), None);
        assert_eq!(Unwrapped::new(StampClock::Wallclock).stamp(Stamp::Raw(5)), None);
    }
}
