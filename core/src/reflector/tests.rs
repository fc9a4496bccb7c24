use super::*;
use crate::stamp::{FollowUp, Reply, RequestTemplate, SenderConfig, TimestampFormat, tlv};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;

const T1: u64 = 1_767_225_600_123_456_789;
const T2: u64 = T1 + 17_003;
const T3: u64 = T2 + 4_001;

fn key(fill: u8) -> Key {
    Key::from_octets(&[fill; 32]).unwrap()
}

fn wall(nanos: u64) -> Wall {
    Wall::from_unix_nanos(nanos)
}

fn from(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port))
}

fn rx() -> Received {
    Received {
        t2: wall(T2),
        t2_source: StampSource::Kernel,
        t3_source: StampSource::Kernel,
        ttl: Some(63),
    }
}

fn template(config: SenderConfig) -> RequestTemplate {
    RequestTemplate::new(config).unwrap()
}

fn request(template: &RequestTemplate, seq: u32) -> Vec<u8> {
    let mut out = vec![0xaa; template.len()];
    template.write(seq, wall(T1), &mut out);
    out
}

/// What comes back for `request`, with the prepared part for its token.
fn ask(
    reflector: &mut Reflector,
    now: u64,
    from: SocketAddr,
    request: &[u8],
) -> Result<(Prepared, Vec<u8>), DropReason> {
    let mut out = vec![0x55; request.len()];
    let prepared = reflector.receive(Monotonic::from_nanos(now), from, request, rx(), &mut out)?;
    prepared.finish(wall(T3), &mut out);
    Ok((prepared, out))
}

fn authenticated() -> (Reflector, SenderConfig) {
    let config = ReflectorConfig { keys: vec![key(1), key(2)], ..ReflectorConfig::default() };
    (Reflector::new(config), SenderConfig { key: Some(key(2)), ..SenderConfig::default() })
}

#[test]
fn a_reply_tells_what_the_reflector_saw() {
    for format in [TimestampFormat::Ntp, TimestampFormat::Ptp] {
        for key in [None, Some(key(7))] {
            let keys = key.iter().cloned().collect();
            let mut reflector =
                Reflector::new(ReflectorConfig { keys, ..ReflectorConfig::default() });
            let config = SenderConfig { format, ssid: 77, key, ..SenderConfig::default() };
            let template = template(config);
            let request = request(&template, 5);
            let (_, bytes) = ask(&mut reflector, 0, from(1000), &request).unwrap();
            let reply = template.parse_reply(&bytes).unwrap();
            assert_eq!(
                reply,
                Reply {
                    reflector_seq: 0,
                    t2: wall(T2),
                    t3: wall(T3),
                    stamps_readable: true,
                    reflector_error_estimate: ErrorEstimate {
                        format,
                        ..ErrorEstimate::UNSYNCHRONIZED
                    },
                    sender_seq: 5,
                    sender_timestamp: format.encode(wall(T1)),
                    ssid: 77,
                    sender_ttl: 63,
                    follow_up: None,
                    sources: Some((StampSource::Kernel, StampSource::Kernel)),
                    trouble: Default::default(),
                }
            );
            assert_eq!(bytes.len(), request.len());
        }
    }
}

#[test]
fn true_transmit_times_follow_in_order_one_a_reply() {
    let (mut reflector, config) = authenticated();
    let template = template(config);
    let tokens: Vec<_> = (0..3)
        .map(|seq| {
            let (prepared, _) =
                ask(&mut reflector, 0, from(1000), &request(&template, seq)).unwrap();
            prepared.token().unwrap()
        })
        .collect();
    for (token, t3) in tokens.into_iter().zip([T3 + 1, T3 + 2, T3 + 3]) {
        reflector.transmitted(token, wall(t3), StampSource::Hardware);
    }
    for seq in 0..4 {
        let (_, bytes) = ask(&mut reflector, 0, from(1000), &request(&template, 3 + seq)).unwrap();
        let reply = template.parse_reply(&bytes).unwrap();
        let expected = (seq < 3).then(|| FollowUp {
            reflector_seq: seq,
            t3: wall(T3 + 1 + u64::from(seq)),
            method: 1,
        });
        assert_eq!(reply.follow_up, expected, "reply {seq}");
        let promised = Some((StampSource::Kernel, StampSource::Kernel));
        assert_eq!(reply.sources, promised, "the true t3 of this very reply is to follow");
    }
    assert_eq!(reflector.counters().follow_ups_sent, 3);
}

