//! Extensions after the base packet: flags, type, length, value (RFC 8972 section 4).

use crate::timestamp_source::StampSource;

/// Octets before the value: flags, type, length.
pub const HEADER_LEN: usize = 4;

/// U: set by a sender in every TLV, cleared by a reflector that understands it (RFC 8972 section 4).
pub const FLAG_UNRECOGNIZED: u8 = 0x80;
/// M: set by a reflector on a TLV whose length cannot be right.
pub const FLAG_MALFORMED: u8 = 0x40;
/// I: set by a reflector on every TLV when their HMAC failed.
pub const FLAG_INTEGRITY: u8 = 0x20;

/// Extra Padding (RFC 8972 section 4.1).
pub const EXTRA_PADDING: u8 = 1;
/// Follow-Up Telemetry (RFC 8972 section 4.7): sequence number, timestamp, how it was taken.
pub const FOLLOW_UP: u8 = 7;
/// HMAC over the Sequence Number of the base packet and the TLVs before it (RFC 8972 section 4.8).
pub const HMAC: u8 = 8;
/// Ours, from the range for experiments (240-251, RFC 8972 section 5.1), whose first numbers others already
/// use (stamp-suite 1.0.0 has 240-242 for bit errors and would count ours): `R`, `G`, code of the source of
/// t2, code of the source of the t3 in Follow-Up Telemetry. A request carries zeros in the codes; any other
/// reflector returns it flagged U, or as it came.
pub const STAMP_SOURCES: u8 = 251;

/// Value octets of Follow-Up Telemetry.
pub const FOLLOW_UP_LEN: usize = 16;
/// Value octets of the HMAC TLV.
pub const HMAC_LEN: usize = 16;
/// Value octets of the stamp-source TLV.
pub const STAMP_SOURCES_LEN: usize = 4;
/// First octets of the stamp-source TLV, by which ours is told from other experiments with its type.
pub const STAMP_SOURCES_MAGIC: [u8; 2] = *b"RG";

/// One TLV as found in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv {
    /// Offset of its flags octet in the area that was walked.
    pub at: usize,
    /// Its flags.
    pub flags: u8,
    /// Its type.
    pub kind: u8,
    /// Octets of its value, all of which are there.
    pub len: usize,
}

impl Tlv {
    /// The offset of the first value octet.
    pub fn value_at(&self) -> usize {
        self.at + HEADER_LEN
    }

    /// The offset after the last value octet.
    pub fn end(&self) -> usize {
        self.value_at() + self.len
    }
}

/// What [`next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A TLV, complete.
    Found(Tlv),
    /// Fewer octets are left than a header takes, or than the header at this offset announces.
    Cut(usize),
    /// Nothing is left.
    End,
}

/// The TLV at offset `at` of `area`, the octets after the base packet.
pub fn next(area: &[u8], at: usize) -> Step {
    let rest = area.get(at..).unwrap_or_default();
    match *rest {
        [] => Step::End,
        [flags, kind, high, low, ref value @ ..] => {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > value.len() {
                Step::Cut(at)
            } else {
                Step::Found(Tlv { at, flags, kind, len })
            }
        }
        _ => Step::Cut(at),
    }
}

/// The complete TLVs of `area`, in order.
pub fn walk(area: &[u8]) -> impl Iterator<Item = Tlv> {
    let mut at = 0;
    std::iter::from_fn(move || match next(area, at) {
        Step::Found(tlv) => {
            at = tlv.end();
            Some(tlv)
        }
        Step::Cut(_) | Step::End => None,
    })
}

/// How far the TLVs of a packet can be trusted when a key is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// There is nothing to protect: no TLV, or Extra Padding alone (RFC 8972 section 4.8).
    NotNeeded,
    /// The HMAC TLV stands in its place; only Extra Padding follows it.
    At(Tlv),
    /// There is none, or it has a wrong length or place, "processed as HMAC verification failure".
    Broken,
}

/// Finds the HMAC TLV of `area` and judges its place.
pub(crate) fn protection(area: &[u8]) -> Protection {
    let (mut hmac, mut broken, mut count, mut padding) = (None, false, 0_usize, 0_usize);
    for tlv in walk(area) {
        count += 1;
        match tlv.kind {
            EXTRA_PADDING => padding += 1,
            HMAC if hmac.is_none() && tlv.len == HMAC_LEN => hmac = Some(tlv),
            _ => broken |= hmac.is_some() || tlv.kind == HMAC,
        }
    }
    match hmac {
        _ if broken => Protection::Broken,
        Some(tlv) => Protection::At(tlv),
        None if area.is_empty() || (count == 1 && padding == 1) => Protection::NotNeeded,
        None => Protection::Broken,
    }
}

/// The code of a stamp's source in the stamp-source TLV; 0 says nothing.
pub(crate) const fn source_code(source: StampSource) -> u8 {
    match source {
        StampSource::Unknown | StampSource::None => 0,
        StampSource::Hardware => 1,
        StampSource::Cqe => 2,
        StampSource::Kernel => 3,
        StampSource::User => 4,
        StampSource::Device => 5,
    }
}

/// The source behind a code; codes of later versions are unknown sources.
pub(crate) const fn source_of_code(code: u8) -> StampSource {
    match code {
        1 => StampSource::Hardware,
        2 => StampSource::Cqe,
        3 => StampSource::Kernel,
        4 => StampSource::User,
        5 => StampSource::Device,
        _ => StampSource::Unknown,
    }
}

/// The Timestamp M code for a source (RFC 8972 section 5.5, table 9): 1 hardware assist, 2 software local.
pub(crate) const fn method_code(source: StampSource) -> u8 {
    match source {
        StampSource::Hardware | StampSource::Cqe | StampSource::Device => 1,
        StampSource::Kernel | StampSource::User => 2,
        StampSource::Unknown | StampSource::None => 0,
    }
}

/// Writes a TLV header.
pub(crate) fn put_header(packet: &mut [u8], at: usize, flags: u8, kind: u8, len: u16) {
    let [high, low] = len.to_be_bytes();
    packet[at..at + HEADER_LEN].copy_from_slice(&[flags, kind, high, low]);
}
