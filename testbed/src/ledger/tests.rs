use super::spool_frames::{batches, crc32};
use super::*;
use railgauge_agent::spool::frames::{self, Frame, Key};

/// A record as the shim writes it.
fn record(kind: u8, offset: u64, name: &str, rest: &[u8]) -> Vec<u8> {
    let mut said = vec![kind];
    said.extend([1, 0, 0, 0, 2, 0, 0, 0]);
    said.extend(offset.to_le_bytes());
    said.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
    said.extend(name.as_bytes());
    said.extend(rest);
    let sum = said
        .iter()
        .fold(2_166_136_261_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(16_777_619));
    let mut whole = b"RGLG".to_vec();
    whole.extend(u32::try_from(said.len()).unwrap().to_le_bytes());
    whole.extend(sum.to_le_bytes());
    whole.extend(said);
    whole
}

fn batch(first_sequence: u64) -> Vec<u8> {
    let key = Key { instance: 9, first_sequence, windows: 2 };
    let mut frame = Vec::new();
    frames::write(&Frame::Batch { key, payload: b"payload" }, &mut frame);
    frame
}

fn length(octets: &[u8]) -> u64 {
    u64::try_from(octets.len()).unwrap()
}

#[test]
fn the_checksum_is_the_common_one() {
    assert_eq!(crc32(b"123456789".iter()), 0xcbf4_3926);
}

#[test]
fn both_readers_see_the_same_batches() {
    let mut segment = frames::header().to_vec();
    frames::write(&Frame::Totals(frames::Totals::default()), &mut segment);
    for n in 0..4 {
        segment.extend(batch(n * 2));
        segment.extend([0xf7, b'r']);
    }
    let theirs = frames::parse(&segment);
    let theirs = theirs.frames.iter().filter_map(|found| match found.frame {
        Frame::Batch { key, payload } => Some((key.first_sequence, payload, found.at + found.len)),
        _ => None,
    });
    let ours = batches(&segment).map(|found| (found.key.first_sequence, found.payload, found.end));
    assert!(ours.eq(theirs));
}

#[test]
fn recorded_is_what_was_synced() {
    let (first, second, third) = (batch(0), batch(2), batch(4));
    let mut ledger = record(b'C', 0, "a", b"");
    ledger.extend(record(b'w', 0, "a", &first));
    ledger.extend(record(b'W', length(&first), "a", b""));
    ledger.extend(record(b's', 0, "a", b""));
    ledger.extend(record(b'S', length(&first), "a", b""));
    // Written in two parts, cut back and never synced.
    ledger.extend(record(b'w', length(&first), "a", &second));
    ledger.extend(record(b'W', 5, "a", b""));
    ledger.extend(record(b'w', length(&first) + 5, "a", &second[5..]));
    ledger.extend(record(b'W', length(&second) - 5, "a", b""));
    ledger.extend(record(b'F', 0, "a", b"sync"));
    ledger.extend(record(b'T', length(&first), "a", b""));
    ledger.extend(record(b'S', length(&first), "a", b""));
    // Announced, then killed while the ledger was written; another process goes on.
    ledger.extend(&record(b'w', length(&first), "a", &third)[..40]);
    ledger.extend(record(b'w', length(&first), "a", &third));
    let seen = Ledger::of(&ledger);
    let sequences = |keys: Vec<&BatchKey>| -> Vec<u64> {
        keys.into_iter().map(|key| key.first_sequence).collect()
    };
    assert_eq!(sequences(seen.recorded.keys().collect()), [0]);
    assert_eq!(sequences(seen.possible.keys().collect()), [0, 2, 4]);
    assert_eq!((seen.windows(), seen.octets_torn, seen.faults["sync"]), (2, 40, 1));
    assert_eq!(seen.recorded.values().next().unwrap(), b"payload");
}

#[test]
fn frames_in_parts_are_possible_and_notes_are_seen() {
    let (frame, mut note) = (batch(6), Vec::new());
    let key = Key { instance: 9, first_sequence: 4, windows: 2 };
    frames::write(&Frame::Forgotten(key), &mut note);
    // The first write took ten octets, the second the rest, and then the process was killed.
    let mut ledger = record(b'w', 0, "a", &frame[..20]);
    ledger.extend(record(b'W', 10, "a", b""));
    assert!(Ledger::of(&ledger).possible.is_empty());
    ledger.extend(record(b'w', 10, "a", &frame[10..]));
    ledger.extend(record(b'W', length(&frame) - 10, "a", b""));
    ledger.extend(record(b'w', length(&frame), "a", &note));
    ledger.extend(record(b'W', length(&note), "a", b""));
    let seen = Ledger::of(&ledger);
    let key = |first_sequence| BatchKey { instance: 9, first_sequence, windows: 2 };
    assert_eq!(seen.possible.keys().collect::<Vec<_>>(), [&key(6)]);
    assert_eq!(seen.forgotten.iter().collect::<Vec<_>>(), [&key(4)]);
    assert!(seen.recorded.is_empty());
}
