//! Every octet of a small spool, cut off and flipped.

use super::super::frames::{Frame, HEADER_LEN, parse};
use super::*;
use std::fs;

/// Copies the files of a state directory over those of another.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("spool")).unwrap();
    for part in ["", "spool"] {
        for entry in fs::read_dir(from.join(part)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// Segments of a spool that has been through everything: batches, acknowledged, refused and dropped ones.
fn worn() -> (TempDir, Vec<(u64, Vec<u8>)>) {
    let home = scratch();
    let limits = Limits { most_bytes: 900, segment_bytes: 300 };
    let (mut spool, _) = Spool::open(home.path(), limits).unwrap();
    for n in 0..20 {
        let tenth = u8::try_from(n * 7).unwrap();
        spool.append(key(n, 1), &vec![tenth; usize::from(tenth % 60)]).unwrap();
        if n == 14 {
            spool.acknowledge(&[key(13, 1)]);
            assert!(spool.refuse(key(14, 1)));
        }
    }
    assert!(spool.state().windows_dropped > 3 && spool.state().windows > 4);
    drop(spool);
    let directory = home.path().join("spool");
    let numbers = segment::list(&directory).unwrap();
    assert!(numbers.len() > 1);
    let read = |number| (number, segment::read(&segment::path(&directory, number)).unwrap().0);
    (home, numbers.into_iter().map(read).collect())
}

/// What must be pending when of segment `number` only the frames that `stays(at, len)` approves are sound.
fn expected(
    segments: &[(u64, Vec<u8>)],
    number: u64,
    stays: impl Fn(usize, usize) -> bool,
) -> Vec<(Key, Vec<u8>)> {
    let mut pending: Vec<(Key, Vec<u8>)> = Vec::new();
    for (segment, bytes) in segments {
        for found in parse(bytes).frames {
            if *segment == number && !stays(found.at, found.len) {
                continue;
            }
            match found.frame {
                Frame::Batch { key, payload } => pending.push((key, payload.to_vec())),
                Frame::Forgotten(key) | Frame::Refused(key) => {
                    pending.retain(|(pending, _)| *pending != key);
                }
                _ => {}
            }
        }
    }
    pending
}

/// Opens a spool whose segment `number` is `bytes`, and checks what must hold.
fn survives(home: &Path, number: u64, bytes: &[u8], damaged: usize, pending: &[(Key, Vec<u8>)]) {
    let copied = scratch();
    copy(home, copied.path());
    fs::write(segment::path(&copied.path().join("spool"), number), bytes).unwrap();
    let (mut spool, opening) = Spool::open(copied.path(), SMALL).unwrap();
    let damaged = u64::try_from(damaged).unwrap();
    assert_eq!(opening.octets_damaged(), damaged, "{opening}");
    assert_eq!(opening.to_string().is_empty(), damaged == 0);
    assert_eq!(all(&mut spool, 500), pending);
    spool.append(key(1_000, 1), b"goes on").unwrap();
    let (state, all_pending) = (spool.state(), all(&mut spool, 500));
    assert_eq!((state.octets_damaged, all_pending.len()), (damaged, pending.len() + 1));
    drop(spool);
    let mut spool = open(copied.path());
    assert_eq!((spool.state(), all(&mut spool, 500)), (state, all_pending));
}

#[test]
fn a_flip_at_any_octet_costs_its_frame() {
    let (home, segments) = worn();
    let dropped = open(home.path()).state().windows_dropped;
    for (number, bytes) in &segments {
        let frames: Vec<(usize, usize)> =
            parse(bytes).frames.iter().map(|f| (f.at, f.len)).collect();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let hit = frames.iter().find(|(from, len)| (*from..from + len).contains(&at));
            let (from, len) = *hit.unwrap_or(&(0, HEADER_LEN));
            let pending = expected(&segments, *number, |at, _| at != from);
            survives(home.path(), *number, &bytes, len, &pending);
        }
    }
    assert_eq!(open(home.path()).state().windows_dropped, dropped);
}

#[test]
fn a_cut_at_any_octet_costs_what_lay_behind() {
    let (home, segments) = worn();
    for (number, bytes) in &segments {
        let frames: Vec<(usize, usize)> =
            parse(bytes).frames.iter().map(|f| (f.at, f.len)).collect();
        for cut in 0..bytes.len() {
            let ends = frames.iter().map(|(at, len)| at + len).chain([0, HEADER_LEN]);
            let sound = ends.filter(|end| *end <= cut).max().unwrap();
            let pending = expected(&segments, *number, |at, len| at + len <= cut);
            survives(home.path(), *number, &bytes[..cut], cut - sound, &pending);
        }
    }
}

#[test]
fn totals_outlive_a_flip_anywhere() {
    let (home, segments) = worn();
    let before = open(home.path()).state();
    let (number, bytes) = segments.last().unwrap();
    let totals = parse(bytes).frames.into_iter().filter(|f| matches!(f.frame, Frame::Totals(_)));
    for totals in totals.map(|found| found.at..found.at + found.len) {
        for at in totals {
            let copied = scratch();
            copy(home.path(), copied.path());
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            fs::write(segment::path(&copied.path().join("spool"), *number), bytes).unwrap();
            let state = Spool::open(copied.path(), SMALL).unwrap().0.state();
            assert_eq!(state.windows_dropped, before.windows_dropped);
            assert_eq!(state.windows_refused, before.windows_refused);
        }
    }
}

#[test]
fn rubbish_is_damage() {
    let home = scratch();
    drop(open(home.path()));
    let directory = home.path().join("spool");
    fs::write(directory.join("notes.txt"), "not a segment").unwrap();
    fs::create_dir(segment::path(&directory, 3)).unwrap();
    // Every length in it lies.
    let mut rubbish = vec![0xff; 5_000];
    for at in (0..4_900).step_by(50) {
        rubbish[at..at + 4].copy_from_slice(&frames::MARK);
    }
    fs::write(segment::path(&directory, 9), &rubbish).unwrap();
    let (mut spool, opening) = Spool::open(home.path(), SMALL).unwrap();
    assert_eq!((opening.octets_damaged(), opening.unreadable.len()), (5_000, 1));
    let said = opening.to_string();
    assert!(said.contains("5000 octets are damaged") && said.contains("left alone"), "{said}");
    spool.append(key(0, 1), b"goes on").unwrap();
    assert_eq!(keys(&mut spool), [0]);
}

#[test]
fn a_later_format_is_not_touched() {
    let home = scratch();
    drop(open(home.path()));
    let path = segment::path(&home.path().join("spool"), 1);
    let mut header = frames::header();
    header[11] = 2;
    let crc = crc32fast::hash(&header[..12]).to_be_bytes();
    header[12..].copy_from_slice(&crc);
    fs::write(&path, header).unwrap();
    let error = Spool::open(home.path(), SMALL).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 2, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), header);
}

