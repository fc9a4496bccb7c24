use super::*;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

mod damage;
mod places;

/// Small enough that every way is walked in a few hundred operations.
const SMALL: Limits = Limits { most_bytes: 4_000, segment_bytes: 600 };

/// splitmix64, as in the testbed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// In memory where that is offered: thousands of spools are made here, and a sync of a disk takes milliseconds.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn key(first_sequence: u64, windows: u32) -> Key {
    Key { instance: 7, first_sequence, windows }
}

fn open(directory: &Path) -> Spool {
    let (spool, opening) = Spool::open(directory, SMALL).unwrap();
    assert_eq!(opening.to_string(), "");
    spool
}

/// All that is pending, read in pages of at most `page` octets.
fn all(spool: &mut Spool, page: usize) -> Vec<(Key, Vec<u8>)> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let batches = spool.pending(cursor, page).unwrap();
        let Some(last) = batches.last() else { return found };
        cursor = Some(last.cursor);
        found.extend(batches.into_iter().map(|batch| (batch.key, batch.payload)));
    }
}

fn keys(spool: &mut Spool) -> Vec<u64> {
    all(spool, 1_000).iter().map(|(key, _)| key.first_sequence).collect()
}

#[test]
fn what_is_recorded_is_pending_until_it_is_acknowledged() {
    let home = TempDir::new().unwrap();
    let mut spool = open(home.path());
    assert_eq!(spool.state(), State::default());
    spool.append(key(0, 3), b"first").unwrap();
    spool.append(key(3, 2), b"").unwrap();
    let again = spool.append(key(0, 3), b"other");
    assert!(matches!(again, Err(AppendError::Duplicate(_))));
    assert_eq!(all(&mut spool, 1), [(key(0, 3), b"first".to_vec()), (key(3, 2), Vec::new())]);
    assert_eq!((spool.state().windows, spool.state().batches), (5, 2));

    assert_eq!(spool.acknowledge(&[key(0, 3), key(99, 1)]), 3);
    assert_eq!(spool.acknowledge(&[key(0, 3)]), 0);
    assert!(spool.refuse(key(3, 2)));
    assert!(!spool.refuse(key(3, 2)));
    spool.flush().unwrap();
    drop(spool);
    let mut spool = open(home.path());
    assert_eq!(keys(&mut spool), [0; 0]);
    let expected = State { bytes: spool.state().bytes, windows_refused: 2, ..State::default() };
    assert_eq!(spool.state(), expected);
}

#[test]
fn a_batch_that_no_spool_holds_is_refused_and_harms_nothing() {
    let home = TempDir::new().unwrap();
    let mut spool = open(home.path());
    spool.append(key(0, 1), &[1; 100]).unwrap();
    let error = spool.append(key(1, 1), &[2; 4_000]).unwrap_err();
    assert!(matches!(error, AppendError::TooLong { octets: 4_033, .. }), "{error}");
    let error = spool.append(key(1, 1), &vec![2; MAX_MESSAGE + 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a batch of 8388609 octets does not fit: the longest has 8388608"
    );
    spool.append(key(1, 1), &[2; 1_000]).unwrap();
    assert_eq!(keys(&mut spool), [0, 1]);
}

#[test]
fn a_full_spool_gives_up_its_oldest_and_counts_them() {
    let home = TempDir::new().unwrap();
    let mut spool = open(home.path());
    for n in 0..100 {
        spool.append(key(n * 2, 2), &[0; 100]).unwrap();
        assert!(spool.state().bytes <= SMALL.most_bytes);
        assert_eq!(spool.state().windows + spool.state().windows_dropped, (n + 1) * 2);
    }
    let before = (spool.state(), all(&mut spool, 1_000));
    assert!(before.0.windows > 30 && before.1.last().unwrap().0 == key(198, 2), "{before:?}");
    drop(spool);
    let mut spool = open(home.path());
    assert_eq!((spool.state(), all(&mut spool, 1_000)), before);
}

#[test]
fn random_use_agrees_with_a_model() {
    for seed in 0..40 {
        let home = scratch();
        agrees_with_model(&mut Dice(seed), home.path());
    }
}

fn agrees_with_model(dice: &mut Dice, home: &Path) {
    let mut spool = open(home);
    let mut model: BTreeMap<u64, (Key, Vec<u8>)> = BTreeMap::new();
    let (mut next, mut dropped, mut refused) = (0, 0, 0);
    for _ in 0..200 {
        match dice.below(10) {
            0 => {
                drop(spool);
                spool = open(home);
            }
            1..=5 => {
                let batch = key(next, u32::try_from(1 + dice.below(5)).unwrap());
                let payload = vec![u8::try_from(next % 251).unwrap(); dice.below(300)];
                next += u64::from(batch.windows);
                spool.append(batch, &payload).unwrap();
                model.insert(batch.first_sequence, (batch, payload));
            }
            6 => {
                let Some(&batch) = pick(dice, &model) else { continue };
                assert!(spool.refuse(batch));
                refused += u64::from(batch.windows);
                model.remove(&batch.first_sequence);
            }
            _ => {
                let some: Vec<Key> =
                    (0..dice.below(8)).filter_map(|_| pick(dice, &model).copied()).collect();
                spool.acknowledge(&some);
                model.retain(|_, (batch, _)| !some.contains(batch));
            }
        }
        let found = all(&mut spool, 1 + dice.below(2_000));
        // Only the oldest may be missing, and those must be counted.
        while model.len() > found.len() {
            dropped += u64::from(model.pop_first().unwrap().1.0.windows);
        }
        assert!(found.iter().eq(model.values()), "{found:?}\n{model:?}");
        let state = spool.state();
        assert_eq!((state.windows_dropped, state.windows_refused), (dropped, refused));
        assert_eq!(state.octets_damaged, 0);
        assert!(state.bytes <= SMALL.most_bytes + SMALL.segment_bytes);
        let on_disk = std::fs::read_dir(home.join("spool")).unwrap();
        let on_disk: u64 = on_disk.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(state.bytes, on_disk);
    }
}

fn pick<'a>(dice: &mut Dice, model: &'a BTreeMap<u64, (Key, Vec<u8>)>) -> Option<&'a Key> {
    let at = dice.below(model.len().max(1));
    model.values().nth(at).map(|(key, _)| key)
}

