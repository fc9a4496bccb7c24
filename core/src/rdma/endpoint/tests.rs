use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rdma::reliability::Profile;
use crate::time::Monotonic;

pub(super) fn port(name: &str) -> PortName {
    PortName::new(name).unwrap()
}

pub(super) fn end(name: &str, gid: &str) -> RdmaEndpoint {
    RdmaEndpoint {
        port: port(name),
        link_layer: LinkLayer::Ethernet,
        gid: gid.parse().unwrap(),
        gid_kind: GidKind::RoceV2,
        lid: 0,
        mtu: PathMtu::B4096,
        queue_pair: 17,
        packet_sequence: 0x12_3456,
        queue_key: 0,
        reads_out: 1,
        reads_in: 1,
        in_order: true,
        route: MemoryRoute::Host,
        region: Some(Region { address: 0x7f00_0000_1000, len: 4096, remote_key: 0xabcd }),
    }
}

pub(super) fn offer() -> Offer {
    Offer {
        method: Method::latency(Service::Connection, Operation::Write, true),
        size: 64,
        outstanding: 1,
        reliability: Profile::Continuous.reliability(),
        traffic_class: 104,
        service_level: 3,
        flow_label: FlowLabel::of_flow(0).unwrap(),
        wanted: Some(port("rxe1/1")),
        endpoint: end("rxe0/1", "10.0.0.1"),
    }
}

fn datagrams() -> Offer {
    let mut offer = offer();
    offer.method = Method::latency(Service::Datagram, Operation::Send, false);
    offer.endpoint = RdmaEndpoint { region: None, queue_key: 0x1234, ..end("rxe0/1", "10.0.0.1") };
    offer
}

pub(super) fn accept() -> Accept {
    Accept { most_per_second: 0, silence_ms: 9_000, endpoint: end("rxe1/1", "10.0.0.2") }
}

fn read(bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
    let mut reader = Reader::default();
    reader.push(bytes);
    reader.next_message()
}

/// The wire, octet by octet: what is changed here is another version.
#[test]
fn an_offer_is_these_octets() {
    let bytes = encode(&Message::Offer(Box::new(offer())));
    let expected: &[&[u8]] = &[
        b"RGRD\x01\x01\x00\x5b",
        &[2, 2, 1, 2],
        &[0, 0, 0, 64, 0, 1],
        &[14, 7, 6, 12],
        &[104, 3],
        &[0, 0, 0x42, 0xb5],
        b"\x06rxe1/1",
        b"\x06rxe0/1",
        &[2, 3],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1],
        &[0, 0],
        &[5, 1, 3],
        &[0, 0, 0, 17, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0],
        &[1, 1],
        &[0, 0, 0x7f, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0xab, 0xcd],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(read(&bytes), Ok(Some(Message::Offer(Box::new(offer())))));
}

#[test]
fn strangers_are_known_by_their_first_octets() {
    for stranger in [&b"GET / HTTP/1.1\r\n"[..], b"\x00\x00\x00\x2c", b"RGX", b"\x16\x03\x01"] {
        let error = read(stranger).unwrap_err();
        assert!(matches!(error, DecodeError::Magic(_)), "{error}");
        assert_eq!(error.refusal(), None);
    }
    assert_eq!(read(b"RGR"), Ok(None));
    // And the tcp transport refuses ours just as soon.
    let mut frames = crate::frame::FrameReader::default();
    frames.push(&encode(&Message::Keep));
    assert!(frames.next_packet().is_err());
}

#[test]
fn another_version_is_told_so_and_its_refusal_is_read() {
    let mut bytes = encode(&Message::Offer(Box::new(offer())));
    bytes[4] = 9;
    let error = read(&bytes[..HEADER]).unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.reason, RefusalReason::Version);
    assert!(refusal.sentence.contains("speaks version 9"), "{}", refusal.sentence);
    let mut bytes = encode(&Message::Refuse(refusal.clone()));
    bytes[4] = 9;
    assert_eq!(read(&bytes), Ok(Some(Message::Refuse(refusal))));
}

