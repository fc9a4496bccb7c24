//! Nobody gets what is not theirs, and every try is in the audit log.

use super::coordinator::number;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, violations};
use std::time::Duration;

pub const ROW: Row = Row {
    name: "closed",
    shows: "every RPC and page is for whom the policy says, and for nobody else",
    bound: "each RPC and page x (no certificate, wrong CA, expired, not yet valid, other trust domain, each role, wrong node): served exactly \
            where the table says, refused with a status and an audit line elsewhere; and served all the same beside 10,000 idle connections, noise, \
            slow headers and frames that are none",
    covers: &[
        "core/src/access",
        "core/src/access.rs",
        "access",
        "proto/railgauge",
        "coordinator",
        "testbed/src/closed",
    ],
    judged: Judged::AtEveryScale,
    run,
};

const PATIENCE: Duration = Duration::from_secs(300);

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let scratch = bench.scratch().join("matrix");
    // What an earlier one left is in the way of a new authority.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch)
        .map_err(|error| Failure::because("cannot make a directory for the coordinator", error))?;
    let mut command = bench.program("closed_matrix", None);
    command.arg("--coordinator").arg(bench.repo().release("railgauge-coordinator"));
    command.arg("--agent").arg(bench.repo().release("railgauge-agent"));
    command.arg("--scratch").arg(&scratch);
    command.args(["--idle", scale.pick("1000", "10000")]);
    let report = bench.json(command, "closed_matrix", PATIENCE)?;
    let mut outcome = Outcome::default();
    for (name, key) in [
        ("RPCs", "/rpcs"),
        ("pages", "/pages"),
        ("cells", "/cells"),
        ("with their audit line", "/audited"),
    ] {
        outcome.figure(name, number(&report, key)?, "");
    }
    outcome.figure("idle connections on each listener", number(&report, "/idle")?, "");
    let waits = report["hostile"].as_array().into_iter().flatten();
    let waits = waits.filter_map(|one| one["served_after_s"].as_f64());
    outcome.figure("longest that a viewer waited meanwhile", waits.fold(0.0, f64::max), "s");
    outcome.figure("coordinator's peak", number(&report, "/coordinator_peak_mib")?, "MiB");
    for violation in violations("closed_matrix", &report)? {
        outcome.expect(false, || violation);
    }
    outcome.raw.push(report);
    Ok(outcome)
}
