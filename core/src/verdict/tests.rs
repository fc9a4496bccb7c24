//! One situation after the other, without noise.

use super::*;
use crate::finding::ComponentKind;
use crate::histogram::Recorder;
use crate::path::{Endpoint, Memory, PortName, Transport};

/// Ends of a fleet whose nodes `n0`, `n1`… have one port on each rail.
fn end(node: usize, rail: u16) -> Endpoint {
    let port = PortName::new(&format!("p{rail}")).unwrap();
    Endpoint { node: NodeName::new(&format!("n{node}")).unwrap(), port, rail }
}

#[derive(Clone, Copy)]
struct Sight {
    src: usize,
    dst: usize,
    rail: u16,
}

/// What a path measures: of `sent` probes every `lost`-th lost (0: none), delays in microseconds.
#[derive(Clone, Copy)]
struct Seen {
    sent: u64,
    lost_every: u64,
    rtt: u64,
    prober: u64,
    responder: u64,
}

const FINE: Seen = Seen { sent: 600, lost_every: 0, rtt: 40, prober: 90, responder: 50 };

fn input(at: Sight, seen: Seen) -> PathInput {
    let mut recorders = [Recorder::new(), Recorder::new(), Recorder::new()];
    let mut series = Series::default();
    let mut account = WindowAccount { sent: seen.sent, scheduled: seen.sent, ..Default::default() };
    for n in 0..seen.sent {
        if seen.lost_every > 0 && n % seen.lost_every == 0 {
            account.lost += 1;
            recorders[0].record_censored();
        } else {
            account.received += 1;
            let parts = [seen.rtt, seen.prober, seen.responder];
            for (recorder, us) in recorders.iter_mut().zip(parts) {
                // A little more for one in seven, in no relation to blocks.
                recorder.record(us * 1_000 + (n % 7) * us);
            }
        }
        if n % 100 == 99 {
            let [network, prober, responder] = recorders.each_mut().map(Recorder::drain);
            series.network_rtt.push(&network);
            series.prober_delay.push(&prober);
            series.responder_delay.push(&responder);
        }
    }
    let (src, dst) = (end(at.src, at.rail), end(at.dst, at.rail));
    let (transport, memory) = (Transport::Udp, Memory::Host);
    let path = Path { src, dst, transport, memory, flow: 0, dscp: 0 };
    PathInput { path, timeout_ns: 1_000_000_000, account, series: Ok(series) }
}

fn mesh(nodes: usize, rails: u16, see: impl Fn(Sight) -> Seen) -> Vec<PathInput> {
    let pairs = (0..nodes).flat_map(|src| (0..nodes).map(move |dst| (src, dst)));
    let pairs = pairs.filter(|(src, dst)| src != dst);
    let sights = pairs.flat_map(|(src, dst)| (0..rails).map(move |rail| Sight { src, dst, rail }));
    sights.map(|at| input(at, see(at))).collect()
}

fn expected(nodes: usize) -> Vec<NodeInput> {
    let name = |n| NodeName::new(&format!("n{n}")).unwrap();
    (0..nodes).map(|n| NodeInput { name: name(n), absent: None }).collect()
}

fn judged(nodes: usize, paths: &[PathInput]) -> Judgement {
    judge(paths, &expected(nodes), &Settings::default())
}

/// `kind component: verdict`, of each finding.
fn said(judgement: &Judgement) -> Vec<String> {
    let each = judgement.findings.iter().map(|f| {
        format!("{:?} {:?} {:?} {}", f.severity, f.kind, f.component.kind, f.component.name)
    });
    each.collect()
}

fn node(judgement: &Judgement, n: usize) -> Verdict {
    judgement.nodes[&NodeName::new(&format!("n{n}")).unwrap()]
}

#[test]
fn nothing_measured_is_unknown() {
    let judgement = judge(&[], &[], &Settings::default());
    assert_eq!(judgement.verdict, Verdict::Unknown);
    assert_eq!(said(&judgement), ["Unknown NoData Fleet fleet"]);
    let judgement = judged(3, &[]);
    assert_eq!((judgement.verdict, node(&judgement, 0)), (Verdict::Unknown, Verdict::Unknown));
}

