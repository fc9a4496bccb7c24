//! Recorded batches on disk until the coordinator has them: a bounded log of checked frames in segment files.
//!
//! *Recorded* means that [`Spool::append`] returned `Ok`: the frame is on the disk (`fdatasync`), its file's name too. The
//! spool is plain and synchronous, and every method may wait for the disk: share it behind a mutex and call it from threads that may wait,
//! never from an asynchronous task. `frames` has the format, `docs/adr/0005-spool.md` the reasons.
//!
//! When the bound is reached the oldest segment is given up. Its windows are counted in the totals with which the next segment
//! begins, and it is deleted once these are on disk; the same totals say that it is gone. So at every instant a crash finds
//! either no new totals and the old segment whole, or totals that count it and declare what is left of it void: nothing counts twice or comes back.
//!
//! After a failed `fdatasync` the kernel may have dropped what it could not write and call the next one a success. A file that it
//! failed on is never written again: the next append begins a new segment, whose first words withdraw the frame in doubt.

mod book;
mod directory;
pub mod frames;
mod opening;
mod segment;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use book::{Book, Entry, Place};
use directory::StateDirectory;
use railgauge_proto::MAX_MESSAGE;
use segment::Writer;

pub use directory::DirectoryError;
pub use frames::Key;
pub use opening::{Damage, OpenError, Opening};
pub(crate) use segment::sync_directory;

use frames::Frame;

/// How much a spool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of all segments. Acknowledgements may go beyond by one segment: refusing those would keep more, not less.
    pub most_bytes: u64,
    /// Octets after which a new segment begins: what is given up at once when the spool is full.
    pub segment_bytes: u64,
}

/// Seven hours of an agent with 64 paths of fresh samples in four series, at 10 KiB a second.
const DEFAULT_BYTES: u64 = 256 << 20;
/// Long enough that files are few, short enough that one lost or given up is minutes.
const MOST_SEGMENT_BYTES: u64 = 8 << 20;

impl Limits {
    /// A spool of at most so many octets, in segments of a sixteenth or 8 MiB.
    pub const fn of(most_bytes: u64) -> Self {
        let part = most_bytes / 16;
        let segment_bytes = if part < MOST_SEGMENT_BYTES { part } else { MOST_SEGMENT_BYTES };
        Self { most_bytes, segment_bytes }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(DEFAULT_BYTES)
    }
}

/// Why a batch is not recorded. The spool stays usable, and works again when the disk does.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The caller used a key twice.
    #[error("a batch with the key {0:?} is in the spool already")]
    Duplicate(Key),
    /// Longer than a message may be, or than the spool.
    #[error("a batch of {octets} octets does not fit: the longest has {most}")]
    TooLong {
        /// Of the payload.
        octets: usize,
        /// Allowed.
        most: u64,
    },
    /// No new segment could be made.
    #[error("cannot begin spool segment {path}")]
    Begin {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The frame could not be written.
    #[error("cannot write to spool segment {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The frame could not be brought to disk.
    #[error("cannot sync spool segment {path}")]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A pending batch could not be read, and no other could. It stays pending.
#[derive(Debug, thiserror::Error)]
#[error("cannot read spool segment {path}")]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// How far a reader has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(Place);

/// A batch that the coordinator has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its key.
    pub key: Key,
    /// As it was appended.
    pub payload: Vec<u8>,
    /// Where the next reading goes on.
    pub cursor: Cursor,
}

/// What the spool holds and has lost. But for the first three: since the state directory was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Windows pending.
    pub windows: u64,
    /// Batches pending.
    pub batches: usize,
    /// Octets of all segments.
    pub bytes: u64,
    /// Recorded windows dropped because the spool was full. A window whose acknowledgement was lost by a crash counts too.
    pub windows_dropped: u64,
    /// Recorded windows that the coordinator refused.
    pub windows_refused: u64,
    /// Octets of segments that could not be read.
    pub octets_damaged: u64,
}

/// The spool of one agent. Holds the lock of the state directory.
#[derive(Debug)]
pub struct Spool {
    home: StateDirectory,
    limits: Limits,
    book: Book,
    writer: Option<Writer>,
    /// Number of the next segment; a number is never used twice.
    next: u64,
    /// The last segment known to begin with sound totals: neither it nor a later one is deleted before another does.
    anchor: Option<u64>,
    /// Frames whose sync failed: they may be on disk or not, so the next segment says that they do not count.
    withdrawn: Vec<Key>,
    /// Given up, but still to be deleted.
    dead: Vec<u64>,
}

impl Spool {
    /// Random octets made with the state directory: tells a restart from a second machine of the same name.
    pub const fn identity(&self) -> [u8; 16] {
        self.home.identity
    }

    /// Octets of all segments at most.
    pub const fn most_bytes(&self) -> u64 {
        self.limits.most_bytes
    }