#[test]
fn nothing_is_kept_for_an_absurd_length() {
    let mut bytes = encode(&Message::Keep);
    bytes[6..8].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(read(&bytes), Err(DecodeError::TooLong(0xffff)));
}

#[test]
fn refusals_are_fit_to_print() {
    let refusal = Refusal::new(RefusalReason::Busy, &format!("a\x1b[2J\n{}", "ä".repeat(400)));
    assert!(refusal.sentence.len() <= MOST_SENTENCE && refusal.sentence.starts_with("a[2J"));
    let mut bytes = encode(&Message::Refuse(refusal));
    let at = HEADER + 1;
    bytes[at..at + 3].copy_from_slice(&[0xff, 0x07, 0xff]);
    let Ok(Some(Message::Refuse(read))) = read(&bytes) else { panic!("not read") };
    assert!(!read.sentence.contains(char::is_control) && read.sentence.len() <= MOST_SENTENCE);
}

/// Each line changes one thing in a good offer; none of them may pass.
#[test]
fn contradictions_are_named() {
    type Change = fn(&mut Offer);
    let cases: &[(&str, Change)] = &[
        ("0 octets", |o| o.size = 0),
        ("2 outstanding", |o| o.outstanding = 2),
        ("0 outstanding", |o| o.outstanding = 0),
        ("write cannot complete by queue", |o| o.method.completion = Completion::Queue),
        ("not watched by the CPU", |o| o.endpoint.route = MemoryRoute::Dmabuf),
        ("knows only send", |o| o.method.service = Service::Datagram),
        ("waits for ever", |o| o.reliability = Reliability::from_codes([0, 7, 6, 12]).unwrap()),
        ("traffic class 106", |o| o.traffic_class = 106),
        ("service level 8", |o| o.service_level = 8),
        ("with lid 3 is no address", |o| o.endpoint.lid = 3),
        ("(IB) with lid 0", |o| o.endpoint.gid_kind = GidKind::Ib),
        (":: (RoCE v2)", |o| o.endpoint.gid = Gid::ZERO),
        ("ff02::1 (RoCE v2)", |o| o.endpoint.gid = "ff02::1".parse().unwrap()),
        ("queue pair 1 is", |o| o.endpoint.queue_pair = 1),
        ("queue pair 16777215 is", |o| o.endpoint.queue_pair = 0xff_ffff),
        ("more than 24 bits", |o| o.endpoint.packet_sequence = 1 << 24),
        ("queue key 0x5 does not", |o| o.endpoint.queue_key = 5),
        ("takes 64 octets of this end's memory, given are 0", |o| o.endpoint.region = None),
        ("given are 4096", |o| o.size = 4097),
        ("are no memory", |o| o.endpoint.region.as_mut().unwrap().address = u64::MAX),
        ("no read or atomic", |o| {
            o.method = Method::latency(Service::Connection, Operation::Read, true);
            o.endpoint.reads_out = 0;
        }),
        ("64 octets cannot be probed", |o| {
            o.method = Method::latency(Service::Connection, Operation::Atomic, true);
        }),
    ];
    offer().check().unwrap();
    for (text, change) in cases {
        let mut wrong = offer();
        change(&mut wrong);
        let error = wrong.check().expect_err(text).to_string();
        assert!(error.contains(text), "{text:?} is not in {error:?}");
        let bytes = encode(&Message::Offer(Box::new(wrong)));
        let decoded = read(&bytes).unwrap_err();
        assert_eq!((decoded.to_string(), decoded.as_str()), (error, "contradiction"));
    }
    let mut wrong = datagrams();
    wrong.check().unwrap();
    wrong.endpoint.queue_key = 1 << 31;
    assert!(wrong.check().unwrap_err().to_string().contains("queue key 0x80000000"));
    let mut wrong = datagrams();
    wrong.endpoint.mtu = PathMtu::B256;
    wrong.size = 257;
    assert_eq!(wrong.check(), Err(Wrong::Size(257)));
}

