use std::net::SocketAddr;

use nix::sys::socket::{TimestampingFlag, setsockopt, sockopt};
use railgauge_core::reflector::ReflectorConfig;
use railgauge_core::stamp::{ErrorEstimate, RequestTemplate, SenderConfig, TimestampFormat};

use super::*;

fn socket(peer: Option<SocketAddr>) -> UdpSocket {
    let local = "127.0.0.1:0".parse().unwrap();
    let receive_buffer_bytes = 1 << 20;
    let options = UdpOptions { local, peer, dscp: 0, ttl: TTL, receive_buffer_bytes, stamps: true };
    UdpSocket::open(&options).unwrap()
}

/// Stands in for a driver that takes no software stamps: the kernel is told not to ask for any.
fn without_departure_stamps(socket: &UdpSocket) {
    let arrivals = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(socket, sockopt::Timestamping, &TimestampingFlag::empty()).unwrap();
    setsockopt(socket, sockopt::Timestamping, &arrivals).unwrap();
}

fn template() -> RequestTemplate {
    let config = SenderConfig {
        format: TimestampFormat::Ptp,
        ssid: 1,
        error_estimate: ErrorEstimate::UNSYNCHRONIZED,
        key: None,
        telemetry: true,
        min_size: 0,
    };
    RequestTemplate::new(config).unwrap()
}

/// The source of t3 that the reply to one request promises.
fn promised(
    prober: &UdpSocket,
    responding: &mut Responding,
    template: &RequestTemplate,
) -> StampSource {
    let mut request = vec![0; template.len()];
    template.write(7, clock::wall(), &mut request);
    prober.send(&request).unwrap();
    responding.waiter.wait(Duration::from_secs(2)).unwrap();
    responding.answer_all(0);
    let mut waiter = Waiter::new(std::iter::once(prober.as_fd()));
    waiter.wait(Duration::from_secs(2)).unwrap();
    let mut batch = ReceiveBatch::new(1, 2048);
    assert_eq!(prober.receive(&mut batch).unwrap(), 1);
    let reply = template.parse_reply(batch.iter().next().unwrap().payload).unwrap();
    reply.sources.unwrap().1
}

/// One of these a 15 ms, without sleeping: the wait for a packet that nobody sends.
fn pause(on: &UdpSocket) {
    let mut waiter = Waiter::new(std::iter::once(on.as_fd()));
    waiter.forget(0);
    waiter.wait(Duration::from_millis(15)).unwrap();
}

#[test]
fn no_true_t3_is_promised_once_departure_stamps_turn_out_not_to_come() {
    let responder = socket(None);
    without_departure_stamps(&responder);
    let (prober, template) = (socket(Some(responder.local_addr())), template());
    let reflector =
        Reflector::new(ReflectorConfig { max_rate: None, ..ReflectorConfig::default() });
    let mut responding = Responding::new(vec![responder], reflector, WaitMode::Sleep);
    let began = clock::monotonic();
    for _ in 0..ENOUGH_TO_MISS_STAMPS - 1 {
        assert_eq!(promised(&prober, &mut responding, &template), StampSource::Kernel);
    }
    while promised(&prober, &mut responding, &template) == StampSource::Kernel {
        assert!(clock::monotonic().saturating_since(began) < 5 * LONGEST_TO_A_STAMP);
        pause(&prober);
    }
    assert!(clock::monotonic().saturating_since(began) >= LONGEST_TO_A_STAMP);
    assert_eq!(promised(&prober, &mut responding, &template), StampSource::User);
    assert_eq!(responding.trouble, BTreeMap::from([("transmit_stamps_missing", 1)]));
}

#[test]
fn a_true_t3_stays_promised_where_departures_are_stamped() {
    let responder = socket(None);
    let (prober, template) = (socket(Some(responder.local_addr())), template());
    let reflector =
        Reflector::new(ReflectorConfig { max_rate: None, ..ReflectorConfig::default() });
    let mut responding = Responding::new(vec![responder], reflector, WaitMode::Sleep);
    for _ in 0..ENOUGH_TO_MISS_STAMPS {
        assert_eq!(promised(&prober, &mut responding, &template), StampSource::Kernel);
    }
    let long_after = || clock::monotonic().saturating_add(10 * LONGEST_TO_A_STAMP);
    assert!(!responding.sockets[0].departures.are_absent(1, LONGEST_TO_A_STAMP, long_after));
}
