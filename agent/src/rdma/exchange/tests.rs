//! A prober against peers that answer as they should not: every wait ends, each end is a sentence.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use railgauge_core::path::PortName;
use railgauge_core::rdma::endpoint::{RdmaEndpoint, RefusalReason, Region, encode};
use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::gid::{Gid, GidKind, LinkLayer};
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::operation::{
    Completion, Measure, MemoryRoute, Method, Operation, Service,
};
use railgauge_core::rdma::reliability::Profile;

use super::*;

/// An end of a connection that reads.
pub fn endpoint(last: u8) -> RdmaEndpoint {
    RdmaEndpoint {
        port: PortName::new("rxe1/1").unwrap(),
        link_layer: LinkLayer::Ethernet,
        gid: Gid::from(std::net::IpAddr::from([10, 77, 0, last])),
        gid_kind: GidKind::RoceV2,
        lid: 0,
        mtu: PathMtu::B1024,
        queue_pair: 17,
        packet_sequence: 5,
        queue_key: 0,
        reads_out: 1,
        reads_in: 1,
        in_order: false,
        route: MemoryRoute::Host,
        region: None,
    }
}

/// Reads of 8 octets, one at a time.
pub fn offer() -> Offer {
    let (service, operation) = (Service::Connection, Operation::Read);
    Offer {
        method: Method {
            service,
            operation,
            measure: Measure::Latency,
            completion: Completion::Queue,
        },
        size: 8,
        outstanding: 1,
        reliability: Profile::Continuous.reliability(),
        traffic_class: 0,
        service_level: 0,
        flow_label: FlowLabel::of_flow(0).unwrap(),
        wanted: None,
        endpoint: endpoint(1),
    }
}

fn accept() -> Message {
    let region = Some(Region { address: 4096, len: 8, remote_key: 3 });
    let endpoint = RdmaEndpoint { region, ..endpoint(2) };
    Message::Accept(Box::new(Accept { most_per_second: 0, silence_ms: 30_000, endpoint }))
}

/// Offers to a peer that reads what comes, says `answer`, and keeps the line open as long as `keeps` says.
fn offered_to(answer: Vec<u8>, keeps: bool) -> Result<Exchange, ExchangeError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = listener.local_addr().unwrap();
    let serve = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // All of it: what is closed with octets unread is reset, and takes its answer with it.
        let expected = encode(&Message::Offer(Box::new(offer())));
        let mut first = vec![0; expected.len()];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, expected);
        stream.write_all(&answer).unwrap();
        if keeps {
            // Until the prober ends it.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let exchange = Exchange::open_within(peer, offer(), Duration::from_millis(300));
    if exchange.is_err() {
        serve.join().unwrap();
    }
    exchange
}

#[test]
fn an_answer_is_what_both_have_in_common() {
    let exchange = offered_to(encode(&accept()), true).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((exchange.agreed.mtu, exchange.accept.endpoint.queue_pair), (PathMtu::B1024, 17));
}

#[test]
fn whatever_else_comes_is_a_sentence() {
    let refusal = Refusal::new(RefusalReason::Busy, "64 sessions are as many as it has");
    let refusal = encode(&Message::Refuse(refusal));
    for (answer, keeps, said) in [
        (refusal, false, "refuses: 64 sessions are as many as it has"),
        (Vec::new(), false, "ended the exchange before it answered"),
        (b"HTTP/1.0 400 Bad Request\r\n".to_vec(), true, "does not speak the endpoint exchange"),
        (encode(&Message::Keep), true, "did not answer the offer within 300ms"),
        (encode(&accept())[..20].to_vec(), true, "did not answer the offer within 300ms"),
        (
            encode(&Message::Offer(Box::new(offer()))),
            true,
            "the peer sent offer instead of an answer",
        ),
    ] {
        let Err(error) = offered_to(answer, keeps) else { panic!("{said}: accepted") };
        let text = crate::sentence(&error);
        assert!(text.contains(said) && text.contains("127.0.0.1"), "{said}: {text}");
    }
}

#[test]
fn nobody_there_says_what_to_start() {
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let Err(error) = Exchange::open(unused, offer()) else { panic!("nobody listens") };
    assert!(error.to_string().contains("railgauge reflect --transport rdma-rc"), "{error}");
}
