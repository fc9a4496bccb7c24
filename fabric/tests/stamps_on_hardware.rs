//! Stamps of a NIC on real probes; docs/hardware.md says how to run this.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::ethtool;
use railgauge_fabric::socket::{
    ErrorQueue, QueuedError, ReceiveBatch, UdpOptions, UdpSocket, Waiter,
};

fn named(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("set {variable}: see docs/hardware.md"))
}

#[test]
#[ignore = "needs a NIC with hardware timestamping enabled, RAILGAUGE_NIC, and a reflector behind it, RAILGAUGE_REFLECTOR"]
fn a_nic_that_stamps_every_packet_stamps_a_probe_and_its_reply() {
    let nic = named("RAILGAUGE_NIC");
    let peer: SocketAddr = named("RAILGAUGE_REFLECTOR").parse().expect("address:port");
    assert!(ethtool::stamps_every_packet(&nic), "hwstamp_ctl -i {nic} -t 1 -r 1");
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::open(&UdpOptions {
        local: any.parse().unwrap(),
        peer: Some(peer),
        dscp: 0,
        ttl: 64,
        receive_buffer_bytes: 1 << 20,
        stamps: true,
    });
    let socket = socket.unwrap();
    assert_eq!(socket.stamps(), Ok(StampSource::Hardware), "is {nic} the way to {peer}?");
    let mut waiter = Waiter::new(std::iter::once(socket.as_fd()));
    let (mut errors, mut batch) = (ErrorQueue::default(), ReceiveBatch::new(1, 256));
    let (mut left, mut came) = (None, None);
    socket.send(&[0; 44]).unwrap();
    for _ in 0..10 {
        waiter.wait(Duration::from_millis(200)).unwrap();
        let sink = |entry| {
            if let QueuedError::Transmitted { stamp, source, .. } = entry {
                left = Some((stamp, source));
            }
        };
        errors.drain(&socket, sink).unwrap();
        if socket.receive(&mut batch).unwrap() > 0 {
            came = batch.iter().next().unwrap().stamp;
        }
        if left.is_some() && came.is_some() {
            break;
        }
    }
    let (left, came) = (left.expect("no departure stamp"), came.expect("no arrival stamp"));
    assert_eq!((left.1, came.1), (StampSource::Hardware, StampSource::Hardware));
    let round_trip = came.0.minus(left.0).0;
    assert!((0..1_000_000_000).contains(&round_trip), "{round_trip} ns by the clock of {nic}");
}