    /// What it holds and has lost.
    pub fn state(&self) -> State {
        State {
            windows: self.book.windows(),
            batches: self.book.batches(),
            bytes: self.book.bytes(),
            windows_dropped: self.book.windows_dropped,
            windows_refused: self.book.windows_refused,
            octets_damaged: self.book.octets_damaged,
        }
    }

    /// Records a batch: it is on disk when this returns `Ok`, and not recorded otherwise.
    ///
    /// # Errors
    /// When the disk refuses, or the batch breaks a rule; the caller counts its windows as unrecorded.
    pub fn append(&mut self, key: Key, payload: &[u8]) -> Result<(), AppendError> {
        if self.book.contains(key) {
            return Err(AppendError::Duplicate(key));
        }
        if payload.len() > MAX_MESSAGE {
            let most = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
            return Err(AppendError::TooLong { octets: payload.len(), most });
        }
        let mut frame = Vec::with_capacity(payload.len() + frames::FRAME_HEAD + frames::KEYED_LEN);
        frames::write(&Frame::Batch { key, payload }, &mut frame);
        let place = self.write(&frame, self.limits.most_bytes)?;
        self.sync(place, key)?;
        self.book.insert(place, Entry { key, len: frame.len() });
        Ok(())
    }

    /// Pending batches behind `after`, oldest first: as many as fit into `most_bytes` of payload, and one in any case. What turns out to be damaged
    /// is counted and left out; what cannot be read just now is left out and stays pending.
    ///
    /// # Errors
    /// When nothing could be read, though something is pending.
    pub fn pending(
        &mut self,
        after: Option<Cursor>,
        most_bytes: usize,
    ) -> Result<Vec<Pending>, ReadError> {
        let (mut batches, mut octets, mut failure) = (Vec::new(), 0, None);
        let (mut open, mut damaged) = (None, Vec::new());
        for (place, entry) in self.book.after(after.map(|cursor| cursor.0)) {
            if !batches.is_empty() && octets + entry.len > most_bytes {
                break;
            }
            match read_batch(&self.home, &mut open, place, entry) {
                Ok(Some(payload)) => {
                    octets += entry.len;
                    batches.push(Pending { key: entry.key, payload, cursor: Cursor(place) });
                }
                Ok(None) => damaged.push((place, entry)),
                Err(source) => {
                    let path = segment::path(&self.home.spool, place.segment);
                    failure.get_or_insert(ReadError { path, source });
                }
            }
        }
        for (place, entry) in damaged {
            self.book.forget(entry.key);
            self.book.damaged(place.segment, u64::try_from(entry.len).unwrap_or(u64::MAX));
        }
        match failure {
            Some(failure) if batches.is_empty() => Err(failure),
            _ => Ok(batches),
        }
    }

    /// The coordinator has these on its disk: forgets them. Keys that are not pending are ignored. Gives the windows forgotten.
    ///
    /// The note of it is not synced: a lost one means that a batch is sent again, and the coordinator knows its key.
    pub fn acknowledge(&mut self, keys: &[Key]) -> u64 {
        let (mut windows, mut forgotten) = (0, Vec::new());
        for key in keys {
            if let Some(place) = self.book.forget(*key) {
                windows += u64::from(key.windows);
                forgotten.push((place, *key));
            }
        }
        self.sweep();
        let mut note = Vec::new();
        for (place, key) in forgotten {
            // What was in a deleted segment cannot come back, so nothing need be said about it.
            if self.book.segments().any(|(number, _)| number == place.segment) {
                frames::write(&Frame::Forgotten(key), &mut note);
            }
        }
        self.note(&note);
        windows
    }

    /// The coordinator will never store this batch: forgets it and counts its windows. False when it is not pending.
    pub fn refuse(&mut self, key: Key) -> bool {
        let mut note = Vec::new();
        frames::write(&Frame::Refused(key), &mut note);
        // The note itself counts when it is read again, so a new segment must begin before the count rises. And that may give up this very batch.
        if self.book.contains(key) {
            let _ = self.room(note.len(), self.most_with_notes());
        }
        if self.book.forget(key).is_none() {
            return false;
        }
        self.note(&note);
        self.book.windows_refused =
            self.book.windows_refused.saturating_add(u64::from(key.windows));
        self.sweep();
        true
    }

