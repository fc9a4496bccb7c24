//! The two wire formats of a timestamp. Each side of a session chooses its own and says so in its Z bit.

use crate::time::Wall;

/// How the 64 bits of a Timestamp field are read (RFC 8186 section 2.3; RFC 8762 section 4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampFormat {
    /// NTP: 32 bits of seconds since 1900, 32 bits of fraction (RFC 5905 section 6). Z = 0.
    #[default]
    Ntp,
    /// Truncated PTP version 2: 32 bits of seconds, 32 bits of nanoseconds. Z = 1.
    ///
    /// PTP counts from 1970 in TAI; what is written here is the clock's own count, so an ordinary system clock
    /// gives UTC. Stamps of two hosts are never subtracted, so the offset of the scales takes part in nothing.
    Ptp,
}

/// Seconds from 1900-01-01 to 1970-01-01 (RFC 5905 figure 4).
const NTP_TO_UNIX: u32 = 2_208_988_800;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl TimestampFormat {
    /// The eight octets of `at`. Exact to the nanosecond in both formats; seconds wrap in 2106.
    pub fn encode(self, at: Wall) -> [u8; 8] {
        let (seconds, nanos) =
            (at.as_unix_nanos() / NANOS_PER_SECOND, at.as_unix_nanos() % NANOS_PER_SECOND);
        let seconds = low_half(seconds);
        let (high, low) = match self {
            Self::Ntp => (seconds.wrapping_add(NTP_TO_UNIX), fraction_of(nanos)),
            Self::Ptp => (seconds, low_half(nanos)),
        };
        (u64::from(high) << 32 | u64::from(low)).to_be_bytes()
    }

    /// The reading in eight octets from the wire; any octets are a reading. NTP seconds are taken to lie
    /// between 1970 and 2106: those below 1970 in era 0 belong to era 1, which begins 2036-02-07.
    pub fn decode(self, field: [u8; 8]) -> Wall {
        let field = u64::from_be_bytes(field);
        let (high, low) = (low_half(field >> 32), field & u64::from(u32::MAX));
        let (seconds, nanos) = match self {
            // Rounded, not cut: a fraction is 0.23 ns, so the nearest nanosecond is the one that was written.
            Self::Ntp => {
                (high.wrapping_sub(NTP_TO_UNIX), (low * NANOS_PER_SECOND + (1 << 31)) >> 32)
            }
            Self::Ptp => (high, low),
        };
        Wall::from_unix_nanos(u64::from(seconds) * NANOS_PER_SECOND + nanos)
    }
}

impl TimestampFormat {
    /// Whether eight octets can be of this format: the lower half of a PTP timestamp counts nanoseconds below a second
    /// (IEEE 1588-2008 section 5.3.3). What was written as NTP passes for it one time in four only.
    pub fn is_reading(self, field: [u8; 8]) -> bool {
        self == Self::Ntp || u64::from_be_bytes(field) & u64::from(u32::MAX) < NANOS_PER_SECOND
    }
}

/// Nanoseconds below one second as 2^-32 s, to the nearest.
fn fraction_of(nanos: u64) -> u32 {
    low_half(((nanos << 32) + NANOS_PER_SECOND / 2) / NANOS_PER_SECOND)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn low_half(value: u64) -> u32 {
    value as u32
}
