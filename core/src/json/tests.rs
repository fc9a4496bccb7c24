use serde_json::{Value, json};

use super::*;
use crate::histogram::Recorder;
use crate::quantile::{Blocks, summarize};
use crate::timestamp_source::StampSource;

fn series(replies: u64, time_outs: u64) -> LatencySeries {
    let mut recorder = Recorder::new();
    (1..=replies).for_each(|ns| recorder.record(ns));
    (0..time_outs).for_each(|_| recorder.record_censored());
    let mut blocks = Blocks::new();
    blocks.push(&recorder.drain());
    let kernel = StampSource::Kernel;
    let source = TimestampSource { t1: kernel, t2: kernel, t3: StampSource::User, t4: kernel };
    LatencySeries::from_summary(&summarize(&blocks, 1_000_000_000), &source, blocks.total())
}

#[test]
fn has_the_form_of_the_contract() {
    let value = serde_json::to_value(series(390, 10)).unwrap();
    let expected = json!({
        "count": 390, "min_ns": 1, "max_ns": 390, "mean_ns": 195.5, "sum_ns": 76_245,
        "timestamp_source": "kernel/kernel/user/kernel",
        "censored": {"count": 10, "at_ns": 1_000_000_000},
        "episodes": {"p99": 1},
        "quantiles": [
            {"q": 0.5, "value_ns": 200, "low_ns": 180, "high_ns": 221},
            {"q": 0.9, "value_ns": 360, "low_ns": 348, "high_ns": 372},
            {"q": 0.99, "value_ns": null, "reason": "censored", "at_least_ns": 1_000_000_000},
            {"q": 0.999, "value_ns": null, "reason": "n"},
            {"q": 0.9999, "value_ns": null, "reason": "n"},
        ],
        "hdr_v2": value["hdr_v2"],
    });
    assert_eq!(value, expected);
    assert!(value["hdr_v2"].as_str().unwrap().starts_with("HISTF"));
}

#[test]
fn an_open_interval_is_null_and_not_absent() {
    let value = serde_json::to_value(series(397, 3)).unwrap();
    assert_eq!(value["quantiles"][2]["value_ns"], 396);
    assert_eq!(value["quantiles"][2].get("high_ns"), Some(&Value::Null));
}

#[test]
fn reads_back_what_it_wrote() {
    for written in [series(0, 0), series(390, 10), series(397, 3)] {
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<LatencySeries>(&text).unwrap(), written);
    }
}
