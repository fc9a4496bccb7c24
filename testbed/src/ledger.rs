//! What an agent recorded, as an observer outside it saw: reads the ledger that `testbed/preload/storage.c` keeps, and finds
//! spool frames in it without the agent's own code.
//!
//! *Recorded* is a batch whose whole frame was in a file at a successful `fsync` or `fdatasync`. *Possible* is every batch
//! whose frame began to be written. A process killed between writing and syncing leaves a batch that is possible: its spool
//! may deliver it or not. So, with distinct keys, recorded is a subset of what was ingested, is in spools or was dropped, and
//! all these are a subset of possible.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use prost::Message;
use railgauge_proto::v1::WindowBatch;

mod records;
mod spool_frames;

pub use records::{Record, records};
pub(crate) use spool_frames::{batches, crc32};

/// What tells a batch of one agent from its others: the words of `BatchKey`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchKey {
    /// Random at each start of the process.
    pub instance: u64,
    /// Sequence of its first window.
    pub first_sequence: u64,
    /// How many windows it holds.
    pub windows: u32,
}

/// What was seen of one state directory.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Payloads of the batches that were on disk, by key.
    pub recorded: BTreeMap<BatchKey, Vec<u8>>,
    /// All batches that began to be written, the recorded ones included.
    pub possible: BTreeMap<BatchKey, Vec<u8>>,
    /// Keys about which a note was written that they are stored elsewhere, or never were recorded.
    pub forgotten: BTreeSet<BatchKey>,
    /// Faults put in, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Octets of the ledger that are no whole record: a process was killed while it wrote one.
    pub octets_torn: usize,
}

/// A file as the records tell.
#[derive(Debug, Default)]
struct Seen {
    octets: Vec<u8>,
    /// Frames before this are entered as recorded.
    entered: usize,
}

/// A spool file is never longer; a record that says so is not about one.
const MOST_FILE: u64 = 64 << 20;

impl Ledger {
    /// Reads the ledger of one state directory; a missing file is an empty ledger.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            read => Ok(Self::of(&read?)),
        }
    }

    /// What the octets of a ledger tell.
    pub fn of(octets: &[u8]) -> Self {
        let (records, octets_torn) = records(octets);
        let mut ledger = Self { octets_torn, ..Self::default() };
        let mut files: BTreeMap<&str, Seen> = BTreeMap::new();
        let mut announced: BTreeMap<(u32, u32), &Record<'_>> = BTreeMap::new();
        for record in &records {
            match record.kind {
                b'w' => {
                    ledger.note(record.rest);
                    announced.insert((record.pid, record.tid), record);
                }
                b'W' => {
                    if let Some(before) = announced.remove(&(record.pid, record.tid)) {
                        let written = usize::try_from(record.offset).unwrap_or(usize::MAX);
                        let written = before.rest.get(..written).unwrap_or(before.rest);
                        let seen = files.entry(before.name).or_default();
                        seen.write(before.offset, written);
                        if written.len() < before.rest.len() || record_is_rest(before) {
                            // A frame may be whole only together with what was written before.
                            ledger.note(seen.octets.get(seen.entered..).unwrap_or_default());
                        }
                    }
                }
                b'S' => {
                    if let Some(seen) = files.get_mut(record.name) {
                        ledger.enter(seen);
                    }
                }
                b'T' => files.entry(record.name).or_default().resize(record.offset),
                b'C' => drop(files.insert(record.name, Seen::default())),
                b'U' => drop(files.remove(record.name)),
                b'R' => {
                    let seen = files.remove(record.name);
                    let to = std::str::from_utf8(record.rest).ok();
                    if let (Some(seen), Some(to)) = (seen, to) {
                        files.insert(to, seen);
                    }
                }
                b'F' => {
                    let kind = String::from_utf8_lossy(record.rest).into_owned();
                    *ledger.faults.entry(kind).or_default() += 1;
                }
                _ => {}
            }
        }
        ledger
    }

    fn note(&mut self, octets: &[u8]) {
        let frames = spool_frames::batches(octets);
        self.possible.extend(frames.map(|found| (found.key, found.payload.to_vec())));
        self.forgotten.extend(spool_frames::forgotten(octets));
    }

    fn enter(&mut self, seen: &mut Seen) {
        let rest = seen.octets.get(seen.entered..).unwrap_or_default();
        let mut end = 0;
        for found in spool_frames::batches(rest) {
            self.recorded.insert(found.key, found.payload.to_vec());
            self.possible.insert(found.key, found.payload.to_vec());
            end = found.end;
        }
        seen.entered += end;
    }

    /// Windows of all recorded batches.
    pub fn windows(&self) -> u64 {
        self.recorded.keys().map(|key| u64::from(key.windows)).sum()
    }

    /// The recorded batches as messages.
    ///
    /// # Errors
    /// When one is no `WindowBatch`.
    pub fn messages(&self) -> Result<Vec<(BatchKey, WindowBatch)>, prost::DecodeError> {
        let decode = |(key, payload): (&BatchKey, &Vec<u8>)| {
            WindowBatch::decode(payload.as_slice()).map(|message| (*key, message))
        };
        self.recorded.iter().map(decode).collect()
    }
}

impl Seen {
    fn write(&mut self, offset: u64, octets: &[u8]) {
        let Some(from) = usize::try_from(offset).ok().filter(|_| offset <= MOST_FILE) else {
            return;
        };
        let end = from + octets.len();
        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        self.octets[from..end].copy_from_slice(octets);
        self.entered = self.entered.min(from);
    }

    fn resize(&mut self, len: u64) {
        if let Some(len) = usize::try_from(len).ok().filter(|_| len <= MOST_FILE) {
            self.octets.resize(len, 0);
            self.entered = self.entered.min(len);
        }
    }
}

/// Whether what was written does not begin with a frame or segment, so that its beginning was written before.
fn record_is_rest(record: &Record<'_>) -> bool {
    !(record.rest.starts_with(b"\xf7rg\n") || record.rest.starts_with(b"RGSPOOL\n"))
}

#[cfg(test)]
mod tests;