/// A prober that skips most slots, or whose kernel refuses most probes, says nothing of those.
#[test]
fn a_path_most_of_whose_probes_never_left_is_unknown() {
    for unsent in [600, 601] {
        let mut paths = mesh(4, 1, |_| FINE);
        paths[0].account.scheduled += unsent;
        paths[0].account.skipped = unsent - 1;
        paths[0].account.send_errors = 1;
        let judgement = judged(4, &paths);
        let unknown = unsent > 600;
        let verdict = if unknown { Verdict::Unknown } else { Verdict::Healthy };
        assert_eq!((judgement.paths[0].verdict, judgement.verdict), (verdict, verdict));
        let named = judgement
            .findings
            .iter()
            .any(|f| f.summary.contains("601 of its probes were never sent"));
        assert_eq!(named, unknown, "{:?}", judgement.findings);
    }
}

/// A host whose kernel does not stamp arrivals has its own wake-ups in the network RTT that it measures.
#[test]
fn stamps_of_the_kernel_are_not_held_against_those_of_an_application() {
    use crate::timestamp_source::{StampSource, TimestampSource};
    let is_woken = |n: usize| n >= 6;
    let mut paths =
        mesh(9, 1, |at| match usize::from(is_woken(at.src)) + usize::from(is_woken(at.dst)) {
            0 => FINE,
            n => Seen { rtt: 40 + 150 * n as u64, ..FINE },
        });
    assert_ne!(judged(9, &paths).verdict, Verdict::Healthy);
    for path in &mut paths {
        let by = |node: &NodeName| match node.as_str() {
            "n6" | "n7" | "n8" => StampSource::User,
            _ => StampSource::Kernel,
        };
        let (prober, responder) = (by(&path.path.src.node), by(&path.path.dst.node));
        let source = TimestampSource { t1: prober, t2: responder, t3: responder, t4: prober };
        path.series.as_mut().unwrap().source = Some(source);
    }
    let judgement = judged(9, &paths);
    assert_eq!(said(&judgement), Vec::<String>::new());
    assert_eq!(judgement.verdict, Verdict::Healthy);
}

#[test]
fn a_fleet_without_anything_wrong_is_healthy() {
    for nodes in [3, 4, 7] {
        let judgement = judged(nodes, &mesh(nodes, 1, |_| FINE));
        assert_eq!(said(&judgement), Vec::<String>::new());
        assert_eq!(judgement.verdict, Verdict::Healthy);
        assert!(judgement.nodes.values().all(|v| *v == Verdict::Healthy));
        assert!(judgement.paths.iter().all(|p| p.verdict == Verdict::Healthy));
    }
}