#[test]
fn two_ends_agree_on_the_smaller_mtu_or_say_why_not() {
    let offer = offer();
    let theirs = RdmaEndpoint { mtu: PathMtu::B1024, ..accept().endpoint };
    assert_eq!(offer.agree(&theirs), Ok(Agreed { mtu: PathMtu::B1024, unordered: false }));
    let unordered = RdmaEndpoint { in_order: false, ..theirs.clone() };
    assert!(offer.agree(&unordered).unwrap().unordered);
    let reason = |end: &RdmaEndpoint| {
        let why = offer.agree(end).unwrap_err();
        (why.reason().as_str(), why.to_string())
    };
    let other = RdmaEndpoint { port: port("rxe2/1"), ..theirs.clone() };
    assert_eq!(reason(&other), ("no_port", "port rxe1/1 is meant, the answer is of rxe2/1".into()));
    let v6 = RdmaEndpoint { gid: "fd00::2".parse().unwrap(), ..theirs.clone() };
    assert_eq!(reason(&v6).0, "no_address");
    let v1 = RdmaEndpoint { gid_kind: GidKind::RoceV1, ..theirs.clone() };
    assert_eq!(reason(&v1).0, "no_address");
    let small = RdmaEndpoint { region: None, ..theirs.clone() };
    assert_eq!(reason(&small).0, "unsupported");
    let gpu = RdmaEndpoint { route: MemoryRoute::Dmabuf, ..theirs };
    assert!(reason(&gpu).1.contains("not watched by the CPU"));

    let mut big = datagrams();
    big.size = 2_000;
    let mut narrow = RdmaEndpoint { mtu: PathMtu::B1024, ..big.endpoint.clone() };
    narrow.port = port("rxe1/1");
    let why = big.agree(&narrow).unwrap_err().to_string();
    assert_eq!(why, "datagrams of 2000 octets do not fit the path MTU of 1024");
}

const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Monotonic {
    Monotonic::from_nanos(ms * 1_000_000)
}

fn established() -> (Conversation, Conversation) {
    let (mut prober, said) = Conversation::offer(offer(), at(0), SECOND).unwrap();
    let mut responder = Conversation::listen(at(0), SECOND);
    assert!(matches!(responder.hear(said, at(1)), Ok(Event::Offered(_))));
    let (said, agreed) = responder.accept(accept(), at(2)).unwrap();
    let Ok(Event::Accepted(_, theirs)) = prober.hear(said, at(3)) else { panic!("not accepted") };
    assert_eq!(agreed, theirs);
    assert!(prober.is_established() && responder.is_established());
    (prober, responder)
}

#[test]
fn both_ends_move_one_at_a_time_or_at_once() {
    let (mut prober, mut responder) = established();
    let mut moved = offer().endpoint;
    moved.gid = "10.0.7.1".parse().unwrap();
    let said = prober.moved(moved.clone(), at(10));
    let Ok(Event::PeerMoved(peer, _)) = responder.hear(said, at(11)) else { panic!("not moved") };
    assert_eq!(*peer, moved);
    let anew = RdmaEndpoint { queue_pair: 99, ..accept().endpoint };
    let said = responder.settle(anew.clone(), at(12));
    assert_eq!(prober.wake(), Some(at(1_010)), "waits for the settling");
    let Ok(Event::PeerSettled(peer, _)) = prober.hear(said, at(13)) else { panic!("not settled") };
    assert_eq!(*peer, anew);
    assert!(prober.wake().unwrap() > at(1_010));

    let (one, other) = (prober.moved(moved.clone(), at(20)), responder.moved(anew.clone(), at(20)));
    assert!(matches!(responder.hear(one, at(21)), Ok(Event::PeerMoved(..))));
    assert!(matches!(prober.hear(other, at(21)), Ok(Event::PeerMoved(..))));
    let (one, other) = (prober.settle(moved, at(22)), responder.settle(anew, at(22)));
    assert!(matches!(responder.hear(one, at(23)), Ok(Event::PeerSettled(..))));
    assert!(matches!(prober.hear(other, at(23)), Ok(Event::PeerSettled(..))));
}

