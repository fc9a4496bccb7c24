//! A store with windows, and what is said of it.

use std::io::Write as _;

use prost::Message as _;
use railgauge_core::finding::ComponentKind;
use railgauge_core::histogram::Recorder;
use railgauge_core::path_window::{Parameters, PathWindow, Split};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_proto::{convert, v1};

use super::*;
use crate::hello::{self, tests::example};
use crate::store::{self, Incoming, Outcome, Store};

const SECOND: u64 = 1_000_000_000;

/// 10 s at 10 probes a second: RTT of about `us`.
fn window(us: u64, seed: u64) -> PathWindow {
    let mut recorders = [0; 4].map(|_| Recorder::new());
    for n in 0..100u64 {
        let noise = (n * 7_919 + seed * 104_729) % 9_000;
        for (recorder, us) in recorders.iter_mut().zip([us + 140, us, 90, 50]) {
            recorder.record(us * 1_000 + noise);
        }
    }
    let [app_rtt, network_rtt, prober_delay, responder_delay] =
        recorders.each_mut().map(Recorder::drain);
    let parameters =
        Parameters { interval_ns: 100_000_000, timeout_ns: SECOND, size_bytes: 72, rdma: None };
    let kernel = StampSource::Kernel;
    let source = TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel };
    let mut window = PathWindow::new(parameters);
    window.app_rtt = app_rtt;
    window.splits.push(Split { source, network_rtt, prober_delay, responder_delay });
    let account = &mut window.account;
    (account.scheduled, account.sent, account.received) = (100, 100, 100);
    window
}

fn name(n: usize) -> String {
    format!("n{n}")
}

fn end(n: usize) -> v1::Endpoint {
    v1::Endpoint { node: name(n), port: "eth0".into(), rail: 0 }
}

fn path(from: usize, to: usize) -> v1::Path {
    v1::Path {
        src: Some(end(from)),
        dst: Some(end(to)),
        transport: v1::Transport::Udp.into(),
        memory: v1::Memory::Host.into(),
        flow: 0,
        dscp: 0,
    }
}

fn incoming(from: usize, to: &[usize], tick: u64, start: u64, windows: &[PathWindow]) -> Incoming {
    let message = v1::WindowBatch {
        agent: name(from),
        instance: 1,
        first_sequence: tick * to.len() as u64,
        start_unix_ns: start,
        length_ns: 10 * SECOND,
        plan_epoch: 1,
        paths: to.iter().map(|to| path(from, *to)).collect(),
        windows: (0u32..).zip(windows).map(|(n, w)| convert::window_message(n, w)).collect(),
    };
    let batch = convert::batch(&message).unwrap();
    Incoming { encoded: message.encode_to_vec(), batch, skewed: false }
}

/// `nodes` that probe the next `targets` each, for `ticks` windows until now; those to and from the node `slow` take long.
fn filled(
    dir: &std::path::Path,
    (nodes, targets): (usize, usize),
    ticks: u64,
    slow: usize,
) -> (Store, Judging) {
    let mut store = Store::open(store::Config::new(dir.to_owned())).unwrap();
    let now = clock::now();
    for tick in 0..ticks {
        // Windows begin at multiples of their length.
        let end = now.wall.as_unix_nanos() / (10 * SECOND) * 10 * SECOND;
        let start = end - (ticks - tick) * 10 * SECOND;
        for from in 0..nodes {
            let to: Vec<usize> = (1..=targets).map(|n| (from + n) % nodes).collect();
            let us = |to: &usize| if from == slow || *to == slow { 4_000 } else { 40 };
            let windows: Vec<_> = to.iter().map(|to| window(us(to), tick + *to as u64)).collect();
            let outcome = store.ingest(&[incoming(from, &to, tick, start, &windows)], now.wall);
            assert_eq!(outcome, [Outcome::Stored]);
        }
    }
    let fleet = Fleet::new(Duration::from_secs(30));
    for n in 0..nodes {
        let mut hello = example(&name(n), 1);
        hello.identity = format!("identity-of-{n:04}").into_bytes();
        let (high, low) = (u8::try_from(n / 250).unwrap(), u8::try_from(n % 250).unwrap());
        hello.endpoints[0].address = format!("127.1.{high}.{}", low + 1);
        fleet.join(hello::check(hello).unwrap(), now).unwrap();
    }
    let judging = Judging::new(Arc::new(fleet), store.reader(), watch::channel(Arc::default()).1);
    (store, judging)
}

fn read(judging: &Judging, most_series: usize) -> Work {
    let mut work = Work::new(judging.reader.clone(), judging.fleet.nodes().into(), Overdue::new());
    work.most_series = most_series;
    while !work.agents.is_empty() && work.error.is_none() {
        work.read_some();
    }
    work
}

