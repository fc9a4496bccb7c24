use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};
use proptest::prelude::*;

use super::*;
use crate::histogram::Recorder;

fn recorded(values: &[u64]) -> SparseCounts {
    let mut recorder = Recorder::new();
    values.iter().for_each(|&ns| recorder.record(ns));
    recorder.drain().counts().clone()
}

fn oracle(values: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    values.iter().for_each(|&ns| histogram.record(ns).unwrap());
    histogram
}

fn oracle_bytes(values: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&oracle(values), &mut bytes).unwrap();
    bytes
}

fn values() -> impl Strategy<Value = Vec<u64>> {
    let value = prop_oneof![0..3_000u64, 5_000..90_000u64, 0..=layout::HIGHEST_NS];
    prop::collection::vec(value, 0..200)
}

/// A plain encoding with the given payload.
fn with_payload(payload: &[u8]) -> Vec<u8> {
    let mut bytes = SparseCounts::default().encode_v2()[..HEADER].to_vec();
    bytes[4..8].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn text_begins_as_hdrhistogram_tools_expect() {
    assert!(recorded(&[1, 2, 3]).to_base64().starts_with("HISTF"));
}

#[test]
fn numbers_keep_all_64_bits() {
    for number in [0, 1, 0x7f, 0x80, u64::from(u32::MAX), (1 << 56) - 1, 1 << 56, u64::MAX] {
        let mut out = Vec::new();
        write_varint(&mut out, number);
        assert_eq!(read_varint(&out), Some((number, out.len())));
        assert_eq!(read_varint(&out[..out.len() - 1]), None);
        assert_eq!(zigzag(unzigzag(number)), number);
    }
}

#[test]
fn nothing_is_reserved_or_read_beyond_the_layout() {
    let mut skip_far = Vec::new();
    write_varint(&mut skip_far, zigzag(i64::MIN));
    write_varint(&mut skip_far, zigzag(i64::MIN));
    write_varint(&mut skip_far, zigzag(1));
    let error = SparseCounts::decode_v2(&with_payload(&skip_far)).unwrap_err();
    assert!(matches!(error, DecodeError::Index { index: u64::MAX }), "{error}");

    let error = SparseCounts::decode_v2(&with_payload(&[0x80])).unwrap_err();
    assert!(matches!(error, DecodeError::Truncated { offset: 0 }), "{error}");

    let error = SparseCounts::decode_v2(&vec![0; MAX_ENCODED + 1]).unwrap_err();
    assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
}

#[test]
fn a_bomb_is_inflated_no_further_than_the_largest_histogram() {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 50_000_000]).unwrap();
    let body = encoder.finish().unwrap();
    let mut bytes = COMPRESSED_COOKIE.to_be_bytes().to_vec();
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&body);
    let error = SparseCounts::decode_v2_compressed(&bytes).unwrap_err();
    assert!(matches!(error, DecodeError::TooLong { len, .. } if len == MAX_ENCODED + 1), "{error}");
}

#[test]
fn every_header_field_must_be_ours() {
    let good = recorded(&[7, 70_000]).encode_v2();
    assert!(SparseCounts::decode_v2(&good).is_ok());
    for at in 0..HEADER {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        SparseCounts::decode_v2(&bad).unwrap_err();
    }
    for length in 0..good.len() {
        SparseCounts::decode_v2(&good[..length]).unwrap_err();
    }
}

#[test]
fn counts_at_the_limit_survive_encoding_and_merging() {
    let mut payload = Vec::new();
    write_varint(&mut payload, zigzag(i64::MAX));
    let mut counts = SparseCounts::decode_v2(&with_payload(&payload)).unwrap();
    counts.merge(&counts.clone());
    assert_eq!(SparseCounts::decode_v2(&counts.encode_v2()).unwrap().entries(), counts.entries());
}

#[test]
fn refusals_name_value_and_way_out() {
    let other = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2).unwrap();
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&other, &mut bytes).unwrap();
    let text = SparseCounts::decode_v2(&bytes).unwrap_err().to_string();
    assert!(text.contains("significant digits 2, not 3"), "{text}");
}

proptest! {
    #[test]
    fn bytes_are_those_of_the_oracle(values in values()) {
        prop_assert_eq!(recorded(&values).encode_v2(), oracle_bytes(&values));
    }

    #[test]
    fn the_oracle_reads_what_we_write(values in values()) {
        let counts = recorded(&values);
        for bytes in [counts.encode_v2(), counts.encode_v2_compressed()] {
            let read: Histogram<u64> =
                Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            prop_assert_eq!(read, oracle(&values));
        }
    }

    #[test]
    fn we_read_what_the_oracle_writes(values in values()) {
        let counts = recorded(&values);
        let mut compressed = Vec::new();
        V2DeflateSerializer::new().serialize(&oracle(&values), &mut compressed).unwrap();
        prop_assert_eq!(&SparseCounts::decode_v2_compressed(&compressed).unwrap(), &counts);
        prop_assert_eq!(&SparseCounts::decode_v2(&oracle_bytes(&values)).unwrap(), &counts);
        prop_assert_eq!(SparseCounts::from_base64(&counts.to_base64()).unwrap(), counts);
    }

    /// Whatever is read can be written, and is read as the same again.
    #[test]
    fn mutated_bytes_are_refused_or_read(
        values in values(),
        changes in prop::collection::vec((HEADER.., any::<u8>()), 1..8),
        raw in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = recorded(&values).encode_v2();
        for (at, byte) in changes {
            let at = HEADER + at % (bytes.len() - HEADER);
            bytes[at] = byte;
        }
        for bytes in [bytes, with_payload(&raw), raw] {
            let _ = SparseCounts::decode_v2_compressed(&bytes);
            if let Ok(counts) = SparseCounts::decode_v2(&bytes) {
                let again = SparseCounts::decode_v2(&counts.encode_v2()).unwrap();
                prop_assert_eq!(again, counts);
            }
        }
    }
}
