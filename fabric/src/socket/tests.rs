use std::net::SocketAddr;
use std::time::Duration;

use railgauge_core::timestamp_source::StampSource;

use super::*;
use crate::clock;

fn options(local: &str) -> UdpOptions {
    let local: SocketAddr = local.parse().unwrap();
    UdpOptions { local, peer: None, dscp: 0, ttl: 64, receive_buffer_bytes: 1 << 20, stamps: true }
}

/// Waits for the event itself, bounded by two seconds.
fn receive(socket: &UdpSocket, batch: &mut ReceiveBatch) -> usize {
    let mut waiter = Waiter::new([socket.as_fd()].into_iter());
    waiter.wait(Duration::from_secs(2)).unwrap();
    socket.receive(batch).unwrap()
}

fn exchange(any: &str) {
    let responder = UdpSocket::open(&options(any)).unwrap();
    let peer = Some(responder.local_addr());
    let prober = UdpSocket::open(&UdpOptions { peer, ttl: 77, dscp: 46, ..options(any) }).unwrap();
    assert_eq!(
        (prober.stamps(), responder.stamps()),
        (Ok(StampSource::Kernel), Ok(StampSource::Kernel))
    );
    prober.send(&[7; 100]).unwrap();

    let mut batch = ReceiveBatch::new(4, 64);
    assert_eq!(receive(&responder, &mut batch), 1);
    let got = batch.iter().next().unwrap();
    assert_eq!(got.payload, [7; 64]);
    assert!(got.truncated, "100 octets do not fit 64");
    assert_eq!(got.from, Some(prober.local_addr()));
    assert_eq!((got.ttl, got.tos.map(|tos| tos >> 2)), (Some(77), Some(46)));
    let (arrived, source) = got.stamp.unwrap();
    assert_eq!(source, StampSource::Kernel);

    let mut left = None;
    let sink = |entry| match entry {
        QueuedError::Transmitted { number, stamp, .. } => left = Some((number, stamp)),
        other => panic!("no stamp but {other:?}"),
    };
    assert_eq!(ErrorQueue::default().drain(&prober, sink).unwrap(), 1);
    let (number, left) = left.unwrap();
    assert_eq!(number, 0);
    assert!(arrived.minus(left).0.abs() < 1_000_000_000);

    let route = ReplyRoute { to: got.from.unwrap(), local: got.local, tos: got.tos };
    responder.reply(&[9; 44], &route).unwrap();
    assert_eq!(receive(&prober, &mut batch), 1);
    let back = batch.iter().next().unwrap();
    assert_eq!((back.payload.len(), back.stamp.is_some()), (44, true));
}

/// Between two sockets bound to every address, so that both see where and in which class a datagram came.
fn mirror(every: &str, one: &str) {
    let responder = UdpSocket::open(&options(every)).unwrap();
    let prober = UdpSocket::open(&options(every)).unwrap();
    let one: std::net::IpAddr = one.parse().unwrap();
    let to = SocketAddr::new(one, responder.local_addr().port());
    prober.reply(&[1; 44], &ReplyRoute { to, local: None, tos: Some(0xb8) }).unwrap();
    let mut batch = ReceiveBatch::new(1, 64);
    assert_eq!(receive(&responder, &mut batch), 1);
    let got = batch.iter().next().unwrap();
    assert_eq!(got.local.map(|local| local.ip), Some(one));
    let route = ReplyRoute { to: got.from.unwrap(), local: got.local, tos: got.tos };
    responder.reply(got.payload, &route).unwrap();
    assert_eq!(receive(&prober, &mut batch), 1);
    let back = batch.iter().next().unwrap();
    assert_eq!((back.from, back.tos), (Some(to), Some(0xb8)));
}

#[test]
fn a_reply_leaves_from_where_its_request_came_and_in_its_class() {
    mirror("0.0.0.0:0", "127.0.0.2");
    mirror("[::]:0", "::1");
}

#[test]
fn stamps_ttl_and_class_cross_ipv4() {
    exchange("127.0.0.1:0");
}

#[test]
fn stamps_ttl_and_class_cross_ipv6() {
    exchange("[::1]:0");
}

