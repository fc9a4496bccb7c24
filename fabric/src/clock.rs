//! The two clocks of this host.

use nix::time::{ClockId, clock_gettime};
use railgauge_core::time::{Monotonic, Wall};

/// `CLOCK_MONOTONIC`, the clock of intervals and of the schedule. Slewed by NTP like `CLOCK_REALTIME`, so that differences
/// of the two agree except across a step.
pub fn monotonic() -> Monotonic {
    Monotonic::from_nanos(read(ClockId::CLOCK_MONOTONIC))
}

/// `CLOCK_REALTIME`, the clock of kernel packet stamps.
pub fn wall() -> Wall {
    Wall::from_unix_nanos(read(ClockId::CLOCK_REALTIME))
}

/// How far `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`, in nanoseconds, read between two readings of the latter.
/// Of five tries the tightest counts: an interruption between the readings widens only its own try.
pub fn wall_offset() -> i64 {
    let read_once = || {
        let (before, wall, after) = (monotonic(), wall(), monotonic());
        let width = after.saturating_since(before);
        let middle = before.as_nanos() + u64::try_from(width.as_nanos()).unwrap_or(0) / 2;
        (width, wall.as_unix_nanos().wrapping_sub(middle).cast_signed())
    };
    (0..5).map(|_| read_once()).min_by_key(|&(width, _)| width).map_or(0, |(_, offset)| offset)
}

fn read(clock: ClockId) -> u64 {
    // Both clocks exist since Linux 2.6; a failure here would be a broken kernel, and zero shows as absurd at once.
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_never_goes_back_and_wall_is_of_this_century() {
        let (first, second) = (monotonic(), monotonic());
        assert!(second >= first);
        assert!(wall().as_unix_nanos() > 1_600_000_000 * 1_000_000_000);
    }

    #[test]
    fn offset_turns_one_clock_into_the_other() {
        let offset = wall_offset();
        let expected = monotonic().as_nanos().wrapping_add_signed(offset);
        let off_by = wall().minus(Wall::from_unix_nanos(expected)).0;
        assert!(off_by.abs() < 1_000_000_000, "off by {off_by} ns");
    }
}
