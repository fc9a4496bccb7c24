use super::*;
use crate::time::Wall;
use crate::timestamp_source::StampSource;
use proptest::prelude::*;

const VECTORS: &str = include_str!("tests/vectors.txt");
const T1: Wall = Wall::from_unix_nanos(1_767_225_600_123_456_789);
const T2: Wall = Wall::from_unix_nanos(1_767_225_600_123_473_792);
const T3: Wall = Wall::from_unix_nanos(1_767_225_600_123_477_793);
const SSID: u16 = 0x0a0b;
const SEQUENCE: u32 = 0x0102_0304;

fn key() -> Key {
    Key::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n").unwrap()
}

fn octets(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Template, format and octets of each vector that goes in `direction`.
fn vectors(direction: &str) -> Vec<(RequestTemplate, TimestampFormat, Vec<u8>)> {
    let lines = VECTORS.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let wanted = lines.filter(|words| words[0] != "#" && words[2] == direction);
    wanted
        .map(|words| {
            let format =
                if words[1] == "ptp" { TimestampFormat::Ptp } else { TimestampFormat::Ntp };
            let key = (words[0] == "auth").then(key);
            let config = SenderConfig { format, key, ssid: SSID, ..SenderConfig::default() };
            (RequestTemplate::new(config).unwrap(), format, octets(words[3]))
        })
        .collect()
}

#[test]
fn requests_are_those_another_implementation_builds() {
    let vectors = vectors("request");
    assert_eq!(vectors.len(), 4);
    for (template, _, expected) in vectors {
        let mut out = vec![0xee; template.len() + 3];
        assert_eq!(template.write(SEQUENCE, T1, &mut out), expected);
        assert_eq!(out[template.len()..], [0xee; 3], "octets behind the packet are not touched");
    }
}

#[test]
fn replies_of_another_implementation_are_read() {
    let vectors = vectors("reply");
    assert_eq!(vectors.len(), 4);
    for (template, format, bytes) in vectors {
        let expected = Reply {
            reflector_seq: 7,
            t2: T2,
            t3: T3,
            stamps_readable: true,
            reflector_error_estimate: ErrorEstimate { format, ..ErrorEstimate::UNSYNCHRONIZED },
            sender_seq: SEQUENCE,
            sender_timestamp: format.encode(T1),
            ssid: SSID,
            sender_ttl: 63,
            follow_up: Some(FollowUp {
                reflector_seq: 6,
                t3: Wall::from_unix_nanos(T3.as_unix_nanos() - 1000),
                method: 2,
            }),
            sources: Some((StampSource::Kernel, StampSource::Kernel)),
            trouble: TlvTrouble::default(),
        };
        assert_eq!(template.parse_reply(&bytes), Ok(expected));
    }
}

#[test]
fn each_side_is_read_by_its_own_z_bit() {
    let replies = vectors("reply");
    let (_, _, ptp_reply) =
        replies.iter().find(|(_, format, _)| *format == TimestampFormat::Ptp).unwrap();
    let (ntp_sender, ..) = &replies[0];
    let reply = ntp_sender.parse_reply(ptp_reply).unwrap();
    assert_eq!((reply.t2, reply.t3), (T2, T3));
    assert_eq!(reply.sender_timestamp, TimestampFormat::Ptp.encode(T1));
}

/// A reflector whose Z bit says the other format: read all the same, its delays would be 4.3 times what they are.
#[test]
fn stamps_that_cannot_be_ptp_are_said_to_be_unreadable() {
    let vectors = vectors("reply");
    let open = vectors.iter().find(|(_, _, bytes)| bytes.len() < AUTHENTICATED_LEN);
    let (template, _, bytes) = open.unwrap();
    // Half a second in NTP, in t3, t2 and the follow-up in turn; the Z bit says PTP.
    for (at, readable) in [(4, false), (16, false), (44 + 8, true)] {
        let mut bytes = bytes.clone();
        bytes[12] |= 0x40;
        bytes[at + 4..at + 8].copy_from_slice(&(1_u32 << 31).to_be_bytes());
        let reply = template.parse_reply(&bytes).unwrap();
        assert_eq!((reply.stamps_readable, reply.follow_up.is_some()), (readable, !readable));
    }
    let ptp = |nanos: u32| TimestampFormat::Ptp.is_reading(u64::from(nanos).to_be_bytes());
    assert!(ptp(999_999_999) && !ptp(1_000_000_000) && !ptp(u32::MAX));
    assert!(TimestampFormat::Ntp.is_reading([0xff; 8]));
}

#[test]
fn every_bit_of_an_error_estimate_has_its_meaning() {
    for field in 0..=u16::MAX {
        let estimate = ErrorEstimate::decode(field.to_be_bytes());
        assert_eq!(estimate.synchronized, field & 0x8000 != 0);
        assert_eq!(estimate.format == TimestampFormat::Ptp, field & 0x4000 != 0);
        assert_eq!(u16::from(estimate.scale), field >> 8 & 0x3f);
        assert_eq!(u16::from(estimate.multiplier), field & 0xff);
        assert_eq!(estimate.encode(), field.to_be_bytes());
    }
}

#[test]
fn ntp_eras_turn_in_2036_and_times_below_1970_belong_to_the_later() {
    let decode = |seconds: u32| {
        let field = u64::from(seconds) << 32;
        TimestampFormat::Ntp.decode(field.to_be_bytes()).as_unix_nanos() / 1_000_000_000
    };
    assert_eq!(decode(2_208_988_800), 0);
    assert_eq!(decode(u32::MAX), 2_085_978_495);
    // 2036-02-07T06:28:16Z, RFC 5905 section 6.
    assert_eq!(decode(0), 2_085_978_496);
    assert_eq!(decode(2_208_988_799), u64::from(u32::MAX));
}

#[test]
fn flags_of_a_reply_decide_what_is_read() {
    let (template, _, sound) = vectors("reply").swap_remove(0);
    // Flags octet of Follow-Up Telemetry, then of the stamp sources.
    let read = |flags: [u8; 2]| {
        let mut bytes = sound.clone();
        (bytes[44], bytes[64]) = (flags[0], flags[1]);
        let reply = template.parse_reply(&bytes).unwrap();
        let TlvTrouble { unrecognized, malformed, integrity, .. } = reply.trouble;
        let read = (reply.follow_up.is_some(), reply.sources.is_some());
        (read, (unrecognized, malformed, integrity))
    };
    assert_eq!(read([0, 0]), ((true, true), (false, false, false)));
    assert_eq!(read([0x80, 0]), ((false, true), (true, false, false)));
    assert_eq!(read([0, 0x80]), ((true, false), (true, false, false)));
    assert_eq!(read([0x40, 0]), ((false, false), (false, true, false)));
    assert_eq!(read([0, 0x40]), ((true, false), (false, true, false)));
    assert_eq!(read([0x20, 0]), ((false, false), (false, false, true)));
    assert_eq!(read([0, 0x20]), ((false, false), (false, false, true)));
    // "Reserved … ignored on receipt" (RFC 8972 section 4).
    for reserved in [0x10, 0x08, 0x04, 0x02, 0x01] {
        assert_eq!(read([reserved, reserved]), ((true, true), (false, false, false)));
    }
}

#[test]
fn reflectors_of_rfc_8762_alone_are_understood() {
    for (template, _, sound) in vectors("reply") {
        let base = if template.len() > 100 { AUTHENTICATED_LEN } else { UNAUTHENTICATED_LEN };
        let mut request = vec![0; template.len()];
        template.write(SEQUENCE, T1, &mut request);
        let echoed = [&sound[..base], &request[base..]].concat();
        let zeroed = [&sound[..base], &vec![0; request.len() - base]].concat();
        let trailing = [&sound[..], &[0; 3]].concat();
        for bytes in [&sound[..base], &echoed, &zeroed, &trailing] {
            let reply = template.parse_reply(bytes).unwrap();
            assert_eq!((reply.t2, reply.t3, reply.sender_seq), (T2, T3, SEQUENCE));
            let told = reply.follow_up.is_some() && reply.sources.is_some();
            assert_eq!(told, bytes.len() == trailing.len());
        }
    }
}

#[test]
fn a_reply_of_a_stateless_reflector_has_no_follow_up() {
    let (template, _, mut bytes) = vectors("reply").swap_remove(0);
    bytes[48..64].fill(0);
    assert_eq!(template.parse_reply(&bytes).unwrap().follow_up, None);
}

#[test]
fn what_is_no_reply_of_ours_is_refused() {
    let (template, _, sound) = vectors("reply").swap_remove(2);
    let parse = |bytes: &[u8]| template.parse_reply(bytes).unwrap_err();
    assert_eq!(parse(&sound[..111]), ReplyError::TooShort { len: 111, base: 112 });
    for bit in 0..112 * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parse(&bytes), ReplyError::BadHmac, "bit {bit}");
    }
    let other = SenderConfig { ssid: 1, ..SenderConfig::default() };
    let (_, _, open) = vectors("reply").swap_remove(0);
    let error = RequestTemplate::new(other).unwrap().parse_reply(&open).unwrap_err();
    assert_eq!(error, ReplyError::OtherSession { received: SSID, sent: 1 });
    assert_eq!(error.to_string(), "the reply belongs to session 2571, not to 1");
}

