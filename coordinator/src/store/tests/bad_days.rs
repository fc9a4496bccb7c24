//! Damage, full disks, other versions.

use std::sync::atomic::Ordering;

use super::faults::Faults;
use super::*;

fn filled(dir: &FsPath) -> (String, Vec<Incoming>) {
    let mut store = opened(dir);
    let batches: Vec<_> = (0..4)
        .map(|n| {
            incoming("a", n * 2, START_NS + n * 10 * SECOND, &[window(&[n + 1]), window(&[3])])
        })
        .collect();
    let outcomes = store.ingest(&batches, wall(START_NS + 60 * SECOND));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored));
    (FileId::of(Level::Raw, minute_of(START_NS)).to_string(), batches)
}

/// Opens a damaged store and asks it until it answers: it says what it lost, what it tells is true, and it goes on.
fn survives(dir: &FsPath, batches: &[Incoming], what: &str) -> bool {
    let mut store = opened(dir);
    let mut whole = Merged::new();
    batches.iter().for_each(|batch| add(&mut whole, batch));
    let now = wall(START_NS + 65 * SECOND);
    let mut answer = None;
    for _ in 0..3 {
        let reader = store.reader();
        match reader
            .merged(&everything(Resolution::Finest))
            .and_then(|all| Ok((all, reader.totals()?)))
        {
            Ok(found) => {
                answer = Some(found);
                break;
            }
            Err(StoreError::Damaged { .. }) => drop(store.maintain(now)),
            Err(error) => panic!("{what}: {error}"),
        }
    }
    let (found, _) = answer.unwrap_or_else(|| panic!("{what}: never answers"));
    let lost = found != whole;
    if lost {
        assert!(found.is_empty(), "{what}: neither all nor nothing");
        assert_eq!(store.incidents().len(), 1, "{what}");
    }
    let again = incoming("a", 100, START_NS + 50 * SECOND, &[window(&[77])]);
    // Damage of what no reader reads shows when it is written.
    let mut outcome = store.ingest(std::slice::from_ref(&again), now);
    if matches!(outcome[0], Outcome::Failed(_)) {
        assert_eq!(store.incidents().len(), 1, "{what}");
        outcome = store.ingest(std::slice::from_ref(&again), now);
    }
    assert_eq!(outcome, [Outcome::Stored], "{what}");
    lost
}

#[test]
fn truncated_or_flipped_anywhere_it_opens_and_says_what_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (name, batches) = filled(dir.path());
    let good = std::fs::read(dir.path().join(&name)).unwrap();
    let used = good.iter().rposition(|octet| *octet != 0).unwrap();
    let mut lost = 0;
    let mut damaged = |bad: &[u8], what: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(&name), bad).unwrap();
        lost += u32::from(survives(dir.path(), &batches, what));
    };
    for cut in [0, 1, 8, 63, 64, 320, 511, 4_095, 4_096, used / 2, used, good.len() - 1] {
        damaged(&good[..cut], &format!("cut at {cut}"));
    }
    for place in (0..320).chain((320..=used).step_by(used / 100 + 1)) {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        damaged(&bad, &format!("flipped at {place}"));
    }
    damaged(b"not a database", "something else");
    assert!(lost > 12, "{lost}");
}

#[test]
fn a_disk_full_at_any_write_loses_nothing_that_was_acknowledged() {
    let (mut failed, mut through) = (0, 0);
    for left in 0..400 {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::never();
        let disk = Disk { faults: Some(faults.clone()) };
        let mut store = Store::open_with(Config::new(dir.path().into()), disk).unwrap();
        faults.left.store(left, Ordering::Relaxed);
        let mut expected = Merged::new();
        let (mut windows, mut errors) = (0, 0);
        let mut waiting = Vec::new();
        for n in 0..4u64 {
            let start = START_NS + n * 30 * SECOND;
            let batch = incoming("a", n * 2, start, &[window(&[n + 1]), window(&[3])]);
            match &store.ingest(std::slice::from_ref(&batch), wall(start))[0] {
                Outcome::Stored => {
                    windows += 2;
                    add(&mut expected, &batch);
                }
                Outcome::Failed(_) => waiting.push(batch),
                other => panic!("{other:?}"),
            }
            errors += usize::from(store.maintain(wall(start)).is_err());
        }
        for _ in 0..4 {
            errors += usize::from(store.maintain(wall(START_NS + 300 * SECOND)).is_err());
        }
        errors += waiting.len();
        // Room again: everything goes on, in this process.
        faults.left.store(i64::MAX, Ordering::Relaxed);
        for batch in &waiting {
            // What failed may yet be on disk, if the error came after the commit: then it is known.
            let outcome = store.ingest(std::slice::from_ref(batch), wall(START_NS + 300 * SECOND));
            assert!(
                matches!(outcome[0], Outcome::Stored | Outcome::Duplicate),
                "{left}: {outcome:?}"
            );
            windows += 2;
            add(&mut expected, batch);
        }
        settle(&mut store, START_NS + 300 * SECOND);
        agrees(&store, &expected, windows);
        assert!(store.incidents().is_empty(), "{left}: {:?}", store.incidents());
        if errors > 0 {
            failed += 1
        } else {
            through += 1
        }
        if through > 3 {
            break;
        }
    }
    assert!(failed > 20 && through > 0, "{failed} {through}");
}

#[test]
fn an_older_file_is_upgraded_and_a_newer_one_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (name, batches) = filled(dir.path());
    let mut whole = Merged::new();
    batches.iter().for_each(|batch| add(&mut whole, batch));
    for older in [0, 1] {
        file::rewrite_schema(&dir.path().join(&name), older);
        agrees(&opened(dir.path()), &whole, 8);
    }
    file::rewrite_schema(&dir.path().join(&name), 3);
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    let error = Store::open(Config::new(dir.path().into())).unwrap_err().to_string();
    assert!(error.contains("has schema 3, and this version knows schemas up to 2"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
}

#[test]
fn a_newer_directory_is_refused_and_a_damaged_state_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let newer = State { schema: 9, ..State::default() };
    state::save(dir.path(), &newer).unwrap();
    let error = Store::open(Config::new(dir.path().into())).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 9, .. }), "{error}");
    std::fs::write(dir.path().join("state.json"), "{").unwrap();
    let store = opened(dir.path());
    assert_eq!(store.incidents()[0].file, "state.json");
}

#[test]
fn one_process_has_the_directory_and_what_cannot_be_used_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(dir.path());
    let error = Store::open(Config::new(dir.path().into())).unwrap_err().to_string();
    assert!(error.ends_with("is in use by another process"), "{error}");
    drop(store);
    std::fs::write(dir.path().join("plain"), "").unwrap();
    let error = Store::open(Config::new(dir.path().join("plain/store"))).unwrap_err().to_string();
    assert!(error.contains("plain/store cannot be used"), "{error}");
}
