use railgauge_report::doc::{NodeDoc, Sweep};
use serde_json::json;

use super::*;

/// One path, its network RTT p50 with an interval.
fn sweep(value: u64, low: u64, high: Option<u64>) -> Sweep {
    let entry = json!({"q": 0.5, "value_ns": value, "low_ns": low, "high_ns": high});
    with_entry(&entry)
}

fn with_entry(entry: &serde_json::Value) -> Sweep {
    let series = json!({
        "count": 100, "min_ns": 1, "max_ns": 9, "mean_ns": 2.0, "sum_ns": 200, "hdr_v2": "",
        "timestamp_source": "kernel/kernel/kernel/kernel",
        "censored": {"count": 0, "at_ns": 1_000_000_000}, "episodes": {}, "quantiles": [entry],
    });
    let document = json!({
        "schema": Sweep::SCHEMA, "suite": "quick", "verdict": "healthy",
        "parameters": {"count": 100, "transport": "udp"},
        "nodes": [{"name": "a", "verdict": "healthy", "state": "connected"}],
        "paths": [{"src": "a/0", "dst": "b/0", "transport": "udp", "memory": "host",
            "verdict": "healthy", "network_rtt": series}],
    });
    serde_json::from_value(document).unwrap()
}

#[test]
fn a_change_needs_both_a_gap_between_intervals_and_a_quarter() {
    let before = sweep(1_000, 900, Some(1_100));
    for (value, low, high, changed) in [
        (1_300, 1_101, Some(1_500), true),
        (1_300, 1_100, Some(1_500), false),
        (1_249, 1_200, Some(1_300), false),
        (1_250, 1_200, Some(1_300), true),
        (800, 700, Some(899), true),
        (801, 700, Some(899), false),
        (2_000, 1_000, None, false),
        (2_000, 1_500, None, true),
    ] {
        let diff = Diff::of(&before, &sweep(value, low, high));
        assert_eq!(diff.compared, 1);
        assert_eq!(diff.changes.len(), usize::from(changed), "{value} [{low}-{high:?}]");
    }
}

#[test]
fn time_outs_are_at_least_their_time_and_what_is_withheld_is_not_compared() {
    let before = sweep(1_000, 900, Some(1_100));
    let censored = json!({"q": 0.5, "value_ns": null, "reason": "censored", "at_least_ns": 9_000});
    let diff = Diff::of(&before, &with_entry(&censored));
    assert!((diff.changes[0].ratio - 9.0).abs() < 1e-9, "{diff:?}");
    assert_eq!(diff.changes[0].now.value_ns, None);
    let both = Diff::of(&with_entry(&censored), &with_entry(&censored));
    assert!(both.compared == 1 && both.is_empty(), "{both:?}");
    let withheld = json!({"q": 0.5, "value_ns": null, "reason": "n"});
    assert_eq!(Diff::of(&before, &with_entry(&withheld)).compared, 0);
}

#[test]
fn what_came_and_went_is_named() {
    let mut before = sweep(1_000, 900, Some(1_100));
    let mut now = before.clone();
    before.nodes.push(NodeDoc { name: "old".into(), ..Default::default() });
    now.nodes.push(NodeDoc { name: "gone".into(), state: "absent".into(), ..Default::default() });
    now.nodes.push(NodeDoc { name: "new".into(), ..Default::default() });
    now.paths.push(PathDoc { src: "a/1".into(), dst: "b/1".into(), ..now.paths[0].clone() });
    now.paths.push(PathDoc { flow: 3, ..now.paths[0].clone() });
    now.paths[0].verdict = Verdict::Failed;
    now.verdict = Verdict::Failed;
    let diff = Diff::of(&before, &now);
    assert_eq!((diff.nodes_new, diff.nodes_missing), (vec!["new".into()], vec!["old".into()]));
    assert_eq!(diff.paths_new, ["a/0 > b/0 udp flow 3", "a/1 > b/1 udp"]);
    let verdicts: Vec<_> = diff.verdicts.iter().map(|v| v.what.as_str()).collect();
    assert_eq!(verdicts, ["sweep", "a/0 > b/0 udp"]);
}

#[test]
fn sweeps_measured_in_different_ways_do_not_compare() {
    let before = sweep(1_000, 900, Some(1_100));
    let mut now = sweep(9_000, 8_000, Some(10_000));
    now.parameters.nodes = "a*".into();
    now.parameters.max_rounds = Some(1);
    assert_eq!(Diff::of(&before, &now).refused, None);
    now.parameters.transport = "tcp".into();
    let diff = Diff::of(&before, &now);
    assert_eq!(diff.refused.as_deref(), Some("transport differs: udp then, tcp now"));
    assert!(diff.is_empty() && diff.compared == 0);
    now.suite = "sockets".into();
    let why = Diff::of(&before, &now).refused;
    assert_eq!(why.as_deref(), Some("the suites differ: \"quick\" then, \"sockets\" now"));
}
