use proptest::prelude::*;

use super::*;

/// A sample as a caller hands it over: a reply, or a time-out.
type Sample = Option<u64>;

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let reply = prop_oneof![
        4 => 0..50u64,
        4 => 1_000..200_000u64,
        2 => 0..=layout::HIGHEST_NS,
        1 => layout::HIGHEST_NS..,
    ];
    prop::collection::vec(prop_oneof![9 => reply.prop_map(Some), 1 => Just(None)], 0..300)
}

fn feed(recorder: &mut Recorder, samples: &[Sample]) {
    for sample in samples {
        match sample {
            Some(ns) => recorder.record(*ns),
            None => recorder.record_censored(),
        }
    }
}

fn whole(samples: &[Sample]) -> Window {
    let mut recorder = Recorder::new();
    feed(&mut recorder, samples);
    recorder.drain()
}

/// The place of a sample in the order, without a recorder.
fn place(sample: &Sample) -> u16 {
    match sample {
        None => CENSORED_PLACE,
        Some(ns) if *ns > layout::HIGHEST_NS => OVERFLOW_PLACE,
        Some(ns) => layout::index_of(*ns),
    }
}

/// Runs of samples at or above a place, at least [`SEPARATION`] samples apart, counted one by one.
fn runs_counted(samples: &[Sample], threshold: u16) -> u64 {
    let above: Vec<bool> = samples.iter().map(|s| place(s) >= threshold).collect();
    let recent = |i: usize| above[i.saturating_sub(SEPARATION)..i].contains(&true);
    let begins = (0..above.len()).filter(|&i| above[i] && !recent(i));
    begins.count() as u64
}

#[test]
fn a_stall_is_one_run_however_long() {
    let mut recorder = Recorder::new();
    for _ in 0..10 {
        (0..990).for_each(|i| recorder.record(10_000 + i % 7));
        (0..10).for_each(|i| recorder.record(10_000_000 - i * 900_000));
    }
    let window = recorder.drain();
    assert_eq!(window.samples(), 10_000);
    assert_eq!(window.runs_above_rank(9_900), 10);
}

#[test]
fn a_stall_that_some_probes_escape_is_one_run() {
    let mut recorder = Recorder::new();
    for i in 0..4_000u64 {
        let stalled = i % 1_000 < 100 && i % 5 != 3;
        recorder.record(if stalled { 10_000_000 } else { 10_000 });
    }
    assert_eq!(recorder.drain().runs_above_rank(3_900), 4);
}

#[test]
fn ties_with_the_first_sample_of_the_tail_belong_to_it() {
    let mut recorder = Recorder::new();
    for _ in 0..20 {
        (0..490).for_each(|_| recorder.record(10_000));
        (0..10).for_each(|_| recorder.record(5_000_000));
    }
    assert_eq!(recorder.drain().runs_above_rank(9_900), 20);
}

#[test]
fn what_is_out_of_range_is_counted_beside_the_buckets() {
    let window = whole(&[Some(5), Some(60_000_000_000), Some(60_000_000_001), None]);
    assert_eq!((window.replies(), window.samples()), (3, 4));
    assert_eq!((window.overflow(), window.censored()), (1, 1));
    assert_eq!(window.counts().total(), 2);
    assert_eq!(window.max_ns(), Some(60_000_000_001));
    assert_eq!(window.sum_ns(), 120_000_000_006);
}

#[test]
fn an_empty_window_claims_nothing() {
    let window = Recorder::new().drain();
    assert_eq!(window, Window::default());
    assert_eq!((window.min_ns(), window.max_ns(), window.mean_ns()), (None, None, None));
    assert_eq!(window.runs_above_rank(0), 0);
}

#[test]
fn draining_leaves_nothing_behind() {
    let mut recorder = Recorder::new();
    for index in 0..=layout::HIGHEST_INDEX {
        recorder.record(layout::lowest_equivalent(index));
    }
    recorder.record(u64::MAX);
    recorder.record_censored();
    assert_eq!(recorder.drain().counts().entries().len(), usize::from(layout::HIGHEST_INDEX) + 1);
    assert!(recorder.touched.iter().all(|bits| *bits == 0));
    assert!(recorder.cells.iter().all(|cell| *cell == Cell::default()));
}

proptest! {
    #[test]
    fn counts_what_was_recorded(samples in samples()) {
        let window = whole(&samples);
        let replies: Vec<u64> = samples.iter().flatten().copied().collect();
        prop_assert_eq!(window.samples(), samples.len() as u64);
        prop_assert_eq!(window.replies(), replies.len() as u64);
        prop_assert_eq!(window.min_ns(), replies.iter().min().copied());
        prop_assert_eq!(window.max_ns(), replies.iter().max().copied());
        prop_assert_eq!(window.sum_ns(), replies.iter().map(|&ns| u128::from(ns)).sum::<u128>());
    }

    #[test]
    fn runs_are_those_counted_one_by_one(samples in samples(), rank in 0..320usize) {
        let mut places: Vec<u16> = samples.iter().map(place).collect();
        places.sort_unstable();
        let expected = places.get(rank).map_or(0, |&threshold| runs_counted(&samples, threshold));
        prop_assert_eq!(whole(&samples).runs_above_rank(rank as u64), expected);
    }

    /// Cut along the order: everything is as if it had not been cut, in whatever order the parts are merged.
    #[test]
    fn cut_along_time_and_merged_is_the_whole(
        samples in samples(),
        mut cuts in prop::collection::vec(0..300usize, 0..8),
        backwards in any::<bool>(),
    ) {
        let mut recorder = Recorder::new();
        cuts.retain(|&cut| cut <= samples.len());
        cuts.extend([0, samples.len()]);
        cuts.sort_unstable();
        let mut windows: Vec<Window> = cuts
            .windows(2)
            .map(|cut| {
                feed(&mut recorder, &samples[cut[0]..cut[1]]);
                recorder.drain()
            })
            .collect();
        if backwards {
            windows.reverse();
        }
        let mut merged = Window::default();
        windows.iter().for_each(|window| merged.merge(window));
        prop_assert_eq!(merged, whole(&samples));
    }

    /// Dealt out to several recorders: rises are those of each hand, all else is the whole.
    #[test]
    fn dealt_out_and_merged_keeps_every_count(samples in samples(), deal in any::<u64>()) {
        let mut recorders: Vec<Recorder> = (0..4).map(|_| Recorder::new()).collect();
        for (at, sample) in samples.iter().enumerate() {
            let hand = (deal.rotate_left(u32::try_from(at % 64).unwrap()) % 4) as usize;
            feed(&mut recorders[hand], std::slice::from_ref(sample));
        }
        let mut merged = Window::default();
        recorders.iter_mut().for_each(|recorder| merged.merge(&recorder.drain()));
        let expected = whole(&samples);
        prop_assert_eq!(merged.counts().encode_v2(), expected.counts().encode_v2());
        prop_assert_eq!(Window { rises: expected.rises.clone(), ..merged }, expected);
    }
}
