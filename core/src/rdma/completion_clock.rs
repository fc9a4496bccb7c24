//! Stamps of completion queue entries as intervals.
//!
//! Raw stamps are ticks of the device: `hca_core_clock` kHz of them a second, counted in the bits of `completion_timestamp_mask`
//! (`ibv_query_device_ex(3)`). Wallclock stamps are nanoseconds, by the device's own clock or derived from the host's, which a
//! time service may step. Either way two stamps are subtracted only when both are of one device, and a difference that
//! the host's clock contradicts is invalid: counted, never bent into range.

use std::time::Duration;

/// Numbers that are no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The device does not say how fast it ticks.
    #[error("the device gives 0 kHz for its completion stamps")]
    NoFrequency,
    /// The mask is not a run of ones from the lowest bit.
    #[error("{0:#x} is no mask of completion stamps")]
    Mask(u64),
}

/// Two stamps that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The later one comes first.
    #[error("the stamps run backwards by {0} ns")]
    Backwards(u64),
    /// More time than the host saw pass around both: a step, a wrap, or stamps of two devices.
    #[error("the stamps are {stamps_ns} ns apart within {host_ns} ns of the host")]
    BeyondHost {
        /// Between the stamps, nanoseconds.
        stamps_ns: u64,
        /// Around both, nanoseconds.
        host_ns: u64,
    },
    /// More than half of the counter's round may have passed.
    #[error("{host_ns} ns are more than half a round of the device's clock")]
    Ambiguous {
        /// Around both, nanoseconds.
        host_ns: u64,
    },
}

/// How far a device's clock may run ahead of the host's: a thousandth. Crystals are within a ten-thousandth, and mlx5 gives its
/// frequency in whole kHz.
const DRIFT: u64 = 1_000;
/// And what reading the host's clock takes beside it, nanoseconds.
const READING_NS: u64 = 1_000;

/// The ticks of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionClock {
    mask: u64,
    khz: u64,
}

impl CompletionClock {
    /// Of `completion_timestamp_mask` and `hca_core_clock`.
    ///
    /// # Errors
    /// When they describe none. Stamps are then to be taken by software.
    pub const fn new(mask: u64, khz: u64) -> Result<Self, ClockError> {
        if khz == 0 {
            return Err(ClockError::NoFrequency);
        }
        if mask == 0 || mask & mask.wrapping_add(1) != 0 {
            return Err(ClockError::Mask(mask));
        }
        Ok(Self { mask, khz })
    }

    /// How long a round takes: ticks come again after it.
    pub fn round(&self) -> Duration {
        Duration::from_nanos(self.nanos(self.mask))
    }

