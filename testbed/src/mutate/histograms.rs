//! What must hold when a histogram decoder gets anything.

use railgauge_core::histogram::SparseCounts;
use railgauge_core::histogram::codec::{self, DecodeError};

use super::{Outcomes, count};

/// Reads `bytes` as a histogram in each of its three forms, and as the payload behind a sound header, and counts what became of it. What is read is
/// written again and must come out the same, and adding it to itself must not fail.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_histogram(bytes: &[u8], outcomes: &mut Outcomes) {
    let text = String::from_utf8_lossy(bytes);
    for (name, outcome) in [
        ("plain", SparseCounts::decode_v2(bytes)),
        ("payload", SparseCounts::decode_v2(&with_header(bytes))),
        ("compressed", SparseCounts::decode_v2_compressed(bytes)),
        ("text", SparseCounts::from_base64(&text)),
    ] {
        let what = match outcome {
            Ok(counts) => {
                check(&counts);
                "read"
            }
            Err(error) => reason(&error),
        };
        count(outcomes, format!("{name}: {what}"));
    }
}

/// Octets of the plain encoding before its payload.
const HEADER_LEN: usize = 40;

/// `payload` behind the header of a histogram of ours, so that it is looked at.
fn with_header(payload: &[u8]) -> Vec<u8> {
    let mut out = SparseCounts::default().encode_v2();
    out.truncate(HEADER_LEN);
    let len = u32::try_from(payload.len()).expect("fuzzed inputs are short");
    out[4..8].copy_from_slice(&len.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn check(counts: &SparseCounts) {
    let plain = counts.encode_v2();
    assert!(plain.len() <= codec::MAX_ENCODED);
    let again = SparseCounts::decode_v2(&plain).expect("what we write we read");
    assert_eq!(&again, counts);
    let again = SparseCounts::from_base64(&counts.to_base64()).expect("what we write we read");
    assert_eq!(&again, counts);
    assert_eq!(counts.at_or_below(u16::MAX), counts.total());
    assert_eq!(counts.index_at_rank(counts.total()).is_some(), counts.total() > 0);
    let mut twice = again;
    twice.merge(counts);
    assert_eq!(twice.entries().len(), counts.entries().len());
}

fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::TooLong { .. } => "too long",
        DecodeError::TooShort { .. } => "too short",
        DecodeError::Cookie { .. } => "cookie",
        DecodeError::Length { .. } => "length",
        DecodeError::Layout { .. } => "layout",
        DecodeError::Truncated { .. } => "truncated",
        DecodeError::Index { .. } => "index",
        DecodeError::Inflate(_) => "inflate",
        DecodeError::Base64(_) => "base64",
    }
}
