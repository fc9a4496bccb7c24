use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::histogram::{Recorder, SparseCounts};

fn window(values: &[u64]) -> Window {
    let mut recorder = Recorder::new();
    values.iter().for_each(|&ns| recorder.record(ns));
    recorder.drain()
}

fn log() -> String {
    let window = window(&[1_500, 2_769_000, 90]);
    let start = Wall::from_unix_nanos(1_441_812_279_474_000_000);
    let mut text = Header { start }.to_string();
    for (tag, second) in [("network_rtt", 0), ("app_rtt", 0), ("network_rtt", 1)] {
        let (start, length) = (Duration::from_secs(second), Duration::from_millis(1_007));
        text += &Interval { tag, start, length, window: &window }.to_string();
    }
    text
}

#[test]
fn has_the_lines_of_the_format() {
    let text = log();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "#[Histogram log format version 1.3]");
    assert_eq!(lines[1], "#[StartTime: 1441812279.474 (seconds since epoch)]");
    assert_eq!(lines[2], "#[BaseTime: 1441812279.474 (seconds since epoch)]");
    assert!(lines[3].starts_with("\"StartTimestamp\",\"Interval_Length\","));
    assert!(lines[6].starts_with("Tag=network_rtt,1.000,1.007,2.769000,HISTF"), "{}", lines[6]);
    assert_eq!(lines.len(), 7);
}

#[test]
fn the_oracle_reads_it() {
    let text = log();
    let entries: Vec<_> = IntervalLogIterator::new(text.as_bytes()).map(Result::unwrap).collect();
    let start = Duration::from_millis(1_441_812_279_474);
    assert_eq!(entries[..2], [LogEntry::StartTime(start), LogEntry::BaseTime(start)]);
    assert_eq!(entries.len(), 5);
    for entry in &entries[2..] {
        let LogEntry::Interval(interval) = entry else { panic!("{entry:?}") };
        assert_eq!(interval.duration(), Duration::from_millis(1_007));
        assert!((interval.max() - 2.769).abs() < 1e-9);
        let counts = SparseCounts::from_base64(interval.encoded_histogram()).unwrap();
        assert_eq!(&counts, window(&[1_500, 2_769_000, 90]).counts());
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut counts.encode_v2().as_slice()).unwrap();
        assert_eq!(read.len(), 3);
    }
}

#[test]
fn an_empty_second_is_a_line_too() {
    let empty = Window::default();
    let (start, length) = (Duration::ZERO, Duration::from_secs(1));
    let line = Interval { tag: "x", start, length, window: &empty }.to_string();
    assert!(line.starts_with("Tag=x,0.000,1.000,0.000000,HISTF"), "{line}");
}