#[test]
fn altered_tlvs_of_an_authenticated_reply_are_not_used() {
    let (template, _, sound) = vectors("reply").swap_remove(2);
    for bit in AUTHENTICATED_LEN * 8..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let reply = template.parse_reply(&bytes).unwrap();
        assert_eq!(reply.t3, T3);
        // The flags of the HMAC TLV itself are not covered, and I among them discards the rest.
        let hmac_flags = bit / 8 == sound.len() - 20;
        let discarded = reply.trouble.hmac_tlv_failed || reply.trouble.integrity;
        assert!(discarded || hmac_flags, "bit {bit}: {reply:?}");
        assert!(!discarded || reply.follow_up.is_none() && reply.sources.is_none(), "bit {bit}");
    }
}

#[test]
fn the_hmac_tlv_stands_before_nothing_but_padding() {
    let tlv = |kind: u8, len: u8| [&[0, kind, 0, len][..], &vec![0; len.into()]].concat();
    let (sources, hmac, padding) =
        (tlv(tlv::STAMP_SOURCES, 4), tlv(tlv::HMAC, 16), tlv(tlv::EXTRA_PADDING, 5));
    let judge = |parts: &[&Vec<u8>]| {
        tlv::protection(&parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<_>>())
    };
    use tlv::Protection::{At, Broken, NotNeeded};
    assert_eq!(judge(&[]), NotNeeded);
    assert_eq!(judge(&[&padding]), NotNeeded);
    assert!(matches!(judge(&[&sources, &hmac]), At(found) if found.at == 8));
    assert!(matches!(judge(&[&sources, &hmac, &padding]), At(found) if found.at == 8));
    assert!(matches!(judge(&[&padding, &hmac, &padding]), At(found) if found.at == 9));
    assert_eq!(judge(&[&hmac, &sources]), Broken);
    assert_eq!(judge(&[&hmac, &hmac]), Broken);
    assert_eq!(judge(&[&sources]), Broken);
    assert_eq!(judge(&[&padding, &padding]), Broken);
    assert_eq!(judge(&[&tlv(tlv::HMAC, 15)]), Broken);
    assert_eq!(judge(&[&vec![0, 8, 0]]), Broken);
}

