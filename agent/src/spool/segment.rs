//! The files of segments: their names, how they are read, made, and written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A segment's file is read up to here; we write none so long (one frame may go beyond the size at which a segment ends).
pub const MOST_READ: u64 = 32 << 20;

const PREFIX: &str = "segment-";
const SUFFIX: &str = ".log";

/// The file of a segment.
pub fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:016x}{SUFFIX}"))
}

/// Numbers of the segments in a directory, ascending. Other files are nobody's business here.
pub fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    // The last number leaves none for the next segment; it is not one of ours.
    (format!("{number:016x}") == digits && number < u64::MAX).then_some(number)
}

/// The octets of a segment up to [`MOST_READ`], and how many the file has.
pub fn read(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(MOST_READ).read_to_end(&mut bytes)?;
    let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Ok((bytes, len.max(read)))
}

/// Makes the entries of a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What did not work, and whether the file is still as it was.
#[derive(Debug)]
pub struct NotWritten {
    pub source: io::Error,
    /// The file ends where it did before. Otherwise it must not be written again.
    pub restored: bool,
}

/// The segment that is being written.
#[derive(Debug)]
pub struct Writer {
    pub number: u64,
    pub path: PathBuf,
    /// Octets of whole frames.
    pub len: u64,
    file: File,
}

impl Writer {
    /// Makes a segment with `head`; on its disk, with its name, when this returns. What could not be made is taken away again.
    pub fn create(directory: &Path, number: u64, head: &[u8]) -> io::Result<Self> {
        let path = path(directory, number);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let written = file
            .write_all_at(head, 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_directory(directory));
        if let Err(error) = written {
            // Either is enough: without a sound head it says nothing at the next opening.
            if fs::remove_file(&path).is_err() {
                let _ = file.set_len(0);
            }
            return Err(error);
        }
        Ok(Self { number, path, len: u64::try_from(head.len()).unwrap_or(u64::MAX), file })
    }

    /// Appends whole frames, not yet on disk. Gives where they begin.
    pub fn write(&mut self, frames: &[u8]) -> Result<u64, NotWritten> {
        if let Err(source) = self.file.write_all_at(frames, self.len) {
            return Err(NotWritten { source, restored: self.cut_back(self.len) });
        }
        let at = self.len;
        self.len += u64::try_from(frames.len()).unwrap_or(u64::MAX);
        Ok(at)
    }

    /// Waits until what was written is on disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes away what lies behind `len`; false when that does not work.
    pub fn cut_back(&mut self, len: u64) -> bool {
        self.len = len;
        self.file.set_len(len).is_ok()
    }

    /// Octets of the file behind its whole frames.
    pub fn excess(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.len().saturating_sub(self.len))
    }
}
