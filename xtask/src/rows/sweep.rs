//! Sweeps are rounds of disjoint pairs, take no longer than probing takes, and suffer no more from an ill node than its own pairs.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const ROW: Row = Row {
    name: "sweep",
    shows: "rounds, their time, and what an ill node costs",
    bound: "N agents in N-1 rounds (N odd: N); total time <= 1.15 x rounds x probing time at N = 16; a dead node costs \
            its own pairs only",
    covers: &["core/src/sweep", "core/src/sweep.rs", "agent", "coordinator", "cli/src/demo"],
    judged: Judged::AtEveryScale,
    run,
};

const RATIO: f64 = 1.15;
const PATIENCE: Duration = Duration::from_secs(400);

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for nodes in scale.pick(vec![3, 4], vec![4, 5, 16]) {
        let sweep = demo(bench, nodes, &[])?;
        let ratio = whole(&sweep, nodes, &mut outcome)?;
        if nodes == 16 || scale == Scale::Miniature {
            outcome
                .expect(ratio <= RATIO, || format!("{nodes} nodes: {ratio:.3} x the probing time"));
        }
        outcome.raw.push(summary(&sweep));
    }
    for (fault, nodes) in scale.pick(vec![("dead", 4)], vec![("dead", 16), ("frozen", 16)]) {
        let node = format!("demo-{nodes}");
        let sweep = demo(bench, nodes, &["--fault", &format!("{fault}@{nodes}")])?;
        others_are_whole(&sweep, nodes, fault, &node, &mut outcome)?;
        outcome.raw.push(summary(&sweep));
    }
    Ok(outcome)
}

fn summary(sweep: &Value) -> Value {
    serde_json::json!({
        "nodes": sweep["nodes"].as_array().map(Vec::len), "rounds": sweep["rounds"], "duration_ns": sweep["duration_ns"],
        "verdict": sweep["verdict"], "not_measured": sweep["not_measured"], "parameters": sweep["parameters"],
    })
}

fn number(sweep: &Value, pointer: &str) -> Result<f64, Failure> {
    let value = sweep.pointer(pointer).and_then(Value::as_f64);
    value.ok_or_else(|| Failure::new(format!("the sweep object has no number at {pointer}")))
}

/// Twice the time of a measurement's schedule, seconds: there and back.
fn pair_s(sweep: &Value) -> Result<f64, Failure> {
    let of = |name: &str| number(sweep, &format!("/parameters/{name}"));
    let (interval, warmup) = (of("interval_ns")?, of("warmup")?);
    Ok(2.0 * (of("count")? * interval + warmup * interval.min(1e7)) / 1e9)
}

/// All pairs were measured both ways, in as many rounds as there must be, no node twice in one. Returns the time over that of probing.
fn whole(sweep: &Value, nodes: u32, outcome: &mut Outcome) -> Result<f64, Failure> {
    let rounds = if nodes.is_multiple_of(2) { nodes - 1 } else { nodes };
    outcome.expect(number(sweep, "/rounds")? == f64::from(rounds), || {
        format!("{nodes} nodes took {} rounds, not {rounds}", sweep["rounds"])
    });
    let mut in_round: BTreeMap<u64, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let mut measured = 0;
    for path in sweep["paths"].as_array().into_iter().flatten() {
        measured += u32::from(path["received"].as_u64() > Some(0));
        let name = |end: &str| path[end].as_str().unwrap_or_default().to_owned();
        let round = in_round.entry(path["round"].as_u64().unwrap_or(0)).or_default();
        round.entry(name("src_node")).or_default().insert(name("dst_node"));
        round.entry(name("dst_node")).or_default().insert(name("src_node"));
    }
    outcome.expect(measured == nodes * (nodes - 1), || {
        format!("{nodes} nodes: {measured} paths measured, not {}", nodes * (nodes - 1))
    });
    let alone = in_round.values().flat_map(BTreeMap::values).all(|partners| partners.len() == 1);
    outcome.expect(alone, || format!("{nodes} nodes: a node has two partners in one round"));
    let probing = f64::from(rounds) * pair_s(sweep)?;
    let took = number(sweep, "/duration_ns")? / 1e9;
    outcome.figure(format!("{nodes} nodes, {rounds} rounds"), took, "s");
    outcome.figure(format!("{nodes} nodes, time / probing time"), took / probing, "");
    Ok(took / probing)
}

/// Every path between other nodes was measured, and the sweep ended soon.
fn others_are_whole(
    sweep: &Value,
    nodes: u32,
    fault: &str,
    node: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let others = sweep["paths"].as_array().into_iter().flatten();
    let others = others.filter(|path| path["src_node"] != node && path["dst_node"] != node);
    let measured = others.filter(|path| path["received"].as_u64() > Some(0)).count();
    let all = usize::try_from((nodes - 1) * (nodes - 2)).unwrap_or(0);
    outcome.figure(format!("{fault} node: others' paths measured"), float(measured), "");
    outcome.expect(measured == all, || {
        format!("{fault} node: {measured} of {all} paths between others were measured")
    });
    let rounds = if nodes.is_multiple_of(2) { nodes - 1 } else { nodes };
    let probing = f64::from(rounds) * pair_s(sweep)?;
    let took = number(sweep, "/duration_ns")? / 1e9;
    outcome.figure(format!("{fault} node: time / probing time"), took / probing, "");
    // A node that gives no answer is waited for once: its limit is 7 s, less the 2 s that probing would have taken.
    let once = if fault == "frozen" { 7.0 } else { 0.0 };
    outcome.expect(took <= RATIO * probing + once, || {
        format!("{fault} node: the sweep took {took:.1} s, probing takes {probing:.1} s")
    });
    Ok(())
}

fn demo(bench: &Bench<'_>, nodes: u32, flags: &[&str]) -> Result<Value, Failure> {
    let mut command = bench.program("railgauge", None);
    command.args(["demo", "--nodes", &nodes.to_string(), "--duration", "1s", "--output", "json"]);
    command.args(["--out", "demo"]).args(flags);
    let ended = bench.complete(command, "railgauge", PATIENCE)?;
    serde_json::from_str(&ended.stdout).map_err(|error| {
        let said = ended.stderr.lines().last().unwrap_or("nothing").to_owned();
        Failure::because(format!("no sweep object; on stderr it said last: {said}"), error)
    })
}
