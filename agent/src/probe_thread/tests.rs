use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;

use railgauge_core::stamp::{ErrorEstimate, SenderConfig};
use railgauge_fabric::socket::UdpOptions;

use super::*;

fn run(flow: FlowOptions, count: u64, mode: WaitMode) -> ProbeRun {
    let template = RequestTemplate::new(SenderConfig {
        format: TimestampFormat::Ptp,
        ssid: 1,
        error_estimate: ErrorEstimate::UNSYNCHRONIZED,
        key: None,
        telemetry: true,
        min_size: 0,
    });
    let session = SessionConfig {
        interval: Duration::from_millis(2),
        count,
        warmup: 0,
        timeout: Duration::from_millis(200),
        late_threshold: Duration::from_millis(1),
        flows: 1,
        transmit_stamps: true,
    };
    ProbeRun {
        session,
        template: template.unwrap(),
        format: TimestampFormat::Ptp,
        flows: vec![flow],
        mode,
        keep_outcomes: true,
    }
}

#[test]
fn a_lost_connection_is_not_waited_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer: SocketAddr = listener.local_addr().unwrap();
    let flow = FlowOptions::Tcp { peer, timeout: Duration::from_secs(3) };
    let (windows, _kept) = mpsc::channel();
    let stop = AtomicBool::new(false);
    let thread = ProbeThread::open(run(flow, 300, WaitMode::Sleep), windows, &stop).unwrap();
    drop(listener.accept().unwrap());
    let end = thread.run();
    assert_eq!(end.account.send_errors + end.account.lost, 300);
    assert!(end.account.errors_by_reason()["connection_lost"] >= 299);
    // The schedule lasts 600 ms, all of which a thread that spins on the dead socket would use; sleeping takes some 10 ms.
    assert!(end.findings.cpu_ns < 200_000_000, "{} ns of CPU time", end.findings.cpu_ns);
}

#[test]
fn a_target_is_hopeless_when_it_refuses_or_nothing_gets_out() {
    let counted = |reason| BTreeMap::from([(reason, 10)]);
    assert!(is_hopeless(10, 0, &counted("port_unreachable")));
    assert!(!is_hopeless(10, 1, &counted("port_unreachable")));
    for refused in REFUSED_BY_THIS_HOST {
        assert!(is_hopeless(0, 0, &counted(refused)), "{refused}");
        assert!(!is_hopeless(1, 0, &counted(refused)), "{refused}: some got out");
    }
    assert!(!is_hopeless(0, 0, &counted("send_queue_full")));
    assert!(!is_hopeless(10, 0, &BTreeMap::new()));
}

/// A reflector of base packets that loses one in twenty, until nothing has come for a second.
fn lossy_reflector(socket: UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut request = [0; 128];
    for number in 1_u32.. {
        let Ok((_, from)) = socket.recv_from(&mut request) else { return };
        if number.is_multiple_of(20) {
            continue;
        }
        // Sequence Number, Timestamp, Error Estimate; the sender's own after them; t2 and t3 are t1.
        let mut reply = [0; 44];
        reply[..14].copy_from_slice(&request[..14]);
        reply[16..24].copy_from_slice(&request[4..12]);
        reply[24..38].copy_from_slice(&request[..14]);
        socket.send_to(&reply, from).unwrap();
    }
}

#[test]
fn replies_are_read_while_losses_wait_for_a_dry_read() {
    let reflector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flow = FlowOptions::Udp(UdpOptions {
        local: "127.0.0.1:0".parse().unwrap(),
        peer: Some(reflector.local_addr().unwrap()),
        dscp: 0,
        ttl: 64,
        receive_buffer_bytes: 1 << 20,
        kernel_stamps: true,
    });
    let reflector = std::thread::spawn(|| lossy_reflector(reflector));
    let mut run = run(flow, 40_000, WaitMode::BusyPoll);
    run.session.interval = Duration::from_micros(50);
    let (windows, _kept) = mpsc::channel();
    let stop = AtomicBool::new(false);
    let account = ProbeThread::open(run, windows, &stop).unwrap().run().account;
    assert!(account.lost >= account.sent / 25, "{account:?}");
    // Read once a millisecond, one in four would be; the rest overflows the receive buffer or comes too late.
    assert!(account.received > account.sent / 2, "{account:?}");
    reflector.join().unwrap();
}
