//! The fabric that RDMA is tried on: soft-RoCE NICs in a guest, on cables that are disturbed one end at a time.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::guest::{self, CLOCK_MAY_BE_OFF, Job, Streams};
use crate::harness::{Bench, violations};
use serde_json::Value;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "guest",
    shows: "a guest with four soft-RoCE NICs behind one switch: what disturbs one end of one cable is seen from there and nowhere else",
    bound: "the system's libibverbs lists all devices, IPv4, ULA and link-local GIDs carry RDMA over the cables; perftest sees each of \
            (delay 2 ms, loss 1 %, rate 10 Mbit/s, link down) at either end of any cable, and undisturbed pairs see none; devices removed and \
            added and addresses changed work again",
    covers: &["testbed/guest", "testbed/src/guest", "xtask/src/guest.rs", "xtask/src/guest"],
    judged: Judged::AtEveryScale,
    run,
};

const SEED: u64 = 20_261_123;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome { seeds: vec![SEED], ..Outcome::default() };
    let seed = SEED.to_string();
    let mut arguments = vec!["--seed", &seed];
    if scale == Scale::Full {
        arguments.push("--everywhere");
    }
    let limit = Duration::from_secs(scale.pick(600, 3600));
    let report = in_guest(bench, "guest_check", &arguments, limit, &mut outcome)?;
    let faults = report["episodes"].as_array().map_or(0, Vec::len);
    outcome.expect(faults > 0, || "no fault was tried, so nothing was shown".to_owned());
    outcome.figure("faults tried", float(faults), "");
    for (name, values) in report["figures"].as_object().into_iter().flatten() {
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_f64) {
            outcome.figure(name, value, "");
        }
    }
    outcome.raw.push(report);
    Ok(outcome)
}

/// Boots a guest with the fabric up and runs a program of the release build in it, which prints one JSON object with `violations`: those
/// are misses, and so is a kernel that complains.
///
/// # Errors
/// When the guest does not boot, or the program is not done within `limit`, does not end with status 0 or prints something else.
pub fn in_guest(
    bench: &Bench<'_>,
    program: &str,
    arguments: &[&str],
    limit: Duration,
    outcome: &mut Outcome,
) -> Result<Value, Failure> {
    let path = bench.repo().release(program);
    let path = path.canonicalize().map_err(|error| Failure::because(path.display(), error))?;
    bench.note(&format!("cargo xtask guest -- target/release/{program} {}", arguments.join(" ")));
    let mut job = Job::new([path.into_os_string()]);
    job.command.extend(arguments.iter().map(Into::into));
    job.limit = limit;
    let said = guest::run(bench.repo(), &bench.scratch().join(program), &job, Streams::Kept)?;
    outcome.figure("guest booted in", said.boot.as_secs_f64(), "s");
    if let Some(clock) = said.clock {
        outcome.figure("the guest's clock against ours", clock, "");
        outcome.expect((clock - 1.0).abs() <= CLOCK_MAY_BE_OFF, || {
            format!("the guest's clock ran at {clock:.3} of this machine's")
        });
    }
    for complaint in &said.kernel_complaints {
        outcome.misses.push(format!("the guest's kernel: {complaint}"));
    }
    let last = said.stderr.lines().last().unwrap_or("nothing");
    if said.code != 0 {
        let code = said.code;
        return Err(Failure::new(format!("{program} in the guest ended with {code}: {last}")));
    }
    let report: Value = serde_json::from_str(&said.stdout).map_err(|error| {
        Failure::new(format!("{program} printed no JSON ({error}); on stderr: {last}"))
    })?;
    outcome.misses.extend(violations(program, &report)?);
    Ok(report)
}