#[test]
fn a_move_out_of_reach_ends_it_and_says_why() {
    let (mut prober, mut responder) = established();
    let moved = RdmaEndpoint { gid: "fe80::1".parse().unwrap(), ..offer().endpoint };
    let error = responder.hear(prober.moved(moved, at(10)), at(11)).unwrap_err().to_string();
    assert!(error.contains("peer's moved does not fit: RoCE v2 fe80::1 and"), "{error}");
    assert!(responder.is_over() && responder.wake().is_none());
}

#[test]
fn every_wait_ends() {
    let (mut prober, _) = Conversation::offer(offer(), at(0), SECOND).unwrap();
    assert_eq!(prober.wake(), Some(at(1_000)));
    assert_eq!(prober.on_time(at(999)), Ok(None));
    let silence = prober.on_time(at(1_000)).unwrap_err();
    assert_eq!(silence.to_string(), "the peer did not answer the offer within 1s");
    let mut responder = Conversation::listen(at(0), SECOND);
    let silence = responder.on_time(at(1_000)).unwrap_err();
    assert_eq!(silence.waited_for, "offered nothing");

    let (mut prober, mut responder) = established();
    // The keeping end is heard; the other one falls silent 9 s after its last word.
    for second in [4, 7] {
        let keep = prober.on_time(at(second * 1_000)).unwrap().unwrap();
        assert_eq!(responder.hear(keep, at(second * 1_000)), Ok(Event::Alive));
    }
    assert_eq!(prober.on_time(at(9_003)).unwrap_err().waited_for, "said nothing");
    assert!(prober.is_over());
    assert!(responder.on_time(at(15_999)).is_ok());
    assert!(responder.on_time(at(16_000)).is_err());
}

#[test]
fn who_moves_for_ever_is_sent_away() {
    let (_, mut responder) = established();
    let moved = || Message::Moved(Box::new(offer().endpoint));
    let mut now = 100;
    for _ in 0..16 {
        assert!(responder.hear(moved(), at(now)).is_ok());
    }
    now += 1_000;
    assert!(responder.hear(moved(), at(now)).is_ok(), "one more a second");
    assert_eq!(responder.hear(moved(), at(now)), Err(Unexpected::Moves));
    assert!(responder.is_over());
}

#[test]
fn refusals_and_closes_end_it() {
    let (mut prober, said) = Conversation::offer(offer(), at(0), SECOND).unwrap();
    let mut responder = Conversation::listen(at(0), SECOND);
    responder.hear(said, at(1)).unwrap();
    assert_eq!(responder.wake(), None, "its program is at work");
    let said = responder.refuse(RefusalReason::Busy, "64 peers are served already");
    let Ok(Event::Refused(refusal)) = prober.hear(said, at(2)) else { panic!("not refused") };
    assert_eq!(refusal.sentence, "64 peers are served already");
    assert!(prober.is_over() && responder.is_over());
    let late = prober.hear(Message::Keep, at(3)).unwrap_err();
    assert_eq!(late.to_string(), "the peer sent keep after the end");

    let (mut prober, mut responder) = established();
    assert_eq!(responder.hear(prober.close(), at(5)), Ok(Event::Closed));
    assert!(responder.is_over());
}

fn any_name() -> impl Strategy<Value = PortName> {
    "[A-Za-z0-9._:/-]{1,64}".prop_map(|name| port(&name))
}