#[test]
fn sizes_are_filled_by_extra_padding() {
    let len = |key: Option<Key>, telemetry, min_size| {
        let config = SenderConfig { key, telemetry, min_size, ..SenderConfig::default() };
        RequestTemplate::new(config).map(|template| template.len())
    };
    assert_eq!(len(None, false, 0), Ok(44));
    assert_eq!(len(None, true, 0), Ok(72));
    assert_eq!(len(Some(key()), false, 0), Ok(112));
    assert_eq!(len(Some(key()), true, 0), Ok(160));
    for (wanted, got) in [(44, 44), (45, 48), (47, 48), (48, 48), (49, 49), (1472, 1472)] {
        assert_eq!(len(None, false, wanted), Ok(got));
    }
    assert_eq!(len(Some(key()), true, MAX_UDP_PAYLOAD), Ok(MAX_UDP_PAYLOAD));
    for wanted in (0..200).chain([8_972]) {
        for with in [None, Some(key())] {
            let foreseen = request_len(with.is_some(), wanted);
            assert_eq!(len(with, true, wanted), Ok(foreseen), "{wanted}");
        }
    }
    let error = len(None, true, MAX_UDP_PAYLOAD + 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a payload of 65508 octets does not fit a UDP datagram; the largest has 65507"
    );
}

