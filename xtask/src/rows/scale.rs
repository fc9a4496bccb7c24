//! What a fleet costs its coordinator.

use super::coordinator::{Coordinator, number};
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;

pub const ROW: Row = Row {
    name: "scale",
    shows: "one coordinator serves 1,000 agents of 64 paths and loses, doubles or refuses no window",
    bound: "by its own gRPC, windows of 10 s for 5 min: <= 1 core and <= 1.5 GiB; every window acknowledged and counted once",
    covers: &[
        "core",
        "proto",
        "metrics",
        "coordinator",
        "testbed/src/load",
        "testbed/src/bin/fleet_load.rs",
    ],
    judged: Judged::InFullOnly,
    run,
};

const MOST_CORES: f64 = 1.0;
const MOST_MIB: f64 = 1_536.0;
/// Agents, and seconds of load.
const MINIATURE: &[(&str, &str)] = &[("20", "10")];
const FULL: &[(&str, &str)] = &[("10", "60"), ("100", "60"), ("1000", "300")];
/// What is printed of each.
const FIGURES: &[(&str, &str, &str)] = &[
    ("/coordinator_cores", "cores", ""),
    ("/coordinator_peak_mib", "peak", "MiB"),
    ("/windows_per_second", "rate", "windows/s"),
    ("/ack_wait_ms/p99", "p99 to the acknowledgement", "ms"),
];

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    // The largest first: it decides.
    for (agents, seconds) in scale.pick(MINIATURE, FULL).iter().rev() {
        let coordinator = Coordinator::start(bench)?;
        let join = scale.pick("500", "5000");
        // Windows end at the same wall-clock instant on all agents, and are gathered for half a second.
        let flags =
            ["--agents", agents, "--seconds", seconds, "--join-ms", join, "--spread-ms", "500"];
        let report = coordinator.load(bench, &flags)?;
        coordinator.stop()?;
        for (key, name, unit) in FIGURES {
            outcome.figure(format!("{agents} agents: {name}"), number(&report, key)?, unit);
        }
        let cores = number(&report, "/coordinator_cores")?;
        let peak = number(&report, "/coordinator_peak_mib")?;
        outcome.expect(cores <= MOST_CORES, || format!("{agents} agents take {cores:.2} cores"));
        outcome.expect(peak <= MOST_MIB, || format!("{agents} agents take {peak:.0} MiB"));
        outcome.seeds.extend(report["seed"].as_u64());
        outcome.raw.push(report);
    }
    Ok(outcome)
}
