//! Windows in, through the levels, and out.

use proptest::prelude::*;

use super::*;

#[test]
fn a_batch_is_stored_once_and_overlaps_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = opened(dir.path());
    // More than fits into one row.
    let many: Vec<u64> = (1..6_000).map(|n| n * n * 1_663).collect();
    let two = [window(&many), window(&[1])];
    let batch = incoming("a", 10, START_NS, &two);
    assert!(batch.encoded.len() > 20_000);
    let other = incoming("a", 11, START_NS + 60 * SECOND, &two);
    let now = wall(START_NS + 20 * SECOND);
    let outcomes = store.ingest(&[batch.clone(), batch.clone(), other.clone()], now);
    assert_eq!(outcomes[..2], [Outcome::Stored, Outcome::Duplicate]);
    // A bug in an agent, told within its file.
    assert!(
        matches!(&outcomes[2], Outcome::Refused(why) if why.contains("11 to 12")),
        "{outcomes:?}"
    );
    drop(store);
    let mut store = opened(dir.path());
    assert_eq!(store.ingest(std::slice::from_ref(&batch), now), [Outcome::Duplicate]);
    let other = incoming("a", 12, START_NS + 60 * SECOND, &two);
    assert_eq!(store.ingest(std::slice::from_ref(&other), now), [Outcome::Stored]);
    let totals = store.reader().totals().unwrap();
    assert_eq!((totals.stored["a"].windows, totals.duplicates), (4, 2));
    let mut whole = Merged::new();
    add(&mut whole, &batch);
    add(&mut whole, &other);
    agrees(&store, &whole, 4);
}

#[test]
fn windows_out_of_time_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = opened(dir.path());
    let now = START_NS + 40 * 86_400 * SECOND;
    let late = incoming("a", 0, START_NS, &[window(&[1])]);
    let ahead = incoming("a", 1, now + 25 * 3_600 * SECOND, &[window(&[1])]);
    let outcomes = store.ingest(&[late, ahead], wall(now));
    assert!(matches!(&outcomes[0], Outcome::Refused(why) if why.contains("30 days")));
    assert!(matches!(&outcomes[1], Outcome::Refused(why) if why.contains("a day ahead")));
    assert_eq!(store.reader().totals().unwrap().refused, 2);
}

#[test]
fn levels_replace_each_other_and_late_windows_join_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = opened(dir.path());
    let mut expected = Merged::new();
    let mut put = |store: &mut Store, sequence: u64, start: u64, now: u64| {
        let batch = incoming("a", sequence, start, &[window(&[sequence + 1, 50]), window(&[3])]);
        add(&mut expected, &batch);
        assert_eq!(store.ingest(std::slice::from_ref(&batch), wall(now)), [Outcome::Stored]);
        agrees(store, &expected, sequence + 2);
        batch
    };
    let levels = |store: &Store| {
        let windows = store.reader().series(&everything(Resolution::Finest)).unwrap();
        let mut levels: Vec<_> = windows[0].windows.iter().map(|stored| stored.level).collect();
        levels.dedup();
        levels
    };
    let first = put(&mut store, 0, START_NS, START_NS + 11 * SECOND);
    put(&mut store, 2, START_NS + 10 * SECOND, START_NS + 21 * SECOND);
    put(&mut store, 4, START_NS + 60 * SECOND, START_NS + 71 * SECOND);
    // Closed, past grace and quiet: rolled up, and raw is still read.
    settle(&mut store, START_NS + 110 * SECOND);
    assert!(store.files.present().contains(&FileId::of(Level::Minute, minute_of(START_NS))));
    assert_eq!(levels(&store), [Level::Raw]);
    // Late: only the minute has it.
    put(&mut store, 6, START_NS + 20 * SECOND, START_NS + 120 * SECOND);
    assert_eq!(levels(&store), [Level::Minute, Level::Raw]);
    settle(&mut store, START_NS + 31 * 60 * SECOND);
    assert_eq!(levels(&store), [Level::Minute]);
    settle(&mut store, START_NS + 62 * 60 * SECOND);
    put(&mut store, 8, START_NS + 30 * SECOND, START_NS + 62 * 60 * SECOND);
    assert_eq!(levels(&store), [Level::Hour]);
    settle(&mut store, START_NS + 8 * 3_600 * SECOND);
    assert_eq!(store.files.present().len(), 1);
    let again = store.ingest(&[first], wall(START_NS + 8 * 3_600 * SECOND));
    assert_eq!(again, [Outcome::Duplicate]);
    agrees(&store, &expected, 10);
    // And in the end gone, but counted, and not taken again.
    settle(&mut store, START_NS + 31 * 86_400 * SECOND);
    let totals = store.reader().totals().unwrap();
    assert_eq!((totals.stored.len(), totals.expired["a"].windows), (0, 10));
    assert!(store.files.present().is_empty());
}

#[test]
fn a_full_store_drops_its_oldest_hour_and_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = opened(dir.path());
    for hour in 0..3 {
        let start = START_NS + hour * 3_600 * SECOND;
        let batch = incoming("a", hour, start, &[window(&[1])]);
        assert_eq!(store.ingest(&[batch], wall(start)), [Outcome::Stored]);
    }
    store.config.cap_octets = 1;
    settle(&mut store, START_NS + 2 * 3_600 * SECOND);
    drop(store);
    let mut store = opened(dir.path());
    let totals = store.reader().totals().unwrap();
    assert_eq!((totals.stored["a"].windows, totals.dropped["a"].windows), (1, 2));
    let old = incoming("a", 0, START_NS, &[window(&[1])]);
    let outcome = store.ingest(&[old], wall(START_NS + 2 * 3_600 * SECOND));
    assert!(
        matches!(&outcome[0], Outcome::Refused(why) if why.contains("room for")),
        "{outcome:?}"
    );
}