fn drop_reason(reflector: &mut Reflector, request: &[u8]) -> Option<DropReason> {
    ask(reflector, 0, from(1000), request).err()
}

#[test]
fn requests_below_the_base_size_get_no_reply() {
    let mut reflector = Reflector::new(ReflectorConfig::default());
    for len in 0..44 {
        assert_eq!(drop_reason(&mut reflector, &vec![0; len]), Some(DropReason::TooShort));
    }
    assert_eq!(drop_reason(&mut reflector, &[0; 44]), None);
    assert_eq!(reflector.counters().dropped(DropReason::TooShort), 44);
    let mut small = [0; 43];
    let refused = reflector.receive(Monotonic::default(), from(1), &[0; 44], rx(), &mut small);
    assert_eq!(refused.unwrap_err(), DropReason::NoRoom);
    assert_eq!(reflector.counters().received, 46);
    assert_eq!(reflector.counters().dropped_total() + reflector.counters().replied, 46);
}

#[test]
fn keys_decide_what_is_answered() {
    let (mut keyed, config) = authenticated();
    let mut open = Reflector::new(ReflectorConfig::default());
    let good = request(&template(config), 1);
    let plain = request(&template(SenderConfig::default()), 1);
    let padded = SenderConfig { min_size: 200, ..SenderConfig::default() };
    let padded = request(&template(padded), 1);
    assert_eq!(drop_reason(&mut keyed, &good), None);
    assert_eq!(drop_reason(&mut keyed, &plain), Some(DropReason::NotAuthenticated));
    assert_eq!(drop_reason(&mut keyed, &padded), Some(DropReason::NotAuthenticated));
    assert_eq!(drop_reason(&mut open, &plain), None);
    assert_eq!(drop_reason(&mut open, &padded), None);
    assert_eq!(drop_reason(&mut open, &good), Some(DropReason::NoKey));
}

#[test]
fn old_and_new_key_are_accepted_while_they_rotate() {
    let (mut reflector, config) = authenticated();
    for fill in [1, 2] {
        let template = template(SenderConfig { key: Some(key(fill)), ..config.clone() });
        let (_, bytes) = ask(&mut reflector, 0, from(1), &request(&template, 0)).unwrap();
        assert!(template.parse_reply(&bytes).is_ok(), "answered with the key it was asked with");
    }
    reflector.set_keys(vec![key(3)]);
    let old = request(&template(config), 0);
    assert_eq!(drop_reason(&mut reflector, &old), Some(DropReason::BadHmac));
}

#[test]
fn any_altered_bit_of_an_authenticated_base_packet_drops_it() {
    let (mut reflector, config) = authenticated();
    let good = request(&template(config), 1);
    for bit in 0..112 * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // A bit among the zeros makes it look like the other mode; dropped it is in any case.
        let zeros = (4..16).contains(&(bit / 8));
        let expected = if zeros { DropReason::NotAuthenticated } else { DropReason::BadHmac };
        assert_eq!(drop_reason(&mut reflector, &bad), Some(expected), "bit {bit}");
    }
}

#[test]
fn altered_tlvs_come_back_flagged_for_integrity() {
    let (mut reflector, config) = authenticated();
    let template = template(SenderConfig { min_size: 180, ..config });
    let good = request(&template, 1);
    let hmac_flags = 112 + 20 + 8;
    for bit in 112 * 8..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (_, bytes) = ask(&mut reflector, 0, from(1), &bad).unwrap();
        let reply = template.parse_reply(&bytes).unwrap();
        let padding = bit / 8 >= hmac_flags + 20;
        if bit / 8 != hmac_flags && !padding {
            assert!(reply.trouble.hmac_tlv_failed, "bit {bit}");
            assert_eq!(bytes[112] & tlv::FLAG_INTEGRITY, tlv::FLAG_INTEGRITY, "bit {bit}");
        }
        assert_eq!(bytes.len(), bad.len());
    }
    assert!(reflector.counters().tlv_integrity_failures >= 46 * 8);
}

