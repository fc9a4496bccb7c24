use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;

use railgauge_core::path::{Endpoint, Memory, NodeName, PortName, Transport};
use railgauge_core::session::Outcome;

use super::windows::LaneWindows;
use super::*;
use crate::WaitMode;
use crate::reflect::{PlainRequests, ReflectConfig, Responder};

fn path(dst: &str) -> Arc<Path> {
    let at = |node: &str| Endpoint {
        node: NodeName::new(node).unwrap(),
        port: PortName::new("lo").unwrap(),
        rail: 0,
    };
    Arc::new(Path {
        src: at("a"),
        dst: at(dst),
        transport: Transport::Udp,
        memory: Memory::Host,
        flow: 0,
        dscp: 0,
    })
}

fn setup(dst: &str, peer: SocketAddr, interval_ms: u64) -> LaneSetup {
    LaneSetup {
        path: path(dst),
        peer,
        local: "127.0.0.1".parse().unwrap(),
        interval: Duration::from_millis(interval_ms),
        phase: Duration::ZERO,
        timeout: Duration::from_millis(100),
        size: 44,
        authenticated: false,
    }
}

fn responder() -> Responder {
    Responder::open(ReflectConfig {
        transport: crate::ping::Transport::Udp,
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        mode: WaitMode::Sleep,
        cpu: None,
        max_rate: None,
        keys: Vec::new(),
        plain: PlainRequests::default(),
    })
    .unwrap()
}

/// A path whose probes have a minute to be answered, and are not: given up in the end, all of them are in the windows of their slots.
#[test]
fn what_is_given_up_is_in_the_windows_of_its_slots() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (windows, received) = sync_channel(1024);
    let mesh = Mesh::start(None, Duration::from_millis(50), windows).unwrap();
    let mut lane = setup("b", silent.local_addr().unwrap(), 5);
    lane.timeout = Duration::from_secs(60);
    mesh.plan(1, vec![lane]);
    // Its queue holds what is sent: 3 of the warm-up, and 40 that count.
    let mut octets = [0; 128];
    for _ in 0..43 {
        silent.recv(&mut octets).unwrap();
    }
    mesh.drain();
    let all: Vec<RawWindow> = received.try_iter().collect();
    assert!(all.len() >= 4, "{} windows", all.len());
    for window in &all {
        let a = window.account;
        assert!(a.in_flight == a.sent && a.sent + a.skipped == a.scheduled, "{a:?}");
        assert!((1..=10).contains(&a.scheduled), "{a:?}");
    }
    assert!(all.iter().map(|w| w.account.in_flight).sum::<u64>() >= 40);
}

/// The clock is set back by an hour under a window, and an hour later it is there again: what was probed then is another window.
#[test]
fn a_clock_set_back_ends_the_windows_that_lie_ahead() {
    const SECOND: u64 = 1_000_000_000;
    let lane = setup("b", "127.0.0.1:9".parse().unwrap(), 1_000);
    let mut windows = LaneWindows::new(&lane, 44, Duration::from_secs(10));
    let at = |second: u64| Monotonic::from_nanos(second * SECOND);
    let (right, back) = (10_000_000_000_000, 10_000_000_000_000 - 3_600_000_000_000);
    let mut all: Vec<RawWindow> = Vec::new();
    let mut probe = |windows: &mut LaneWindows, second, offset| {
        windows.sent(at(second), offset);
        windows.outcome(Outcome::Lost { number: second, slot: at(second), flow: 0 }, offset);
        windows.close(Some(at(second + 1)), at(second), offset, 1, |window| all.push(window));
    };
    (100..105).for_each(|second| probe(&mut windows, second, right));
    windows.clock_stepped();
    (105..3_720).for_each(|second| probe(&mut windows, second, back));
    windows.close(None, at(3_720), back, 1, |window| all.push(window));
    assert!(all.iter().all(|window| window.account.scheduled <= 10));
    assert_eq!(all.iter().map(|window| window.account.scheduled).sum::<u64>(), 3_620);
    assert!(all[0].clock_stepped && all[0].account.scheduled == 5, "{:?}", all[0].account);
}

/// Two paths, one of which is never answered, over a change of plan and to the end: every slot is in one window, and each
/// window's account holds.
#[test]
fn every_slot_is_in_one_window_over_changes_of_plan() {
    let stop = AtomicBool::new(false);
    let responder = responder();
    let good = responder.listening()[0].local;
    // Bound and never read: its queue takes what is sent.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let bad = silent.local_addr().unwrap();
    let (windows, received) = sync_channel(1024);
    let all = thread::scope(|scope| {
        let responding = scope.spawn(|| responder.run(&stop));
        let mesh = Mesh::start(None, Duration::from_millis(50), windows).unwrap();
        mesh.plan(1, vec![setup("b", good, 2), setup("c", bad, 5)]);
        let mut all: Vec<RawWindow> = Vec::new();
        let enough = |all: &[RawWindow], epoch| {
            all.iter().filter(|w| w.epoch == epoch && w.path.dst.node.as_str() == "b").count() >= 4
        };
        let next = || received.recv_timeout(Duration::from_secs(20)).unwrap();
        while !enough(&all, 1) {
            all.push(next());
        }
        // One path goes on, one goes, one comes.
        mesh.plan(2, vec![setup("b", good, 2), setup("d", good, 5)]);
        while !enough(&all, 2) {
            all.push(next());
        }
        mesh.slow(10);
        mesh.drain();
        all.extend(received.try_iter());
        stop.store(true, Ordering::Relaxed);
        responding.join().unwrap().unwrap();
        all
    });
    for window in &all {
        let a = window.account;
        assert_eq!(a.scheduled, a.sent + a.skipped + a.send_errors, "{a:?}");
        assert_eq!(a.sent, a.received + a.lost + a.in_flight, "{a:?}");
        assert_eq!(window.outcomes.len() as u64, a.received + a.lost);
        assert_eq!(window.start_unix_ns % window.length_ns, 0);
    }
    let total = |dst: &str, of: fn(&WindowAccount) -> u64| -> u64 {
        all.iter().filter(|w| w.path.dst.node.as_str() == dst).map(|w| of(&w.account)).sum()
    };
    assert_eq!(total("c", |a| a.received), 0);
    assert!(total("c", |a| a.lost) >= 10);
    assert!(total("b", |a| a.received) >= 100 && total("d", |a| a.received) >= 5);
    // Full windows of 50 ms hold 25 slots of 2 ms, in every one but the first and the last of a lane.
    let full = all.iter().filter(|w| w.account.scheduled == 25).count();
    assert!(full >= 6, "{full} of {} windows are full", all.len());
    let mut numbers: Vec<_> =
        all.iter().map(|w| (&w.path, w.parameters, w.start_unix_ns)).collect();
    numbers.sort();
    let before = numbers.len();
    numbers.dedup();
    assert_eq!(before, numbers.len(), "a window was handed over twice");
}

use railgauge_core::path_window::WindowAccount;