#[test]
fn a_key_that_is_there_twice_is_delivered_once() {
    let (home, segments) = worn();
    let before = keys(&mut open(home.path()));
    let last = segments.last().unwrap();
    fs::write(segment::path(&home.path().join("spool"), last.0 + 1), &last.1).unwrap();
    assert_eq!(keys(&mut open(home.path())), before);
}

#[test]
fn impossible_totals_are_not_believed() {
    let home = scratch();
    let mut spool = open(home.path());
    spool.append(key(0, 1), b"x").unwrap();
    let far = frames::Totals { oldest: u64::MAX, windows_dropped: u64::MAX, ..Default::default() };
    let most = frames::Totals {
        windows_dropped: u64::MAX,
        windows_refused: u64::MAX,
        octets_damaged: u64::MAX,
        oldest: 0,
        known_damage: vec![(1, u64::MAX), (u64::MAX, u64::MAX)],
    };
    let mut notes = Vec::new();
    frames::write(&Frame::Totals(far), &mut notes);
    spool.note(&notes);
    drop(spool);
    let mut spool = open(home.path());
    assert_eq!((keys(&mut spool), spool.state().windows_dropped), (vec![0], 0));
    // Nobody counts so far, but if the file says so, counting does not overflow.
    notes.clear();
    frames::write(&Frame::Totals(most), &mut notes);
    frames::write(&Frame::Refused(key(9, 9)), &mut notes);
    spool.note(&notes);
    drop(spool);
    let mut spool = open(home.path());
    assert!(spool.refuse(key(0, 1)));
    for n in 1..100 {
        spool.append(key(n, 1), &[0; 100]).unwrap();
    }
    assert_eq!(
        (spool.state().windows_dropped, spool.state().windows_refused),
        (u64::MAX, u64::MAX)
    );
}