/// The flags octet and value of each TLV that comes back for `tlvs` after an open base packet.
fn reflected(tlvs: &[u8]) -> Vec<u8> {
    let base = request(&template(SenderConfig { telemetry: false, ..Default::default() }), 0);
    let mut reflector = Reflector::new(ReflectorConfig::default());
    let (_, bytes) = ask(&mut reflector, 0, from(1), &[&base, tlvs].concat()).unwrap();
    bytes[44..].to_vec()
}

#[test]
fn unknown_tlvs_come_back_as_they_were_but_flagged() {
    for kind in 0..=255 {
        let known = matches!(kind, tlv::EXTRA_PADDING);
        let back = reflected(&[0x80, kind, 0, 2, 0xca, 0xfe]);
        let flags = match kind {
            _ if known => 0,
            // Wrong length for its type.
            tlv::FOLLOW_UP => tlv::FLAG_MALFORMED,
            // No key to verify it with.
            tlv::HMAC => tlv::FLAG_INTEGRITY,
            _ => tlv::FLAG_UNRECOGNIZED,
        };
        let value = if kind == tlv::FOLLOW_UP { [0, 0] } else { [0xca, 0xfe] };
        assert_eq!(back, [&[flags, kind, 0, 2][..], &value].concat(), "type {kind}");
    }
}

#[test]
fn every_flag_of_a_request_is_ignored() {
    for flags in 0..=255 {
        assert_eq!(reflected(&[flags, tlv::EXTRA_PADDING, 0, 0])[0], 0);
        assert_eq!(reflected(&[flags, 99, 0, 0])[0], tlv::FLAG_UNRECOGNIZED);
    }
}

#[test]
fn work_stops_at_a_malformed_tlv_and_the_rest_goes_back_as_it_came() {
    let rest = [0x80, 99, 0, 1, 7];
    let cut = [0x80, 99, 0, 9, 1, 2];
    let short_follow_up = [0x80, tlv::FOLLOW_UP, 0, 3, 1, 2, 3];
    assert_eq!(reflected(&cut), [0x40, 99, 0, 9, 1, 2]);
    assert_eq!(reflected(&[0x80]), [0x40]);
    assert_eq!(reflected(&[0x80, 1, 0]), [0x40, 1, 0]);
    let back = reflected(&[&short_follow_up[..], &rest].concat());
    assert_eq!(back, [&[0x40, tlv::FOLLOW_UP, 0, 3, 0, 0, 0][..], &rest].concat());
    // What came before is processed.
    assert_eq!(reflected(&[&rest[..], &cut].concat())[..1], [tlv::FLAG_UNRECOGNIZED]);
}

#[test]
fn experiments_of_others_with_our_type_are_unknown() {
    let ours = [0x80, tlv::STAMP_SOURCES, 0, 4, b'R', b'G', 0, 0];
    let user = tlv::source_code(StampSource::User);
    assert_eq!(
        reflected(&ours),
        [0, tlv::STAMP_SOURCES, 0, 4, b'R', b'G', 3, user],
        "nobody asked for a true t3"
    );
    let foreign = [0x80, tlv::STAMP_SOURCES, 0, 4, b'X', b'G', 9, 9];
    assert_eq!(reflected(&foreign), foreign);
    let longer = [0x80, tlv::STAMP_SOURCES, 0, 5, b'R', b'G', 0, 0, 0];
    assert_eq!(reflected(&longer), longer);
}

/// Reflector sequence number of the reply to request `seq`.
fn turn(reflector: &mut Reflector, now: u64, from: SocketAddr, ssid: u16, seq: u32) -> u32 {
    let template = template(SenderConfig { ssid, telemetry: false, ..Default::default() });
    let (_, bytes) = ask(reflector, now, from, &request(&template, seq)).unwrap();
    template.parse_reply(&bytes).unwrap().reflector_seq
}

