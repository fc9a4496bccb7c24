//! Printed intervals hold the truth as often as they say, in simulated experiments whose truth is known.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, violations};
use serde_json::Value;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "intervals",
    shows: "an interval holds the true quantile as often as it says",
    bound: "10,000 experiments, n = 400, 4,000, 40,000: coverage of p50, p99, p99.9 within 93-99.5 %; with \
            stalls >= 85 % where episodes >= 10, and the note where fewer",
    covers: &["core/src/quantile", "core/src/quantile.rs", "core/src/histogram", "testbed/src"],
    // The share of a few hundred experiments strays further than the bound is wide; the same check with room for
    // chance is a unit test.
    judged: Judged::InFullOnly,
    run,
};

/// The share of fewer intervals than this is no figure worth printing; the program judges them all the same.
const LEAST_SHOWN: u64 = 100;
const SEED: u64 = 20_260_101;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let experiments = scale.pick("300", "10000");
    let mut command = bench.program("interval_coverage", None);
    command.args(["--experiments", experiments, "--seed", &SEED.to_string()]);
    // Full: half an hour on a slow core.
    let report =
        bench.json(command, "interval_coverage", Duration::from_secs(scale.pick(120, 3600)))?;

    let mut outcome = Outcome { seeds: vec![SEED], ..Outcome::default() };
    outcome.misses = violations("interval_coverage", &report)?;
    outcome.figure("broken promises", float(outcome.misses.len()), "");
    let shares = |independent: bool, part: &str| -> Vec<f64> {
        let rows = report["rows"].as_array().into_iter().flatten();
        let rows = rows.filter(|row| row["independent"].as_bool() == Some(independent));
        let parts = rows.map(|row| &row[part]);
        let parts = parts.filter(|part| part["shown"].as_u64() >= Some(LEAST_SHOWN));
        parts.filter_map(|part| part["share"].as_f64()).collect()
    };
    let percent = |shares: &[f64], pick: fn(f64, f64) -> f64| {
        shares.iter().copied().reduce(pick).map(|share| share * 100.0)
    };
    for (name, value) in [
        ("least coverage, independent", percent(&shares(true, "all"), f64::min)),
        ("most coverage, independent", percent(&shares(true, "all"), f64::max)),
        (
            "least coverage, stalls, episodes >= 10",
            percent(&shares(false, "many_episodes"), f64::min),
        ),
        ("least coverage, stalls, all", percent(&shares(false, "all"), f64::min)),
    ] {
        outcome.figure(name, value.ok_or_else(|| no_share(name, &report))?, "%");
    }
    outcome.raw.push(report);
    Ok(outcome)
}

fn no_share(name: &str, report: &Value) -> Failure {
    let rows = report["rows"].as_array().map_or(0, Vec::len);
    Failure::new(format!("interval_coverage printed {rows} rows and none of them gives {name}"))
}
