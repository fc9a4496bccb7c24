//! Histograms merge exactly, and another language's implementation reads the same counts out of them.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::harness::{Bench, Ping};
use crate::{Failure, tools};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "merging",
    shows: "a sample set cut in any way and merged is the uncut one, here and in other implementations",
    bound: "same bytes however cut; hdr_v2 and .hlog decode to the same counts in PyPI's hdrhistogram",
    covers: &[
        "core/src/histogram",
        "core/src/histogram.rs",
        "cli/src",
        "testbed/src/bin",
        "testbed/python",
    ],
    judged: Judged::AtEveryScale,
    run,
};

const SEED: u64 = 20_260_102;
const BOUND: Duration = Duration::from_secs(600);
const SERIES: &[&str] = &["app_rtt", "network_rtt", "prober_delay", "responder_delay"];

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome { seeds: vec![SEED], ..Outcome::default() };
    simulated(bench, scale, &mut outcome)?;
    measured(bench, scale, &mut outcome)?;
    Ok(outcome)
}

/// Sample sets cut at random: same bytes, and one of them as Python reads it.
fn simulated(bench: &Bench<'_>, scale: Scale, outcome: &mut Outcome) -> Result<(), Failure> {
    let sets = scale.pick("300", "10000");
    let mut command = bench.program("merge_bytes", None);
    command.args(["--sets", sets, "--seed", &SEED.to_string(), "--hlog", "parts.hlog"]);
    let report = bench.json(command, "merge_bytes", BOUND)?;
    let differing = report["differing"].as_f64();
    let differing = differing.ok_or_else(|| Failure::new("merge_bytes printed no `differing`"))?;
    outcome.figure("sample sets", sets.parse().unwrap_or(f64::NAN), "");
    outcome.figure("that differ once merged", differing, "");
    outcome.expect(differing == 0.0, || format!("{differing} of {sets} sets differ once merged"));
    let text = report["hdr_v2"].as_str().unwrap_or_default();
    for (form, flags) in [("hdr_v2", ["--hdr-v2", text]), ("hlog", ["--hlog", "parts.hlog"])] {
        let decoded = decode(bench, &flags)?;
        outcome.expect(decoded["counts"] == report["counts"], || {
            format!("a simulated set: Python reads other counts out of its {form}")
        });
    }
    Ok(())
}

/// A run of `ping`: both of its forms decode to the same counts, as many as it had replies.
fn measured(bench: &Bench<'_>, scale: Scale, outcome: &mut Outcome) -> Result<(), Failure> {
    let ping = measure(bench, scale)?;
    let mut samples = 0;
    for series in SERIES {
        let count = ping.number(&format!("/{series}/count"))?;
        let text = ping.json[*series]["hdr_v2"].as_str().unwrap_or_default();
        let whole = decode(bench, &["--hdr-v2", text])?;
        let summed = decode(bench, &["--hlog", HLOG, "--tag", series])?;
        outcome.expect(whole["total"].as_i64() == Some(count), || {
            format!("{series}: {count} replies, Python reads {} out of hdr_v2", whole["total"])
        });
        outcome.expect(whole["counts"] == summed["counts"], || {
            let (whole, summed) = (&whole["total"], &summed["total"]);
            format!("{series}: hdr_v2 ({whole} samples) and .hlog ({summed}) differ in Python")
        });
        samples += count;
    }
    outcome.figure("samples decoded", float(usize::try_from(samples).unwrap_or(0)), "");
    outcome.raw.push(ping.summary());
    Ok(())
}

const HLOG: &str = "run.hlog";

fn measure(bench: &Bench<'_>, scale: Scale) -> Result<Ping, Failure> {
    let reflector = bench.reflector(&[])?;
    let flags = ["--interval", "1ms", "--duration", scale.pick("3s", "60s"), "--hlog", HLOG];
    bench.ping(&reflector.address, &flags, BOUND)
}

/// The counts that PyPI's hdrhistogram reads.
fn decode(bench: &Bench<'_>, flags: &[&str]) -> Result<Value, Failure> {
    let mut command = Command::new(tools::python(bench.repo()));
    command.arg(bench.repo().path("testbed/python/hdr_decode.py")).args(flags);
    bench.json(command, "hdr_decode", BOUND)
}
