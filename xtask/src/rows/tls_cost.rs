//! What it costs to know who sends.

use super::coordinator::{Coordinator, number};
use super::outcome::median;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use serde_json::Value;

pub const ROW: Row = Row {
    name: "tls-cost",
    shows: "a coordinator takes windows in by mTLS nearly as fast as in plaintext",
    bound: "ingest by gRPC with mTLS / in plaintext, alternating: median of windows/s and of windows per second of the coordinator's processor time, \
            both >= 0.7",
    covers: &[
        "access",
        "coordinator/src/server.rs",
        "coordinator/src/session.rs",
        "testbed/src/load",
    ],
    judged: Judged::InFullOnly,
    run,
};

const LEAST: f64 = 0.7;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let (pairs, seconds) = scale.pick((1, "2"), (5, "15"));
    let (mut rates, mut costs) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..pairs {
        for (at, tls) in [(0, false), (1, true)] {
            let flood = flood(bench, seconds, tls)?;
            rates[at].push(number(&flood, "/windows_per_second")?);
            costs[at].push(1e9 / number(&flood, "/coordinator_cpu_ns_per_window")?);
            outcome.raw.push(flood);
        }
    }
    let ratio = |of: &[Vec<f64>; 2]| {
        let pairs = of[0].iter().zip(&of[1]).map(|(plain, tls)| tls / plain);
        median(&pairs.collect::<Vec<_>>())
    };
    let (speed, per_core) = (ratio(&rates), ratio(&costs));
    outcome.figure("median ratio of windows/s", speed, "");
    outcome.figure("median ratio of windows per second and core", per_core, "");
    for (at, name) in [(0, "plaintext"), (1, "mTLS")] {
        outcome.figure(name, median(&rates[at]), "windows/s");
        outcome.figure(format!("{name}, per core"), median(&costs[at]), "windows/s");
    }
    outcome.expect(speed >= LEAST, || format!("windows/s by mTLS are {speed:.3} of plaintext"));
    outcome.expect(per_core >= LEAST, || {
        format!("windows per core by mTLS are {per_core:.3} of plaintext")
    });
    Ok(outcome)
}

fn flood(bench: &Bench<'_>, seconds: &str, tls: bool) -> Result<Value, Failure> {
    let coordinator =
        if tls { Coordinator::start_with_tls(bench)? } else { Coordinator::start(bench)? };
    let flags =
        ["--flood", "--agents", "8", "--join-ms", "0", "--pool", "32", "--seconds", seconds];
    let flood = coordinator.load(bench, &flags)?;
    coordinator.stop()?;
    Ok(flood)
}