#[test]
fn a_crash_between_counting_and_deleting_counts_once() {
    let (home, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut spool = open(home.path());
    let mut n = 0;
    while spool.state().windows_dropped == 0 {
        damage::copy(home.path(), crashed.path());
        spool.append(key(n, 1), &[0; 100]).unwrap();
        n += 1;
    }
    let (dropped, pending) = (spool.state().windows_dropped, keys(&mut spool));
    drop(spool);
    // The crash found the victim still there: `crashed` has it from before, and gets the new segment.
    damage::copy(home.path(), crashed.path());
    for _ in 0..2 {
        let mut spool = open(crashed.path());
        assert_eq!((spool.state().windows_dropped, keys(&mut spool)), (dropped, pending.clone()));
    }

    // The crash found the new segment half made: nothing is counted, and nothing gone.
    let (home, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut spool = open(home.path());
    for m in 0..n - 1 {
        spool.append(key(m, 1), &[0; 100]).unwrap();
    }
    drop(spool);
    damage::copy(home.path(), crashed.path());
    let last = segment::list(&home.path().join("spool")).unwrap().pop().unwrap();
    std::fs::write(segment::path(&crashed.path().join("spool"), last + 1), &frames::header()[..9])
        .unwrap();
    let (mut spool, opening) = Spool::open(crashed.path(), SMALL).unwrap();
    assert_eq!((spool.state().windows_dropped, opening.octets_damaged()), (0, 9));
    assert_eq!(keys(&mut spool), (0..n - 1).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_will_not_take_more_is_left_and_the_next_withdraws_what_is_in_doubt() {
    let home = TempDir::new().unwrap();
    let mut spool = open(home.path());
    spool.append(key(0, 1), b"sound").unwrap();
    // As after a failed fdatasync: the frame is in the file, and the file may not be trusted.
    let mut frame = Vec::new();
    frames::write(&Frame::Batch { key: key(1, 1), payload: b"in doubt" }, &mut frame);
    spool.write(&frame, SMALL.most_bytes).unwrap();
    spool.withdrawn.push(key(1, 1));
    spool.abandon();
    spool.append(key(2, 1), b"later").unwrap();
    assert_eq!(keys(&mut spool), [0, 2]);
    drop(spool);
    assert_eq!(keys(&mut open(home.path())), [0, 2]);
}

#[test]
fn damage_met_while_reading_is_counted_once() {
    let home = TempDir::new().unwrap();
    let mut spool = open(home.path());
    spool.append(key(0, 1), &[5; 50]).unwrap();
    spool.append(key(1, 1), &[6; 50]).unwrap();
    let path = segment::path(&home.path().join("spool"), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.iter().position(|octet| *octet == 5).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(keys(&mut spool), [1]);
    assert_eq!((spool.state().octets_damaged, spool.state().windows), (83, 1));
    drop(spool);
    let (mut spool, opening) = Spool::open(home.path(), SMALL).unwrap();
    assert_eq!((spool.state().octets_damaged, opening.octets_damaged()), (83, 83));
    assert_eq!(keys(&mut spool), [1]);
    drop(spool);
    assert_eq!(open(home.path()).state().octets_damaged, 83);
}
