//! Our RDMA probes beside perftest, in alternating pairs in one boot of the guest.

use super::guest::in_guest;
use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use serde_json::Value;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "rdma-pairs",
    shows: "RDMA probes measure what perftest measures, with nothing of their own on top",
    bound: "in one boot, alternating pairs of ours and perftest's: RC write 2 B and 64 B (memory completion, half of post to post), RC send \
            and UD send of the same size: median ratio <= 1.03; RC write bandwidth 64 KiB: median ratio >= 0.98",
    covers: &[
        "core/src/rdma",
        "core/src/session",
        "fabric/src/verbs",
        "agent/src/rdma",
        "testbed/src/bin/rdma_pairs.rs",
    ],
    judged: Judged::InFullOnly,
    run,
};

/// The most that a latency may be of perftest's, and the least that a bandwidth may.
const MOST_LATENCY: f64 = 1.03;
const LEAST_BANDWIDTH: f64 = 0.98;
/// Fewer pairs have no 95 % interval worth printing.
const LEAST_PAIRS: u64 = 15;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let pairs = scale.pick(2, LEAST_PAIRS).to_string();
    let limit = Duration::from_secs(scale.pick(600, 3600));
    let report = in_guest(bench, "rdma_pairs", &["--pairs", pairs.as_str()], limit, &mut outcome)?;
    judge(&report, &mut outcome)?;
    outcome.raw.push(report);
    Ok(outcome)
}

fn judge(report: &Value, outcome: &mut Outcome) -> Result<(), Failure> {
    let cases = report["cases"].as_array().filter(|cases| cases.len() == 5);
    let cases = cases.ok_or_else(|| Failure::new("rdma_pairs did not measure its five cases"))?;
    for case in cases {
        let number = |field: &str| {
            let found = case[field].as_f64();
            found.ok_or_else(|| Failure::new(format!("rdma_pairs printed no {field}: {case}")))
        };
        let name = case["name"].as_str().unwrap_or("?");
        let (ratio, low, high) = (number("median_ratio")?, number("low")?, number("high")?);
        outcome.figure(format!("{name}, median ratio"), ratio, "");
        outcome.figure(format!("{name}, low"), low, "");
        outcome.figure(format!("{name}, high"), high, "");
        outcome.figure(
            format!("{name}, pairs"),
            float(case["ratios"].as_array().map_or(0, Vec::len)),
            "",
        );
        let holds = if name.contains("bandwidth") {
            ratio >= LEAST_BANDWIDTH
        } else {
            ratio <= MOST_LATENCY
        };
        outcome.expect(holds, || format!("{name}: the median ratio is {ratio:.3}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(latency: f64, bandwidth: f64) -> Value {
        let case = |name: &str, ratio: f64| json!({"name": name, "median_ratio": ratio, "low": ratio, "high": ratio, "ratios": [ratio]});
        json!({"cases": [
            case("rc write 2 B", latency), case("rc write 64 B", 1.0), case("rc send 2 B", 1.0), case("ud send 72 B", 1.0),
            case("rc write bandwidth 64 KiB", bandwidth),
        ]})
    }

    #[test]
    fn latency_is_bounded_from_above_and_bandwidth_from_below() {
        for (latency, bandwidth, misses) in
            [(1.03, 0.98, 0), (1.031, 0.98, 1), (0.5, 2.0, 0), (1.2, 0.9, 2)]
        {
            let mut outcome = Outcome::default();
            judge(&report(latency, bandwidth), &mut outcome).unwrap();
            assert_eq!(outcome.misses.len(), misses, "{:?}", outcome.misses);
        }
        assert!(judge(&json!({"cases": []}), &mut Outcome::default()).is_err());
    }
}
