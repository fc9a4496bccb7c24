//! What it costs to put one sample into one series.

use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::Bench;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "recording",
    shows: "recording a sample costs less than reading a clock",
    bound: "<= 30 ns a sample and series",
    covers: &["core/src/histogram", "core/src/histogram.rs", "testbed/src"],
    judged: Judged::InFullOnly,
    run,
};

const MOST_NS: f64 = 30.0;
/// What `recording_cost` prints, and what it is called here.
const FIGURES: &[(&str, &str)] = &[
    ("ns_per_sample_and_series", "record and drain"),
    ("hdrhistogram_crate_record_only_ns", "the hdrhistogram crate, record only"),
];

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut command = bench.program("recording_cost", Some(0));
    command.args(["--samples", scale.pick("2000000", "50000000")]);
    let report = bench.json(command, "recording_cost", Duration::from_secs(300))?;
    let mut outcome =
        Outcome { seeds: report["seed"].as_u64().into_iter().collect(), ..Outcome::default() };
    for (key, name) in FIGURES {
        let value = report[key].as_f64();
        let value =
            value.ok_or_else(|| Failure::new(format!("recording_cost printed no {key}")))?;
        outcome.figure(*name, value, "ns");
    }
    let ours = outcome.figures[0].value;
    outcome.expect(ours <= MOST_NS, || format!("{ours:.1} ns a sample and series"));
    outcome.raw.push(report);
    Ok(outcome)
}
