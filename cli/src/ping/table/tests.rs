//! Tables of made-up runs against `cli/tests/golden/table-*.txt`; `UPDATE_GOLDEN=1` rewrites them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use railgauge_agent::ping::report::{GapReport, ThreadReport};
use railgauge_core::histogram::Recorder;
use railgauge_core::quantile::{Blocks, summarize};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};

use super::*;

const KERNEL: TimestampSource = TimestampSource {
    t1: StampSource::Kernel,
    t2: StampSource::Kernel,
    t3: StampSource::Kernel,
    t4: StampSource::Kernel,
};

/// `samples` replies in blocks of 1,000, spread evenly over `middle_ns` +- 10 %, each hundredth ten times as long; then
/// the losses.
fn summary(samples: u64, middle_ns: u64, lost: u64) -> Summary {
    let mut blocks = Blocks::new();
    let mut recorder = Recorder::new();
    for index in 0..samples {
        let spread = middle_ns * (900 + index * 7 % 200) / 1_000;
        recorder.record(if index % 100 == 99 { spread * 10 } else { spread });
        if index % 1_000 == 999 {
            blocks.push(&recorder.drain());
        }
    }
    (0..lost).for_each(|_| recorder.record_censored());
    blocks.push(&recorder.drain());
    summarize(&blocks, 1_000_000_000)
}

fn judged(samples: u64, lost: u64) -> Judged {
    let of = |middle_ns, lost| summary(samples, middle_ns, lost);
    Judged {
        series: vec![
            ("network_rtt", of(8_000, lost), KERNEL),
            ("prober_delay", of(52_000, 0), KERNEL),
            ("responder_delay", of(21_000, 0), KERNEL),
            ("app_rtt", of(81_000, lost), KERNEL),
        ],
    }
}

fn report(received: u64, lost: u64) -> PingReport {
    let clock_gaps = GapReport { count: 0, total_ns: 0, longest_ns: 0 };
    PingReport {
        schema: "railgauge/ping/v1",
        version: "0",
        target: "gpu-17".to_owned(),
        peer: "192.0.2.17:862".to_owned(),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        transport: "udp",
        memory: "host",
        size_bytes: 72,
        interval_ns: 1_000_000,
        timeout_ns: 1_000_000_000,
        mode: "sleep",
        timestamp_format: "ntp",
        authenticated: false,
        scheduled: received + lost,
        sent: received + lost,
        skipped: 0,
        send_errors: 0,
        received,
        lost,
        in_flight: 0,
        late_replies: 0,
        duplicate: 0,
        reordered: 0,
        late_starts: 0,
        late_threshold_ns: 1_000_000,
        warmup_discarded: 50,
        follow_up_probes: 1,
        invalid_stamps: 0,
        errors: BTreeMap::new(),
        validity: Vec::new(),
        probe_thread: ThreadReport {
            cpu: Some(3),
            cpu_reason: None,
            migrations: 0,
            involuntary_context_switches: 0,
            cpu_time_ns: 0,
            clock_gaps,
            late_starts_explained_by_gaps: 0,
            clock_steps_ns: Vec::new(),
        },
        rdma: None,
        flows: Vec::new(),
        network_rtt: None,
        network_rtt_reason: None,
        app_rtt: None,
        app_rtt_reason: None,
        prober_delay: None,
        prober_delay_reason: None,
        responder_delay: None,
        responder_delay_reason: None,
        error: None,
    }
}

fn reads_as_golden(name: &str, report: &PingReport, judged: &Judged) {
    let text = render(report, judged);
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("table-{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(text, wanted, "{}", golden.display());
    assert!(text.is_ascii(), "{text}");
    assert!(text.lines().all(|line| line.len() <= 100 && !line.ends_with(' ')), "{text}");
}

#[test]
fn a_healthy_run() {
    reads_as_golden("healthy", &report(10_000, 0), &judged(10_000, 0));
}

#[test]
fn a_run_with_losses_and_notes() {
    let mut report = report(400, 30);
    report.late_starts = 3;
    report.errors.insert("port_unreachable", 30);
    report.validity = vec!["0.7 % late starts: sent over 1ms after their slot".to_owned()];
    reads_as_golden("losses", &report, &judged(400, 30));
}

#[test]
fn a_run_of_five_probes() {
    reads_as_golden("five", &report(5, 0), &judged(5, 0));
}

#[test]
fn a_run_without_a_reply_has_an_account_and_no_columns() {
    let mut report = report(0, 10);
    report.network_rtt_reason = Some("no reply");
    reads_as_golden("silent", &report, &Judged { series: Vec::new() });
}

#[test]
fn intervals_name_their_unit_where_it_is_not_the_values() {
    assert_eq!(interval(12_300, 12_000, Some(13_000)), "[12.0-13.0]");
    assert_eq!(interval(1_020, 999, Some(2_000_000)), "[999ns-2.00ms]");
    assert_eq!(interval(12_300, 12_000, None), "[12.0-timeout]");
}

#[test]
fn a_maximum_is_only_known_without_losses() {
    assert_eq!(maximum(&summary(10, 1_000, 0)), "963ns");
    assert_eq!(maximum(&summary(10, 1_000, 1)), ">=1.00s [seen 963ns]");
    assert_eq!(maximum(&summary(10, 2_000_000_000, 1)), ">=1.93s");
    assert_eq!(maximum(&summary(0, 1, 1)), ">=1.00s");
    assert_eq!(maximum(&summary(0, 1, 0)), "-");
}
