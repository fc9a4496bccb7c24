//! How a reply is made out of its request, octet for octet as long.

use std::sync::Arc;

use super::Received;
use super::counters::Counters;
use super::session::{Departure, TransmitToken};
use crate::stamp::layout::{HMAC_COVERED, Layout, get, put};
use crate::stamp::tlv::{self, Protection, Step, Tlv};
use crate::stamp::{ErrorEstimate, Key, TimestampFormat};
use crate::time::Wall;
use crate::timestamp_source::StampSource;

/// Session-Sender TTL when the socket does not tell. RFC 8762 does not say; TWAMP's reflectors write 255
/// (RFC 5357 section 4.2).
const UNKNOWN_TTL: u8 = 255;

/// A reply that lacks only t3 and what is computed over it.
#[derive(Clone, Debug)]
pub struct Prepared {
    len: usize,
    format: TimestampFormat,
    key: Option<Arc<Key>>,
    token: Option<TransmitToken>,
}

impl Prepared {
    /// Octets of the reply, those of its request.
    #[expect(clippy::len_without_is_empty, reason = "a reply is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What to give to [`super::Reflector::transmitted`] once the true transmit time is known; `None` when
    /// the sender did not ask for it.
    pub fn token(&self) -> Option<TransmitToken> {
        self.token
    }

    /// Puts `t3` into the reply in `out`, the buffer that [`super::Reflector::receive`] wrote to, signs it
    /// where the session is authenticated, and returns the octets to send.
    ///
    /// # Panics
    /// When `out` is shorter than the reply: it is another buffer.
    pub fn finish<'out>(&self, t3: Wall, out: &'out mut [u8]) -> &'out [u8] {
        let reply = &mut out[..self.len];
        Layout::of(self.key.is_some()).put_timestamp(reply, self.format, t3);
        if let Some(key) = &self.key {
            let digest = key.digest([&reply[..HMAC_COVERED], &[]]);
            put(reply, HMAC_COVERED, digest);
        }
        reply
    }
}

impl Prepared {
    /// Turns the reply in `out`, which has left, into its second acknowledgement: the same packet, in whose Follow-Up
    /// Telemetry the reply's own sequence number says when that reply truly left. So nobody waits for the next reply, and a probe that
    /// is the last one learns it too. Returns the octets to send; `None` when the sender did not ask.
    ///
    /// # Panics
    /// When `out` is shorter than the reply: it is another buffer.
    pub fn second_acknowledgement<'out>(
        &self,
        t3: Wall,
        source: StampSource,
        out: &'out mut [u8],
    ) -> Option<&'out [u8]> {
        let reflector_seq = self.token?.reflector_seq;
        let reply = &mut out[..self.len];
        let area = &mut reply[Layout::of(self.key.is_some()).len..];
        // What was asked for was found once, so that it is there unless this is another buffer.
        let found = tlv::walk(area)
            .find(|found| found.kind == tlv::FOLLOW_UP && found.len == tlv::FOLLOW_UP_LEN)?;
        put_departure(area, found, self.format, &Departure { reflector_seq, t3, source });
        if let (Some(key), Protection::At(hmac)) = (&self.key, tlv::protection(area)) {
            let digest = key.digest([&reflector_seq.to_be_bytes(), &area[..hmac.at]]);
            put(area, hmac.value_at(), digest);
        }
        Some(reply)
    }
}

/// Writes when a reply truly left (RFC 8972 section 4.7).
fn put_departure(area: &mut [u8], found: Tlv, format: TimestampFormat, departure: &Departure) {
    let value = &mut area[found.value_at()..found.end()];
    value.fill(0);
    put(value, 0, departure.reflector_seq.to_be_bytes());
    put(value, 4, format.encode(departure.t3));
    value[12] = tlv::method_code(departure.source);
}

/// All that goes into one reply.
pub(super) struct Composer<'a> {
    pub request: &'a [u8],
    pub rx: Received,
    pub error_estimate: ErrorEstimate,
    pub key: Option<Arc<Key>>,
    pub token: TransmitToken,
}

impl Composer<'_> {
    /// Writes the reply; `follow_up` is asked at most once, and only when the request asks.
    pub fn compose(
        self,
        out: &mut [u8],
        counters: &mut Counters,
        follow_up: impl FnOnce() -> Option<Departure>,
    ) -> Prepared {
        let layout = Layout::of(self.key.is_some());
        let format = ErrorEstimate::decode(get(self.request, layout.error_estimate)).format;
        let (base, area) = out[..self.request.len()].split_at_mut(layout.len);
        self.write_base(layout, format, base);
        area.copy_from_slice(&self.request[layout.len..]);
        let mut tlvs = TlvWriter { composer: &self, format, area, counters, asked: false };
        tlvs.write(follow_up);
        let token = tlvs.asked.then_some(self.token);
        Prepared { len: self.request.len(), format, key: self.key, token }
    }

    /// Everything but the timestamp and the HMAC (RFC 8762 section 4.3, RFC 8972 section 3).
    fn write_base(&self, layout: &Layout, format: TimestampFormat, base: &mut [u8]) {
        base.fill(0);
        put(base, 0, self.token.reflector_seq.to_be_bytes());
        let estimate = ErrorEstimate { format, ..self.error_estimate };
        put(base, layout.error_estimate, estimate.encode());
        put(base, layout.ssid, get::<2>(self.request, layout.ssid));
        put(base, layout.receive, format.encode(self.rx.t2));
        put(base, layout.sender_sequence, get::<4>(self.request, 0));
        put(base, layout.sender_timestamp, get::<8>(self.request, layout.timestamp));
        put(base, layout.sender_error_estimate, get::<2>(self.request, layout.error_estimate));
        base[layout.sender_ttl] = self.rx.ttl.unwrap_or(UNKNOWN_TTL);
    }
}

