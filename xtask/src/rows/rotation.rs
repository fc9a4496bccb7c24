//! Keys of probes and certificates of daemons change under load, and no probe and no window is lost for it.

use super::outcome::{float, median};
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, violations};
use serde_json::Value;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "rotation",
    shows: "keys and certificates change while every path is probed each 10 ms, and nothing is lost for it",
    bound: "50 rotations of keys and 50 of certificates, each tenth with its authority, under load: 0 lost windows, 0 lost probes beyond the clean run's",
    covers: &["core", "proto", "access", "fabric", "agent", "coordinator", "cli", "testbed/src"],
    judged: Judged::AtEveryScale,
    run,
};

const PROGRAM: &str = "rotation";

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let (rotations, clean_seconds) = scale.pick((5, 5), (50, 60));
    let mut command = bench.program(PROGRAM, None);
    command.args(["--keys", &rotations.to_string(), "--out", "fleet"]);
    command.args(["--certificates", &rotations.to_string()]);
    command.args(["--clean-seconds", &clean_seconds.to_string()]);
    let bound = Duration::from_secs(120 + clean_seconds + 20 * rotations);
    judge(bench.json(command, PROGRAM, bound)?, rotations)
}

fn judge(report: Value, rotations: u64) -> Result<Outcome, Failure> {
    let mut outcome = Outcome { misses: violations(PROGRAM, &report)?, ..Outcome::default() };
    for kind in ["key", "certificate"] {
        of_kind(kind, &report, rotations, &mut outcome)?;
    }
    outcome.raw.push(report);
    Ok(outcome)
}

/// The rotations of one kind: what was measured meanwhile, beside the clean run, and how long each took.
fn of_kind(
    kind: &str,
    report: &Value,
    rotations: u64,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let number = |pointer: &str| {
        let found = report.pointer(pointer).and_then(Value::as_f64);
        found.ok_or_else(|| Failure::new(format!("{PROGRAM} printed no number at {pointer}")))
    };
    let measured = format!("/{kind}_rotations/measured");
    let each = report[format!("{kind}_rotations")]["each"].as_array();
    let seconds: Vec<f64> =
        each.into_iter().flatten().filter_map(|one| one["seconds"].as_f64()).collect();
    outcome.expect(u64::try_from(seconds.len()) == Ok(rotations), || {
        format!("{} rotations of {kind}s, not {rotations}", seconds.len())
    });
    let (lost, clean) = (number(&format!("{measured}/lost"))?, number("/clean/lost")?);
    outcome.figure(format!("{kind} rotations"), float(seconds.len()), "");
    outcome.figure(format!("lost during {kind} rotations"), lost, "");
    outcome.figure(format!("lost in the clean run beside {kind}s"), clean, "");
    outcome.figure(
        format!("probes during {kind} rotations"),
        number(&format!("{measured}/sent"))?,
        "",
    );
    outcome.figure(format!("a {kind} rotation"), median(&seconds), "s");
    outcome.expect(lost <= clean, || format!("{lost} probes lost, {clean} in the clean run"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lost_probe_and_a_missing_rotation_are_misses() {
        let report = |lost: u64| {
            json!({"clean": {"lost": 0, "sent": 9}, "violations": [],
                   "key_rotations": {"measured": {"lost": lost, "sent": 90}, "each": [{"seconds": 1.0}, {"seconds": 2.0}]},
                   "certificate_rotations": {"measured": {"lost": 0, "sent": 9}, "each": [{"seconds": 1.0}, {"seconds": 2.0}]}})
        };
        assert_eq!(judge(report(0), 2).unwrap().misses, Vec::<String>::new());
        assert_eq!(judge(report(1), 2).unwrap().misses, ["1 probes lost, 0 in the clean run"]);
        assert_eq!(
            judge(report(0), 3).unwrap().misses,
            ["2 rotations of keys, not 3", "2 rotations of certificates, not 3"]
        );
        assert!(judge(json!({"violations": []}), 1).is_err());
    }
}