fn any_end() -> impl Strategy<Value = RdmaEndpoint> {
    let gid = prop_oneof![Just("10.0.0.1"), Just("fd00::1"), Just("fe80::1")];
    let numbers = (2..=0xff_fffe_u32, 0..1_u32 << 24, any::<u8>(), any::<u8>(), any::<bool>());
    let region = (0..u64::MAX / 2, 1 << 31..u64::MAX / 2, any::<u32>());
    (any_name(), gid, any::<bool>(), 1..=5_u32, numbers, region).prop_map(
        |(name, gid, ib, mtu, (queue_pair, packet_sequence, reads, lid, in_order), region)| {
            let (address, len, remote_key) = region;
            RdmaEndpoint {
                port: name,
                link_layer: if ib { LinkLayer::InfiniBand } else { LinkLayer::Ethernet },
                gid_kind: if ib { GidKind::Ib } else { GidKind::RoceV2 },
                lid: if ib { u16::from(lid) + 1 } else { 0 },
                mtu: PathMtu::from_code(mtu).unwrap(),
                queue_pair,
                packet_sequence,
                reads_out: reads.max(1),
                reads_in: reads.max(1),
                in_order,
                region: Some(Region { address, len, remote_key }),
                ..end("x", gid)
            }
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    let sentence = "[ -~]{0,80}".prop_map(|text: String| text);
    prop_oneof![
        (any_end(), 1..4096_u32, 0..32_u8, 0..1_u32 << 20, prop::option::of(any_name())).prop_map(
            |(endpoint, size, class, label, wanted)| {
                let flow_label = FlowLabel::new(label).unwrap();
                let traffic_class = class * 4;
                let (service_level, base) = (class % 8, offer());
                Message::Offer(Box::new(Offer {
                    endpoint,
                    size,
                    traffic_class,
                    service_level,
                    flow_label,
                    wanted,
                    ..base
                }))
            }
        ),
        (any_end(), any::<u32>(), 1_000..600_000_u32).prop_map(|(endpoint, rate, silence_ms)| {
            Message::Accept(Box::new(Accept { most_per_second: rate, silence_ms, endpoint }))
        }),
        (any::<u8>(), sentence).prop_map(|(code, sentence)| {
            Message::Refuse(Refusal { reason: RefusalReason::from_code(code), sentence })
        }),
        any_end().prop_map(|end| Message::Moved(Box::new(end))),
        any_end().prop_map(|end| Message::Settled(Box::new(end))),
        Just(Message::Keep),
        Just(Message::Close),
    ]
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages(
        messages in prop::collection::vec(any_message(), 0..6), cut in 1_usize..300,
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(encode).collect();
        let mut reader = Reader::default();
        let mut read = Vec::new();
        for part in stream.chunks(cut) {
            reader.push(part);
            while let Some(message) = reader.next_message().unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!(read, messages);
    }

    /// One message has one form: whatever is taken is, sent again, the same octets.
    #[test]
    fn what_is_taken_is_written_alike(
        message in any_message(), at in 0_usize..250, to: u8, keep in 0_usize..300,
    ) {
        let mut bytes = encode(&message);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        bytes.truncate(keep.max(1));
        let mut reader = Reader::default();
        reader.push(&bytes);
        if let Ok(Some(taken)) = reader.next_message() {
            // Refusals are forgiving: they are for people, and of any version.
            if !matches!(taken, Message::Refuse(_)) {
                let again = encode(&taken);
                prop_assert_eq!(&again[..], &bytes[..again.len()]);
            }
        }
    }

    #[test]
    fn noise_is_refused_or_waited_for(kind in 0..9_u8, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"RGRD\x01".to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&body);
        let taken = read(&bytes);
        prop_assert!(!matches!(taken, Ok(None)), "the message was whole");
        let _ = read(&body);
    }

    /// Whatever a peer says, in whatever order: an end that is not over, and whose program is not at work, has a time
    /// at which it goes on by itself, and an end that is over says nothing more.
    #[test]
    fn no_end_ever_waits_without_a_deadline(
        messages in prop::collection::vec((any_message(), 0..5_000_u64), 0..12),
        prober: bool, answer: bool,
    ) {
        let mut own = match prober {
            true => Conversation::offer(offer(), at(0), SECOND).unwrap().0,
            false => Conversation::listen(at(0), SECOND),
        };
        let (mut now, mut at_work) = (0, false);
        for (message, later) in messages {
            now += later;
            let over = own.is_over();
            match own.hear(message, at(now)) {
                Ok(Event::Offered(_)) if answer => {
                    let _ = own.accept(accept(), at(now));
                    at_work = !own.is_established();
                }
                Ok(Event::Offered(_)) => at_work = true,
                Ok(_) => prop_assert!(!over),
                Err(_) => prop_assert!(own.is_over()),
            }
            prop_assert_eq!(own.wake().is_none(), own.is_over() || at_work);
            if let Some(wake) = own.wake() {
                let said = own.on_time(wake);
                prop_assert!(!matches!(said, Ok(None)), "woke for nothing at {wake:?}");
            }
        }
    }
}
