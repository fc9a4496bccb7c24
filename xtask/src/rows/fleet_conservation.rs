//! No recorded window is lost uncounted and none counts twice, whatever is killed, cut or refused by a disk.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, violations};
use crate::process::Running;
use serde_json::Value;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "fleet-conservation",
    shows: "what agents recorded is stored, in a spool or counted as dropped, once",
    bound: "100 runs with kill -9 of coordinator and agents, cut connections, write and fsync errors: ingested + in \
            spools + counted dropped = recorded, by an independent ledger; merged counts equal recorded ones; nothing \
            twice; a kill costs one window and the gathering",
    covers: &["core", "proto", "fabric", "agent", "coordinator", "testbed/src", "testbed/preload"],
    judged: Judged::AtEveryScale,
    run,
};

/// Every run has its own, from 1 on.
const RUNS: u64 = 100;
const RUNS_IN_MINIATURE: u64 = 3;
/// Runs side by side: they mostly wait.
const ABREAST: u64 = 2;
/// A run takes some 13 s.
const BOUND: Duration = Duration::from_secs(120);
const PROGRAM: &str = "fleet_conservation";

/// Sums over all runs: what the program calls them, and how they are printed.
const SUMS: &[(&str, &str)] = &[
    ("recorded", "windows recorded"),
    ("ingested", "ingested"),
    ("in_spools", "in spools"),
    ("in_both", "in both, acknowledgement lost"),
    ("unsynced_and_kept", "kept though a kill came before the sync"),
    ("dropped", "counted dropped"),
    ("missing", "dropped and nowhere"),
    ("stored_and_dropped", "dropped and stored, acknowledgement lost"),
    ("refused", "refused"),
    ("replies", "replies merged and equal"),
];

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let runs = scale.pick(RUNS_IN_MINIATURE, RUNS);
    let mut outcome = Outcome { seeds: (1..=runs).collect(), ..Outcome::default() };
    for first in (1..=runs).step_by(usize::try_from(ABREAST).unwrap_or(1)) {
        let seeds = first..(first + ABREAST).min(runs + 1);
        let started: Vec<_> =
            seeds.map(|seed| Ok((seed, start(bench, seed)?))).collect::<Result<_, Failure>>()?;
        for (seed, running) in started {
            let ended = running.finish(BOUND)?;
            match serde_json::from_str::<Value>(&ended.stdout) {
                Ok(report) if ended.code == Some(0) => judge(seed, report, &mut outcome)?,
                _ => outcome.misses.push(format!("seed {seed}: {}", ended.stderr.trim())),
            }
        }
    }
    figures(&mut outcome);
    if scale == Scale::Full {
        enough(&mut outcome);
    }
    Ok(outcome)
}

fn start(bench: &Bench<'_>, seed: u64) -> Result<Running, Failure> {
    let mut command = bench.program(PROGRAM, None);
    command.args(["--seed", &seed.to_string(), "--out", "runs"]);
    bench.start(command, &format!("{PROGRAM}-{}", seed % ABREAST))
}

/// The program's own findings, and the sum of the promise once more.
fn judge(seed: u64, report: Value, outcome: &mut Outcome) -> Result<(), Failure> {
    let found = violations(PROGRAM, &report)?;
    outcome.misses.extend(found.into_iter().map(|found| format!("seed {seed}: {found}")));
    let n = |key: &str| {
        let number = report["windows"][key].as_u64();
        number.ok_or_else(|| Failure::new(format!("{PROGRAM} printed no whole number {key}")))
    };
    let (recorded, dropped) = (n("recorded")?, n("dropped")?);
    // Distinct windows: one that is in both places, or both stored and dropped, is one.
    let kept = n("ingested")? + n("in_spools")? - n("in_both")? - n("unsynced_and_kept")?;
    let counted = dropped + n("refused")? - n("stored_and_dropped")?;
    outcome.expect(kept + counted == recorded, || {
        format!("seed {seed}: {kept} windows kept + {counted} counted dropped, {recorded} recorded")
    });
    outcome.expect(report["small_spools"] == true || dropped == 0, || {
        format!("seed {seed}: {dropped} windows dropped from a spool that was not full")
    });
    outcome.raw.push(report);
    Ok(())
}

fn figures(outcome: &mut Outcome) {
    let reports = std::mem::take(&mut outcome.raw);
    outcome.figure("runs", float(reports.len()), "");
    for (key, name) in SUMS {
        let sum = reports.iter().filter_map(|report| report["windows"][key].as_f64()).sum();
        outcome.figure(*name, sum, "");
    }
    for what in ["agents killed", "coordinator killed", "connections cut"] {
        let sum = reports.iter().filter_map(|report| report["happened"][what].as_f64()).sum();
        outcome.figure(what, sum, "");
    }
    for who in ["agent", "coordinator"] {
        let faults = reports.iter().filter_map(|report| report["windows"]["faults"].as_object());
        let own = faults.flatten().filter(|(kind, _)| kind.starts_with(who));
        let sum = own.filter_map(|(_, times)| times.as_f64()).sum();
        outcome.figure(format!("storage errors, {who}"), sum, "");
    }
    let gaps = reports.iter().filter_map(|report| report["windows"]["gap_s"].as_f64());
    outcome.figure("longest gap by a kill", gaps.fold(0.0, f64::max), "s");
    outcome.raw = reports;
}

/// Of a hundred runs each must have met what it is about, or nothing was shown.
fn enough(outcome: &mut Outcome) {
    for name in [
        "agents killed",
        "coordinator killed",
        "connections cut",
        "storage errors, agent",
        "storage errors, coordinator",
        "counted dropped",
        "in spools",
        "in both, acknowledgement lost",
    ] {
        let met = outcome.figures.iter().any(|figure| figure.name == name && figure.value > 0.0);
        outcome.expect(met, || format!("{name}: never in any run, so nothing was shown"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(recorded: u64, dropped: u64) -> Value {
        json!({
            "small_spools": dropped > 0, "violations": [],
            "happened": {"agents killed": 2}, "windows": {
                "recorded": recorded, "ingested": 70, "in_spools": 20, "in_both": 3, "unsynced_and_kept": 1,
                "dropped": dropped, "refused": 0, "stored_and_dropped": 2.min(dropped), "gap_s": 1.25,
                "faults": {"agent sync": 2, "agent write": 1, "coordinator io": 4},
            },
        })
    }

    #[test]
    fn the_sum_is_exact() {
        let mut outcome = Outcome::default();
        judge(1, report(86, 0), &mut outcome).unwrap();
        judge(2, report(94, 10), &mut outcome).unwrap();
        assert_eq!(outcome.misses, Vec::<String>::new());
        figures(&mut outcome);
        let value =
            |name: &str| outcome.figures.iter().find(|figure| figure.name == name).unwrap().value;
        assert_eq!((value("ingested"), value("counted dropped")), (140.0, 10.0));
        assert_eq!((value("storage errors, agent"), value("longest gap by a kill")), (6.0, 1.25));
        judge(3, report(87, 0), &mut outcome).unwrap();
        assert_eq!(outcome.misses.len(), 1, "one window too few");
        assert!(judge(4, json!({"violations": [], "windows": {}}), &mut outcome).is_err());
    }
}
