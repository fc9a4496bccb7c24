//! Batches in octets of a spool segment, by the format that the agent documents and not by its code: mark f7 'r' 'g' 0a, length u32, CRC-32
//! u32 over length and body, body; a batch's body is 1, instance u64, first sequence u64, windows u32, payload. Network byte order.

use super::BatchKey;

/// A batch and where its frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    pub key: BatchKey,
    pub payload: &'a [u8],
    /// Octets up to the end of its frame.
    pub end: usize,
}

/// The batches whose whole frames lie in `octets`, in order. What is no sound frame is passed over.
pub fn batches(octets: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < octets.len() {
            let Some(body) = body_at(&octets[at..]) else {
                at += 1;
                continue;
            };
            at += 12 + body.len();
            if let Some((key, payload)) = batch_in(body) {
                return Some(Found { key, payload, end: at });
            }
        }
        None
    })
}

/// The keys in notes that a batch is forgotten (kind 2), whole ones only.
pub fn forgotten(octets: &[u8]) -> impl Iterator<Item = BatchKey> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < octets.len() {
            let Some(body) = body_at(&octets[at..]) else {
                at += 1;
                continue;
            };
            at += 12 + body.len();
            let key = body.strip_prefix(&[2]).filter(|key| key.len() == KEY);
            if let Some(key) = key.and_then(key_in) {
                return Some(key);
            }
        }
        None
    })
}

/// Octets of a key.
const KEY: usize = 20;

fn body_at(octets: &[u8]) -> Option<&[u8]> {
    let rest = octets.strip_prefix(b"\xf7rg\n")?;
    let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
    let crc = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?);
    let body = rest.get(8..)?.get(..usize::try_from(length).ok()?)?;
    (crc32(rest[..4].iter().chain(body)) == crc).then_some(body)
}

fn batch_in(body: &[u8]) -> Option<(BatchKey, &[u8])> {
    let (key, payload) = body.strip_prefix(&[1])?.split_at_checked(KEY)?;
    Some((key_in(key)?, payload))
}

fn key_in(key: &[u8]) -> Option<BatchKey> {
    Some(BatchKey {
        instance: u64::from_be_bytes(key.get(..8)?.try_into().ok()?),
        first_sequence: u64::from_be_bytes(key.get(8..16)?.try_into().ok()?),
        windows: u32::from_be_bytes(key.get(16..)?.try_into().ok()?),
    })
}

/// CRC-32 as zlib has it: polynomial 0xedb88320 reflected, all ones before and after.
pub fn crc32<'a>(octets: impl Iterator<Item = &'a u8>) -> u32 {
    const TABLE: [u32; 16] = table();
    let step = |crc: u32, nibble: u32| TABLE[((crc ^ nibble) & 15) as usize] ^ (crc >> 4);
    !octets.fold(u32::MAX, |crc, octet| {
        let octet = u32::from(*octet);
        step(step(crc, octet), octet >> 4)
    })
}

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut nibble: u32 = 0;
    while nibble < 16 {
        let mut crc = nibble;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[nibble as usize] = crc;
        nibble += 1;
    }
    table
}
