//! STAMP test packets (RFC 8762, RFC 8972), the sender's side: requests are written, replies are read.
//!
//! The reflector's side is [`crate::reflector`]. Both share the parts below. Nothing here allocates once a
//! [`RequestTemplate`] stands, and nothing here fails on TLVs: a reply whose base packet is sound is a reply.
//!
//! Base packets have 44 octets, authenticated ones 112 (RFC 8762 sections 4.2 and 4.3); TLVs follow
//! (RFC 8972 section 4). Between our own ends a request carries, in this order, Follow-Up Telemetry, the
//! stamp-source TLV ([`tlv::STAMP_SOURCES`]), the HMAC TLV when authenticated, and Extra Padding.

mod error_estimate;
mod key;
pub(crate) mod layout;
mod reply;
mod sender;
mod timestamp;
pub mod tlv;

pub use error_estimate::ErrorEstimate;
pub use key::{Key, KeyError};
pub use layout::{AUTHENTICATED_LEN, UNAUTHENTICATED_LEN};
pub use reply::{FollowUp, Reply, ReplyError, TlvTrouble};
pub use sender::{MAX_UDP_PAYLOAD, RequestTemplate, SenderConfig, SizeError, request_len};
pub use timestamp::TimestampFormat;

#[cfg(test)]
mod tests;
