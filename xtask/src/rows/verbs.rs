//! Verbs on live devices: every call of `fabric::verbs` on soft-RoCE, every refusal by its sentence, and nothing left over.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::guest::{self, Job, Streams};
use crate::harness::Bench;
use serde_json::Value;
use std::ffi::OsString;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "verbs",
    shows: "verbs opened at run time: datagrams, connections, events, removal of an open device, and each way in which a machine has none",
    bound: "each of >= 40 checks in a guest holds: all operations carry their data, each failure has its status, an open device that is deleted \
            is noticed and let go in < 1 s each, each of 7 refusals says its sentence, and making and dropping everything (10,000 times in full) \
            leaves no queue pair, region or descriptor",
    covers: &[
        "fabric/src/verbs",
        "fabric/src/verbs.rs",
        "testbed/guest",
        "testbed/src/bin/verbs_tour",
        "xtask/src/rows/verbs.rs",
    ],
    judged: Judged::AtEveryScale,
    run,
};

/// What the script in the guest runs.
const SCRIPT: &str = "testbed/guest/verbs_tour.sh";
/// As many lines as a whole tour prints at least; one that ends early is no proof.
const CHECKS: usize = 40;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let tour = bench.repo().release("verbs_tour");
    let tour = tour.canonicalize().map_err(|error| Failure::because(tour.display(), error))?;
    let cycles = scale.pick("200", "10000");
    bench.note(&format!("cargo xtask guest -- sh {SCRIPT} target/release/verbs_tour {cycles}"));
    let mut job =
        Job::new([OsString::from("sh"), SCRIPT.into(), tour.into_os_string(), cycles.into()]);
    job.limit = Duration::from_secs(scale.pick(600, 3600));
    let said = guest::run(bench.repo(), &bench.scratch().join("tour"), &job, Streams::Kept)?;
    judge(&said.stdout, &mut outcome);
    for complaint in &said.kernel_complaints {
        outcome.misses.push(format!("the guest's kernel: {complaint}"));
    }
    outcome.expect(said.code == 0, || {
        format!("the tour ended with {}: {}", said.code, said.stderr.trim().replace('\n', "; "))
    });
    Ok(outcome)
}

/// Counts what held. A line that is none of the tour's is a miss: nothing else prints there.
fn judge(lines: &str, outcome: &mut Outcome) {
    let mut held = 0;
    for line in lines.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(check) if check["held"] == true => held += 1,
            Ok(check) => {
                outcome
                    .misses
                    .push(format!("{} does not hold: {}", check["check"], check["figures"]));
            }
            Err(_) => outcome.misses.push(format!("printed no check: {line}")),
        }
        outcome.raw.extend(serde_json::from_str::<Value>(line).ok());
    }
    outcome.expect(held >= CHECKS, || format!("{held} checks held, of {CHECKS} and more"));
    outcome.figure("checks that held", float(held), "");
    for (name, key) in [("deletion noticed after", "noticed_ms"), ("let go after", "let_go_ms")] {
        let values: Vec<f64> =
            outcome.raw.iter().filter_map(|check| check["figures"][key].as_f64()).collect();
        values.into_iter().for_each(|value| outcome.figure(name, value, "ms"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(lines: &str) -> Vec<String> {
        let mut outcome = Outcome::default();
        judge(lines, &mut outcome);
        outcome.misses
    }

    #[test]
    fn a_tour_that_ends_early_or_fails_is_a_miss() {
        let held = "{\"check\":\"a\",\"held\":true,\"figures\":{\"noticed_ms\":100}}\n";
        assert!(misses(&held.repeat(CHECKS)).is_empty());
        assert_eq!(misses(&held.repeat(CHECKS - 1)).len(), 1);
        let broken = held.repeat(CHECKS) + "{\"check\":\"b\",\"held\":false,\"figures\":{}}\n";
        assert_eq!(misses(&broken).len(), 1);
        assert_eq!(misses(&(held.repeat(CHECKS) + "error\n")), ["printed no check: error"]);
    }
}