#[test]
fn what_comes_while_its_minute_or_hour_moves_up_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = opened(dir.path());
    store.roll_step = 1;
    let (mut expected, mut windows) = (Merged::new(), 0);
    let mut put = |store: &mut Store, agent: &str, now: u64| {
        let batch = incoming(agent, windows, START_NS, &[window(&[windows + 1])]);
        add(&mut expected, &batch);
        windows += 1;
        assert_eq!(store.ingest(&[batch], wall(now)), [Outcome::Stored]);
        agrees(store, &expected, windows);
    };
    for agent in ["a", "b", "c"] {
        put(&mut store, agent, START_NS + 20 * SECOND);
    }
    for (now, new) in [(START_NS + 100 * SECOND, "0"), (START_NS + 5_000 * SECOND, "00")] {
        // One agent of three has moved when it gets one more; so has a new one.
        assert_eq!(store.maintain(wall(now)).unwrap(), Progress::More);
        put(&mut store, "a", now);
        put(&mut store, new, now);
        assert!(store.roll.is_some());
        settle(&mut store, now);
        put(&mut store, "b", now);
    }
    assert!(store.is_closed(minute_of(START_NS)).unwrap());
}

#[derive(Clone, Debug)]
enum Step {
    /// Agent, tens of seconds back from now, samples, skewed.
    Ingest(Vec<(u8, u64, Vec<u64>, bool)>),
    Replay(prop::sample::Index),
    Pass(u64),
    Maintain(usize),
    Reopen,
    /// As a kill leaves it: the files copied while they are open.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sample = prop::collection::vec(1u64..100_000_000, 0..6);
    let late = prop_oneof![8 => 1u64..4, 2 => 4u64..40, 1 => 40u64..900];
    let batch = (0u8..3, late, sample, prop::bool::weighted(0.1));
    let step = prop_oneof![
        6 => prop::collection::vec(batch, 1..5).prop_map(Step::Ingest),
        2 => any::<prop::sample::Index>().prop_map(Step::Replay),
        3 => prop_oneof![4 => 1u64..60, 2 => 60u64..1_000, 1 => 1_000u64..9_000].prop_map(Step::Pass),
        4 => (1usize..6).prop_map(Step::Maintain),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_is_lost_and_nothing_counted_twice(steps in steps()) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut store = opened(dir.path());
        let (mut now, mut sequence) = (START_NS + 9_000 * SECOND, 0);
        let (mut expected, mut windows, mut batches) = (Merged::new(), 0, Vec::new());
        for step in steps {
            match step {
                Step::Ingest(new) => {
                    let mut call = Vec::new();
                    for (agent, back, samples, skewed) in new {
                        let start = (now / SECOND / 10 - back) * 10 * SECOND;
                        let two = [window(&samples), window(&[9])];
                        let mut one = incoming(&format!("agent-{agent}"), sequence, start, &two);
                        one.skewed = skewed;
                        sequence += 2;
                        windows += 2;
                        add(&mut expected, &one);
                        call.push(one);
                    }
                    let outcomes = store.ingest(&call, wall(now));
                    prop_assert!(outcomes.iter().all(|o| *o == Outcome::Stored), "{outcomes:?}");
                    batches.extend(call);
                }
                Step::Replay(which) if !batches.is_empty() => {
                    let old = which.get(&batches).clone();
                    prop_assert_eq!(store.ingest(&[old], wall(now)), [Outcome::Duplicate]);
                }
                Step::Replay(_) => {}
                Step::Pass(seconds) => now += seconds * SECOND,
                Step::Maintain(times) => {
                    for _ in 0..times {
                        store.maintain(wall(now)).unwrap();
                    }
                }
                Step::Reopen => {
                    drop(store);
                    store = opened(dir.path());
                }
                Step::Kill => {
                    let copy = tempfile::tempdir().unwrap();
                    for entry in std::fs::read_dir(dir.path()).unwrap() {
                        let entry = entry.unwrap();
                        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
                    }
                    drop(store);
                    dir = copy;
                    store = opened(dir.path());
                }
            }
            agrees(&store, &expected, windows);
        }
        prop_assert!(store.incidents().is_empty());
    }
}

#[test]
fn readers_see_everything_at_any_moment() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let mut store = opened(dir.path());
    let (begun, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let reader = store.reader();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut times = 0;
            while done.load(Ordering::SeqCst) < 50 || times < 3 {
                let least = done.load(Ordering::SeqCst);
                let resolution = [Resolution::Finest, Resolution::Coarsest][times % 2];
                let merged = reader.merged(&everything(resolution)).unwrap();
                let most = begun.load(Ordering::SeqCst);
                // Each window holds one reply and one loss.
                let sent: u64 = merged.values().map(|window| window.account.sent).sum();
                assert!((2 * least..=2 * most).contains(&sent), "{least} {sent} {most}");
                let stored = reader.totals().unwrap().stored;
                assert!(stored.values().map(|counts| counts.windows).sum::<u64>() >= least);
                times += 1;
            }
        });
        for n in 0..50u64 {
            // Eight hours, so that files come, are rolled up, closed and deleted.
            let start = START_NS + n * 600 * SECOND;
            begun.fetch_add(1, Ordering::SeqCst);
            let batch = incoming("a", n, start, &[window(&[n + 1])]);
            assert_eq!(store.ingest(&[batch], wall(start)), [Outcome::Stored]);
            done.fetch_add(1, Ordering::SeqCst);
            if n % 3 == 0 {
                settle(&mut store, start);
            }
        }
        reading.join().unwrap();
    });
}
