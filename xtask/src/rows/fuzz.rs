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
    bound: ">= 10 million mutated packets through the fuzz target of every packet decoder, and fewer \
            inputs, by the weight of what is done with them, through those of messages, documents, settings, stored rows, \
            certificates and keys: no panic, no allocation without bound, every one counted by reason",
    covers: &[
        "access/src/certificate.rs",
        "access/src/files.rs",
        "core/src/access",
        "core/src/probe_keys",
        "core/src/stamp",
        "core/src/reflector.rs",
        "core/src/frame.rs",
        "core/src/histogram",
        "agent/src/daemon/config.rs",
        "agent/src/daemon/orders.rs",
        "agent/src/daemon/state.rs",
        "agent/src/daemon/target.rs",
        "agent/src/spool/frames.rs",
        "coordinator/src/config.rs",
        "coordinator/src/fleet.rs",
        "coordinator/src/hello.rs",
        "coordinator/src/store/row.rs",
        "core/src/path_window.rs",
        "core/src/selector.rs",
        "core/src/settings.rs",
        "metrics/src/negotiate.rs",
        "proto/src/convert.rs",
        "proto/src/keys.rs",
        "report/src/doc",
        "report/src/html",
        "testbed/fuzz/src",
        "testbed/src/mutate",
    ],
    judged: Judged::AtEveryScale,
    run,
};

/// Of each decoder of packets.
const RUNS: u64 = 10_000_000;
/// Longest packet, octets; libFuzzer's inputs of other targets may be longer, as what they read is.
const PACKET: u32 = 512;

/// Inputs of a target, and the octets of the longest. Packets get the promised number; the rest what takes a minute or two.
const fn plan_of(target: &str) -> (u64, u32) {
    match target.as_bytes() {
        // Compresses and inflates each input.
        b"histogram" => (300_000, PACKET),
        // Sums windows up and judges their quantiles.
        b"agent_message" => (20_000, 4_096),
        b"coordinator_message" => (1_000_000, 2_048),
        // Makes a page of each.
        b"document" => (20_000, 16_384),
        b"text" => (200_000, 2_048),
        b"store_row" => (500_000, 4_096),
        b"accept" => (2_000_000, 2_048),
        b"identity" => (1_000_000, 4_096),
        b"probe_keys" => (500_000, 2_048),
        _ => (RUNS, PACKET),
    }
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
        let (wanted, longest) = plan_of(&target);
        let mut command = Command::new("sh");
        command.arg(bench.repo().path("testbed/fuzz/run.sh")).args([
            &target,
            &wanted.to_string(),
            &longest.to_string(),
        ]);
        let ended = bench.complete(command, &target, Duration::from_secs(3600))?;
        let runs = stat(&ended.stderr, "number_of_executed_units");
        let peak = stat(&ended.stderr, "peak_rss_mb");
        outcome.expect(ended.code == Some(0), || {
            let said =
                ended.stderr.lines().find(|line| line.contains("ERROR")).unwrap_or("nothing");
            format!("{target}: status {:?} ({said})", ended.code)
        });
        outcome.expect(runs.is_some_and(|runs| runs >= wanted), || {
            format!("{target}: {runs:?} inputs where {wanted} were wanted")
        });
        total += runs.unwrap_or(0);
        outcome.raw.push(json!({"target": target, "inputs": runs, "peak_rss_mb": peak}));
    }
    outcome.figure("inputs", float(usize::try_from(total).unwrap_or(usize::MAX)), "");
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
