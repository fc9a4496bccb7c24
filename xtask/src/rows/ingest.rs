//! What it costs to take windows in, and how fast they get to the disk.

use super::coordinator::{Coordinator, number};
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "ingest",
    shows: "one core decodes, checks, de-duplicates and merges the windows of a large fleet by path, node, rail and fleet",
    bound: ">= 50,000 windows/s and core with 4 series of 100 fresh samples, processor time",
    covers: &[
        "core/src/histogram",
        "core/src/histogram.rs",
        "core/src/path_window.rs",
        "core/src/rollup.rs",
        "proto/src",
        "metrics/src",
        "coordinator/src",
        "testbed/src/fresh.rs",
        "testbed/src/bin/ingest_cost.rs",
    ],
    judged: Judged::InFullOnly,
    run,
};

const LEAST: f64 = 50_000.0;
const STORE: &str = "store";
/// What `ingest_cost` prints beside, what it is called here, and its unit.
const FIGURES: &[(&str, &str, &str)] = &[
    ("/decode_ns_per_window", "decoding alone", "ns a window"),
    ("/decode_and_check_ns_per_window", "decoding and checking", "ns a window"),
    ("/metrics_ns_per_window", "counting for Prometheus", "ns a window"),
    ("/octets_per_window", "a window", "octets"),
    ("/durable_windows_per_second", "durable store", "windows/s"),
    (
        "/minutes_windows_per_second_and_core",
        "one core, the store's windows merged to minutes on disk",
        "windows/s",
    ),
];

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut command = bench.program("ingest_cost", Some(0));
    command.args(["--agents", scale.pick("9", "65"), "--rounds", scale.pick("3", "15")]);
    command.args(["--store-dir", STORE]);
    let report = bench.json(command, "ingest_cost", Duration::from_secs(300))?;
    let removed = std::fs::remove_dir_all(bench.scratch().join(STORE));
    removed.map_err(|error| Failure::because("cannot delete the store", error))?;
    let mut outcome =
        Outcome { seeds: report["seed"].as_u64().into_iter().collect(), ..Outcome::default() };
    let rate = number(&report, "/windows_per_second_and_core")?;
    outcome.figure("one core", rate, "windows/s");
    for (key, name, unit) in FIGURES {
        outcome.figure(*name, number(&report, key)?, unit);
    }
    outcome.raw.push(report);
    let coordinator = Coordinator::start(bench)?;
    let flags = ["--flood", "--agents", "8", "--join-ms", "0", "--pool", "32", "--seconds"];
    let flags = [flags.as_slice(), &[scale.pick("2", "20")]].concat();
    let flood = coordinator.load(bench, &flags)?;
    coordinator.stop()?;
    outcome.figure("gRPC to disk", number(&flood, "/windows_per_second")?, "windows/s");
    outcome.figure(
        "of it per core",
        1e9 / number(&flood, "/coordinator_cpu_ns_per_window")?,
        "windows/s",
    );
    outcome.raw.push(flood);
    outcome.expect(rate >= LEAST, || format!("{rate:.0} windows/s and core"));
    Ok(outcome)
}
