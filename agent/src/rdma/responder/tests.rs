//! The responder without a device, against probers of every kind: each is answered, counted and let go.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use railgauge_core::rdma::endpoint::encode;

use super::*;
use crate::rdma::exchange::tests::offer;

/// What `peer` heard, and what was counted, when it had sent `said` and said no more.
fn heard(config: &ResponderConfig, said: &[u8]) -> (Vec<u8>, BTreeMap<&'static str, u64>) {
    let stop = AtomicBool::new(false);
    let shared = Shared::new(config, None, &stop);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let answer = thread::scope(|scope| {
        accept_all(&listener, scope, &shared);
        peer.write_all(said).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A connection that is reset had its answer, or was to get none.
        let _ = peer.read_to_end(&mut answer);
        answer
    });
    assert_eq!(shared.connections.load(Ordering::Relaxed), 0, "let go");
    assert_eq!(shared.sessions.load(Ordering::Relaxed), 0);
    (answer, std::mem::take(&mut *lock(&shared.trouble)))
}

fn config(service: Service) -> ResponderConfig {
    let device = Some("no-such-device0".to_owned());
    ResponderConfig {
        port: PortWish { device, ..PortWish::default() },
        service: Some(service),
        mode: WaitMode::Sleep,
        cpu: None,
        reflector: ReflectorConfig::default(),
        keys: KeyRing::default(),
    }
}

fn refusal(answer: &[u8]) -> Option<(RefusalReason, String)> {
    let mut reader = Reader::default();
    reader.push(answer);
    match reader.next_message().unwrap() {
        Some(Message::Refuse(refusal)) => Some((refusal.reason, refusal.sentence)),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_offer_is_counted_and_let_go() {
    let offer = encode(&Message::Offer(Box::new(offer())));
    let mut long = offer.clone();
    long[6..8].copy_from_slice(&2000_u16.to_be_bytes());
    let mut newer = offer.clone();
    newer[4] = 9;
    for (said, reason, answered) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], "stranger", None),
        (&b""[..], "closed_before_offer", None),
        (&offer[..30], "closed_before_offer", None),
        (&long[..], "too_long", Some(RefusalReason::Malformed)),
        (&newer[..], "version", Some(RefusalReason::Version)),
        (&encode(&Message::Keep)[..], "out_of_order", None),
    ] {
        let (answer, trouble) = heard(&config(Service::Connection), said);
        assert_eq!(trouble, BTreeMap::from([(reason, 1)]), "{reason}");
        assert_eq!(refusal(&answer).map(|(reason, _)| reason), answered, "{reason}");
    }
}

#[test]
fn an_offer_that_cannot_be_met_is_refused_with_a_sentence() {
    let memory = Offer {
        method: railgauge_core::rdma::operation::Method {
            operation: railgauge_core::rdma::operation::Operation::Write,
            completion: Completion::Memory,
            ..offer().method
        },
        ..offer()
    };
    let mut memory = memory;
    memory.endpoint.region =
        Some(railgauge_core::rdma::endpoint::Region { address: 4096, len: 8, remote_key: 1 });
    let huge = Offer { size: MOST_BYTES + 1, ..offer() };
    for (service, offer, reason, said) in [
        (Service::Connection, offer(), RefusalReason::NoPort, "no-such-device0"),
        (Service::Datagram, offer(), RefusalReason::Unsupported, "it answers rdma-ud, not rdma-rc"),
        (Service::Connection, memory, RefusalReason::Unsupported, "--busy-poll"),
        (Service::Connection, huge, RefusalReason::Unsupported, "67108864 octets at most"),
    ] {
        let (answer, trouble) = heard(&config(service), &encode(&Message::Offer(Box::new(offer))));
        let (is, sentence) = refusal(&answer).unwrap();
        // Without any RDMA here the sentence is of that, which has no device's name.
        let fits =
            sentence.contains(said) || (reason == RefusalReason::NoPort && !sentence.is_empty());
        assert!(is == reason && fits, "{is:?} {sentence}");
        assert_eq!(trouble, BTreeMap::from([(reason.as_str(), 1)]));
    }
}

#[test]
fn connections_are_bounded() {
    let count = AtomicUsize::new(0);
    let held: Vec<_> = (0..3).map(|_| Counted::below(&count, 2)).collect();
    assert_eq!(held.iter().filter(|one| one.is_some()).count(), 2);
    assert_eq!(count.load(Ordering::Relaxed), 2, "who is refused is not counted");
    drop(held);
    assert!(Counted::below(&count, 2).is_some());
}
