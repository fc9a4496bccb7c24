//! Nothing that arrives makes either role panic or allocate without bound.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::harness::Bench;
use crate::{Failure, checks};
use serde_json::json;
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "fuzz",
    shows: "no packet makes either role panic or grow without bound",
    bound: ">= 10 million mutated packets through the fuzz target of every packet decoder: no panic, no allocation \
            without bound, every one counted by reason",
    covers: &[
        "core/src/stamp",
        "core/src/reflector.rs",
        "core/src/frame.rs",
        "core/src/histogram",
        "agent/src/spool/frames.rs",
        "testbed/fuzz/src",
        "testbed/src/mutate",
    ],
    judged: Judged::AtEveryScale,
    run,
};

/// Of each decoder of packets.
const RUNS: u64 = 10_000_000;
/// Of the histogram decoder, which gets no packet yet, and compresses and inflates each input: a thirtieth of the speed.
const HISTOGRAM_RUNS: u64 = 300_000;

fn runs_of(target: &str) -> u64 {
    if target == "histogram" { HISTOGRAM_RUNS } else { RUNS }
}

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    scale.pick(seeded as fn(&Bench<'_>) -> _, guided)(bench)
}

/// The same exercises with packets from a seed, as tests: needs no C++ compiler, takes seconds.
fn seeded(bench: &Bench<'_>) -> Result<Outcome, Failure> {
    let tally = checks::library_tests(bench.repo(), "railgauge-testbed", "mutate::", &[])?;
    let mut outcome = Outcome::default();
    outcome.figure("exercises passed", float(tally.passed), "");
    outcome.expect(tally.failed == 0 && tally.passed > 0, || {
        format!("{} exercises passed and {} failed", tally.passed, tally.failed)
    });
    Ok(outcome)
}

/// libFuzzer, guided by coverage.
fn guided(bench: &Bench<'_>) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut total = 0;
    for target in targets(bench)? {
        let wanted = runs_of(&target);
        let mut command = Command::new("sh");
        command.arg(bench.repo().path("testbed/fuzz/run.sh")).args([&target, &wanted.to_string()]);
        let ended = bench.complete(command, &target, Duration::from_secs(3600))?;
        let runs = stat(&ended.stderr, "number_of_executed_units");
        let peak = stat(&ended.stderr, "peak_rss_mb");
        outcome.expect(ended.code == Some(0), || {
            let said =
                ended.stderr.lines().find(|line| line.contains("ERROR")).unwrap_or("nothing");
            format!("{target}: status {:?} ({said})", ended.code)
        });
        outcome.expect(runs.is_some_and(|runs| runs >= wanted), || {
            format!("{target}: {runs:?} packets where {wanted} were wanted")
        });
        total += runs.unwrap_or(0);
        outcome.raw.push(json!({"target": target, "packets": runs, "peak_rss_mb": peak}));
    }
    outcome.figure("packets", float(usize::try_from(total).unwrap_or(usize::MAX)), "");
    outcome.figure("targets", float(outcome.raw.len()), "");
    Ok(outcome)
}

/// Every file in `testbed/fuzz/src/bin` is a target.
fn targets(bench: &Bench<'_>) -> Result<Vec<String>, Failure> {
    let files = bench.repo().files()?;
    let named = |path: &String| {
        path.strip_prefix("testbed/fuzz/src/bin/")?.strip_suffix(".rs").map(str::to_owned)
    };
    let targets: Vec<String> = files.iter().filter_map(named).collect();
    if targets.is_empty() {
        return Err(Failure::new("testbed/fuzz/src/bin holds no fuzz target"));
    }
    Ok(targets)
}

/// A line `stat::NAME: 123` of libFuzzer's.
fn stat(output: &str, name: &str) -> Option<u64> {
    let prefix = format!("stat::{name}:");
    output.lines().find_map(|line| line.strip_prefix(&prefix))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::stat;

    #[test]
    fn libfuzzers_figures_are_read() {
        let output =
            "Done\nstat::number_of_executed_units: 149032\nstat::peak_rss_mb:              41\n";
        assert_eq!(stat(output, "number_of_executed_units"), Some(149_032));
        assert_eq!(stat(output, "peak_rss_mb"), Some(41));
        assert_eq!(stat(output, "nothing"), None);
    }
}
