//! HdrHistogram V2 encoding of bucket counts, plain, compressed and as text.
//!
//! The format is that of the Java original (`AbstractHistogram.encodeIntoByteBuffer`): a 40-octet header (cookie,
//! payload length, normalizing index offset, digits, lowest, highest, ratio; big-endian), then one ZigZag LEB128
//! number per bucket up to the last one in use, where a negative number stands for that many empty buckets. The
//! compressed form is an 8-octet header (cookie, length) and the plain form under zlib; its text is Base64.
//!
//! Decoders accept only our [`layout`], and never reserve memory on the word of the sender.

use std::io::{Read, Write};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use thiserror::Error;

use super::SparseCounts;
use super::layout;

const COOKIE: u32 = 0x1c84_9313;
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
const HEADER: usize = 40;
const COMPRESSED_HEADER: usize = 8;
/// A number of 64 bits takes at most 9 octets: the ninth is used whole.
const MAX_VARINT: usize = 9;

/// The longest plain encoding there is: every bucket in use, each with the largest count.
pub const MAX_ENCODED: usize = HEADER + layout::COUNTERS * MAX_VARINT;
/// The longest compressed encoding we read: zlib adds less than 1/1,000 to what it cannot compress.
pub const MAX_COMPRESSED: usize = MAX_ENCODED + MAX_ENCODED / 512;
/// The longest text we read: 4 characters for 3 octets.
pub const MAX_TEXT: usize = MAX_COMPRESSED.div_ceil(3) * 4;

/// Why bytes are not a histogram of ours.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// More input than any histogram of this layout needs.
    #[error("histogram of {len} octets is longer than the largest of this layout, {limit}")]
    TooLong {
        /// Octets given.
        len: usize,
        /// Octets allowed.
        limit: usize,
    },
    /// Input ends inside the header.
    #[error("histogram of {len} octets ends inside its header of {header}")]
    TooShort {
        /// Octets given.
        len: usize,
        /// Octets of the header.
        header: usize,
    },
    /// Another format, or no histogram at all.
    #[error("histogram starts with cookie {found:#010x}, not {expected:#010x} (HdrHistogram V2)")]
    Cookie {
        /// The first four octets.
        found: u32,
        /// The cookie of the format asked for.
        expected: u32,
    },
    /// The length in the header is not that of the data.
    #[error("histogram header announces {declared} octets, {actual} follow")]
    Length {
        /// From the header.
        declared: u32,
        /// What is there.
        actual: usize,
    },
    /// Recorded with other parameters: its buckets cannot be added to ours.
    #[error(
        "histogram has {field} {found}, not {expected}: record it from 1 ns to 60 s with 3 digits"
    )]
    Layout {
        /// The header field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The value of our layout.
        expected: u64,
    },
    /// A number of the payload runs past its end.
    #[error("histogram payload ends inside the number at octet {offset}")]
    Truncated {
        /// Octets from the start of the payload.
        offset: usize,
    },
    /// A count beyond the last bucket.
    #[error(
        "histogram payload reaches bucket {index}, beyond 60 s in bucket {}",
        layout::HIGHEST_INDEX
    )]
    Index {
        /// The first bucket out of range.
        index: u64,
    },
    /// The compressed form could not be inflated.
    #[error("histogram cannot be inflated")]
    Inflate(#[source] std::io::Error),
    /// The text is not Base64.
    #[error("histogram text is not base64")]
    Base64(#[source] base64::DecodeError),
}

impl SparseCounts {
    /// The plain V2 encoding.
    #[expect(clippy::cast_possible_truncation, reason = "MAX_ENCODED is below 2^18")]
    pub fn encode_v2(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.entries().len() * 4);
        out.extend_from_slice(&COOKIE.to_be_bytes());
        out.extend_from_slice(&0u32.to_be_bytes()); // payload length, below
        out.extend_from_slice(&0u32.to_be_bytes()); // normalizing index offset
        out.extend_from_slice(&u32::from(layout::SIGNIFICANT_DIGITS).to_be_bytes());
        out.extend_from_slice(&layout::LOWEST_NS.to_be_bytes());
        out.extend_from_slice(&layout::HIGHEST_NS.to_be_bytes());
        out.extend_from_slice(&1f64.to_be_bytes());
        self.encode_payload(&mut out);
        let payload = (out.len() - HEADER) as u32;
        out[4..8].copy_from_slice(&payload.to_be_bytes());
        out
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        let mut next = 0u16;
        for &(index, count) in self.entries() {
            match index - next {
                0 => {}
                1 => write_varint(out, 0), // one empty bucket is written as its count
                gap => write_varint(out, zigzag(-i64::from(gap))),
            }
            write_varint(out, zigzag(count.cast_signed()));
            next = index + 1;
        }
        if next == 0 {
            write_varint(out, 0); // as the other implementations do: no payload is never empty
        }
    }

    /// The V2 encoding under zlib.
    #[expect(clippy::cast_possible_truncation, reason = "MAX_COMPRESSED is below 2^18")]
    pub fn encode_v2_compressed(&self) -> Vec<u8> {
        let mut out = COMPRESSED_COOKIE.to_be_bytes().to_vec();
        out.extend_from_slice(&0u32.to_be_bytes()); // length, below
        let mut encoder = ZlibEncoder::new(out, Compression::default());
        encoder.write_all(&self.encode_v2()).expect("writing to a Vec cannot fail");
        let mut out = encoder.finish().expect("writing to a Vec cannot fail");
        let length = (out.len() - COMPRESSED_HEADER) as u32;
        out[4..8].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// The compressed encoding as text: `HISTF…`, what JSON and interval logs carry.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.encode_v2_compressed())
    }

    /// Reads the plain V2 encoding. Nothing may follow it.
    pub fn decode_v2(bytes: &[u8]) -> Result<Self, DecodeError> {
        at_most(bytes.len(), MAX_ENCODED)?;
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(DecodeError::TooShort { len: bytes.len(), header: HEADER });
        };
        let u32_at = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        let u64_at = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        cookie(u32_at(0), COOKIE)?;
        length(u32_at(4), payload.len())?;
        same("normalizing index offset", u32_at(8).into(), 0)?;
        same("significant digits", u32_at(12).into(), layout::SIGNIFICANT_DIGITS.into())?;
        same("lowest value", u64_at(16), layout::LOWEST_NS)?;
        same("highest value", u64_at(24), layout::HIGHEST_NS)?;
        same("conversion ratio (bits)", u64_at(32), 1f64.to_bits())?;
        decode_payload(payload)
    }

    /// Reads the compressed V2 encoding. Nothing may follow it.
    pub fn decode_v2_compressed(bytes: &[u8]) -> Result<Self, DecodeError> {
        at_most(bytes.len(), MAX_COMPRESSED)?;
        let Some((header, body)) = bytes.split_first_chunk::<COMPRESSED_HEADER>() else {
            return Err(DecodeError::TooShort { len: bytes.len(), header: COMPRESSED_HEADER });
        };
        let [a, b, c, d, e, f, g, h] = *header;
        cookie(u32::from_be_bytes([a, b, c, d]), COMPRESSED_COOKIE)?;
        length(u32::from_be_bytes([e, f, g, h]), body.len())?;
        let mut plain = Vec::new();
        let mut inflate = ZlibDecoder::new(body).take(MAX_ENCODED as u64 + 1);
        inflate.read_to_end(&mut plain).map_err(DecodeError::Inflate)?;
        Self::decode_v2(&plain)
    }

    /// Reads the text form (`HISTF…`).
    pub fn from_base64(text: &str) -> Result<Self, DecodeError> {
        at_most(text.len(), MAX_TEXT)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(DecodeError::Base64)?;
        Self::decode_v2_compressed(&bytes)
    }
}

