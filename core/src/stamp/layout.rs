//! Where the fields of the base packets lie, as offsets in octets from the start of the UDP payload.

use super::timestamp::TimestampFormat;
use crate::time::Wall;

/// Octets of a base packet in unauthenticated mode, either direction (RFC 8762 sections 4.2.1 and 4.3.1).
pub const UNAUTHENTICATED_LEN: usize = 44;
/// Octets of a base packet in authenticated mode, either direction (RFC 8762 sections 4.2.2 and 4.3.2).
pub const AUTHENTICATED_LEN: usize = 112;
/// Octets at the start of an authenticated base packet that its HMAC covers, and where the HMAC lies
/// (RFC 8762 section 4.4: "the first six blocks (96 octets)").
pub(crate) const HMAC_COVERED: usize = 96;

/// Offsets of one mode. The request's fields lie where the reply has the same-named ones.
pub(crate) struct Layout {
    /// Octets of the base packet.
    pub len: usize,
    /// Timestamp: t1 in a request, t3 in a reply.
    pub timestamp: usize,
    /// Error Estimate.
    pub error_estimate: usize,
    /// STAMP Session Identifier (RFC 8972 section 3).
    pub ssid: usize,
    /// Reply: Receive Timestamp, t2.
    pub receive: usize,
    /// Reply: Session-Sender Sequence Number.
    pub sender_sequence: usize,
    /// Reply: Session-Sender Timestamp.
    pub sender_timestamp: usize,
    /// Reply: Session-Sender Error Estimate.
    pub sender_error_estimate: usize,
    /// Reply: Session-Sender TTL.
    pub sender_ttl: usize,
}

/// RFC 8762 figures 2 and 5 with the SSID of RFC 8972 figures 1 and 2.
const UNAUTHENTICATED: Layout = Layout {
    len: UNAUTHENTICATED_LEN,
    timestamp: 4,
    error_estimate: 12,
    ssid: 14,
    receive: 16,
    sender_sequence: 24,
    sender_timestamp: 28,
    sender_error_estimate: 36,
    sender_ttl: 40,
};

/// RFC 8762 figures 4 and 6 with the SSID of RFC 8972 figures 3 and 4.
const AUTHENTICATED: Layout = Layout {
    len: AUTHENTICATED_LEN,
    timestamp: 16,
    error_estimate: 24,
    ssid: 26,
    receive: 32,
    sender_sequence: 48,
    sender_timestamp: 64,
    sender_error_estimate: 72,
    sender_ttl: 80,
};

impl Layout {
    /// The layout of one mode.
    pub const fn of(authenticated: bool) -> &'static Self {
        if authenticated { &AUTHENTICATED } else { &UNAUTHENTICATED }
    }

    /// Writes the Timestamp field of a packet that holds at least the base.
    pub fn put_timestamp(&self, packet: &mut [u8], format: TimestampFormat, at: Wall) {
        put(packet, self.timestamp, format.encode(at));
    }
}

/// Copies `N` octets out of `packet`, which the caller has found long enough.
pub(crate) fn get<const N: usize>(packet: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&packet[offset..offset + N]);
    field
}

/// Copies `N` octets into `packet`, which the caller has found long enough.
pub(crate) fn put<const N: usize>(packet: &mut [u8], offset: usize, field: [u8; N]) {
    packet[offset..offset + N].copy_from_slice(&field);
}
