//! The first thing that a newcomer sees: a verdict, a table and a report, soon.

use super::{Judged, Outcome, Row, Scale};
use crate::harness::Bench;
use crate::process::now;
use crate::{Failure, command};
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "first-run",
    shows: "the demo ends with a verdict, a table and a report",
    bound: "with binaries built, README's demo ends within 60 s with a verdict, a table and a report; in full from a \
            clean clone, build and all",
    covers: &["proto", "agent", "coordinator", "report", "cli", "xtask/src/demo.rs", "README.md"],
    judged: Judged::AtEveryScale,
    run,
};

const BOUND: f64 = 60.0;

/// A clean build on two cores takes ten minutes.
const PATIENCE: Duration = Duration::from_secs(1_800);

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    if scale == Scale::Full {
        from_a_clone(bench, &mut outcome)?;
    }
    let duration = scale.pick("4s", "30s");
    let mut demo = bench.program("railgauge", None);
    demo.args(["demo", "--duration", duration, "--out", "demo"]);
    let start = now();
    let ended = bench.complete(demo, "railgauge", PATIENCE)?;
    let took = start.elapsed().as_secs_f64();
    outcome.figure("railgauge demo", took, "s");
    outcome.expect(took <= BOUND, || format!("the demo took {took:.1} s"));
    judge(&ended.stdout, "railgauge demo", &mut outcome);
    let report = std::fs::read_to_string(bench.scratch().join("demo/report.html"));
    let report = report.map_err(|error| Failure::because("no report", error))?;
    outcome.expect(report.contains("</html>") && report.contains("demo-1"), || {
        "the report is no page about the demo's nodes".to_owned()
    });
    Ok(outcome)
}

fn judge(stdout: &str, what: &str, outcome: &mut Outcome) {
    let first = stdout.lines().next().unwrap_or_default().to_lowercase();
    let verdict = ["healthy", "degraded", "failed", "unknown"].iter().any(|v| first.contains(v));
    outcome.expect(verdict, || format!("{what}: its first line has no verdict: {first:?}"));
    let rows = stdout.lines().filter(|line| line.contains("demo-1") && line.contains('>')).count();
    outcome.expect(rows > 0, || format!("{what}: no table of paths"));
    outcome.expect(stdout.contains("report.html"), || format!("{what}: it names no report"));
}

/// README's command in a fresh clone of the commit at hand.
fn from_a_clone(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    let clone = bench.scratch().join("clone");
    if clone.exists() {
        std::fs::remove_dir_all(&clone)
            .map_err(|error| Failure::because("cannot remove the old clone", error))?;
    }
    let mut git = Command::new("git");
    git.args(["clone", "--quiet"]).arg(bench.repo().root()).arg(&clone);
    let cloned = command::run(git)?.success;
    outcome.expect(cloned, || "git clone failed".to_owned());
    let mut demo = Command::new(crate::checks::cargo());
    // Its own target directory, as a newcomer has.
    demo.args(["xtask", "demo"]).current_dir(&clone).env_remove("CARGO_TARGET_DIR");
    let start = now();
    let ended = crate::process::Running::start(demo, "cargo", &bench.scratch().join("clone-demo"))?
        .finish(PATIENCE)?;
    outcome.figure("cargo xtask demo in a clean clone", start.elapsed().as_secs_f64(), "s");
    outcome.expect(ended.code == Some(0), || {
        format!("cargo xtask demo in a clean clone ended with {:?}", ended.code)
    });
    let table = ended.stdout.lines().skip_while(|line| !line.to_lowercase().contains("verdict"));
    judge(&table.collect::<Vec<_>>().join("\n"), "cargo xtask demo", outcome);
    std::fs::remove_dir_all(&clone)
        .map_err(|error| Failure::because("cannot remove the clone", error))
}