    fn nanos(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000 / u128::from(self.khz);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Nanoseconds from `earlier` to `later`, both taken while the host's clock went on by `host`.
    ///
    /// # Errors
    /// When they cannot be: an invalid stamp.
    pub fn between(&self, earlier: u64, later: u64, host: Duration) -> Result<u64, Contradiction> {
        let host_ns = nanos_of(host);
        if host_ns > self.nanos(self.mask) / 2 {
            return Err(Contradiction::Ambiguous { host_ns });
        }
        let ticks = later.wrapping_sub(earlier) & self.mask;
        if ticks > self.mask / 2 {
            let back = earlier.wrapping_sub(later) & self.mask;
            return Err(Contradiction::Backwards(self.nanos(back)));
        }
        within_host(self.nanos(ticks), host_ns)
    }
}

/// Nanoseconds between two wallclock stamps of one device, both taken while the host's monotonic clock went on by `host`. A clock
/// that was stepped in between shows here, unless it was by less than the rest of `host`.
///
/// # Errors
/// When they cannot be: an invalid stamp.
pub fn between_wallclock(earlier: u64, later: u64, host: Duration) -> Result<u64, Contradiction> {
    match later.checked_sub(earlier) {
        None => Err(Contradiction::Backwards(earlier - later)),
        Some(stamps_ns) => within_host(stamps_ns, nanos_of(host)),
    }
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const fn within_host(stamps_ns: u64, host_ns: u64) -> Result<u64, Contradiction> {
    if stamps_ns > host_ns.saturating_add(host_ns / DRIFT).saturating_add(READING_NS) {
        return Err(Contradiction::BeyondHost { stamps_ns, host_ns });
    }
    Ok(stamps_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn only_a_clock_is_one() {
        assert_eq!(CompletionClock::new(u64::MAX, 0), Err(ClockError::NoFrequency));
        for mask in [0, 0b101, 0b110, 1 << 63] {
            assert_eq!(CompletionClock::new(mask, 1), Err(ClockError::Mask(mask)));
        }
        assert!(CompletionClock::new(u64::MAX, 1).is_ok());
    }

    /// ConnectX-4: 48 bits at 156.25 MHz.
    #[test]
    fn ticks_are_nanoseconds_across_the_wrap() {
        let clock = CompletionClock::new((1 << 48) - 1, 156_250).unwrap();
        assert_eq!(clock.round().as_secs(), 1_801_439);
        assert_eq!(clock.between((1 << 48) - 5, 5, HOUR), Ok(64));
        assert_eq!(clock.between(5, (1 << 48) - 5, HOUR), Err(Contradiction::Backwards(64)));
        // Bits above the mask are noise.
        assert_eq!(clock.between(7, 1 << 50 | 17, HOUR), Ok(64));
    }

    #[test]
    fn what_the_host_contradicts_is_invalid() {
        let clock = CompletionClock::new((1 << 32) - 1, 1_000_000).unwrap();
        let us = Duration::from_micros;
        assert_eq!(clock.between(0, 50_000, us(50)), Ok(50_000));
        assert_eq!(
            clock.between(0, 60_000, us(50)),
            Err(Contradiction::BeyondHost { stamps_ns: 60_000, host_ns: 50_000 })
        );
        let ambiguous = clock.between(0, 1, Duration::from_secs(3)).unwrap_err().to_string();
        assert_eq!(ambiguous, "3000000000 ns are more than half a round of the device's clock");
        assert_eq!(between_wallclock(1_000, 900, us(1)), Err(Contradiction::Backwards(100)));
        let stepped = between_wallclock(0, 3_600_000_000_000, us(40));
        assert!(matches!(stepped, Err(Contradiction::BeyondHost { .. })));
        assert_eq!(between_wallclock(5, 25, us(1)), Ok(20));
    }

    proptest! {
        /// A true interval comes out within a tick, wherever the counter stands.
        #[test]
        fn intervals_are_true(
            bits in 20..=64_u32, khz in 1_000..2_000_000_u64, start: u64, share in 0.0..0.49_f64,
        ) {
            let mask = u64::MAX >> (64 - bits);
            let clock = CompletionClock::new(mask, khz).unwrap();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
            let ticks = ((mask.min(1 << 50)) as f64 * share) as u64;
            let true_ns = u128::from(ticks) * 1_000_000 / u128::from(khz);
            let true_ns = u64::try_from(true_ns).unwrap();
            let (earlier, later) = (start & mask, start.wrapping_add(ticks) & mask);
            let host = Duration::from_nanos(true_ns);
            prop_assert_eq!(clock.between(earlier, later, host), Ok(true_ns));
            if ticks > 0 && true_ns > 0 {
                let back = clock.between(later, earlier, host);
                prop_assert!(matches!(back, Err(Contradiction::Backwards(_))), "{:?}", back);
            }
        }

        #[test]
        fn no_stamps_make_a_panic(mask: u64, khz: u64, a: u64, b: u64, host: u64) {
            if let Ok(clock) = CompletionClock::new(mask, khz) {
                let _ = clock.between(a, b, Duration::from_nanos(host));
            }
            let _ = between_wallclock(a, b, Duration::from_nanos(host));
        }
    }
}