#[test]
fn what_shows_on_which_paths_decides_what_is_accused() {
    type Rule = fn(Sight) -> Seen;
    const SLOW: Seen = Seen { rtt: 2_000, ..FINE };
    let rows: &[(&str, usize, u16, Rule, &[&str])] = &[
        (
            "node",
            3,
            1,
            |p| if p.src == 1 || p.dst == 1 { SLOW } else { FINE },
            &["Degraded NetworkLatency Node n1"],
        ),
        (
            "node",
            4,
            1,
            |p| if p.src == 1 || p.dst == 1 { SLOW } else { FINE },
            &["Degraded NetworkLatency Node n1"],
        ),
        (
            "to it only",
            3,
            1,
            |p| if p.dst == 2 { SLOW } else { FINE },
            &["Degraded NetworkLatency Node n2"],
        ),
        (
            "from it only",
            4,
            1,
            |p| if p.src == 2 { SLOW } else { FINE },
            &["Degraded NetworkLatency Node n2"],
        ),
        (
            "node of two rails",
            4,
            2,
            |p| if p.src == 1 || p.dst == 1 { SLOW } else { FINE },
            &["Degraded NetworkLatency Node n1"],
        ),
        (
            "port",
            4,
            2,
            |p| if (p.src == 1 || p.dst == 1) && p.rail == 1 { SLOW } else { FINE },
            &["Degraded NetworkLatency Port n1/p1"],
        ),
        (
            "port among three nodes",
            3,
            2,
            |p| if (p.src == 1 || p.dst == 1) && p.rail == 1 { SLOW } else { FINE },
            &["Degraded NetworkLatency Port n1/p1"],
        ),
        (
            "rail",
            4,
            3,
            |p| if p.rail == 2 { SLOW } else { FINE },
            &["Degraded NetworkLatency Rail rail 2"],
        ),
        (
            "path",
            4,
            1,
            |p| if p.src == 1 && p.dst == 3 { SLOW } else { FINE },
            &["Degraded NetworkLatency Path n1/p0 > n3/p0 udp"],
        ),
        (
            "pair, once",
            3,
            1,
            |p| if p.src + p.dst == 1 { SLOW } else { FINE },
            &["Degraded NetworkLatency Path n0/p0 > n1/p0 udp"],
        ),
        (
            "two nodes of six",
            6,
            1,
            |p| if [1, 4].contains(&p.src) || [1, 4].contains(&p.dst) { SLOW } else { FINE },
            &["Degraded NetworkLatency Node n1", "Degraded NetworkLatency Node n4"],
        ),
        (
            "three times, but of nothing",
            4,
            1,
            |p| {
                if p.src == 1 || p.dst == 1 {
                    Seen { rtt: 20, ..FINE }
                } else {
                    Seen { rtt: 5, ..FINE }
                }
            },
            &[],
        ),
        (
            "not three times",
            4,
            1,
            |p| {
                if p.src == 1 || p.dst == 1 {
                    Seen { rtt: 290, ..FINE }
                } else {
                    Seen { rtt: 100, ..FINE }
                }
            },
            &[],
        ),
        (
            "host",
            3,
            1,
            |p| if p.dst == 2 { Seen { responder: 4_000, ..FINE } } else { FINE },
            &["Degraded HostDelay Node n2"],
        ),
        (
            "host, as prober",
            4,
            1,
            |p| if p.src == 2 { Seen { prober: 4_000, ..FINE } } else { FINE },
            &["Degraded HostDelay Node n2"],
        ),
        (
            "hosts of two",
            2,
            1,
            |p| {
                if p.src == 1 {
                    Seen { prober: 4_000, ..FINE }
                } else {
                    Seen { responder: 4_000, ..FINE }
                }
            },
            &["Degraded HostDelay Node n1", "Unknown NoData Fleet fleet"],
        ),
        (
            "loss of a node",
            4,
            1,
            |p| if p.src == 1 || p.dst == 1 { Seen { lost_every: 47, ..FINE } } else { FINE },
            &["Degraded Loss Node n1"],
        ),
        (
            "loss to a node",
            3,
            1,
            |p| if p.dst == 1 { Seen { lost_every: 47, ..FINE } } else { FINE },
            &["Degraded Loss Node n1"],
        ),
        (
            "loss of a port",
            4,
            2,
            |p| {
                if (p.src == 1 || p.dst == 1) && p.rail == 1 {
                    Seen { lost_every: 47, ..FINE }
                } else {
                    FINE
                }
            },
            &["Degraded Loss Port n1/p1"],
        ),
        (
            "loss of a rail",
            4,
            3,
            |p| if p.rail == 1 { Seen { lost_every: 47, ..FINE } } else { FINE },
            &["Degraded Loss Rail rail 1"],
        ),
        (
            "loss of a path",
            4,
            1,
            |p| if p.src == 1 && p.dst == 3 { Seen { lost_every: 47, ..FINE } } else { FINE },
            &["Degraded Loss Path n1/p0 > n3/p0 udp"],
        ),
        (
            "loss everywhere",
            4,
            1,
            |_| Seen { lost_every: 47, ..FINE },
            &["Degraded Loss Fleet fleet"],
        ),
        (
            "two losses",
            3,
            1,
            |p| if p.src == 1 && p.dst == 0 { Seen { lost_every: 300, ..FINE } } else { FINE },
            &[],
        ),
        (
            "silence of a node",
            4,
            1,
            |p| if p.src == 1 || p.dst == 1 { Seen { lost_every: 1, ..FINE } } else { FINE },
            &["Failed Unreachable Node n1"],
        ),
        (
            "silence to a node",
            4,
            1,
            |p| if p.dst == 1 { Seen { lost_every: 1, ..FINE } } else { FINE },
            &["Failed Unreachable Node n1"],
        ),
        (
            "silence of a pair",
            4,
            1,
            |p| if p.src + p.dst == 1 { Seen { lost_every: 1, ..FINE } } else { FINE },
            &["Failed Unreachable Path n0/p0 > n1/p0 udp"],
        ),
        (
            "silence before slowness",
            6,
            1,
            |p| match (p.src == 1 || p.dst == 1, p.src == 4 || p.dst == 4) {
                (true, _) => Seen { lost_every: 1, ..FINE },
                (_, true) => SLOW,
                _ => FINE,
            },
            &["Failed Unreachable Node n1", "Degraded NetworkLatency Node n4"],
        ),
        (
            "too few",
            4,
            1,
            |p| if p.src == 1 && p.dst == 2 { Seen { sent: 30, ..FINE } } else { FINE },
            &["Unknown NoData Path n1/p0 > n2/p0 udp"],
        ),
    ];
    for (what, nodes, rails, rule, findings) in rows {
        let judgement = judged(*nodes, &mesh(*nodes, *rails, rule));
        assert_eq!(said(&judgement), *findings, "{what}: {:#?}", judgement.findings);
        let word = findings.first().map_or("Healthy", |first| first.split(' ').next().unwrap());
        assert_eq!(format!("{:?}", judgement.verdict), word, "{what}");
    }
}

