//! The Session-Reflector's packets as a Session-Sender reads them.

use super::error_estimate::ErrorEstimate;
use super::key::Key;
use super::layout::{HMAC_COVERED, Layout, get};
use super::timestamp::TimestampFormat;
use super::tlv::{self, Protection, Step, Tlv};
use crate::time::Wall;
use crate::timestamp_source::StampSource;

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The reflector's own Sequence Number; the sender's again if the reflector is stateless.
    pub reflector_seq: u32,
    /// t2: when the reflector received the request, by its clock.
    pub t2: Wall,
    /// t3: when the reflector wrote the reply, by its clock; before it left.
    pub t3: Wall,
    /// Whether t2 and t3 can be read in the format that the reflector's Z bit says.
    pub stamps_readable: bool,
    /// What the reflector says about its clock.
    pub reflector_error_estimate: ErrorEstimate,
    /// The Sequence Number of the request, echoed.
    pub sender_seq: u32,
    /// The Timestamp of the request, echoed octet for octet.
    pub sender_timestamp: [u8; 8],
    /// The SSID as returned; 0 from a reflector that knows none (RFC 8972 section 3).
    pub ssid: u16,
    /// TTL or Hop Limit with which the request arrived; 255 also means that the reflector cannot know.
    pub sender_ttl: u8,
    /// When an earlier reply of this session truly left.
    pub follow_up: Option<FollowUp>,
    /// Sources of this reply's t2 and of its true t3, from our own reflectors only. `User` as the second says that the t3
    /// above is the last word; anything else that a true one follows.
    pub sources: Option<(StampSource, StampSource)>,
    /// What is wrong with the TLVs. None of it makes the base packet less true.
    pub trouble: TlvTrouble,
}

/// The true transmit time of an earlier reply (RFC 8972 section 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// The reflector's Sequence Number of that reply.
    pub reflector_seq: u32,
    /// When it left, by the reflector's clock.
    pub t3: Wall,
    /// Timestamp M: 1 hardware assist, 2 software local, 3 control plane, as received.
    pub method: u8,
}

/// What a reply's TLVs suffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlvTrouble {
    /// A TLV came back flagged U: the reflector does not know it (or only copies what it gets).
    pub unrecognized: bool,
    /// A TLV came back flagged M, or is cut short: it and what follows it was not read.
    pub malformed: bool,
    /// The reflector flagged I: it found our TLVs altered on the way. None was read.
    pub integrity: bool,
    /// In an authenticated session the reply's TLVs lack a valid HMAC. None was read.
    pub hmac_tlv_failed: bool,
}

/// Why a datagram is no reply of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Shorter than the base packet of the session's mode.
    #[error("a reply of {len} octets is shorter than the base packet, {base} octets")]
    TooShort {
        /// Octets received.
        len: usize,
        /// Octets of the base packet.
        base: usize,
    },
    /// The HMAC of the base packet is wrong: another key, or an altered packet.
    #[error("the reply's HMAC does not verify; do both ends hold the same key?")]
    BadHmac,
    /// It carries another session's identifier.
    #[error("the reply belongs to session {received}, not to {sent}")]
    OtherSession {
        /// SSID in the reply.
        received: u16,
        /// SSID we sent.
        sent: u16,
    },
}

impl Reply {
    /// Whether this is no answer, but the second acknowledgement of one: it tells when the reply with its own sequence number
    /// truly left, which no reply can tell of itself.
    pub fn is_second_acknowledgement(&self) -> bool {
        self.follow_up.is_some_and(|told| told.reflector_seq == self.reflector_seq)
    }

    /// Reads a reply in the mode that `key` says, to a request with `ssid`.
    pub(crate) fn parse(bytes: &[u8], key: Option<&Key>, ssid: u16) -> Result<Self, ReplyError> {
        let layout = Layout::of(key.is_some());
        if bytes.len() < layout.len {
            return Err(ReplyError::TooShort { len: bytes.len(), base: layout.len });
        }
        let (base, area) = bytes.split_at(layout.len);
        if let Some(key) = key
            && !key.verifies([&base[..HMAC_COVERED], &[]], get(base, HMAC_COVERED))
        {
            return Err(ReplyError::BadHmac);
        }
        let mut reply = Self::from_base(layout, base);
        if reply.ssid != 0 && reply.ssid != ssid {
            return Err(ReplyError::OtherSession { received: reply.ssid, sent: ssid });
        }
        if key.is_none_or(|key| reply.tlvs_verify(key, area)) {
            reply.read_tlvs(area);
        } else {
            reply.trouble.hmac_tlv_failed = true;
        }
        Ok(reply)
    }

