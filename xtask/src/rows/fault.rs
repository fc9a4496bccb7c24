//! A fault of which neither agents nor coordinator are told: the sweep names the node, and names none when there is none.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "fault",
    shows: "the top finding names the node that is at fault, and a clean fleet has none",
    bound: "random node and kind: top finding names the node in 40 of 40 runs; 40 clean runs with the same \
            thresholds give no finding",
    covers: &["core/src/verdict", "core/src/quantile", "agent", "coordinator", "cli/src/demo"],
    judged: Judged::AtEveryScale,
    run,
};

/// The first seed; each run has the next.
const SEED: u64 = 20_261_123;

const PATIENCE: Duration = Duration::from_secs(180);

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome { seeds: vec![SEED], ..Outcome::default() };
    let runs = scale.pick(2, 40);
    let (mut named, mut clean) = (0, 0);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..runs {
        let seed = SEED + n;
        let (sweep, injected) = demo(bench, seed, &["--fault", "random@random"])?;
        let Some((kind, node)) = injected else {
            return Err(Failure::new(format!(
                "seed {seed}: the demo does not say what it injected"
            )));
        };
        *kinds.entry(kind.clone()).or_default() += 1;
        let top = sweep["findings"].get(0).cloned().unwrap_or_default();
        let component = &top["component"];
        let right = component["kind"] == "node" && component["name"] == node.as_str();
        named += usize::from(right);
        outcome.expect(right, || {
            format!("seed {seed}, {kind}@{node}: the top finding is {}", top["summary"])
        });
        outcome.raw.push(serde_json::json!({
            "seed": seed, "injected": format!("{kind}@{node}"), "verdict": sweep["verdict"], "top": top["summary"],
        }));

        let (sweep, _) = demo(bench, seed, &[])?;
        let findings = sweep["findings"].as_array().map_or(0, Vec::len);
        clean += usize::from(findings == 0);
        outcome.expect(findings == 0, || {
            format!("seed {seed}, nothing injected: {}", sweep["findings"][0]["summary"])
        });
        outcome.raw.push(
            serde_json::json!({ "seed": seed, "injected": null, "verdict": sweep["verdict"] }),
        );
    }
    let runs = usize::try_from(runs).unwrap_or(0);
    outcome.figure("runs with a fault", float(runs), "");
    outcome.figure("node named first", float(named), "");
    outcome.figure("clean runs", float(runs), "");
    outcome.figure("without a finding", float(clean), "");
    for (kind, count) in kinds {
        outcome.figure(format!("{kind} chosen"), float(count), "times");
    }
    Ok(outcome)
}

/// The sweep object, and what was injected: kind and node.
fn demo(
    bench: &Bench<'_>,
    seed: u64,
    flags: &[&str],
) -> Result<(Value, Option<(String, String)>), Failure> {
    let mut command = bench.program("railgauge", None);
    let seed = seed.to_string();
    command.args([
        "demo",
        "--duration",
        "3s",
        "--output",
        "json",
        "--out",
        "demo",
        "--seed",
        &seed,
    ]);
    command.args(flags);
    let ended = bench.complete(command, "railgauge", PATIENCE)?;
    let sweep = serde_json::from_str(&ended.stdout).map_err(|error| {
        let said = ended.stderr.lines().last().unwrap_or("nothing").to_owned();
        Failure::because(
            format!("seed {seed}: no sweep object; on stderr it said last: {said}"),
            error,
        )
    })?;
    let line = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("injected, from outside the agents: "));
    let injected = line.and_then(|line| line.split_once('@'));
    Ok((sweep, injected.map(|(kind, node)| (kind.to_owned(), node.to_owned()))))
}
