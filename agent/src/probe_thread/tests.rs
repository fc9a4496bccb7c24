use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use railgauge_core::stamp::{ErrorEstimate, SenderConfig};

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
