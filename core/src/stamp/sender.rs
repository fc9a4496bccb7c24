//! The Session-Sender's packets: one template per session, patched for each probe.

use super::error_estimate::ErrorEstimate;
use super::key::Key;
use super::layout::{HMAC_COVERED, Layout, put};
use super::reply::{Reply, ReplyError};
use super::timestamp::TimestampFormat;
use super::tlv;
use crate::time::Wall;

/// Largest UDP payload over IPv4: 65,535 less 20 octets of IP and 8 of UDP header.
pub const MAX_UDP_PAYLOAD: usize = 65_507;

/// How the packets of one session look.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Format of the timestamps we write; decides Z whatever `error_estimate` says.
    pub format: TimestampFormat,
    /// STAMP Session Identifier (RFC 8972 section 3); 0 for none.
    pub ssid: u16,
    /// What we say about our clock.
    pub error_estimate: ErrorEstimate,
    /// With a key the session is authenticated.
    pub key: Option<Key>,
    /// Ask for the true t3 of the previous reply and for the sources of the stamps. Off, the base packet
    /// travels alone (with padding), which every reflector knows.
    pub telemetry: bool,
    /// Fewest octets of UDP payload; Extra Padding fills them.
    pub min_size: usize,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            format: TimestampFormat::Ntp,
            ssid: 0,
            error_estimate: ErrorEstimate::UNSYNCHRONIZED,
            key: None,
            telemetry: true,
            min_size: 0,
        }
    }
}

/// The wished size cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a payload of {wanted} octets does not fit a UDP datagram; the largest has {MAX_UDP_PAYLOAD}"
)]
pub struct SizeError {
    /// Octets of UDP payload asked for.
    pub wanted: usize,
}

/// The packets of one session but for what differs from probe to probe.
#[derive(Clone, Debug)]
pub struct RequestTemplate {
    bytes: Box<[u8]>,
    format: TimestampFormat,
    ssid: u16,
    key: Option<Key>,
    /// The key before this one, while replies to what was sent with it may come.
    former_key: Option<Key>,
    /// Offset of the HMAC TLV's value, when the packet carries one.
    hmac_tlv: Option<usize>,
}

/// Octets of a request's UDP payload, between our own ends: with their telemetry, and at least `min_size`.
pub const fn request_len(authenticated: bool, min_size: usize) -> usize {
    let telemetry = 2 * tlv::HEADER_LEN + tlv::FOLLOW_UP_LEN + tlv::STAMP_SOURCES_LEN;
    let hmac = if authenticated { tlv::HEADER_LEN + tlv::HMAC_LEN } else { 0 };
    let least = Layout::of(authenticated).len + telemetry + hmac;
    match min_size.saturating_sub(least) {
        0 => least,
        missing if missing < tlv::HEADER_LEN => least + tlv::HEADER_LEN,
        _ => min_size,
    }
}

impl RequestTemplate {
    /// Lays out the packet: base, telemetry TLVs, HMAC TLV when both telemetry and a key are there
    /// (padding alone needs none, RFC 8972 section 4.8), Extra Padding up to `min_size`. Where one to three
    /// octets are missing, a TLV's four are added.
    ///
    /// # Errors
    /// When the packet would not fit a UDP datagram.
    pub fn new(config: SenderConfig) -> Result<Self, SizeError> {
        let SenderConfig { format, ssid, error_estimate, key, telemetry, min_size } = config;
        let too_large = SizeError { wanted: min_size };
        if min_size > MAX_UDP_PAYLOAD {
            return Err(too_large);
        }
        let layout = Layout::of(key.is_some());
        let mut bytes = vec![0; layout.len];
        put(&mut bytes, layout.error_estimate, ErrorEstimate { format, ..error_estimate }.encode());
        put(&mut bytes, layout.ssid, ssid.to_be_bytes());
        let mut hmac_tlv = None;
        if telemetry {
            append(&mut bytes, tlv::FOLLOW_UP, &[0; tlv::FOLLOW_UP_LEN]);
            let [r, g] = tlv::STAMP_SOURCES_MAGIC;
            append(&mut bytes, tlv::STAMP_SOURCES, &[r, g, 0, 0]);
            if key.is_some() {
                hmac_tlv = Some(bytes.len() + tlv::HEADER_LEN);
                append(&mut bytes, tlv::HMAC, &[0; tlv::HMAC_LEN]);
            }
        }
        let missing = min_size.saturating_sub(bytes.len());
        if missing > 0 {
            append(
                &mut bytes,
                tlv::EXTRA_PADDING,
                &padding(missing.saturating_sub(tlv::HEADER_LEN)),
            );
        }
        if bytes.len() > MAX_UDP_PAYLOAD {
            return Err(too_large);
        }
        Ok(Self { bytes: bytes.into(), format, ssid, key, former_key: None, hmac_tlv })
    }