    /// Brings the notes about acknowledgements to disk: worth its time before an orderly end.
    ///
    /// # Errors
    /// When the disk refuses. Nothing recorded is lost by that.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let synced = writer.sync();
        if synced.is_err() {
            self.abandon();
        }
        synced
    }

    /// Writes what may be lost.
    fn note(&mut self, frames: &[u8]) {
        if !frames.is_empty() {
            let _ = self.write(frames, self.most_with_notes());
        }
    }

    const fn most_with_notes(&self) -> u64 {
        self.limits.most_bytes.saturating_add(self.limits.segment_bytes)
    }

    /// A segment with room for `len` octets in a spool of at most `most`.
    fn room(&mut self, len: usize, most: u64) -> Result<&mut Writer, AppendError> {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let bytes = self.book.bytes().saturating_add(len);
        let segment_bytes = self.limits.segment_bytes;
        let fits =
            |writer: &Writer| writer.len.saturating_add(len) <= segment_bytes && bytes <= most;
        let writer = match self.writer.take().filter(fits) {
            Some(writer) => writer,
            None => self.begin(len, most)?,
        };
        Ok(self.writer.insert(writer))
    }

    /// Appends whole frames.
    fn write(&mut self, frames: &[u8], most: u64) -> Result<Place, AppendError> {
        let writer = self.room(frames.len(), most)?;
        let (number, path) = (writer.number, writer.path.clone());
        match writer.write(frames) {
            Ok(at) => {
                let len = writer.len;
                self.book.resize(number, len);
                Ok(Place { segment: number, at })
            }
            Err(failed) => {
                if !failed.restored {
                    self.abandon();
                }
                Err(AppendError::Write { path, source: failed.source })
            }
        }
    }

    /// Makes a segment with room for `len` octets, giving up the oldest segments where that is the only way.
    fn begin(&mut self, len: u64, most: u64) -> Result<Writer, AppendError> {
        let number = self.next;
        let all =
            u64::try_from(self.head(&[], number).len()).unwrap_or(u64::MAX).saturating_add(len);
        let rest = most.checked_sub(all).ok_or(AppendError::TooLong {
            octets: usize::try_from(len).unwrap_or(usize::MAX),
            most: most.saturating_sub(all - len),
        })?;
        let victims = self.book.victims(rest);
        let head = self.head(&victims, number);
        self.next += 1;
        let writer = Writer::create(&self.home.spool, number, &head).map_err(|source| {
            AppendError::Begin { path: segment::path(&self.home.spool, number), source }
        })?;
        self.withdrawn.clear();
        self.book.begin(number, writer.len);
        self.anchor = Some(number);
        for victim in victims {
            let dropped = self.book.remove_segment(victim);
            self.book.windows_dropped = self.book.windows_dropped.saturating_add(dropped);
            self.dead.push(victim);
        }
        self.bury();
        self.sweep();
        Ok(writer)
    }

    /// The first octets of segment `number`, with the totals as they are without `victims`.
    fn head(&self, victims: &[u64], number: u64) -> Vec<u8> {
        let mut head = frames::header().to_vec();
        let totals = Frame::Totals(self.book.totals_without(victims, number));
        frames::write(&totals, &mut head);
        frames::write(&totals, &mut head);
        for key in &self.withdrawn {
            frames::write(&Frame::Forgotten(*key), &mut head);
        }
        head
    }

    fn sync(&mut self, place: Place, key: Key) -> Result<(), AppendError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let Err(source) = writer.sync() else { return Ok(()) };
        let path = writer.path.clone();
        writer.cut_back(place.at);
        self.withdrawn.push(key);
        self.abandon();
        Err(AppendError::Sync { path, source })
    }

    /// Never writes the current segment again; what is recorded in it stays.
    fn abandon(&mut self) {
        if let Some(writer) = self.writer.take() {
            let excess = writer.excess();
            self.book.resize(writer.number, writer.len + excess);
            self.book.ignore(writer.number, excess);
        }
    }

    /// Deletes the oldest segments while nothing in them is pending. Only from the old end, so that the note about a batch outlives the batch.
    fn sweep(&mut self) {
        let Some(anchor) = self.anchor else { return };
        let oldest = self
            .book
            .segments()
            .take_while(|(number, segment)| *number < anchor && segment.batches == 0);
        let done: Vec<u64> = oldest.map(|(number, _)| number).collect();
        for number in done {
            if !delete(&self.home, number) {
                break;
            }
            self.book.remove_segment(number);
        }
    }

    /// Deletes what was given up. What resists is tried again with the next segment, and at the next opening.
    fn bury(&mut self) {
        let home = &self.home;
        self.dead.retain(|number| !delete(home, *number));
    }
}

fn delete(home: &StateDirectory, number: u64) -> bool {
    match fs::remove_file(segment::path(&home.spool, number)) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The payload of a batch; none when its frame is damaged. `open` keeps the file of the batch before.
fn read_batch(
    home: &StateDirectory,
    open: &mut Option<(u64, File)>,
    place: Place,
    entry: Entry,
) -> io::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; entry.len];
    let read = match open {
        Some((number, file)) if *number == place.segment => {
            file.read_exact_at(&mut frame, place.at)
        }
        _ => File::open(segment::path(&home.spool, place.segment)).and_then(|file| {
            let (_, file) = open.insert((place.segment, file));
            file.read_exact_at(&mut frame, place.at)
        }),
    };
    match read {
        Ok(()) => {}
        Err(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let found = frames::batch_in(&frame).filter(|(key, _)| *key == entry.key);
    Ok(found.map(|(_, payload)| payload.len()).map(|len| frame.split_off(frame.len() - len)))
}

#[cfg(test)]
mod tests;