fn decode_payload(payload: &[u8]) -> Result<SparseCounts, DecodeError> {
    // Most entries are a count and the gap before it, an octet each; what there is room for follows from what is there.
    let mut entries = Vec::with_capacity(payload.len() / 2 + 1);
    let (mut offset, mut index) = (0usize, 0u64);
    while offset < payload.len() {
        let (number, length) =
            read_varint(&payload[offset..]).ok_or(DecodeError::Truncated { offset })?;
        offset += length;
        let number = unzigzag(number);
        if number < 0 {
            index = index.saturating_add(number.unsigned_abs());
            continue;
        }
        if number > 0 {
            let place = u16::try_from(index).ok().filter(|i| *i <= layout::HIGHEST_INDEX);
            let place = place.ok_or(DecodeError::Index { index })?;
            entries.push((place, number.unsigned_abs()));
        }
        index = index.saturating_add(1);
    }
    Ok(SparseCounts::from_sorted(entries))
}

fn at_most(len: usize, limit: usize) -> Result<(), DecodeError> {
    if len > limit { Err(DecodeError::TooLong { len, limit }) } else { Ok(()) }
}

fn cookie(found: u32, expected: u32) -> Result<(), DecodeError> {
    if found == expected { Ok(()) } else { Err(DecodeError::Cookie { found, expected }) }
}

fn length(declared: u32, actual: usize) -> Result<(), DecodeError> {
    let equal = usize::try_from(declared).is_ok_and(|declared| declared == actual);
    if equal { Ok(()) } else { Err(DecodeError::Length { declared, actual }) }
}

fn same(field: &'static str, found: u64, expected: u64) -> Result<(), DecodeError> {
    if found == expected { Ok(()) } else { Err(DecodeError::Layout { field, found, expected }) }
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time is the point")]
fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    for _ in 1..MAX_VARINT {
        if number < 0x80 {
            break;
        }
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The number at the start of `bytes` and its length in octets; `None` when they end inside it.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    if let Some(&byte) = bytes.first().filter(|byte| **byte < 0x80) {
        return Some((byte.into(), 1));
    }
    let mut number = 0;
    for (at, &byte) in bytes.iter().take(MAX_VARINT).enumerate() {
        let last = at + 1 == MAX_VARINT;
        let bits = if last { byte } else { byte & 0x7f };
        number |= u64::from(bits) << (7 * at);
        if last || byte < 0x80 {
            return Some((number, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests;
