//! The format of a segment file, as pure functions of octets. Numbers are in network byte order.
//!
//! ```text
//! segment = header frame*
//! header  = magic "RGSPOOL\n" (8), format u32 = 1, crc u32 over the 12 octets before
//! frame   = mark f7 'r' 'g' 0a (4), length u32, crc u32, body of `length` octets
//! body    = kind u8, then
//!   1 batch      key (20), payload: an encoded WindowBatch
//!   2 forgotten  key: stored by the coordinator, or never recorded after all
//!   3 refused    key: the coordinator will never store it
//!   4 totals     windows dropped u64, windows refused u64, octets damaged u64, oldest u64,
//!                then (segment u64, octets u64) to the end: damage that octets damaged already counts
//! key     = instance u64, first sequence u64, windows u32
//! crc     = CRC-32 (ISO-HDLC, as zlib's); a frame's is over its length and its body
//! ```
//!
//! Segments are read in order of their numbers. A `forgotten` or `refused` takes away the batch of that key which came before it. `totals` replaces the
//! totals before it, and says that segments numbered below `oldest` are gone, whether or not their files are still there. Every
//! segment begins with its totals, twice, so that one damaged octet loses none. A frame of a kind that is not known is left out.

use railgauge_proto::MAX_MESSAGE;

/// How every segment begins.
pub const MAGIC: [u8; 8] = *b"RGSPOOL\n";
/// The version of the format.
pub const FORMAT: u32 = 1;
/// Octets of a segment's header.
pub const HEADER_LEN: usize = 16;
/// How every frame begins, so that the next one is found behind a damaged one.
pub const MARK: [u8; 4] = [0xf7, b'r', b'g', 0x0a];
/// Octets of a frame before its body.
pub const FRAME_HEAD: usize = 12;
/// Octets of a kind and a key.
pub const KEYED_LEN: usize = 21;
/// The longest body: the longest message with its key. A length beyond it is damage, whatever the file says.
pub const MOST_BODY: usize = MAX_MESSAGE + KEYED_LEN;

const BATCH: u8 = 1;
const FORGOTTEN: u8 = 2;
const REFUSED: u8 = 3;
const TOTALS: u8 = 4;

/// What tells one batch of this agent from every other: see `BatchKey` of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Random at each start of the process.
    pub instance: u64,
    /// Sequence of its first window.
    pub first_sequence: u64,
    /// How many windows it holds.
    pub windows: u32,
}

impl Key {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.first_sequence.to_be_bytes());
        out.extend_from_slice(&self.windows.to_be_bytes());
    }
}

/// Counts since the state directory was made, as the head of a segment carries them on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Recorded windows dropped because the spool was full.
    pub windows_dropped: u64,
    /// Recorded windows that the coordinator refused.
    pub windows_refused: u64,
    /// Octets of segments that could not be read.
    pub octets_damaged: u64,
    /// Segments with lower numbers are gone.
    pub oldest: u64,
    /// Damaged octets by segment that `octets_damaged` holds already, or that never held anything recorded.
    pub known_damage: Vec<(u64, u64)>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A recorded batch.
    Batch {
        /// Its key.
        key: Key,
        /// The encoded message.
        payload: &'a [u8],
    },
    /// The batch of this key needs no more sending.
    Forgotten(Key),
    /// The batch of this key will never be stored.
    Refused(Key),
    /// The counts so far.
    Totals(Totals),
    /// Something of a later minor version.
    Unknown(u8),
}

/// A frame and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// Octets of the file before it.
    pub at: usize,
    /// Octets from its mark to its end.
    pub len: usize,
    /// What it says.
    pub frame: Frame<'a>,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The format that a sound header names; none when the header is damaged, which costs only the header.
    pub format: Option<u32>,
    /// The sound frames in order.
    pub frames: Vec<Located<'a>>,
    /// Octets that belong to neither a sound header nor a sound frame.
    pub octets_damaged: usize,
}

/// Reads a segment. Whatever the octets, it neither fails nor reserves more than a few words per sound frame.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut parsed = Parsed { format: read_header(bytes), ..Parsed::default() };
    let mut at = if parsed.format.is_some() { HEADER_LEN } else { 0 };
    while at < bytes.len() {
        if let Some(found) = frame_at(bytes, at) {
            at += found.len;
            parsed.frames.push(found);
        } else {
            let next = next_mark(bytes, at + 1);
            parsed.octets_damaged += next - at;
            at = next;
        }
    }
    parsed
}

