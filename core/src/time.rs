//! Readings of the two clocks, as types that cannot be mixed.
//!
//! Intervals on one host are differences of [`Monotonic`] readings, or of [`Wall`] readings taken on the same
//! host; a `Wall` reading of one host is never subtracted from one of another (design D2).

use std::time::Duration;

/// A reading of one host's `CLOCK_MONOTONIC`: nanoseconds since an arbitrary origin (boot, on Linux).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(u64);

/// A reading of one host's `CLOCK_REALTIME` (or of a NIC clock): nanoseconds since 1970-01-01T00:00:00Z,
/// leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(u64);

/// A signed interval in nanoseconds: what remains when a difference may be negative, as when a clock stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedNanos(pub i64);

impl Monotonic {
    /// From nanoseconds since the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved later by `by`, stopping at the largest reading (584 years after the origin).
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// `self - other`, signed.
    pub fn minus(self, other: Self) -> SignedNanos {
        SignedNanos(self.0.wrapping_sub(other.0).cast_signed())
    }
}

impl Wall {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_unix_nanos(self) -> u64 {
        self.0
    }

    /// `self - other`, signed. Meaningful only for two readings of the same clock.
    pub fn minus(self, other: Self) -> SignedNanos {
        SignedNanos(self.0.wrapping_sub(other.0).cast_signed())
    }
}

impl SignedNanos {
    /// The interval as an unsigned number of nanoseconds, or `None` when it is negative.
    pub fn non_negative(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_keep_their_sign() {
        let (a, b) = (Wall::from_unix_nanos(5), Wall::from_unix_nanos(9));
        assert_eq!(a.minus(b), SignedNanos(-4));
        assert_eq!(a.minus(b).non_negative(), None);
        assert_eq!(b.minus(a).non_negative(), Some(4));
    }

    #[test]
    fn monotonic_arithmetic_saturates() {
        let end = Monotonic::from_nanos(u64::MAX);
        assert_eq!(end.saturating_add(Duration::from_secs(1)), end);
        assert_eq!(Monotonic::default().saturating_since(end), Duration::ZERO);
    }
}
