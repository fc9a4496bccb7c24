use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;

use railgauge_core::path::{Endpoint, Memory, NodeName, PortName, Transport};
use railgauge_core::session::Outcome;
use railgauge_core::stamp::Key;

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
        rdma: None,
        authenticated: false,
    }
}

fn responder() -> Responder {
    responder_with(Vec::new())
}

fn responder_with(keys: Vec<Key>) -> Responder {
    Responder::open(ReflectConfig {
        transport: crate::ping::Transport::Udp,
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        mode: WaitMode::Sleep,
        cpu: None,
        max_rate: None,
        keys,
        plain: PlainRequests::default(),
        rdma: crate::rdma::PortWish::default(),
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

/// The key of an epoch.
fn key(epoch: u8) -> Key {
    Key::from_octets(&[epoch; 32]).unwrap()
}

fn keyed(peer: SocketAddr, epoch: u8) -> Vec<PlannedLane> {
    // Long enough for a machine that has other things to do.
    let timeout = Duration::from_secs(2);
    let setup = LaneSetup { authenticated: true, timeout, ..setup("b", peer, 2) };
    vec![PlannedLane { setup, key: Some(LaneKey { epoch: epoch.into(), key: key(epoch) }) }]
}

/// Keys change under a lane, with replies under way: none is lost, no slot is missing, and no window ends for it.
#[test]
fn another_key_is_no_other_lane() {
    let stop = AtomicBool::new(false);
    let responder = responder_with(vec![key(1)]);
    let (peer, ring) = (responder.listening()[0].local, responder.key_ring());
    let (windows, received) = sync_channel(1024);
    let all: Vec<RawWindow> = thread::scope(|scope| {
        let responding = scope.spawn(|| responder.run(&stop));
        let mesh = Mesh::start(None, Duration::from_millis(50), windows).unwrap();
        let mut all: Vec<RawWindow> = Vec::new();
        for epoch in 1..=10 {
            ring.set(vec![key(epoch), key(epoch - 1)]);
            mesh.plan(epoch.into(), keyed(peer, epoch));
            all.push(received.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        mesh.drain();
        assert_eq!(mesh.counters().plan_epoch.load(Ordering::Relaxed), 10);
        all.extend(received.try_iter());
        stop.store(true, Ordering::Relaxed);
        responding.join().unwrap().unwrap();
        all
    });
    let sum = |of: fn(&WindowAccount) -> u64| all.iter().map(|w| of(&w.account)).sum::<u64>();
    assert_eq!((sum(|a| a.lost), sum(|a| a.sent)), (0, sum(|a| a.received)));
    assert!(sum(|a| a.received) >= 200);
    assert!(all.iter().all(|w| w.parameters.size_bytes == 160));
    // All windows but the first and the last have all their slots, and none is there twice.
    for pair in all[1..all.len() - 1].windows(2) {
        assert_eq!(pair[0].account.scheduled, 25);
        assert_eq!(pair[1].start_unix_ns - pair[0].start_unix_ns, 50_000_000);
    }
}

/// A key that nobody renews: slots are skipped, and nothing is lost; renewed, the lane goes on.
#[test]
fn a_key_that_is_over_is_not_used() {
    let stop = AtomicBool::new(false);
    let responder = responder_with(vec![key(1)]);
    let peer = responder.listening()[0].local;
    let (windows, received) = sync_channel(1024);
    let all: Vec<RawWindow> = thread::scope(|scope| {
        let responding = scope.spawn(|| responder.run(&stop));
        let mesh = Mesh::start(None, Duration::from_millis(50), windows).unwrap();
        let mut all: Vec<RawWindow> = Vec::new();
        let mut until = |what: fn(&WindowAccount) -> bool| {
            loop {
                let window = received.recv_timeout(Duration::from_secs(20)).unwrap();
                let found = what(&window.account);
                all.push(window);
                if found {
                    break;
                }
            }
        };
        mesh.plan(1, keyed(peer, 1));
        until(|a| a.received > 0);
        mesh.keys_until(clock::monotonic());
        until(|a| a.skipped == 25 && a.sent == 0);
        mesh.keys_until(Monotonic::from_nanos(u64::MAX));
        until(|a| a.received == 25);
        mesh.drain();
        let withheld = mesh.counters().probes_without_key.load(Ordering::Relaxed);
        all.extend(received.try_iter());
        assert_eq!(withheld, all.iter().map(|w| w.account.skipped).sum::<u64>());
        stop.store(true, Ordering::Relaxed);
        responding.join().unwrap().unwrap();
        all
    });
    assert_eq!(all.iter().map(|w| w.account.lost).sum::<u64>(), 0);
}

use railgauge_core::path_window::WindowAccount;