#[test]
fn each_session_counts_for_itself() {
    let mut reflector = Reflector::new(ReflectorConfig::default());
    let mut turn = |port, ssid, seq| turn(&mut reflector, 0, from(port), ssid, seq);
    assert_eq!([turn(1, 1, 0), turn(1, 1, 5), turn(1, 1, 6)], [0, 1, 2]);
    assert_eq!([turn(1, 2, 0), turn(2, 1, 0), turn(1, 1, 7)], [0, 0, 3]);
    assert_eq!(reflector.counters().sessions_started, 3);
}

#[test]
fn a_sender_that_begins_anew_has_a_new_session() {
    let mut reflector = Reflector::new(ReflectorConfig::default());
    let mut turn = |now, seq| turn(&mut reflector, now, from(1), 1, seq);
    assert_eq!([turn(0, 0), turn(0, 0), turn(0, 1), turn(0, 0)], [0, 1, 2, 3]);
    assert_eq!([turn(0, 500), turn(0, 0)], [4, 0]);
    // The counter of a long run wraps without a restart.
    assert_eq!([turn(0, u32::MAX), turn(0, 0)], [1, 2]);
    let silence = 900_000_000_000;
    assert_eq!([turn(silence - 1, 1), turn(2 * silence - 2, 2), turn(3 * silence, 3)], [3, 4, 0]);
    assert_eq!(reflector.counters().sessions_restarted, 2);
}

#[test]
fn sessions_are_bounded_and_the_longest_idle_makes_room() {
    let two = NonZeroUsize::new(2).unwrap();
    let config = ReflectorConfig { max_sessions: two, ..ReflectorConfig::default() };
    let mut reflector = Reflector::new(config);
    let asking = template(SenderConfig::default());
    let (prepared, _) = ask(&mut reflector, 0, from(1), &request(&asking, 0)).unwrap();
    let token = prepared.token().unwrap();
    let mut turn = |port, seq| turn(&mut reflector, 0, from(port), 0, seq);
    assert_eq!([turn(2, 0), turn(1, 1), turn(3, 0)], [0, 1, 0]);
    assert_eq!([turn(1, 2), turn(2, 1)], [2, 0], "the idle one was forgotten, the busy one not");
    assert_eq!([turn(8, 0), turn(9, 0)], [0, 0]);
    assert_eq!(reflector.counters().sessions_evicted, 4);
    reflector.transmitted(token, wall(T3), StampSource::Kernel);
    assert_eq!(reflector.counters().follow_ups_stale, 1);
}

#[test]
fn departures_beyond_the_ring_push_out_the_oldest() {
    let mut reflector = Reflector::new(ReflectorConfig::default());
    let template = template(SenderConfig::default());
    let mut told = Vec::new();
    let tokens: Vec<_> = (0..40)
        .map(|seq| ask(&mut reflector, 0, from(1), &request(&template, seq)).unwrap().0)
        .collect();
    for prepared in tokens {
        reflector.transmitted(prepared.token().unwrap(), wall(T3), StampSource::Kernel);
    }
    for seq in 40..80 {
        let (_, bytes) = ask(&mut reflector, 0, from(1), &request(&template, seq)).unwrap();
        told.extend(template.parse_reply(&bytes).unwrap().follow_up.map(|told| told.reflector_seq));
    }
    assert_eq!(told, (8..40).collect::<Vec<_>>());
    assert_eq!(reflector.counters().follow_ups_overrun, 8);
}

#[test]
fn a_sender_that_does_not_ask_gives_no_token() {
    let mut reflector = Reflector::new(ReflectorConfig::default());
    let bare = template(SenderConfig { telemetry: false, min_size: 99, ..Default::default() });
    let (prepared, _) = ask(&mut reflector, 0, from(1), &request(&bare, 0)).unwrap();
    assert_eq!(prepared.token(), None);
    assert_eq!(prepared.len(), 99);
}