/// Turns the copied TLVs of a request into those of the reply, in place.
struct TlvWriter<'a, 'b> {
    composer: &'a Composer<'b>,
    format: TimestampFormat,
    area: &'a mut [u8],
    counters: &'a mut Counters,
    /// The sender wants true transmit times.
    asked: bool,
}

impl TlvWriter<'_, '_> {
    fn write(&mut self, follow_up: impl FnOnce() -> Option<Departure>) {
        if self.area.is_empty() {
            return;
        }
        match self.verified() {
            Err(()) => self.flag_integrity(),
            Ok(hmac) => {
                self.process(follow_up);
                if let Some(hmac) = hmac {
                    self.sign(hmac);
                }
            }
        }
    }

    /// The HMAC TLV, verified, where there is one. Without a key an HMAC TLV cannot be verified, and TLVs
    /// that were not verified must not be used (RFC 8972 section 4.8): that is a failure too.
    fn verified(&self) -> Result<Option<Tlv>, ()> {
        let Some(key) = &self.composer.key else {
            let any = tlv::walk(self.area).any(|found| found.kind == tlv::HMAC);
            return if any { Err(()) } else { Ok(None) };
        };
        match tlv::protection(self.area) {
            Protection::NotNeeded => Ok(None),
            Protection::Broken => Err(()),
            Protection::At(hmac) => {
                let sender_seq = &self.composer.request[..4];
                let text = [sender_seq, &self.area[..hmac.at]];
                let digest = get(self.area, hmac.value_at());
                if key.verifies(text, digest) { Ok(Some(hmac)) } else { Err(()) }
            }
        }
    }

    /// "The Session-Reflector MUST set the I flag in each TLV copied over" (RFC 8972 section 4.8).
    fn flag_integrity(&mut self) {
        self.counters.tlv_integrity_failures += 1;
        let mut at = 0;
        while let Step::Found(found) = tlv::next(self.area, at) {
            let unknown = if self.understands(found) { 0 } else { tlv::FLAG_UNRECOGNIZED };
            self.area[at] = tlv::FLAG_INTEGRITY | unknown;
            at = found.end();
        }
        if let Some(flags) = self.area.get_mut(at) {
            *flags = tlv::FLAG_INTEGRITY | tlv::FLAG_MALFORMED;
        }
    }

    /// RFC 8972 section 4: unknown TLVs go back flagged U; at a malformed one, flagged M, work stops and
    /// the rest goes back as it came.
    fn process(&mut self, follow_up: impl FnOnce() -> Option<Departure>) {
        let (mut at, mut told, mut follow_up) = (0, None, Some(follow_up));
        loop {
            match tlv::next(self.area, at) {
                Step::End => return,
                Step::Cut(_) => return self.flag_malformed(at),
                Step::Found(found) if !self.understands(found) => {
                    self.area[at] = tlv::FLAG_UNRECOGNIZED;
                    self.counters.tlvs_unrecognized += 1;
                    at = found.end();
                }
                Step::Found(found) => {
                    self.area[at] = 0;
                    match found.kind {
                        tlv::FOLLOW_UP if found.len != tlv::FOLLOW_UP_LEN => {
                            self.zero_follow_up(found);
                            return self.flag_malformed(at);
                        }
                        tlv::FOLLOW_UP => {
                            self.asked = true;
                            if let Some(follow_up) = follow_up.take() {
                                told = follow_up();
                            }
                            self.write_follow_up(found, told);
                        }
                        tlv::STAMP_SOURCES => self.write_sources(found),
                        _ => {}
                    }
                    at = found.end();
                }
            }
        }
    }

    fn understands(&self, found: Tlv) -> bool {
        match found.kind {
            tlv::EXTRA_PADDING | tlv::FOLLOW_UP | tlv::HMAC => true,
            tlv::STAMP_SOURCES => {
                found.len == tlv::STAMP_SOURCES_LEN
                    && self.area[found.value_at()..].starts_with(&tlv::STAMP_SOURCES_MAGIC)
            }
            _ => false,
        }
    }

    fn flag_malformed(&mut self, at: usize) {
        self.area[at] = tlv::FLAG_MALFORMED;
        self.counters.tlvs_malformed += 1;
    }

    /// RFC 8972 section 4.7: at a wrong Length the fields are zeroed beside the M flag.
    fn zero_follow_up(&mut self, found: Tlv) {
        let fields = found.value_at()..found.end().min(found.value_at() + 12);
        self.area[fields].fill(0);
    }

    fn write_follow_up(&mut self, found: Tlv, told: Option<Departure>) {
        self.area[found.value_at()..found.end()].fill(0);
        if let Some(departure) = told {
            put_departure(self.area, found, self.format, &departure);
            self.counters.follow_ups_sent += 1;
        }
    }

    /// A true t3 is promised only to a sender that asked for it, so that nobody waits in vain.
    fn write_sources(&mut self, found: Tlv) {
        let codes = found.value_at() + tlv::STAMP_SOURCES_MAGIC.len();
        let rx = self.composer.rx;
        let t3 = if self.asked { rx.t3_source } else { StampSource::User };
        put(self.area, codes, [tlv::source_code(rx.t2_source), tlv::source_code(t3)]);
    }

    /// Signs what stands before the HMAC TLV, with our own sequence number (RFC 8972 section 4.8).
    fn sign(&mut self, hmac: Tlv) {
        let Some(key) = &self.composer.key else { return };
        let sequence = self.composer.token.reflector_seq.to_be_bytes();
        let digest = key.digest([&sequence, &self.area[..hmac.at]]);
        self.area[hmac.at] = 0;
        put(self.area, hmac.value_at(), digest);
    }
}
