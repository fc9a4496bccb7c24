//! The Error Estimate field: how far a side trusts its clock, and in which format it stamps.

use super::timestamp::TimestampFormat;

/// What a side says about its clock (RFC 4656 section 4.1.2, with the Z bit of RFC 8186 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorEstimate {
    /// S: the clock is synchronised to UTC by an external source.
    pub synchronized: bool,
    /// Z: the format of every timestamp this side writes.
    pub format: TimestampFormat,
    /// Scale, 0 to 63: the error is `multiplier * 2^(scale - 32)` seconds.
    pub scale: u8,
    /// Multiplier; a writer never uses 0 (RFC 4656 section 4.1.2). There a packet with 0 should be discarded as
    /// corrupt; it is taken here, because no number printed rests on the estimate.
    pub multiplier: u8,
}

impl ErrorEstimate {
    /// A clock nobody vouches for: not synchronised, error of 2^-32 s to be read as "unknown".
    pub const UNSYNCHRONIZED: Self =
        Self { synchronized: false, format: TimestampFormat::Ntp, scale: 0, multiplier: 1 };

    /// The two octets of the field. A scale above 63 is written as 63.
    pub fn encode(self) -> [u8; 2] {
        let z = self.format == TimestampFormat::Ptp;
        let flags = u8::from(self.synchronized) << 7 | u8::from(z) << 6;
        [flags | self.scale.min(63), self.multiplier]
    }

    /// The estimate in two octets from the wire; any octets are one.
    pub fn decode([first, multiplier]: [u8; 2]) -> Self {
        let format = if first & 0x40 == 0 { TimestampFormat::Ntp } else { TimestampFormat::Ptp };
        Self { synchronized: first & 0x80 != 0, format, scale: first & 0x3f, multiplier }
    }
}