    /// Octets of every request's UDP payload.
    #[expect(clippy::len_without_is_empty, reason = "a request is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the request with sequence number `sequence` that leaves at `t1`, and returns its octets,
    /// [`len`](Self::len) many at the start of `out`.
    ///
    /// # Panics
    /// When `out` is shorter than that: the caller sizes its buffer once.
    pub fn write<'out>(&self, sequence: u32, t1: Wall, out: &'out mut [u8]) -> &'out [u8] {
        let packet = &mut out[..self.bytes.len()];
        packet.copy_from_slice(&self.bytes);
        put(packet, 0, sequence.to_be_bytes());
        let layout = Layout::of(self.key.is_some());
        layout.put_timestamp(packet, self.format, t1);
        if let Some(key) = &self.key {
            self.sign(key, sequence, packet);
        }
        packet
    }

    fn sign(&self, key: &Key, sequence: u32, packet: &mut [u8]) {
        let base = key.digest([&packet[..HMAC_COVERED], &[]]);
        put(packet, HMAC_COVERED, base);
        if let Some(at) = self.hmac_tlv {
            let covered = &packet[Layout::of(true).len..at - tlv::HEADER_LEN];
            let digest = key.digest([&sequence.to_be_bytes(), covered]);
            put(packet, at, digest);
        }
    }

    /// Signs with `key` from now on; replies signed with the key before it are read until
    /// [`forget_former_key`](Self::forget_former_key). A template without a key stays without: its packets have another layout.
    pub fn replace_key(&mut self, key: Key) {
        if let Some(before) = &mut self.key {
            self.former_key = Some(std::mem::replace(before, key));
        }
    }

    /// No reply signed with the key before this one is read any more.
    pub fn forget_former_key(&mut self) {
        self.former_key = None;
    }

    /// Reads a reply to one of our requests.
    ///
    /// # Errors
    /// When the base packet is too short, carries a wrong HMAC, or belongs to another session. TLVs never
    /// make a reply fail.
    pub fn parse_reply(&self, bytes: &[u8]) -> Result<Reply, ReplyError> {
        match (Reply::parse(bytes, self.key.as_ref(), self.ssid), &self.former_key) {
            (Err(ReplyError::BadHmac), Some(former)) => {
                Reply::parse(bytes, Some(former), self.ssid)
            }
            (parsed, _) => parsed,
        }
    }
}

/// Appends a TLV with the flags a sender sets (RFC 8972 section 4: U, neither M nor I).
fn append(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let at = bytes.len();
    bytes.resize(at + tlv::HEADER_LEN, 0);
    // Values here are at most MAX_UDP_PAYLOAD long.
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    tlv::put_header(bytes, at, tlv::FLAG_UNRECOGNIZED, kind, len);
    bytes.extend_from_slice(value);
}

/// Padding "filled by a sequence of pseudorandom numbers" (RFC 8972 section 4.1), so that no link on the
/// path compresses it; the same in every packet, because it needs no more than that.
fn padding(len: usize) -> Vec<u8> {
    // xorshift64, Marsaglia 2003; any seed but 0.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}
