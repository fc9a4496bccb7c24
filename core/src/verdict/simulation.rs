//! The rules on simulated fleets: no finding where nothing is wrong, the right node where something is.

mod fleet;

use super::{Judgement, NodeInput, Settings, judge};
use crate::finding::{ComponentKind, FindingKind, Severity, Verdict};
use fleet::{Fault, Fleet, Mode, Way};

/// Fleets of each kind: a second or two in a debug build.
const FLEETS: u64 = 24;
/// Of these sizes in turn; even and odd seeds differ in how they are measured, so their number is odd.
const SIZES: [usize; 5] = [3, 4, 3, 6, 8];
/// When asked for (`--ignored`): some minutes.
const MANY_FLEETS: u64 = 300;
const MANY_SIZES: [usize; 7] = [3, 4, 6, 3, 4, 8, 16];

fn run(seed: u64, nodes: usize, fault: Fault, mode: Mode) -> (Judgement, String) {
    let mut fleet = Fleet::new(seed, nodes, fault, mode);
    let paths = fleet.measure();
    let expected: Vec<NodeInput> =
        (0..nodes).map(|n| NodeInput { name: fleet::name(n), absent: None }).collect();
    (judge(&paths, &expected, &Settings::default()), fleet::name(fleet.ill).to_string())
}

#[derive(Clone, Copy)]
enum How {
    Few,
    Many,
}

fn each(how: How, first_seed: u64, mut check: impl FnMut(u64, usize, Mode)) {
    let (fleets, sizes) = match how {
        How::Few => (FLEETS, SIZES.as_slice()),
        How::Many => (MANY_FLEETS, MANY_SIZES.as_slice()),
    };
    for seed in first_seed..first_seed + fleets {
        let nodes = sizes[usize::try_from(seed).unwrap() % sizes.len()];
        let mode = if seed % 2 == 0 { Mode::Sweep } else { Mode::Continuous };
        check(seed, nodes, mode);
    }
}

fn no_finding(how: How, first_seed: u64) {
    let mut false_alarms = Vec::new();
    each(how, first_seed, |seed, nodes, mode| {
        let (judgement, _) = run(seed, nodes, Fault::None, mode);
        let summaries = judgement.findings.iter().map(|f| f.summary.clone());
        false_alarms.extend(summaries.map(|s| format!("{seed} {nodes} {mode:?}: {s}")));
        if judgement.findings.is_empty() {
            assert_eq!(judgement.verdict, Verdict::Healthy);
        }
    });
    assert!(false_alarms.is_empty(), "{false_alarms:#?}");
}

/// The top finding is that of the node, and no other says that something is wrong elsewhere.
fn names_the_node(how: How, first_seed: u64, faults: &[(Fault, FindingKind)]) {
    let mut wrong = Vec::new();
    each(how, first_seed, |seed, nodes, mode| {
        let (fault, kind) = faults[usize::try_from(seed / 2).unwrap() % faults.len()];
        let (judgement, ill) = run(seed, nodes, fault, mode);
        let said = judgement.findings.iter().filter(|f| f.severity > Severity::Unknown);
        let said: Vec<&str> = said.map(|f| f.summary.as_str()).collect();
        let is_right = judgement.findings.first().is_some_and(|f| {
            f.component.kind == ComponentKind::Node && f.component.name == ill && f.kind == kind
        });
        let elsewhere = said.iter().any(|summary| !summary.starts_with(&format!("node {ill}")));
        if !is_right || elsewhere {
            wrong.push(format!("{seed} {nodes} {mode:?} {fault:?} at {ill}: {said:#?}"));
        }
    });
    assert!(wrong.is_empty(), "{} {}", wrong.len(), wrong.join("\n"));
}

fn stopped() -> Vec<(Fault, FindingKind)> {
    vec![(Fault::Stopped, FindingKind::HostDelay)]
}

fn delays() -> Vec<(Fault, FindingKind)> {
    let delay = |way, ms| (Fault::Delay(way, ms), FindingKind::NetworkLatency);
    vec![delay(Way::Both, 2.0), delay(Way::To, 2.0), delay(Way::Both, 0.2)]
}

fn losses() -> Vec<(Fault, FindingKind)> {
    let loss = |way, share| (Fault::Loss(way, share), FindingKind::Loss);
    vec![loss(Way::Both, 0.02), loss(Way::To, 0.03), loss(Way::Both, 0.2)]
}

fn dead() -> Vec<(Fault, FindingKind)> {
    vec![(Fault::Dead, FindingKind::Unreachable)]
}

#[test]
fn busy_machines_alone_are_no_finding() {
    no_finding(How::Few, 1_000);
}

#[test]
fn a_stopped_process_is_named_as_its_host() {
    names_the_node(How::Few, 2_000, &stopped());
}

#[test]
fn a_delay_is_named_as_its_node() {
    names_the_node(How::Few, 3_000, &delays());
}

#[test]
fn losses_are_named_as_their_node() {
    names_the_node(How::Few, 4_000, &losses());
}

#[test]
fn silence_is_named_as_its_node() {
    names_the_node(How::Few, 5_000, &dead());
}

#[test]
#[ignore = "minutes: 300 fleets of up to 16 nodes"]
fn many_busy_fleets_are_no_finding() {
    no_finding(How::Many, 10_000);
}

#[test]
#[ignore = "minutes: 4 x 300 fleets of up to 16 nodes"]
fn many_faults_are_named_as_their_node() {
    names_the_node(How::Many, 20_000, &stopped());
    names_the_node(How::Many, 30_000, &delays());
    names_the_node(How::Many, 40_000, &losses());
    names_the_node(How::Many, 50_000, &dead());
}
