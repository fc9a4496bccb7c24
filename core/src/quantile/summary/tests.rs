use proptest::prelude::*;

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

/// Where ties hold the quantile, blocks may agree on the share at or under them and differ on the share below.
#[test]
fn blocks_that_differ_below_a_tied_quantile_widen_the_interval() {
    let sample = |i: u64| {
        let below = if (i / 1_000).is_multiple_of(4) { 200 } else { 570 };
        match i % 1_000 {
            place if place < below => 5_000,
            place if place < 600 => 10_000,
            _ => 20_000,
        }
    };
    let summary = summarize(&run((0..20_000).map(|i| Some(sample(i)))), TIMEOUT);
    let (low, value, _) = interval(&summary, Quantile::P50);
    assert_eq!((low, value), (5_000, 10_007), "47.75 % lie below the ties, give or take 7");
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

#[test]
fn a_quantile_is_printed_from_its_fewest_samples_on_losses_included() {
    for (quantile, fewest) in Quantile::ALL.into_iter().zip([6, 36, 368, 3_688, 36_887]) {
        for lost in [0, 1] {
            let samples = |n: u64| run((0..n).map(|i| (i >= lost).then_some(10_000 + i)));
            let below = of(&summarize(&samples(fewest - 1), TIMEOUT), quantile);
            assert_eq!(below.outcome, Outcome::Withheld { needed: fewest });
            let shown = of(&summarize(&samples(fewest), TIMEOUT), quantile).outcome;
            assert!(
                !matches!(shown, Outcome::Withheld { .. }),
                "{quantile} of {fewest}: {shown:?}"
            );
        }
    }
}

/// What cannot be known from one block is said, whatever the samples; from two on, the blocks speak.
#[test]
fn a_single_outlier_at_the_end_is_in_the_interval_and_rests_on_one_event() {
    let summary = summarize(
        &run((0..40_000).map(|i| Some(if i == 39_999 { 8_000_000 } else { 10_000 }))),
        TIMEOUT,
    );
    assert_eq!(interval(&summary, Quantile::P99_99), (10_000, 10_007, 8_000_000));
    assert_eq!(interval(&summary, Quantile::P99).2, 10_007);
    assert_eq!(summary.max_ns, Some(8_000_000));
    let few = Note::FewEpisodes { quantile: Quantile::P99_99, episodes: 1 };
    assert!(summary.notes.contains(&few), "{:?}", summary.notes);
}

/// Series made to deceive: ties, drifts, stalls, losses and replies above 60 s, in any order.
fn series() -> impl Strategy<Value = Vec<Option<u64>>> {
    let piece = (0..5_u8, 1..900_u64, 1..2_000_000_000_u64);
    prop::collection::vec(piece, 1..12).prop_map(|pieces| {
        let samples = pieces.into_iter().flat_map(|(kind, length, scale)| {
            (0..length).map(move |i| match kind {
                0 => Some(scale),
                1 => Some(scale / length * i),
                2 => Some(if i % 17 == 3 { scale } else { 10_000 }),
                3 => (i % 5 != 0).then_some(scale),
                _ => Some(59_999_999_000 + scale * (i % 2)),
            })
        });
        samples.collect()
    })
}

proptest! {
    /// Against the sorted samples: no quantile is ever better than the truth, nor worse by more than its bucket.
    #[test]
    fn a_quantile_is_the_sample_of_its_rank(samples in series()) {
        let summary = summarize(&run(samples.iter().copied()), TIMEOUT);
        let mut replies: Vec<u64> = samples.iter().flatten().copied().collect();
        replies.sort_unstable();
        let exact_mean = replies.iter().map(|&ns| ns as f64).sum::<f64>() / replies.len() as f64;
        let close = |mean: f64| (mean / exact_mean - 1.0).abs() < 1e-9;
        prop_assert!(summary.mean_ns.is_none_or(|mean| exact_mean == 0.0 || close(mean)));
        prop_assert_eq!(summary.max_ns, replies.last().copied());
        for (entry, share) in summary.quantiles.iter().zip([5_000, 9_000, 9_900, 9_990, 9_999]) {
            let rank = (samples.len() * share).div_ceil(10_000);
            let truth = replies.get(rank - 1);
            match entry.outcome {
                Outcome::Withheld { needed } => prop_assert!((samples.len() as u64) < needed),
                Outcome::AtLeast { timeout_ns } => {
                    prop_assert_eq!(truth, None);
                    prop_assert_eq!(timeout_ns, TIMEOUT);
                }
                Outcome::Value { value_ns, low_ns, high_ns } => {
                    let truth = *truth.unwrap();
                    prop_assert!(value_ns >= truth && low_ns <= truth);
                    prop_assert!(value_ns <= truth + truth / 1_024 || truth > 60_000_000_000);
                    prop_assert!(high_ns.is_none_or(|high| high >= value_ns));
                }
            }
        }
    }
}
