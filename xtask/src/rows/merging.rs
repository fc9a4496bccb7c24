//! Histograms merge exactly, and another language's implementation reads the same counts out of them.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::harness::{Bench, Ping, violations};
use crate::{Failure, checks, tools};
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "merging",
    shows: "a sample set cut in any way and merged is the uncut one, here and in other implementations",
    bound: "same bytes however cut; hdr_v2 and .hlog decode to the same counts in PyPI's hdrhistogram",
    covers: &["core/src/histogram", "core/src/histogram.rs", "cli/src", "testbed/python"],
    judged: Judged::AtEveryScale,
    run,
};

const HLOG: &str = "run.hlog";
const RESULT: &str = "run.json";

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let cases = scale.pick("256", "20000");
    let environment = [("PROPTEST_CASES", cases)];
    let tests = checks::library_tests(bench.repo(), "railgauge-core", "histogram::", &environment)?;
    let mut outcome = Outcome::default();
    outcome.figure("properties that hold", float(tests.passed), "");
    outcome.figure("cases of each", cases.parse().unwrap_or(f64::NAN), "");
    outcome.expect(tests.failed == 0 && tests.passed > 0, || {
        format!("{} properties of histograms hold and {} do not", tests.passed, tests.failed)
    });

    let ping = measure(bench, scale)?;
    let mut decode = Command::new(tools::python(bench.repo()));
    decode.arg(bench.repo().path("testbed/python/hdr_decode.py"));
    decode.args(["--result", RESULT, "--hlog", HLOG]);
    let report = bench.json(decode, "hdr_decode", Duration::from_secs(120))?;
    outcome.misses.extend(violations("hdr_decode.py", &report)?);
    for series in ["app_rtt", "network_rtt", "prober_delay", "responder_delay"] {
        let ours = ping.number(&format!("/{series}/count"))?;
        for form in ["hdr_v2", "hlog"] {
            let theirs = report[form][series]["count"].as_i64();
            outcome.expect(theirs == Some(ours), || {
                format!(
                    "{series}: {ours} samples here, {theirs:?} in its {form} as Python reads it"
                )
            });
        }
    }
    outcome.figure("samples decoded", float(ping.samples.len()), "");
    outcome.raw.push(report);
    Ok(outcome)
}

/// A short run that leaves both forms behind.
fn measure(bench: &Bench<'_>, scale: Scale) -> Result<Ping, Failure> {
    let reflector = bench.reflector(&[])?;
    let duration = scale.pick("2s", "60s");
    let flags = ["--interval", "1ms", "--duration", duration, "--hlog", HLOG];
    let ping = bench.ping(&reflector.address, &flags, Duration::from_secs(120))?;
    std::fs::write(bench.scratch().join(RESULT), ping.json.to_string())
        .map_err(|error| Failure::because("cannot keep the ping result", error))?;
    Ok(ping)
}
