//! What a run is, and how many unfinished probes it can have.

use std::time::Duration;

use crate::schedule::WARMUP_INTERVAL;

/// The largest table of unfinished probes: 2^20 entries of about 150 bytes. Reached at 349,000 probes/s with a 1 s time-out.
pub const MAX_IN_FLIGHT: usize = 1 << 20;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Time between intended sends. Zero: a closed loop, in which a probe is due as soon as it is asked for, its slot then
    /// (for a driver that asks only when the one before it is done; latency counted so hides what a stall delays).
    pub interval: Duration,
    /// Probes that count.
    pub count: u64,
    /// Probes sent before those, discarded and counted.
    pub warmup: u64,
    /// A probe without a reply this long after it left is lost.
    pub timeout: Duration,
    /// A probe sent more than this after its slot is a late start.
    pub late_threshold: Duration,
    /// Flows (source ports) that take turns, at least one.
    pub flows: u16,
    /// Whether departures are stamped after the fact ([`ProbeSession::transmitted`](super::ProbeSession::transmitted) will be called).
    pub transmit_stamps: bool,
    /// Whether the reflector tells a true t3 in a second acknowledgement, unasked, so that no probe leaves to fetch one.
    pub second_acknowledgements: bool,
}

/// Why a run cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too many probes would be under way at once.
    #[error(
        "{0} probes could be in flight at once, the limit is {MAX_IN_FLIGHT}: lengthen the interval or shorten the time-out"
    )]
    TooManyInFlight(u128),
}

/// Room for what waits for its turn to be settled: as many again as can be unfinished, within these bounds. A daemon has a
/// table for each of its paths, most of them slow.
const MARGIN: std::ops::RangeInclusive<u128> = 32..=1024;

/// In a closed loop one probe is under way at a time; the others are there so that late and second answers are known.
const CLOSED_LOOP: usize = 256;

/// Room for follow-up probes, per flow: those of three time-outs and some that are answered.
const CARRIERS: u128 = 16;

impl SessionConfig {
    /// Whether the next probe of a flow may leave too late to bring back the true t3 of the one before it.
    pub(super) fn flows_are_slow(&self) -> bool {
        self.interval.saturating_mul(self.flows.max(1).into()) > self.timeout / 2
    }

    /// How many probes can be unfinished at once. A probe is finished two time-outs after it left at the latest (a reply at
    /// the end of the first, a stamp that does not come during the second); meanwhile the slots of those two leave,
    /// and after a stall of the prober those of the time-out before the stall's end, at once. Never more than there are.
    pub(super) fn most_unfinished(&self) -> Result<usize, ConfigError> {
        if self.interval.is_zero() {
            return Ok(CLOSED_LOOP);
        }
        let slots = |interval: Duration, count: u64| {
            let in_three = 3 * self.timeout.as_nanos() / interval.as_nanos().max(1) + 1;
            in_three.min(count.into())
        };
        let warmup = slots(self.interval.min(WARMUP_INTERVAL), self.warmup);
        let carriers = CARRIERS * u128::from(self.flows);
        let counted = slots(self.interval, self.count);
        let margin = counted.clamp(*MARGIN.start(), *MARGIN.end());
        let needed = warmup + counted + carriers + margin;
        let fits = usize::try_from(needed).ok().filter(|&n| n <= MAX_IN_FLIGHT);
        fits.ok_or(ConfigError::TooManyInFlight(needed))
    }
}