#[test]
fn a_slow_node_is_found_alike_from_memory_and_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, judging) = filled(dir.path(), (5, 4), 6, 3);
    let nodes = judging.fleet.nodes();
    let now = clock::now().wall;
    let of = |most| read(&judging, most).judgement(&nodes, now);
    let (memory, store) = (of(KEPT_SERIES), of(0));
    assert_eq!(memory, store);
    let top = &store.findings[0].component;
    assert_eq!((top.kind, top.name.as_str()), (ComponentKind::Node, "n3"));

    let mut work = read(&judging, KEPT_SERIES);
    judging.judge(&mut work, &nodes, now);
    let first = judging.current();
    assert_eq!((first.verdict, first.open.len(), first.paths.len()), (Verdict::Degraded, 1, 20));
    let p99s: Vec<_> = first.worst.iter().map(|worst| worst.network_rtt_ns[2]).collect();
    assert_eq!(p99s.len(), 10);
    assert!(p99s.is_sorted_by(|a, b| a >= b) && p99s[9].is_some(), "{p99s:?}");
    assert!(
        first.worst[..8]
            .iter()
            .all(|w| [&w.path.src, &w.path.dst].iter().any(|end| end.node.as_str() == "n3"))
    );
    // Found again, it is the same finding; an error in between ends nothing, and is said.
    work.error = Some("no disk".into());
    judging.judge(&mut work, &nodes, now);
    let ill = judging.current();
    assert_eq!((ill.error.as_deref(), ill.open.len()), (Some("no disk"), 1));
    let later = Wall::from_unix_nanos(now.as_unix_nanos() + 9 * SECOND);
    let mut work = read(&judging, KEPT_SERIES);
    judging.judge(&mut work, &nodes, later);
    let open = &judging.current().open[0];
    assert_eq!((open.first_seen, open.last_seen), (now, later));
}

/// After a change of the plan's time-out the longer series stands for the path, and what it leaves out is said.
#[test]
fn what_was_probed_otherwise_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, judging) = filled(dir.path(), (3, 2), 3, usize::MAX);
    let now = clock::now().wall;
    let mut other = window(40, 1);
    other.parameters.timeout_ns = 2 * SECOND;
    let start = now.as_unix_nanos() / (10 * SECOND) * 10 * SECOND - 10 * SECOND;
    let outcome = store.ingest(&[incoming(0, &[1], 100, start, &[other])], now);
    assert_eq!(outcome, [Outcome::Stored]);
    let node = NodeName::new(&name(0)).unwrap();
    let all = of_agent(judging.reader(), &node, now, JUDGED, |_| true).unwrap();
    let each: Vec<_> = all.iter().map(|m| (m.gathered.account.sent, m.left_out)).collect();
    assert_eq!(each, [(300, 100), (300, 0)]);
    let selector = railgauge_core::selector::Selector::parse("").unwrap();
    let document = crate::documents::paths_now(&judging.fleet, &judging, JUDGED, &selector);
    let said = "100 more probes had another size, time-out or operation: they are in none of these numbers";
    let says = |validity: &[String]| validity.iter().any(|sentence| sentence == said);
    let of: Vec<bool> = document.paths.iter().map(|path| says(&path.measures.validity)).collect();
    assert_eq!(of, [true, false, false, false, false, false]);
    assert!(says(&document.fleet.unwrap().measures.validity));
}

/// Whoever has the key of one agent makes up paths to other nodes: flows and rails enough for each to be another.
#[test]
fn made_up_paths_of_one_node_leave_the_others_judged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, judging) = filled(dir.path(), (5, 4), 6, 3);
    let now = clock::now().wall;
    let start = now.as_unix_nanos() / (10 * SECOND) * 10 * SECOND - 10 * SECOND;
    for batch in 0..10u32 {
        let paths = (0..1_024).map(|n| v1::Path { flow: 1 + batch * 1_024 + n, ..path(0, 1) });
        let parameters =
            Parameters { interval_ns: 1, timeout_ns: SECOND, size_bytes: 72, rdma: None };
        let empty = PathWindow::new(parameters);
        let message = v1::WindowBatch {
            agent: name(0),
            instance: 9,
            first_sequence: u64::from(batch) * 1_024,
            start_unix_ns: start,
            length_ns: 10 * SECOND,
            plan_epoch: 1,
            paths: paths.collect(),
            windows: (0..1_024).map(|n| convert::window_message(n, &empty)).collect(),
        };
        let encoded = message.encode_to_vec();
        let incoming =
            Incoming { encoded, batch: convert::batch(&message).unwrap(), skewed: false };
        assert_eq!(store.ingest(&[incoming], now), [Outcome::Stored]);
    }
    let mut work = read(&judging, KEPT_SERIES);
    assert_eq!(work.error, None);
    assert!(work.facts.len() <= measured::MOST_OF_AGENT + 16, "{}", work.facts.len());
    let judgement = work.judgement(&judging.fleet.nodes(), now);
    let top = &judgement.findings[0].component;
    assert_eq!((top.kind, top.name.as_str()), (ComponentKind::Node, "n3"));
}

