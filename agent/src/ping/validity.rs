//! Validity notes: what a reader must know before believing the numbers. Each holds where it is printed.

use std::time::Duration;

use railgauge_core::quantile::{Outcome, Summary};
use railgauge_core::reflector::DEFAULT_MAX_RATE;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::inventory::{self, Roots};

use super::begin::late_threshold;
use super::{PingRun, RdmaEnd, Transport, causes};
use crate::WaitMode;

/// Late starts and slots skipped are noted from this share on; the counts are in the result anyway.
const NOTED_SHARE: f64 = 0.001;

/// From this many blocks on, Student's t is within 1.25 of the normal's: at 3 blocks it is twice as wide, at 2 six times.
const ENOUGH_BLOCKS: usize = 7;

/// Gaps of the probe thread are noted when the longest is at least this.
const NOTED_GAP: Duration = Duration::from_millis(1);

/// All notes of a run. `series` are the summaries by name.
pub fn notes(run: &PingRun, series: &[(&'static str, &Summary)]) -> Vec<String> {
    let mut notes = Vec::new();
    schedule(run, &mut notes);
    path(run, &mut notes);
    prober(run, &mut notes);
    machine(run, &mut notes);
    stamps(run, &mut notes);
    buffers(run, &mut notes);
    rdma(run, &mut notes);
    notes.extend(few_blocks(run, series));
    notes.extend(of_series(series));
    notes
}

/// With few blocks of time, the interval that allows for dependence between samples is as wide as the data.
fn few_blocks(run: &PingRun, series: &[(&'static str, &Summary)]) -> Option<String> {
    let blocks = run.series.occupied_windows;
    let mut quantiles = series.iter().flat_map(|(_, summary)| &summary.quantiles);
    let shown = quantiles.any(|q| matches!(q.outcome, Outcome::Value { .. }));
    (shown && (2..ENOUGH_BLOCKS).contains(&blocks)).then(|| {
        format!("intervals are wide, resting on {blocks} blocks of 1s: measure for 10s or longer")
    })
}

/// What limits the series, each limit once, with the series that it holds for.
fn of_series(series: &[(&'static str, &Summary)]) -> Vec<String> {
    let mut limits: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, summary) in series {
        for text in summary.notes.iter().map(ToString::to_string) {
            match limits.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name),
                None => limits.push((text, vec![name])),
            }
        }
    }
    let all = series.len();
    let named = |names: &[&str]| {
        if names.len() == all && all > 1 { "all series".to_owned() } else { names.join(", ") }
    };
    limits.iter().map(|(text, names)| format!("{}: {text}", named(names))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share printed with one decimal")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A duration in ASCII, with one decimal where it needs one.
fn shown(duration: Duration) -> String {
    format!("{duration:.1?}").replace(".0", "").replace('µ', "u")
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn schedule(run: &PingRun, notes: &mut Vec<String>) {
    let account = &run.end.account;
    let late = share(account.late_starts, account.sent);
    if late >= NOTED_SHARE {
        let threshold = shown(late_threshold(run.config.mode));
        notes
            .push(format!("{} late starts: sent over {threshold} after their slot", percent(late)));
    }
    let skipped = share(account.skipped, account.scheduled);
    if account.skipped > 0 {
        let why = if run.config.transport == Transport::RdmaRc {
            "one operation was under way, or the prober behind, for longer than the time-out"
        } else {
            "the prober was behind by more than the time-out"
        };
        notes.push(format!("{} of the slots skipped: {why}", percent(skipped)));
    }
    if run.end.gave_up {
        notes.push("gave up after the warm-up: no reply came, and probes were refused".to_owned());
    } else if account.scheduled < run.config.count {
        notes.push(format!("stopped early: {} of {} slots", account.scheduled, run.config.count));
    }
    if account.in_flight > 0 {
        let probes = if account.in_flight == 1 { "probe" } else { "probes" };
        notes.push(format!(
            "{} {probes} still in flight when stopped: in no series, however long they had waited",
            account.in_flight
        ));
    }
}

/// What the path and the other end did, where replies came nevertheless.
fn path(run: &PingRun, notes: &mut Vec<String>) {
    let account = &run.end.account;
    if account.send_errors > 0 {
        let refused = percent(share(account.send_errors, account.scheduled));
        notes.push(format!("{refused} of the probes could not be sent: they are in no series"));
    }
    if account.received > 0 {
        let told = causes::explained(run);
        notes.extend(
            told.iter().map(|(reason, count, why)| format!("{reason} {}: {why}", times(*count))),
        );
    }
    let most = DEFAULT_MAX_RATE.get();
    let per_second = 1_000_000_000 / crate::nanos(run.config.interval).max(1);
    let limited = !run.config.transport.is_rdma();
    if limited && account.lost > 0 && per_second > u64::from(most) {
        notes.push(format!(
            "losses may be the reflector's: unless started with --max-rate it answers {most}/s to one source, and {per_second}/s were sent"
        ));
    }
}

fn prober(run: &PingRun, notes: &mut Vec<String>) {
    let findings = &run.end.findings;
    if findings.migrations > 0 {
        notes.push(format!("thread migrated {}", times(findings.migrations)));
    }
    if let Err(why) = &run.pinned {
        notes.push(format!("thread not pinned: {why}"));
    }
    if run.config.mode == WaitMode::BusyPoll && findings.involuntary_context_switches > 0 {
        let often = times(findings.involuntary_context_switches);
        notes.push(format!("thread taken off its CPU {often}: pin it to an idle one with --cpu"));
    }
    let longest = Duration::from_nanos(findings.gaps_longest_ns);
    if longest >= NOTED_GAP {
        let total = shown(Duration::from_nanos(findings.gaps_total_ns));
        let gaps = times(findings.gaps);
        notes
            .push(format!("prober stood still {gaps}, {total} in all, {} at most", shown(longest)));
    }
    for step in &findings.clock_steps_ns {
        let by = shown(Duration::from_nanos(step.unsigned_abs()));
        let direction = if *step < 0 { "back" } else { "forward" };
        notes.push(format!("clock stepped {direction} by {by} during the run"));
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
    if matches!(run.config.transport, Transport::Tcp | Transport::RdmaRc) {
        return;
    }
    let refused = run.end.flows.iter().find_map(|flow| flow.stamps.as_ref().err());
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
        let replies = if unsplit == 1 { "reply" } else { "replies" };
        notes.push(format!(
            "{unsplit} {replies} ({share}) in app_rtt alone: not all four stamps came from {source}, see errors"
        ));
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

/// What an RDMA run measured, as opposed to what a reader may take it for.
fn rdma(run: &PingRun, notes: &mut Vec<String>) {
    let Some(end) = &run.rdma else { return };
    let connected = end.connected();
    if run.config.interval.is_zero() && end.bandwidth().is_none() {
        notes.push(
            "closed loop: each operation waits for the one before, so a stall hides what it would have delayed; for comparison with perftest only"
                .to_owned(),
        );
    }
    if connected.is_unordered {
        notes.push(
            "memory was watched though a device does not promise to write it in order: an answer may have been seen before its data was there"
                .to_owned(),
        );
    }
    let RdmaEnd::Latency(end) = end else { return };
    if let Some((_, Some(sentence))) = run.retransmissions() {
        notes.push(sentence);
    }
    if end.recreated > 0 {
        notes.push(format!(
            "queue pair made again {}: see rdma.failures; probes meanwhile are lost",
            times(end.recreated)
        ));
    }
    if let Some(why) = end.last_failure.as_ref().filter(|_| end.failed_tries > 0) {
        notes.push(format!("connecting failed {}, last because: {why}", times(end.failed_tries)));
    }
}

#[cfg(test)]
mod tests {
    use railgauge_core::histogram::Recorder;
    use railgauge_core::quantile::{Blocks, summarize};

    use super::*;

    #[test]
    fn durations_are_short_and_ascii() {
        let shown_of = |nanos| shown(Duration::from_nanos(nanos));
        assert_eq!(
            [50_000, 1_000_000, 14_849_999, 100_000_000, 2_000_000_000].map(shown_of),
            ["50us", "1ms", "14.8ms", "100ms", "2s"]
        );
    }

    #[test]
    fn a_limit_of_several_series_is_said_once() {
        let mut recorder = Recorder::new();
        (1..=400).for_each(|ns| recorder.record(ns));
        let mut blocks = Blocks::new();
        blocks.push(&recorder.drain());
        let (limited, free) = (summarize(&blocks, 1), summarize(&Blocks::new(), 1));
        let one_block = "intervals assume independent samples: only one block of time";
        let one_event = "p99 tail rests on 1 event";
        assert_eq!(
            of_series(&[("a", &limited), ("b", &limited)]),
            [format!("all series: {one_event}"), format!("all series: {one_block}")]
        );
        assert_eq!(
            of_series(&[("a", &limited), ("b", &free), ("c", &limited)]),
            [format!("a, c: {one_event}"), format!("a, c: {one_block}")]
        );
        assert_eq!(of_series(&[("a", &limited)])[0], format!("a: {one_event}"));
    }
}