#[test]
fn a_finding_says_what_it_rests_on_and_what_to_do() {
    let slow = |p: Sight| if p.dst == 2 { Seen { responder: 4_000, ..FINE } } else { FINE };
    let judgement = judged(3, &mesh(3, 1, slow));
    let finding = &judgement.findings[0];
    assert_eq!(
        finding.summary,
        "node n2: replies wait in the host: responder delay p50 4.01 ms [4.01 ms, 4.01 ms], \
         at least 80 times the others' 50.2 us, on 2 of 2 paths"
    );
    let of = |path: &str, value: &str| format!("{path}: responder delay p50 {value}");
    let high = "4.01 ms [4.01 ms, 4.01 ms]";
    assert_eq!(
        finding.evidence.convict,
        [of("n0/p0 > n2/p0 udp", high), of("n1/p0 > n2/p0 udp", high)]
    );
    assert_eq!(finding.evidence.acquit.len(), 4);
    assert!(finding.next_test.ends_with("then `railgauge sweep --nodes n2,n0,n1`"), "{finding:?}");
    let slow: Vec<_> = judgement.paths.iter().filter(|p| p.verdict == Verdict::Degraded).collect();
    assert_eq!(slow.len(), 2);
    assert_eq!(slow[0].reasons, [format!("responder delay p50 {high} (n2)")]);
    assert_eq!((node(&judgement, 2), node(&judgement, 0)), (Verdict::Degraded, Verdict::Healthy));
}

#[test]
fn two_nodes_cannot_be_compared_and_that_is_said() {
    let judgement = judged(2, &mesh(2, 1, |_| FINE));
    assert_eq!(judgement.verdict, Verdict::Unknown);
    assert!(judgement.findings[0].summary.contains("with two nodes"), "{judgement:?}");
    let judgement = judged(2, &mesh(2, 1, |_| Seen { lost_every: 47, ..FINE }));
    assert_eq!(said(&judgement)[0], "Degraded Loss Path n0/p0 > n1/p0 udp");
}

#[test]
fn who_is_absent_is_unknown_and_the_others_are_not() {
    let paths = mesh(3, 1, |_| FINE);
    let mut nodes = expected(4);
    nodes[3].absent = Some("not connected since 03:12".to_owned());
    let judgement = judge(&paths, &nodes, &Settings::default());
    assert_eq!(said(&judgement), ["Unknown NoData Node n3"]);
    assert_eq!(
        judgement.findings[0].summary,
        "node n3 was not measured: not connected since 03:12"
    );
    assert_eq!((node(&judgement, 3), node(&judgement, 0)), (Verdict::Unknown, Verdict::Healthy));
    assert_eq!(judgement.verdict, Verdict::Unknown);
}

