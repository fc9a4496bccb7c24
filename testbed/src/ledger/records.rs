//! The ledger's own format; its description stands in `testbed/preload/storage.c`.

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What happened: a letter.
    pub kind: u8,
    /// Process that did it.
    pub pid: u32,
    /// Thread that did it.
    pub tid: u32,
    /// Where in the file, or how many octets.
    pub offset: u64,
    /// The file, below the watched directory.
    pub name: &'a str,
    /// What was written, the new name, or the fault.
    pub rest: &'a [u8],
}

const MARK: &[u8; 4] = b"RGLG";

/// The whole records of a ledger in order, and how many octets belong to none: a record cut off by a kill, with whole ones behind it.
pub fn records(octets: &[u8]) -> (Vec<Record<'_>>, usize) {
    let (mut records, mut at, mut torn) = (Vec::new(), 0, 0);
    while at < octets.len() {
        if let Some((record, len)) = record_at(&octets[at..]) {
            records.push(record);
            at += len;
        } else {
            at += 1;
            torn += 1;
        }
    }
    (records, torn)
}

fn record_at(octets: &[u8]) -> Option<(Record<'_>, usize)> {
    let rest = octets.strip_prefix(MARK)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let said = rest.get(..length).filter(|said| fnv(said) == u32::from_le_bytes(*sum))?;
    let (&kind, rest) = said.split_first()?;
    let (pid, rest) = rest.split_first_chunk()?;
    let (tid, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (name_length, rest) = rest.split_first_chunk()?;
    let name_length = usize::try_from(u32::from_le_bytes(*name_length)).ok()?;
    let (name, rest) = rest.split_at_checked(name_length)?;
    let record = Record {
        kind,
        pid: u32::from_le_bytes(*pid),
        tid: u32::from_le_bytes(*tid),
        offset: u64::from_le_bytes(*offset),
        name: std::str::from_utf8(name).ok()?,
        rest,
    };
    Some((record, 12 + length))
}

fn fnv(octets: &[u8]) -> u32 {
    let step = |hash: u32, octet: &u8| (hash ^ u32::from(*octet)).wrapping_mul(16_777_619);
    octets.iter().fold(2_166_136_261, step)
}
