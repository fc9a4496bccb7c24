//! Validity notes: what a reader must know before believing the numbers. Each holds where it is printed.

use std::time::Duration;

use railgauge_core::quantile::Summary;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::inventory::{self, Roots};

use super::{PingRun, Transport};
use crate::WaitMode;

/// Late starts and slots skipped are noted from this share on; the counts are in the result anyway.
const NOTED_SHARE: f64 = 0.001;

/// Gaps of the probe thread are noted when the longest is at least this.
const NOTED_GAP: Duration = Duration::from_millis(1);

/// All notes of a run. `series` are the summaries by name.
pub fn notes(run: &PingRun, series: &[(&'static str, &Summary)]) -> Vec<String> {
    let mut notes = Vec::new();
    schedule(run, &mut notes);
    prober(run, &mut notes);
    machine(run, &mut notes);
    stamps(run, &mut notes);
    buffers(run, &mut notes);
    for (name, summary) in series {
        notes.extend(summary.notes.iter().map(|note| format!("{name}: {note}")));
    }
    notes
}

#[expect(clippy::cast_precision_loss, reason = "a share printed with one decimal")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn schedule(run: &PingRun, notes: &mut Vec<String>) {
    let account = &run.end.account;
    let late = share(account.late_starts, account.sent);
    if late >= NOTED_SHARE {
        notes.push(format!("{} late starts", percent(late)));
    }
    let skipped = share(account.skipped, account.scheduled);
    if account.skipped > 0 {
        notes.push(format!(
            "{} of the slots skipped: the prober was behind by more than the time-out",
            percent(skipped)
        ));
    }
    if account.scheduled < run.config.count && !run.end.gave_up {
        notes.push(format!("stopped early: {} of {} slots", account.scheduled, run.config.count));
    }
}

fn prober(run: &PingRun, notes: &mut Vec<String>) {
    let findings = &run.end.findings;
    match findings.migrations {
        0 => {}
        1 => notes.push("thread migrated once".to_owned()),
        times => notes.push(format!("thread migrated {times} times")),
    }
    if let Err(why) = &run.pinned {
        notes.push(format!("thread not pinned: {why}"));
    }
    if run.config.mode == WaitMode::BusyPoll && findings.involuntary_context_switches > 0 {
        let times = findings.involuntary_context_switches;
        notes.push(format!("thread taken off its CPU {times} times"));
    }
    let longest = Duration::from_nanos(findings.gaps_longest_ns);
    if longest >= NOTED_GAP {
        let total = Duration::from_nanos(findings.gaps_total_ns);
        let gaps = findings.gaps;
        notes.push(format!(
            "prober stood still {gaps} times, {total:.1?} in all, {longest:.1?} at most"
        ));
    }
    for step in &findings.clock_steps_ns {
        let by = Duration::from_nanos(step.unsigned_abs());
        let direction = if *step < 0 { "back" } else { "forward" };
        notes.push(format!("clock stepped {direction} by {by:.1?} during the run"));
    }
}

fn machine(run: &PingRun, notes: &mut Vec<String>) {
    let roots = Roots::default();
    let cpu = run.pinned.as_ref().ok().and_then(|&cpu| u32::try_from(cpu).ok());
    let governor = cpu.and_then(|cpu| inventory::governor_of_cpu(&roots, cpu));
    if let Some(governor) = governor.filter(|g| g != "performance") {
        notes.push(format!("governor {governor}"));
    }
    let clocksource = inventory::current_clocksource(&roots);
    if let Some(name) =
        clocksource.known().filter(|name| !matches!(name.as_str(), "tsc" | "arch_sys_counter"))
    {
        notes.push(format!("clocksource {name}"));
    }
}

fn stamps(run: &PingRun, notes: &mut Vec<String>) {
    if run.config.transport == Transport::Tcp {
        return;
    }
    let refused = run.end.flows.iter().find_map(|flow| flow.kernel_stamps.as_ref().err());
    if let Some(why) = refused {
        notes.push(format!("stamps taken in user space: {why}"));
    }
    let Some((source, main)) = run.series.main_split() else { return };
    if matches!(source.t3, StampSource::User | StampSource::Unknown) {
        let why = if run.end.telemetry_unknown || source.t3 == StampSource::Unknown {
            "the reflector does not send its true transmit stamps"
        } else {
            "the reflector has user-space stamps only"
        };
        notes.push(format!("network_rtt is an upper bound: {why}"));
    }
    let split = main.network_rtt.total().replies();
    let unsplit = run.end.account.received.saturating_sub(split);
    if unsplit > 0 {
        let share = percent(share(unsplit, run.end.account.received));
        notes.push(format!("{unsplit} replies ({share}) without a split in {source}: see errors"));
    }
}

fn buffers(run: &PingRun, notes: &mut Vec<String>) {
    let smallest = run.end.flows.iter().filter_map(|flow| flow.receive_buffer_bytes).min();
    let Some(granted) = smallest.filter(|&granted| granted < run.wanted_receive_buffer) else {
        return;
    };
    notes.push(format!(
        "receive buffer of {granted} bytes holds less than a second of replies ({} wanted): raise net.core.rmem_max",
        run.wanted_receive_buffer
    ));
}
