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
    outcome.misses.extend(excused(&report)?);
    outcome.figure("cells that miss", float(outcome.misses.len()), "");
    let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (name, independent, parts) in [
        ("least coverage, independent", true, &["all"][..]),
        ("least coverage, stalls, episodes >= 10", false, &MANY),
        ("least of those that met a stall", false, &MANY[..1]),
        ("least coverage, stalls, all", false, &["all"]),
    ] {
        let kind = rows.iter().filter(|row| row["independent"].as_bool() == Some(independent));
        let least = kind.filter_map(|row| share(row, parts)).reduce(f64::min);
        outcome.figure(name, least.ok_or_else(|| no_share(name, &report))? * 100.0, "%");
    }
    let independent = rows.iter().filter(|row| row["independent"].as_bool() == Some(true));
    let most = independent.filter_map(|row| share(row, &["all"])).reduce(f64::max);
    let name = "most coverage, independent";
    outcome.figure(name, most.ok_or_else(|| no_share(name, &report))? * 100.0, "%");
    outcome.raw.push(report);
    Ok(outcome)
}

/// Experiments with 10 events or more: those that met a stall, and those that did not.
const MANY: [&str; 2] = ["many_episodes", "many_episodes_without_stall"];
/// What they must cover, with stalls.
const LEAST_STALLED: f64 = 0.85;

/// The share of the intervals in `parts` of a row that hold the truth; `None` where there are none.
fn share(row: &Value, parts: &[&str]) -> Option<f64> {
    let sum = |key: &str| parts.iter().filter_map(|part| row[*part][key].as_f64()).sum::<f64>();
    let (covered, shown) = (sum("covered"), sum("shown"));
    (shown > 0.0).then(|| covered / shown)
}

/// What the program does not judge, as no method could do better, and which misses the bound all the same: its own sentence,
/// which has the number and the cause.
fn excused(report: &Value) -> Result<Vec<String>, Failure> {
    let told = report["not_judged"].as_array();
    let told = told.ok_or_else(|| Failure::new("interval_coverage printed no `not_judged`"))?;
    let rows = report["rows"].as_array().into_iter().flatten();
    let stalled = rows.filter(|row| row["independent"].as_bool() == Some(false));
    let excused = |row: &&Value| {
        let alone = share(row, &MANY[..1]).is_none_or(|share| share >= LEAST_STALLED);
        alone && share(row, &MANY).is_some_and(|share| share < LEAST_STALLED)
    };
    let sentence = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let name = format!("{} n={} {}: ", text("samples"), row["n"], text("quantile"));
        let told = told.iter().filter_map(Value::as_str).find(|told| told.starts_with(&name));
        told.map_or_else(|| format!("{name}below the bound, and no cause told"), str::to_owned)
    };
    Ok(stalled.filter(excused).map(sentence).collect())
}

fn no_share(name: &str, report: &Value) -> Failure {
    let rows = report["rows"].as_array().map_or(0, Vec::len);
    Failure::new(format!("interval_coverage printed {rows} rows and none of them gives {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(n: u64, many: (u64, u64), without_stall: (u64, u64)) -> Value {
        let part = |(covered, shown)| json!({"covered": covered, "shown": shown});
        json!({
            "samples": "stalls of 100", "independent": false, "n": n, "quantile": "p99",
            "many_episodes": part(many), "many_episodes_without_stall": part(without_stall),
        })
    }

    #[test]
    fn a_cell_that_no_method_could_cover_is_missed_by_name() {
        let told = "stalls of 100 n=4000 p99: 90 of 90 experiments met no whole stall";
        let rows = [row(4_000, (0, 0), (0, 90)), row(40_000, (90, 100), (0, 1))];
        let report =
            json!({"rows": rows, "not_judged": [told, "stalls of 100 n=40000 p99: 1 of 101"]});
        assert_eq!(excused(&report).unwrap(), [told]);
        assert!(excused(&json!({"rows": []})).is_err(), "nothing told is not nothing missed");
        let untold = json!({"rows": [row(400, (99, 100), (0, 20))], "not_judged": []});
        assert_eq!(excused(&untold).unwrap().len(), 1);
        // What the program has judged and found wanting is in its own list.
        let judged = json!({"rows": [row(400, (1, 100), (0, 20))], "not_judged": []});
        assert!(excused(&judged).unwrap().is_empty());
    }

    #[test]
    fn few_intervals_count_too() {
        let row = row(400, (1, 3), (0, 1));
        assert_eq!(share(&row, &MANY), Some(0.25));
        assert_eq!(share(&row, &["few_episodes"]), None);
    }
}