/// The frame of a batch that begins at the front of `bytes`, if that is a sound one.
pub fn batch_in(bytes: &[u8]) -> Option<(Key, &[u8])> {
    match frame_at(bytes, 0)?.frame {
        Frame::Batch { key, payload } => Some((key, payload)),
        _ => None,
    }
}

/// Where the next mark begins, from `from` on; the end when there is none.
fn next_mark(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(MARK.len()).position(|four| four == MARK).map_or(bytes.len(), |at| from + at)
}

fn read_header(bytes: &[u8]) -> Option<u32> {
    let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
    let (said, crc) = header.split_at(HEADER_LEN - 4);
    let (magic, format) = said.split_at(MAGIC.len());
    let sound = magic == MAGIC && crc == crc32fast::hash(said).to_be_bytes();
    sound.then(|| read_u32(format)).flatten()
}

fn frame_at(bytes: &[u8], at: usize) -> Option<Located<'_>> {
    let rest = bytes.get(at..)?.strip_prefix(&MARK)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let body_len = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let body = rest.get(..body_len).filter(|_| body_len <= MOST_BODY)?;
    let sound = checksum(*length, body).to_be_bytes() == *crc;
    let frame = read_body(body).filter(|_| sound)?;
    Some(Located { at, len: FRAME_HEAD + body_len, frame })
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(body);
    crc.finalize()
}

fn read_body(body: &[u8]) -> Option<Frame<'_>> {
    let (&kind, rest) = body.split_first()?;
    Some(match kind {
        BATCH => {
            let (key, payload) = read_key(rest)?;
            Frame::Batch { key, payload }
        }
        FORGOTTEN => Frame::Forgotten(read_key(rest).filter(|(_, rest)| rest.is_empty())?.0),
        REFUSED => Frame::Refused(read_key(rest).filter(|(_, rest)| rest.is_empty())?.0),
        TOTALS => Frame::Totals(read_totals(rest)?),
        other => Frame::Unknown(other),
    })
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.first_chunk()?))
}

fn read_key(bytes: &[u8]) -> Option<(Key, &[u8])> {
    let (key, rest) = bytes.split_at_checked(KEYED_LEN - 1)?;
    let key = Key {
        instance: read_u64(key)?,
        first_sequence: read_u64(&key[8..])?,
        windows: read_u32(&key[16..])?,
    };
    Some((key, rest))
}

fn read_totals(bytes: &[u8]) -> Option<Totals> {
    let (fixed, pairs) = bytes.split_at_checked(32)?;
    let pairs = pairs.chunks(16).map(|pair| Some((read_u64(pair)?, read_u64(pair.get(8..)?)?)));
    Some(Totals {
        windows_dropped: read_u64(fixed)?,
        windows_refused: read_u64(&fixed[8..])?,
        octets_damaged: read_u64(&fixed[16..])?,
        oldest: read_u64(&fixed[24..])?,
        known_damage: pairs.collect::<Option<_>>()?,
    })
}

/// A segment's header.
pub fn header() -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&FORMAT.to_be_bytes());
    let crc = crc32fast::hash(&out[..12]);
    out[12..].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Appends `frame` to `out`.
///
/// # Panics
/// When its body is longer than [`MOST_BODY`]: whoever takes in payloads refuses such first.
pub fn write(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 8]);
    match frame {
        Frame::Batch { key, payload } => {
            out.push(BATCH);
            key.write(out);
            out.extend_from_slice(payload);
        }
        Frame::Forgotten(key) => {
            out.push(FORGOTTEN);
            key.write(out);
        }
        Frame::Refused(key) => {
            out.push(REFUSED);
            key.write(out);
        }
        Frame::Totals(totals) => write_totals(totals, out),
        Frame::Unknown(kind) => out.push(*kind),
    }
    let body_len = out.len() - start - FRAME_HEAD;
    assert!(body_len <= MOST_BODY, "a frame of {body_len} octets");
    let length = u32::try_from(body_len).unwrap_or(u32::MAX).to_be_bytes();
    let crc = checksum(length, &out[start + FRAME_HEAD..]).to_be_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out[start + 8..start + FRAME_HEAD].copy_from_slice(&crc);
}

fn write_totals(totals: &Totals, out: &mut Vec<u8>) {
    let Totals { windows_dropped, windows_refused, octets_damaged, oldest, known_damage } = totals;
    out.push(TOTALS);
    for number in [windows_dropped, windows_refused, octets_damaged, oldest] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for (segment, octets) in known_damage {
        out.extend_from_slice(&segment.to_be_bytes());
        out.extend_from_slice(&octets.to_be_bytes());
    }
}
