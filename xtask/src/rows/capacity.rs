//! How fast one probe thread can go before it, and not the machine, is late.

use super::outcome::float;
use super::{INSTRUMENT, Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, Ping};
use std::time::Duration;

pub const ROW: Row = Row {
    name: "capacity",
    shows: "50,000 probes/s from one probe thread to one reflector thread",
    bound: "late starts that no recorded clock gap explains < 0.1 % of the probes; >= 99 % answered, and no more late \
            starts laid to gaps than catching up takes",
    covers: INSTRUMENT,
    judged: Judged::InFullOnly,
    run,
};

const MOST_UNEXPLAINED_PERCENT: f64 = 0.1;
/// A thread that was ever behind and never catches up could lay every late start at the door of its first gap.
const LEAST_ANSWERED_PERCENT: f64 = 99.0;
/// Late starts for each slot that fell into a gap: one that is filled to nine tenths needs as many to catch up.
const MOST_LATE_PER_SLOT: f64 = 10.0;
const INTERVAL_NS: f64 = 20e3;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let reflector = bench.reflector(&["--busy-poll", "--cpu", "1", "--max-rate", "0"])?;
    let mut command = bench.program("railgauge", None);
    command.args(["ping", &reflector.address, "--output", "json", "--busy-poll", "--cpu", "0"]);
    command.args(["--interval", "20us", "--duration", scale.pick("2s", "60s")]);
    let ended = bench.complete(command, "ping", Duration::from_secs(120))?;
    let ping = Ping::read("ping", &ended, "")?;

    let percent = |pointer: &str| -> Result<f64, Failure> {
        let part = usize::try_from(ping.number(pointer)?).unwrap_or(0);
        let of = usize::try_from(ping.number("/scheduled")?).unwrap_or(0).max(1);
        Ok(float(part) / float(of) * 100.0)
    };
    let late = percent("/late_starts")?;
    let unexplained = late - percent("/probe_thread/late_starts_explained_by_gaps")?;
    let skipped = percent("/skipped")?;
    let gaps = ping.number("/probe_thread/clock_gaps/count")?;
    let longest = ping.number("/probe_thread/clock_gaps/longest_ns")?;

    let mut outcome = Outcome::default();
    outcome.figure("unexplained late starts", unexplained, "%");
    outcome.figure("late starts", late, "%");
    outcome.figure("skipped", skipped, "%");
    outcome.figure("clock gaps", float(usize::try_from(gaps).unwrap_or(0)), "");
    outcome.figure("longest gap", float(usize::try_from(longest).unwrap_or(0)), "ns");
    outcome.figure("lost", percent("/lost")?, "%");
    outcome.expect(unexplained < MOST_UNEXPLAINED_PERCENT, || {
        format!("{unexplained:.3} % of the probes were late without a recorded gap")
    });
    let answered = percent("/received")?;
    outcome.expect(answered >= LEAST_ANSWERED_PERCENT, || {
        format!("{answered:.2} % of the probes were answered, so 50,000/s were not measured")
    });
    let number = |pointer: &str| -> Result<f64, Failure> {
        Ok(float(usize::try_from(ping.number(pointer)?).unwrap_or(0)))
    };
    let explained = number("/probe_thread/late_starts_explained_by_gaps")?;
    let in_gaps = number("/probe_thread/clock_gaps/total_ns")? / INTERVAL_NS;
    outcome.expect(explained <= in_gaps * MOST_LATE_PER_SLOT, || {
        format!("{explained} late starts are laid to gaps that {in_gaps:.0} slots fell into: the thread never caught up")
    });
    outcome.raw.push(ping.summary());
    Ok(outcome)
}