    fn from_base(layout: &Layout, base: &[u8]) -> Self {
        let estimate = ErrorEstimate::decode(get(base, layout.error_estimate));
        let stamps = [get(base, layout.receive), get(base, layout.timestamp)];
        Self {
            stamps_readable: stamps.iter().all(|field| estimate.format.is_reading(*field)),
            reflector_seq: u32::from_be_bytes(get(base, 0)),
            t2: estimate.format.decode(get(base, layout.receive)),
            t3: estimate.format.decode(get(base, layout.timestamp)),
            reflector_error_estimate: estimate,
            sender_seq: u32::from_be_bytes(get(base, layout.sender_sequence)),
            sender_timestamp: get(base, layout.sender_timestamp),
            ssid: u16::from_be_bytes(get(base, layout.ssid)),
            sender_ttl: base[layout.sender_ttl],
            follow_up: None,
            sources: None,
            trouble: TlvTrouble::default(),
        }
    }

    /// RFC 8972 section 4.8: "HMAC MUST be verified before using any data in the included STAMP TLVs".
    fn tlvs_verify(&self, key: &Key, area: &[u8]) -> bool {
        match tlv::protection(area) {
            Protection::NotNeeded => true,
            Protection::Broken => false,
            Protection::At(hmac) => {
                let text = [&self.reflector_seq.to_be_bytes()[..], &area[..hmac.at]];
                key.verifies(text, get(area, hmac.value_at()))
            }
        }
    }

    /// RFC 8972 section 4: skip what is flagged U, stop at M, discard all TLVs at I.
    fn read_tlvs(&mut self, area: &[u8]) {
        let mut at = 0;
        loop {
            match tlv::next(area, at) {
                Step::End => return,
                Step::Cut(_) => return self.trouble.malformed = true,
                Step::Found(found) if found.flags & tlv::FLAG_INTEGRITY != 0 => {
                    self.trouble.integrity = true;
                    (self.follow_up, self.sources) = (None, None);
                    return;
                }
                Step::Found(found) if found.flags & tlv::FLAG_MALFORMED != 0 => {
                    return self.trouble.malformed = true;
                }
                Step::Found(found) if found.flags & tlv::FLAG_UNRECOGNIZED != 0 => {
                    self.trouble.unrecognized = true;
                    at = found.end();
                }
                Step::Found(found) => {
                    self.read_tlv(found, area);
                    at = found.end();
                }
            }
        }
    }

    fn read_tlv(&mut self, found: Tlv, area: &[u8]) {
        let value = &area[found.value_at()..found.end()];
        match (found.kind, found.len) {
            (tlv::FOLLOW_UP, tlv::FOLLOW_UP_LEN) => {
                self.follow_up = FollowUp::read(value, self.reflector_error_estimate.format);
            }
            (tlv::STAMP_SOURCES, tlv::STAMP_SOURCES_LEN)
                if value.starts_with(&tlv::STAMP_SOURCES_MAGIC) && value[2] != 0 =>
            {
                // Code 0 for t2: copied by a reflector that does not know what it copies.
                self.sources = Some((tlv::source_of_code(value[2]), tlv::source_of_code(value[3])));
            }
            _ => {}
        }
    }
}

impl FollowUp {
    /// A timestamp of zero says that there is none: a stateless reflector, or the session's first reply. So does one that
    /// cannot be read.
    fn read(value: &[u8], format: TimestampFormat) -> Option<Self> {
        let stamp: [u8; 8] = get(value, 4);
        (stamp != [0; 8] && format.is_reading(stamp)).then(|| Self {
            reflector_seq: u32::from_be_bytes(get(value, 0)),
            t3: format.decode(stamp),
            method: value[12],
        })
    }
}