/// Connected, answering, and without windows of its own: it is not healthy because others reach it.
#[test]
fn a_node_that_records_nothing_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, judging) = filled(dir.path(), (5, 4), 6, usize::MAX);
    let nodes = judging.fleet.nodes();
    let now = clock::now().wall;
    let mut work = read(&judging, KEPT_SERIES);
    assert_eq!(work.judgement(&nodes, now).verdict, Verdict::Healthy);
    let mut work = read(&judging, 0);
    work.facts.retain(|facts| facts.path().src.node.as_str() != "n2");
    let judgement = work.judgement(&nodes, now);
    let said: Vec<_> = judgement.findings.iter().map(|f| f.summary.as_str()).collect();
    assert_eq!(
        said,
        [
            "node n2 was not measured: no window of a path from it that can be used has come for 300 s"
        ]
    );
    assert_eq!(judgement.verdict, Verdict::Unknown);
    assert_eq!(judgement.nodes[&NodeName::new("n2").unwrap()], Verdict::Unknown);
    assert_eq!(judgement.nodes[&NodeName::new("n1").unwrap()], Verdict::Healthy);
}

/// A path that its node should measure and does not is unknown, though both its ends measure others.
#[test]
fn a_planned_path_without_windows_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, judging) = filled(dir.path(), (5, 4), 6, usize::MAX);
    let nodes = judging.fleet.nodes();
    let target =
        |from: usize, to: usize| v1::Target { path: Some(path(from, to)), ..v1::Target::default() };
    let all = |from: usize| (0..5).filter(|to| *to != from).map(|to| target(from, to)).collect();
    let targets = (0..5).map(|from| (NodeName::new(&name(from)).unwrap(), all(from))).collect();
    let plans = Plans { targets, ..Plans::default() };
    let at = |seconds: u64| Monotonic::from_nanos(seconds * SECOND);
    let mut overdue = Overdue::new();
    let mut pass = |began: u64, lacking: &str| {
        let mut work = read(&judging, KEPT_SERIES);
        work.overdue = std::mem::take(&mut overdue);
        let kept = |path: &Path| format!("{} {}", path.src.node, path.dst.node) != lacking;
        let measured = work.facts.iter().map(|facts| kept(facts.path())).collect::<Vec<_>>();
        let mut of = measured.iter();
        work.facts.retain(|_| *of.next().unwrap());
        let mut of = measured.iter();
        work.series.retain(|_| *of.next().unwrap());
        work.miss(&plans, &nodes, at(began), at(began + 1));
        let judgement = work.judgement(&nodes, clock::now().wall);
        overdue = std::mem::take(&mut work.overdue);
        judgement.findings.into_iter().map(|finding| finding.summary).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(pass(100, "n1 n3"), none);
    assert_eq!(pass(160, "n1 n3"), none, "what was read before it was due proves nothing");
    assert_eq!(
        pass(161, "n1 n3"),
        [
            "path n1/eth0 > n3/eth0 udp: 0 samples of the 36 needed: it is planned, and no window of it has come for 60 s: the log of \
             the agent on n1 says why"
        ]
    );
    assert_eq!(pass(200, "").len(), 0);
    assert_eq!(pass(300, "n1 n3"), none, "its time begins anew");
}

#[test]
#[ignore = "a measurement: run with --release --nocapture; RATE_NODES agents of 64 paths, 5 minutes"]
fn a_pass_over_a_large_fleet() {
    let nodes = std::env::var("RATE_NODES").map_or(100, |n| n.parse().unwrap());
    let dir = tempfile::tempdir_in(std::env::var("RATE_DIR").unwrap_or("/tmp".into())).unwrap();
    let (_store, judging) = filled(dir.path(), (nodes, 64), 30, 3);
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status
            .lines()
            .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
            .collect::<String>()
    };
    let mut out = std::io::stderr();
    writeln!(out, "before: {}", resident()).unwrap();
    let began = clock::now().monotonic;
    let mut work = read(&judging, KEPT_SERIES);
    let after = clock::now().monotonic;
    let (paths, took) = (work.facts.len(), after.saturating_since(began));
    writeln!(out, "{paths} paths read in {took:?}: {}", resident()).unwrap();
    let judgement = work.judgement(&judging.fleet.nodes(), clock::now().wall);
    let took = clock::now().monotonic.saturating_since(after);
    writeln!(out, "judged in {took:?}: {}", resident()).unwrap();
    writeln!(out, "{}", judgement.findings[0].summary).unwrap();
    assert_eq!(judgement.findings[0].component.name, "n3");
}
