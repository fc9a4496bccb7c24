//! `--hlog` and `--samples` of the real binary, read by others.

mod support;

use std::collections::BTreeMap;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;
use support::*;

const SERIES: [&str; 4] = ["network_rtt", "prober_delay", "responder_delay", "app_rtt"];

fn decode(text: &str) -> Histogram<u64> {
    let bytes = STANDARD.decode(text).unwrap();
    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
}

fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
}

fn measured(scratch: &Scratch) -> Value {
    let reflector = Reflector::start(&[]);
    let (hlog, samples) = (scratch.path("run.hlog"), scratch.path("run.csv"));
    // A little more than one interval of the log.
    let target = reflector.target();
    let args = [
        "ping",
        &target,
        "--output",
        "json",
        "--warmup",
        "5",
        "--duration",
        "1100ms",
        "--timeout",
        "20s",
    ];
    let done = run(&[&args[..], &["--hlog", &hlog, "--samples", &samples]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done.json()
}

#[test]
fn the_interval_log_and_the_samples_say_what_the_result_says() {
    let scratch = Scratch::new("files");
    let json = measured(&scratch);
    let log = fs::read(scratch.path("run.hlog")).unwrap();
    the_log_adds_up_to_the_result(&log, &json);
    let csv = fs::read_to_string(scratch.path("run.csv")).unwrap();
    every_sample_adds_up(&csv, &json);
}

fn the_log_adds_up_to_the_result(log: &[u8], json: &Value) {
    let mut series: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    let mut intervals = 0;
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        intervals += 1;
        let window = decode(interval.encoded_histogram());
        let tag = interval.tag().unwrap().as_str().to_owned();
        match series.get_mut(&tag) {
            Some(sum) => sum.add(window).unwrap(),
            None => drop(series.insert(tag, window)),
        }
    }
    assert_eq!(intervals, 2 * SERIES.len());
    for name in SERIES {
        let whole = decode(json[name]["hdr_v2"].as_str().unwrap());
        assert_eq!(counts(&series[name]), counts(&whole), "{name}");
        assert_eq!(Some(whole.len()), json[name]["count"].as_u64(), "{name}");
    }
}

fn every_sample_adds_up(csv: &str, json: &Value) {
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("seq,slot_ns,app_rtt_ns,network_rtt_ns,prober_delay_ns,responder_delay_ns")
    );
    let (mut replies, mut split, mut last_slot) = (0, 0, None);
    for line in lines {
        let fields: Vec<Option<i64>> = line.split(',').map(|f| f.parse().ok()).collect();
        let [Some(_), Some(slot), app, network, prober, responder] = fields[..] else {
            panic!("{line}");
        };
        assert!(last_slot.is_none_or(|last| slot == last + 1_000_000), "{line}");
        last_slot = Some(slot);
        replies += u64::from(app.is_some());
        if let [Some(network), Some(prober), Some(responder)] = [network, prober, responder] {
            assert_eq!(app, Some(network + prober + responder), "{line}");
            split += 1;
        }
    }
    assert_eq!(Some(replies), json["received"].as_u64());
    assert_eq!(Some(split), json["network_rtt"]["count"].as_u64());
}

#[test]
fn a_file_that_cannot_be_made_costs_no_run() {
    let scratch = Scratch::new("no-files");
    let missing = scratch.path("missing/run");
    for flag in ["--hlog", "--samples"] {
        let done = run(&["ping", &closed_port(), "--duration", "300s", flag, &missing]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
        let expected =
            format!("railgauge ping: cannot write {missing}: create its directory, or name");
        assert!(done.stderr.starts_with(&expected), "{}", done.stderr);
    }
}

#[test]
fn a_full_disk_is_told_beside_what_was_measured() {
    let reflector = Reflector::start(&[]);
    for flag in ["--hlog", "--samples"] {
        let target = reflector.target();
        let done = run(&["ping", &target, "--count", "50", "--output", "json", flag, "/dev/full"]);
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        let json = done.json();
        assert_eq!(faults(&schema("ping-v1.json"), &json), Vec::<String>::new());
        assert_eq!(json["received"], 50);
        assert!(json["error"].as_str().unwrap().starts_with("/dev/full is incomplete: make room"));
        assert!(done.stderr.contains("/dev/full is incomplete"), "{}", done.stderr);
    }
}
