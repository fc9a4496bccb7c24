use super::*;
use crate::histogram::Recorder;

const TIMEOUT: u64 = 1_000_000_000;

/// 1 s blocks of 1,000 samples each; `None` is a time-out.
fn run(samples: impl IntoIterator<Item = Option<u64>>) -> Blocks {
    let (mut recorder, mut blocks) = (Recorder::new(), Blocks::new());
    let mut held = 0;
    for sample in samples {
        match sample {
            Some(ns) => recorder.record(ns),
            None => recorder.record_censored(),
        }
        held += 1;
        if held == 1_000 {
            blocks.push(&recorder.drain());
            held = 0;
        }
    }
    blocks.push(&recorder.drain());
    blocks
}

fn of(summary: &Summary, quantile: Quantile) -> QuantileSummary {
    *summary.quantiles.iter().find(|q| q.quantile == quantile).unwrap()
}

fn interval(summary: &Summary, quantile: Quantile) -> (u64, u64, u64) {
    match of(summary, quantile).outcome {
        Outcome::Value { value_ns, low_ns, high_ns: Some(high) } => (low_ns, value_ns, high),
        other => panic!("{quantile} {other:?}"),
    }
}

#[test]
fn nothing_recorded_is_nothing_known() {
    let summary = summarize(&Blocks::new(), TIMEOUT);
    assert_eq!((summary.count, summary.min_ns, summary.mean_ns), (0, None, None));
    let withheld = |q: &QuantileSummary| matches!(q.outcome, Outcome::Withheld { .. });
    assert!(summary.quantiles.iter().all(withheld) && summary.notes.is_empty());
}

#[test]
fn few_samples_withhold_high_quantiles() {
    // 1 to 400, the large ones far from each other.
    let summary = summarize(&run((1..=400).map(|i| Some(i * 181 % 401))), TIMEOUT);
    assert_eq!(interval(&summary, Quantile::P50).1, 200);
    assert_eq!(interval(&summary, Quantile::P99), (392, 396, 400));
    assert_eq!(of(&summary, Quantile::P99_9).outcome, Outcome::Withheld { needed: 3_688 });
    assert_eq!(of(&summary, Quantile::P99_9).episodes, None);
    let few = Note::FewEpisodes { quantile: Quantile::P99, episodes: 4 };
    assert_eq!(summary.notes, [few, Note::OneBlock]);
}

#[test]
fn a_tail_in_one_run_widens_the_interval() {
    let summary = summarize(&run((1..=400).map(Some)), TIMEOUT);
    assert_eq!(interval(&summary, Quantile::P99), (388, 396, 400));
    let few = Note::FewEpisodes { quantile: Quantile::P99, episodes: 1 };
    assert_eq!(summary.notes, [few, Note::OneBlock]);
    assert_eq!(few.to_string(), "p99 tail rests on 1 event");
}

#[test]
fn single_samples_beside_a_long_stall_are_not_many_events() {
    let sample = |i: u64| match i {
        700..760 => 9_000_000,
        _ if i.is_multiple_of(200) => 50_000,
        _ => 10_000 + i % 97,
    };
    let summary = summarize(&run((0..10_000).map(|i| Some(sample(i)))), TIMEOUT);
    // 50 single samples and the stall are 51 runs, but more than half of the tail is one.
    assert_eq!(of(&summary, Quantile::P99).episodes, Some(2));
}

#[test]
fn values_stay_within_the_exact_extremes() {
    // 100,000 shares a bucket with 99,968 to 100,031.
    let summary = summarize(&run((0..50_000).map(|_| Some(100_000))), TIMEOUT);
    for quantile in Quantile::ALL {
        assert_eq!(interval(&summary, quantile), (100_000, 100_000, 100_000));
    }
}

#[test]
fn time_outs_rank_above_all_replies() {
    let samples = (0..20_000u64).map(|i| (i % 40 != 7).then_some(10_000 + i % 50));
    let summary = summarize(&run(samples), TIMEOUT);
    assert_eq!((summary.count, summary.censored), (19_500, 500));
    let p99 = of(&summary, Quantile::P99);
    assert_eq!(p99.outcome, Outcome::AtLeast { timeout_ns: TIMEOUT });
    assert_eq!(p99.episodes, Some(500));
    assert!(matches!(of(&summary, Quantile::P90).outcome, Outcome::Value { .. }));
}

#[test]
fn an_interval_that_reaches_the_time_outs_is_open() {
    let samples = (0..10_000u64).map(|i| (i % 102 != 7).then_some(10_000 + i % 50));
    let outcome = of(&summarize(&run(samples), TIMEOUT), Quantile::P99).outcome;
    assert!(matches!(outcome, Outcome::Value { high_ns: None, .. }), "{outcome:?}");
}

#[test]
fn replies_out_of_range_are_bounded_by_the_exact_maximum() {
    let samples = (0..1_000u64).map(|i| Some(if i % 20 == 0 { 70_000_000_000 + i } else { 5_000 }));
    let summary = summarize(&run(samples), TIMEOUT);
    let (low, value, high) = interval(&summary, Quantile::P99);
    assert_eq!((low, value, high), (60_000_000_000, 70_000_000_980, 70_000_000_980));
    assert!(summary.notes.contains(&Note::Overflow { count: 50 }));
}

/// Stalls that fill whole seconds: 40 blocks, 2 of them slow, so that p90 could as well lie among the slow ones.
#[test]
fn dependence_between_neighbours_widens_the_interval() {
    let slow_second = |i: u64| i / 1_000 % 13 == 5;
    let clustered =
        (0..40_000).map(|i| Some(if slow_second(i) { 900_000 } else { 10_000 + i % 97 }));
    let spread = (0..40_000).map(|i| Some(if i % 13 == 5 { 900_000 } else { 10_000 + i % 97 }));
    let clustered = interval(&summarize(&run(clustered), TIMEOUT), Quantile::P90);
    let spread = interval(&summarize(&run(spread), TIMEOUT), Quantile::P90);
    assert_eq!(clustered.1, spread.1);
    assert!(clustered.2 >= 900_000 && spread.2 < 11_000, "{clustered:?} {spread:?}");
}

#[test]
fn stalls_are_counted_as_events_not_as_samples() {
    let stalled = |i: u64| i % 5_000 < 60;
    let samples = (0..30_000).map(|i| Some(if stalled(i) { 5_000_000 } else { 10_000 + i % 97 }));
    let summary = summarize(&run(samples), TIMEOUT);
    assert_eq!(of(&summary, Quantile::P99).episodes, Some(6));
    assert_eq!(of(&summary, Quantile::P50).episodes, None);
    let few = Note::FewEpisodes { quantile: Quantile::P99, episodes: 6 };
    assert!(summary.notes.contains(&few) && few.to_string() == "p99 tail rests on 6 events");
}