/// A reply to what left before the change is signed with the key before it.
#[test]
fn a_key_is_replaced_while_replies_are_under_way() {
    let of = |n: u8| Key::from_octets(&[n; 32]).unwrap();
    let template = |n| {
        let config = SenderConfig { key: Some(of(n)), ..SenderConfig::default() };
        RequestTemplate::new(config).unwrap()
    };
    let signed = |n| template(n).write(5, T1, &mut [0; 200]).to_vec();
    let mut ours = template(1);
    ours.replace_key(of(2));
    assert_eq!(ours.write(5, T1, &mut [0; 200]), signed(2));
    // A request is as good as a reply for who looks at digests alone.
    let reads = |ours: &RequestTemplate| [1, 2, 3].map(|n| ours.parse_reply(&signed(n)).is_ok());
    assert_eq!(reads(&ours), [true, true, false]);
    ours.forget_former_key();
    assert_eq!(reads(&ours), [false, true, false]);
    let mut plain = RequestTemplate::new(SenderConfig::default()).unwrap();
    plain.replace_key(of(2));
    assert_eq!(plain.len(), 72);
    assert!(plain.parse_reply(&[0; 72]).is_ok());
}

#[test]
fn keys_come_as_hexadecimal_text_and_are_never_shown() {
    let refusal = |text: &str| Key::from_hex(text).unwrap_err();
    assert_eq!(refusal(" 00g0"), KeyError::NotHex { found: 'g', position: 3 });
    assert_eq!(refusal("00112233445566778899aabbccddeeff0"), KeyError::HalfOctet { digits: 33 });
    assert_eq!(refusal(""), KeyError::TooShort { octets: 0 });
    assert_eq!(refusal(&"ab".repeat(15)), KeyError::TooShort { octets: 15 });
    assert_eq!(format!("{:?}", Key::from_hex(&"AB".repeat(16)).unwrap()), "Key(..)");
}

#[test]
fn digests_are_those_of_rfc_4231_cut_to_128_bits() {
    // RFC 4231 test case 6: a key longer than a block.
    let key = Key::from_octets(&[0xaa; 131]).unwrap();
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    let expected = octets("60e431591ee0b67f0d8a26aacbf5b77f");
    assert_eq!(key.digest([&text[..9], &text[9..]]), expected[..]);
}

proptest! {
    #[test]
    fn both_formats_keep_every_nanosecond(seconds: u32, nanos in 0_u64..1_000_000_000) {
        for format in [TimestampFormat::Ntp, TimestampFormat::Ptp] {
            let at = Wall::from_unix_nanos(u64::from(seconds) * 1_000_000_000 + nanos);
            prop_assert_eq!(format.decode(format.encode(at)), at);
        }
    }

    #[test]
    fn any_octets_may_come_back(bytes in prop::collection::vec(any::<u8>(), 0..300), keyed: bool, field: [u8; 8]) {
        let config = SenderConfig { key: keyed.then(key), ..SenderConfig::default() };
        let _ = RequestTemplate::new(config).unwrap().parse_reply(&bytes);
        TimestampFormat::Ntp.decode(field);
        TimestampFormat::Ptp.decode(field);
    }
}
