use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc;

use nix::sys::socket::{TimestampingFlag, setsockopt, sockopt};
use railgauge_core::stamp::{ErrorEstimate, SenderConfig};
use railgauge_fabric::socket::UdpOptions;

use super::*;
use crate::ping::Transport;
use crate::reflect::{PlainRequests, ReflectConfig, Responder};

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
        timeout: Duration::from_secs(1),
        late_threshold: Duration::from_millis(1),
        flows: 1,
        transmit_stamps: true,
        second_acknowledgements: false,
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
    assert_eq!((end.account.scheduled, end.account.received), (300, 0));
    assert!(end.account.errors_by_reason().contains_key("connection_lost"));
    // The schedule lasts 600 ms, all of which a thread that spins on the dead socket would use; sleeping takes some 10 ms.
    assert!(end.findings.cpu_ns < 100_000_000, "{} ns of CPU time", end.findings.cpu_ns);
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

/// Stands in for a driver that takes no software stamps: the kernel is told not to ask for any.
fn without_departure_stamps(socket: &impl AsFd) {
    let arrivals = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(&socket.as_fd(), sockopt::Timestamping, &TimestampingFlag::empty()).unwrap();
    setsockopt(&socket.as_fd(), sockopt::Timestamping, &arrivals).unwrap();
}

fn udp(peer: SocketAddr) -> FlowOptions {
    FlowOptions::Udp(UdpOptions {
        local: "127.0.0.1:0".parse().unwrap(),
        peer: Some(peer),
        dscp: 0,
        ttl: 64,
        receive_buffer_bytes: 1 << 20,
        stamps: true,
    })
}

/// Who took t1 of the samples that have one, in send order. The busier the machine, the more probes left before the prober
/// had read enough replies.
fn t1_sources(end: &ProbeEnd) -> Vec<StampSource> {
    let source = |outcome: &Outcome| match outcome {
        Outcome::Reply(sample) => Some(sample.source.t1),
        Outcome::Lost { .. } => None,
    };
    end.outcomes.iter().filter_map(source).collect()
}

fn assert_only_the_first_lack_t1(end: &ProbeEnd) {
    assert!(end.flows[0].stamps.as_ref().is_err_and(|why| why.contains("departures alone")));
    let sources = t1_sources(end);
    let first = sources.iter().take_while(|&&source| source == StampSource::None).count();
    assert!(first < sources.len(), "none of {first} has t1");
    assert!(sources[first..].iter().all(|&source| source == StampSource::User), "{sources:?}");
    let missing = end.account.errors_by_reason().get("transmit_stamp_missing").copied();
    assert_eq!(missing.unwrap_or(0), first as u64);
}

fn measure_without_departure_stamps(warmup: u64, count: u64, mode: WaitMode) -> ProbeEnd {
    let responder = Responder::open(ReflectConfig {
        transport: Transport::Udp,
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        mode: WaitMode::Sleep,
        cpu: None,
        max_rate: None,
        keys: Vec::new(),
        plain: PlainRequests::default(),
        rdma: crate::rdma::PortWish::default(),
    });
    let responder = responder.unwrap();
    let peer = responder.listening()[0].local;
    let (stop, stop_responder) = (AtomicBool::new(false), AtomicBool::new(false));
    let (windows, _kept) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| responder.run(&stop_responder));
        let mut run = run(udp(peer), count, mode);
        run.session.warmup = warmup;
        let thread = ProbeThread::open(run, windows, &stop).unwrap();
        without_departure_stamps(&thread.flows[0].fd());
        let end = thread.run();
        stop_responder.store(true, Ordering::Relaxed);
        end
    })
}

#[test]
fn without_departure_stamps_a_warm_up_is_enough_to_take_user_space_ones() {
    for mode in [WaitMode::Sleep, WaitMode::BusyPoll] {
        assert_only_the_first_lack_t1(&measure_without_departure_stamps(100, 300, mode));
    }
}

#[test]
fn without_a_warm_up_enough_replies_tell_that_stamps_do_not_come() {
    let end = measure_without_departure_stamps(0, 300, WaitMode::Sleep);
    assert_only_the_first_lack_t1(&end);
    let counted = end.account.errors_by_reason()["transmit_stamp_missing"];
    assert!(counted >= ENOUGH_TO_MISS_STAMPS as u64, "{counted}");
}

#[test]
fn the_end_of_the_warm_up_needs_fewer_replies_to_tell() {
    // 60 replies in all. On a machine so busy that the warm-up ends before they are read, it cannot tell: hence once more.
    let told =
        || measure_without_departure_stamps(40, 20, WaitMode::Sleep).flows[0].stamps.is_err();
    assert!((0..5).any(|_| told()));
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
        stamps: true,
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