#[test]
fn who_is_absent_and_silent_has_failed_and_its_own_paths_are_no_findings() {
    let mut paths = mesh(4, 1, |p| if p.dst == 3 { Seen { lost_every: 1, ..FINE } } else { FINE });
    for path in paths.iter_mut().filter(|p| p.path.src.node.as_str() == "n3") {
        path.account = WindowAccount::default();
        path.series = Err("n3 is not connected".to_owned());
    }
    let mut nodes = expected(4);
    nodes[3].absent = Some("not connected".to_owned());
    let judgement = judge(&paths, &nodes, &Settings::default());
    assert_eq!(said(&judgement), ["Failed Unreachable Node n3"]);
    assert_eq!(
        judgement.findings[0].summary,
        "node n3 does not answer: no reply on 3 paths, 1800 probes lost"
    );
    assert_eq!((node(&judgement, 3), node(&judgement, 0)), (Verdict::Failed, Verdict::Healthy));
    let unknown = judgement.paths.iter().filter(|p| p.verdict == Verdict::Unknown).count();
    assert_eq!((judgement.verdict, unknown), (Verdict::Failed, 3));
}

#[test]
fn a_path_without_delays_is_unknown_and_still_loses() {
    let mut paths =
        mesh(
            4,
            1,
            |p| if (p.src, p.dst) == (0, 1) { Seen { lost_every: 47, ..FINE } } else { FINE },
        );
    for path in &mut paths[..2] {
        path.series = Err("transmit stamps are missing".to_owned());
    }
    let judgement = judged(4, &paths);
    assert_eq!(
        said(&judgement),
        [
            "Degraded Loss Path n0/p0 > n1/p0 udp",
            "Unknown NoData Path n0/p0 > n1/p0 udp",
            "Unknown NoData Path n0/p0 > n2/p0 udp"
        ]
    );
    assert_eq!(
        judgement.paths[1].reasons,
        ["its delays are not known: transmit stamps are missing"]
    );
}

#[test]
fn who_was_not_asked_because_of_a_cancelled_sweep_is_not_to_be_looked_at() {
    let mut paths = mesh(4, 1, |_| FINE);
    let of_n3 = |p: &Path| [&p.src.node, &p.dst.node].iter().any(|node| node.as_str() == "n3");
    for path in paths.iter_mut().filter(|p| of_n3(&p.path)) {
        path.account = WindowAccount::default();
        path.series = Err("cancelled".to_owned());
    }
    let judgement = judged(4, &paths);
    assert_eq!(said(&judgement), ["Unknown NoData Node n3"]);
    let next = &judgement.findings[0].next_test;
    assert!(next.ends_with("the sweep was cancelled: sweep again"), "{next}");
}

#[test]
fn one_stall_convicts_nobody() {
    let mut paths = mesh(4, 1, |_| FINE);
    // 80 of 600 samples in a row: enough for p90, but one event.
    for path in paths.iter_mut().filter(|p| p.path.dst.node.as_str() == "n1") {
        let mut recorder = Recorder::new();
        let mut blocks = Blocks::new();
        for n in 0..600 {
            recorder.record(if (200..280).contains(&n) { 20_000_000 } else { 50_000 });
        }
        blocks.push(&recorder.drain());
        path.series.as_mut().unwrap().responder_delay = blocks;
    }
    assert_eq!(said(&judged(4, &paths)), Vec::<String>::new());
}

#[test]
fn long_lists_of_evidence_are_cut_and_counted() {
    let judgement = judged(
        7,
        &mesh(7, 1, |p| if p.src == 1 || p.dst == 1 { Seen { rtt: 2_000, ..FINE } } else { FINE }),
    );
    let evidence = &judgement.findings[0].evidence;
    assert_eq!(
        (evidence.convict.len(), evidence.convict.last().unwrap().as_str()),
        (9, "and 4 more")
    );
    assert_eq!(judgement.findings[0].component.kind, ComponentKind::Node);
}
