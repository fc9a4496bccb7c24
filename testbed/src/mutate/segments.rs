//! What must hold when a spool segment holds anything.

use railgauge_agent::spool::frames::{self, Frame, HEADER_LEN, Parsed};

use super::{Outcomes, count};
use crate::ledger::{self, crc32};

/// Reads `bytes` as a segment, and as the bodies of frames whose sums are right, and counts what became of it.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_segment(bytes: &[u8], outcomes: &mut Outcomes) {
    let parsed = frames::parse(bytes);
    check(bytes, &parsed);
    count(outcomes, if parsed.format.is_some() { "header" } else { "no header" });
    let framed = framed(bytes);
    let bodies = frames::parse(&framed);
    check(&framed, &bodies);
    for found in parsed.frames.iter().chain(&bodies.frames) {
        count(outcomes, name(&found.frame));
    }
    if bodies.octets_damaged > 0 {
        count(outcomes, "body of no kind");
    }
}

/// `bytes` cut into bodies, the length of each told by the octet before it, behind a sound header.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = frames::header().to_vec();
    while let Some((&length, rest)) = bytes.split_first() {
        let (body, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
        out.extend(frames::MARK);
        out.extend(length);
        out.extend(crc32(length.iter().chain(body)).to_be_bytes());
        out.extend(body);
    }
    out
}

fn check(bytes: &[u8], parsed: &Parsed<'_>) {
    let mut end = if parsed.format.is_some() { HEADER_LEN } else { 0 };
    let mut octets = end + parsed.octets_damaged;
    for found in &parsed.frames {
        assert!(found.at >= end, "frames overlap");
        end = found.at + found.len;
        octets += found.len;
        if !matches!(found.frame, Frame::Unknown(_)) {
            let mut again = Vec::new();
            frames::write(&found.frame, &mut again);
            assert_eq!(again, bytes[found.at..end], "what is read is not what would be written");
        }
    }
    assert_eq!(octets, bytes.len(), "octets that are neither frames nor damaged");
    if parsed.octets_damaged == 0 {
        let theirs = parsed.frames.iter().filter_map(|found| match found.frame {
            Frame::Batch { key, payload } => Some((key.first_sequence, payload)),
            _ => None,
        });
        let ours = ledger::batches(bytes).map(|found| (found.key.first_sequence, found.payload));
        assert!(ours.eq(theirs), "the ledger reads other batches");
    }
}

const fn name(frame: &Frame<'_>) -> &'static str {
    match frame {
        Frame::Batch { .. } => "batch",
        Frame::Forgotten(_) => "forgotten",
        Frame::Refused(_) => "refused",
        Frame::Totals(_) => "totals",
        Frame::Unknown(_) => "unknown kind",
    }
}
