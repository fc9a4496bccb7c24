//! What must hold when a sender gets anything.

use railgauge_core::stamp::{Key, Reply, ReplyError, RequestTemplate, SenderConfig};

use super::signing::{Signing, sign};
use super::{KEY, Outcomes, count};

/// The session whose replies are expected: that of the seed packets in `testbed/fuzz/seeds`.
const SSID: u16 = 0x0a0b;

/// Reads `packet` as a reply in every mode, and counts what became of it.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_sender_reply(packet: &[u8], outcomes: &mut Outcomes) {
    let keyed = Key::from_octets(&KEY).expect("long enough");
    for (name, key, signing) in [
        ("open", None, Signing::AsCame),
        ("keyed", Some(&keyed), Signing::AsCame),
        ("keyed, base signed", Some(&keyed), Signing::Base),
        ("keyed, all signed", Some(&keyed), Signing::Whole),
    ] {
        let config = SenderConfig { key: key.cloned(), ssid: SSID, ..SenderConfig::default() };
        let sender = RequestTemplate::new(config).expect("the smallest packet fits");
        let packet = sign(packet, &KEY, signing);
        let outcome = match sender.parse_reply(&packet) {
            Ok(reply) => check(&reply),
            Err(ReplyError::TooShort { len, base }) => {
                assert!(len == packet.len() && len < base);
                "too short"
            }
            Err(ReplyError::BadHmac) => {
                assert_eq!(signing, Signing::AsCame, "what was signed verifies");
                "bad HMAC"
            }
            Err(ReplyError::OtherSession { .. }) => "other session",
        };
        count(outcomes, format!("{name}: {outcome}"));
    }
}

fn check(reply: &Reply) -> &'static str {
    let trouble = reply.trouble;
    let told = reply.follow_up.is_some() || reply.sources.is_some();
    assert!(!(told && (trouble.integrity || trouble.hmac_tlv_failed)), "{reply:?}");
    match trouble {
        _ if trouble.hmac_tlv_failed => "TLV HMAC failed",
        _ if trouble.integrity => "flagged I",
        _ if trouble.malformed => "malformed TLV",
        _ if trouble.unrecognized => "flagged U",
        _ if told => "read with telemetry",
        _ => "read",
    }
}