#[test]
fn one_source_cannot_take_the_rate_of_another() {
    let mut reflector = Reflector::new(ReflectorConfig::default());
    let request = request(&template(SenderConfig::default()), 0);
    let mapped = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 7));
    let answered = |reflector: &mut Reflector, from| {
        (0..2_000).filter(|_| ask(reflector, 5, from, &request).is_ok()).count()
    };
    assert_eq!(answered(&mut reflector, from(1)), 1_000);
    // Neither another port nor another way to write the address makes another source.
    assert_eq!(answered(&mut reflector, from(2)), 0);
    assert_eq!(answered(&mut reflector, mapped), 0);
    assert_eq!(answered(&mut reflector, "192.0.2.2:1".parse().unwrap()), 1_000);
    assert_eq!(reflector.counters().dropped(DropReason::RateLimited), 6_000);
}

#[test]
fn a_strict_reflector_answers_whom_it_knows() {
    let known = Provisioned { source: from(0).ip(), ssid: Some(5) };
    let config = ReflectorConfig { provisioned: Some(vec![known]), ..ReflectorConfig::default() };
    let mut reflector = Reflector::new(config);
    let ask = |reflector: &mut Reflector, from: &str, ssid| {
        let template = template(SenderConfig { ssid, ..SenderConfig::default() });
        ask(reflector, 0, from.parse().unwrap(), &request(&template, 0)).err()
    };
    assert_eq!(ask(&mut reflector, "192.0.2.1:9", 5), None);
    assert_eq!(ask(&mut reflector, "192.0.2.1:9", 6), Some(DropReason::NotProvisioned));
    assert_eq!(ask(&mut reflector, "192.0.2.2:9", 5), Some(DropReason::NotProvisioned));
}

/// Which requests are answered with keys, without, and when keys come while it runs.
#[test]
fn plain_requests_are_answered_as_the_operator_says() {
    use PlainRequests::{Always, Never, WithoutKeys};
    let plain = request(&template(SenderConfig::default()), 1);
    let padded = SenderConfig { min_size: 200, ..SenderConfig::default() };
    let padded = request(&template(padded), 1);
    let keyed = |n| {
        let config = SenderConfig { key: Some(key(n)), ..SenderConfig::default() };
        request(&template(config), 1)
    };
    for (rule, keys, answers_plain) in [
        (WithoutKeys, vec![], true),
        (WithoutKeys, vec![1], false),
        (Always, vec![], true),
        (Always, vec![1, 2], true),
        (Never, vec![], false),
        (Never, vec![1], false),
    ] {
        let mut reflector =
            Reflector::new(ReflectorConfig { plain: rule, ..ReflectorConfig::default() });
        reflector.set_keys(keys.iter().map(|n| key(*n)).collect());
        let refused = (!answers_plain).then_some(DropReason::NotAuthenticated);
        for request in [&plain, &padded] {
            assert_eq!(drop_reason(&mut reflector, request), refused, "{rule:?} {keys:?}");
        }
        for n in 1..=3 {
            let expected = match keys.contains(&n) {
                true => None,
                false if keys.is_empty() => Some(DropReason::NoKey),
                false => Some(DropReason::BadHmac),
            };
            assert_eq!(drop_reason(&mut reflector, &keyed(n)), expected, "{rule:?} {keys:?} {n}");
        }
    }
}

proptest! {
    /// Anything may come: what goes back is as long, begins a reply, and the account adds up.
    #[test]
    fn a_reply_is_as_long_as_its_request(
        requests in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        keyed: bool,
    ) {
        let keys = if keyed { vec![key(1)] } else { vec![] };
        let mut reflector = Reflector::new(ReflectorConfig { keys, ..ReflectorConfig::default() });
        for request in &requests {
            let mut out = vec![0; request.len() + 8];
            let received =
                reflector.receive(Monotonic::default(), from(1), request, rx(), &mut out);
            if let Ok(prepared) = received {
                prop_assert_eq!(prepared.finish(wall(T3), &mut out).len(), request.len());
                prop_assert_eq!(&out[request.len()..], &[0; 8]);
            }
        }
        let counters = reflector.counters();
        prop_assert_eq!(counters.received, requests.len() as u64);
        prop_assert_eq!(counters.received, counters.replied + counters.dropped_total());
    }
}
