//! The CPU time and memory of a whole agent beside the least a node of the mesh can do, in the same minutes.

use super::outcome::median;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "agent-cost",
    shows: "an agent costs little more than its system calls",
    bound: "64 targets x 10 probes/s and as many answered: CPU <= 1.5 x the bare C loop, median of alternating pairs, with and without \
            authentication; <= 64 MiB resident",
    covers: &[
        "core",
        "fabric",
        "proto",
        "metrics",
        "agent",
        "testbed/bare",
        "testbed/src/bin/agent_load.rs",
    ],
    judged: Judged::InFullOnly,
    run,
};

const MOST_RATIO: f64 = 1.5;
const MOST_RESIDENT_KIB: f64 = 64.0 * 1024.0;
/// Probes a second, each way.
const RATE: u64 = 640;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let bare_node = compile(bench)?;
    let (pairs, seconds) = scale.pick((1, 10), (4, 60));
    let states = bench.scratch().join("states");
    std::fs::create_dir_all(&states)
        .map_err(|error| Failure::because("cannot make a directory for the agents", error))?;
    let mut command = bench.program("agent_load", None);
    command.arg("--agent").arg(bench.repo().release("railgauge-agent"));
    command.arg("--bare").arg(bare_node).arg("--scratch").arg(states);
    command.args(["--cpu", "0", "--pairs", &pairs.to_string(), "--seconds", &seconds.to_string()]);
    let bound = Duration::from_secs(pairs * 3 * (seconds + 30));
    let report = bench.json(command, "agent_load", bound)?;
    judge(&report, seconds)
}

fn judge(report: &Value, seconds: u64) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let pairs = report["pairs"].as_array().into_iter().flatten();
    let (mut ratios, mut agents, mut bares, mut most_kib) = (vec![], vec![], vec![], 0.0_f64);
    let (mut keyed_ratios, mut keyed) = (vec![], vec![]);
    for pair in pairs {
        did_the_work(pair, seconds)?;
        let (agent, bare) = (number(pair, "/agent/cpu_s")?, number(pair, "/bare/cpu_s")?);
        let authenticated = number(pair, "/authenticated/cpu_s")?;
        ratios.push(agent / bare);
        keyed_ratios.push(authenticated / bare);
        agents.push(agent);
        keyed.push(authenticated);
        bares.push(bare);
        for who in ["agent", "authenticated"] {
            most_kib = most_kib.max(number(pair, &format!("/{who}/most_resident_kib"))?);
        }
        outcome.raw.push(pair.clone());
    }
    if ratios.is_empty() {
        return Err(Failure::new("agent_load measured nothing"));
    }
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    let share = |cpu: &[f64]| median(cpu) / seconds as f64 * 100.0;
    let (ratio, keyed_ratio) = (median(&ratios), median(&keyed_ratios));
    outcome.figure("median ratio, authenticated", keyed_ratio, "");
    outcome.figure("median ratio", ratio, "");
    outcome.figure("agent, authenticated", share(&keyed), "% of a core");
    outcome.figure("agent", share(&agents), "% of a core");
    outcome.figure("bare loop", share(&bares), "% of a core");
    outcome.figure("most resident", most_kib / 1024.0, "MiB");
    outcome.expect(ratio <= MOST_RATIO, || format!("the median ratio is {ratio:.3}"));
    outcome.expect(keyed_ratio <= MOST_RATIO, || {
        format!("with authentication the median ratio is {keyed_ratio:.3}")
    });
    outcome.expect(most_kib <= MOST_RESIDENT_KIB, || {
        format!("the agent had {:.1} MiB resident", most_kib / 1024.0)
    });
    Ok(outcome)
}

/// Both probed, were answered and answered at the full rate: anything else is less work.
fn did_the_work(pair: &Value, seconds: u64) -> Result<(), Failure> {
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let least = (RATE * seconds) as f64 * 0.98;
    for counted in [
        "/agent/own/received",
        "/agent/own/split",
        "/agent/inbound_answered",
        "/authenticated/own/received",
        "/authenticated/own/split",
        "/authenticated/inbound_answered",
        "/bare/own/received",
        "/bare/own/tx_stamps",
        "/bare/own/rx_stamps",
        "/bare/own/answer_stamps",
        "/bare/inbound_answered",
    ] {
        let count = number(pair, counted)?;
        if count < least {
            let what = format!("{counted} is {count} after {seconds} s: less work than is charged");
            return Err(Failure::new(what));
        }
    }
    Ok(())
}

fn number(pair: &Value, pointer: &str) -> Result<f64, Failure> {
    let found = pair.pointer(pointer).and_then(Value::as_f64);
    found.ok_or_else(|| Failure::new(format!("agent_load printed no number at {pointer}")))
}

/// The program as its own head says to build it.
fn compile(bench: &Bench<'_>) -> Result<PathBuf, Failure> {
    let program = bench.scratch().join("bare_node");
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    command.arg(bench.repo().path("testbed/bare/bare_node.c"));
    let ended = bench.complete(command, "cc", Duration::from_secs(60))?;
    if ended.code != Some(0) {
        return Err(Failure::because("cc refused bare_node.c", ended.stderr.trim()));
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn less_work_is_no_cheaper_agent() {
        let own = json!({"received": 6400, "split": 6400, "tx_stamps": 6400, "rx_stamps": 6400, "answer_stamps": 6400});
        let subject = |cpu: f64, kib: u64| json!({"cpu_s": cpu, "most_resident_kib": kib, "inbound_answered": 6400, "own": own});
        let mut pair = json!({"agent": subject(0.3, 20_000), "bare": subject(0.25, 2_000),
                              "authenticated": subject(0.325, 20_000)});
        let judged = judge(&json!({"pairs": [pair]}), 10).unwrap();
        assert_eq!((judged.figures[0].value, judged.figures[1].value), (0.325 / 0.25, 0.3 / 0.25));
        pair["agent"]["own"]["split"] = json!(100);
        let error = judge(&json!({"pairs": [pair]}), 10).unwrap_err().to_string();
        assert!(error.contains("/agent/own/split is 100"), "{error}");
    }
}
