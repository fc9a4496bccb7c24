//! The rules on simulated fleets: no finding where nothing is wrong, the right node where something is.

mod fleet;

use super::{Judgement, NodeInput, Settings, judge};
use crate::finding::{ComponentKind, FindingKind, Verdict};
use fleet::{Fault, Fleet, Mode, Way};

/// Fleets a test: seconds in a debug build.
const FLEETS: u64 = 24;
const SIZES: [usize; 5] = [3, 4, 3, 6, 8];

fn run(seed: u64, nodes: usize, fault: Fault, mode: Mode) -> (Judgement, String) {
    let mut fleet = Fleet::new(seed, nodes, fault, mode);
    let paths = fleet.measure();
    let expected: Vec<NodeInput> =
        (0..nodes).map(|n| NodeInput { name: fleet::name(n), absent: None }).collect();
    (judge(&paths, &expected, &Settings::default()), fleet::name(fleet.ill).to_string())
}

fn each(first_seed: u64, mut check: impl FnMut(u64, usize, Mode)) {
    for seed in first_seed..first_seed + FLEETS {
        let nodes = SIZES[usize::try_from(seed).unwrap() % SIZES.len()];
        let mode = if seed % 2 == 0 { Mode::Sweep } else { Mode::Continuous };
        check(seed, nodes, mode);
    }
}

#[test]
fn busy_machines_alone_are_no_finding() {
    let mut false_alarms = Vec::new();
    each(1_000, |seed, nodes, mode| {
        let (judgement, _) = run(seed, nodes, Fault::None, mode);
        let summaries = judgement.findings.iter().map(|f| f.summary.clone());
        false_alarms.extend(summaries.map(|s| format!("{seed} {nodes} {mode:?}: {s}")));
        if judgement.findings.is_empty() {
            assert_eq!(judgement.verdict, Verdict::Healthy);
        }
    });
    assert!(false_alarms.is_empty(), "{false_alarms:#?}");
}

fn names_the_node(first_seed: u64, faults: &[(Fault, FindingKind)]) {
    let mut wrong = Vec::new();
    each(first_seed, |seed, nodes, mode| {
        let (fault, kind) = faults[usize::try_from(seed / 2).unwrap() % faults.len()];
        let (judgement, ill) = run(seed, nodes, fault, mode);
        let said: Vec<&str> = judgement.findings.iter().map(|f| f.summary.as_str()).collect();
        let is_right = judgement.findings.first().is_some_and(|f| {
            f.component.kind == ComponentKind::Node && f.component.name == ill && f.kind == kind
        });
        if !is_right || said.len() > 1 {
            wrong.push(format!("{seed} {nodes} {mode:?} {fault:?} at {ill}: {said:#?}"));
        }
    });
    assert!(wrong.is_empty(), "{} {}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_stopped_process_is_named_as_its_host() {
    names_the_node(2_000, &[(Fault::Stopped, FindingKind::HostDelay)]);
}

#[test]
fn a_delay_is_named_as_its_node() {
    let delay = |way, ms| (Fault::Delay(way, ms), FindingKind::NetworkLatency);
    names_the_node(3_000, &[delay(Way::Both, 2.0), delay(Way::To, 2.0), delay(Way::Both, 0.2)]);
}

#[test]
fn losses_are_named_as_their_node() {
    let loss = |way, share| (Fault::Loss(way, share), FindingKind::Loss);
    names_the_node(4_000, &[loss(Way::Both, 0.02), loss(Way::To, 0.03), loss(Way::Both, 0.2)]);
}

#[test]
fn silence_is_named_as_its_node() {
    names_the_node(5_000, &[(Fault::Dead, FindingKind::Unreachable)]);
}
