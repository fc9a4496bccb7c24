//! What it costs to put one sample into one series.

use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, violations};
use std::time::Duration;

pub const ROW: Row = Row {
    name: "recording",
    shows: "recording a sample costs less than reading a clock",
    bound: "<= 30 ns a sample and series",
    covers: &["core/src/histogram", "core/src/histogram.rs", "testbed/src"],
    judged: Judged::InFullOnly,
    run,
};

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut command = bench.program("recording_cost", Some(0));
    command.args(["--samples", scale.pick("2000000", "100000000")]);
    let report = bench.json(command, "recording_cost", Duration::from_secs(300))?;
    let mut outcome =
        Outcome { misses: violations("recording_cost", &report)?, ..Outcome::default() };
    for (name, value) in report.as_object().into_iter().flatten() {
        if let (Some(name), Some(value)) = (name.strip_suffix("_ns"), value.as_f64()) {
            outcome.figure(name.replace('_', " "), value, "ns");
        }
    }
    outcome.raw.push(report);
    Ok(outcome)
}