#[test]
fn a_burst_keeps_its_order_and_every_stamp_its_number() {
    let responder = UdpSocket::open(&options("127.0.0.1:0")).unwrap();
    let peer = Some(responder.local_addr());
    let prober = UdpSocket::open(&UdpOptions { peer, ..options("127.0.0.1:0") }).unwrap();
    let mut burst = SendBatch::new(8);
    for index in 0..5 {
        burst.next_packet().fill(index);
    }
    assert!(matches!(burst.send(&prober), Sent { taken: 5, retried: false, error: None }));
    let mut batch = ReceiveBatch::new(8, 8);
    assert_eq!(receive(&responder, &mut batch), 5);
    let firsts: Vec<u8> = batch.iter().map(|datagram| datagram.payload[0]).collect();
    assert_eq!(firsts, [0, 1, 2, 3, 4]);
    let mut numbers = Vec::new();
    let sink = |entry| {
        if let QueuedError::Transmitted { number, .. } = entry {
            numbers.push(number);
        }
    };
    ErrorQueue::default().drain(&prober, sink).unwrap();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    prober.restart_transmit_numbering().unwrap();
    prober.send(&[0; 8]).unwrap();
    let sink = |entry| assert!(matches!(entry, QueuedError::Transmitted { number: 0, .. }));
    assert_eq!(ErrorQueue::default().drain(&prober, sink).unwrap(), 1);
}

#[test]
fn a_closed_port_is_reported_by_name() {
    let closed = UdpSocket::open(&options("127.0.0.1:0")).unwrap().local_addr();
    let prober =
        UdpSocket::open(&UdpOptions { peer: Some(closed), ..options("127.0.0.1:0") }).unwrap();
    prober.send(&[0; 44]).unwrap();
    let mut refused = Vec::new();
    let sink = |entry| {
        if let QueuedError::Refused { reason, .. } = entry {
            refused.push(reason);
        }
    };
    ErrorQueue::default().drain(&prober, sink).unwrap();
    assert_eq!(refused, ["port_unreachable"]);
}

#[test]
fn without_departure_stamps_arrivals_are_stamped_still() {
    let mut socket = UdpSocket::open(&options("127.0.0.1:0")).unwrap();
    socket.give_up_departure_stamps().unwrap();
    assert!(socket.stamps().unwrap_err().contains("departures alone"));
    let to = socket.local_addr();
    socket.reply(&[0; 44], &ReplyRoute { to, local: None, tos: None }).unwrap();
    let mut batch = ReceiveBatch::new(1, 64);
    assert_eq!(receive(&socket, &mut batch), 1);
    let stamp = batch.iter().next().unwrap().stamp;
    assert_eq!(stamp.map(|(_, source)| source), Some(StampSource::Kernel));
    let sink = |entry| panic!("{entry:?}");
    assert_eq!(ErrorQueue::default().drain(&socket, sink).unwrap(), 0);
}

#[test]
fn a_forgotten_socket_ends_no_wait() {
    let responder = UdpSocket::open(&options("127.0.0.1:0")).unwrap();
    let peer = Some(responder.local_addr());
    let prober = UdpSocket::open(&UdpOptions { peer, ..options("127.0.0.1:0") }).unwrap();
    prober.send(&[0; 44]).unwrap();
    let mut waiter = Waiter::new([prober.as_fd(), responder.as_fd()].into_iter());
    waiter.wait(Duration::from_secs(2)).unwrap();
    assert!(waiter.readiness(1).readable);
    waiter.forget(1);
    let before = clock::monotonic();
    waiter.forget(0);
    waiter.wait(Duration::from_millis(20)).unwrap();
    assert!(clock::monotonic().saturating_since(before) >= Duration::from_millis(20));
    assert_eq!(waiter.readiness(1), Readiness { readable: false, error: false });
}

#[test]
fn a_taken_port_says_what_to_do() {
    let first = UdpSocket::open(&options("127.0.0.1:0")).unwrap();
    let again = UdpOptions { local: first.local_addr(), ..options("127.0.0.1:0") };
    let text = UdpSocket::open(&again).unwrap_err().to_string();
    assert!(text.contains("is in use by another process: choose another port"), "{text}");
}

#[test]
fn overflow_of_the_receive_buffer_is_counted() {
    let small = UdpOptions { receive_buffer_bytes: 4096, ..options("127.0.0.1:0") };
    let responder = UdpSocket::open(&small).unwrap();
    let peer = Some(responder.local_addr());
    let prober = UdpSocket::open(&UdpOptions { peer, ..options("127.0.0.1:0") }).unwrap();
    for _ in 0..100 {
        prober.send(&[0; 44]).unwrap();
    }
    let mut batch = ReceiveBatch::new(128, 64);
    let kept = receive(&responder, &mut batch);
    // The count travels with the datagrams queued after the drop.
    prober.send(&[0; 44]).unwrap();
    receive(&responder, &mut batch);
    let dropped = batch.iter().next().unwrap().dropped_so_far;
    assert_eq!(dropped, Some(u32::try_from(100 - kept).unwrap()));
}
