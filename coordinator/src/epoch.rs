//! The number of the last plan handed out, kept over restarts: an agent ignores a plan older than its own, so a number that
//! went back would leave the fleet on an old plan.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use railgauge_core::time::Wall;

/// Why no epoch can be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the plan's epoch in {}", path.display())]
pub struct EpochError {
    path: PathBuf,
    source: io::Error,
}

/// The file, open for one process (the lock on the state directory sees to that).
#[derive(Debug)]
pub struct Epochs {
    path: PathBuf,
    last: u64,
}

impl Epochs {
    /// Reads the last epoch. A file that is lost or damaged does no harm, as epochs are not below the time in seconds.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn open(state_dir: &Path) -> Result<Self, EpochError> {
        let path = state_dir.join("epoch");
        let last = match fs::read(&path) {
            Ok(text) => {
                let number = String::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
                if number.is_none() {
                    tracing::warn!("{} is damaged: epochs go on from the time", path.display());
                }
                number.unwrap_or(0)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(EpochError { path, source }),
        };
        Ok(Self { path, last })
    }

    /// The next epoch, on the disk before it is returned: one more than the last, and at least the time in seconds.
    ///
    /// # Errors
    /// When it cannot be written: then it must not be used.
    pub fn advance(&mut self, now: Wall) -> Result<u64, EpochError> {
        let next = self.last.saturating_add(1).max(now.as_unix_nanos() / 1_000_000_000);
        write_durably(&self.path, next.to_string().as_bytes())
            .map_err(|source| EpochError { path: self.path.clone(), source })?;
        self.last = next;
        Ok(next)
    }
}

/// Writes a file so that after a crash it is the old or the new one, whole.
///
/// # Errors
/// Those of the file system.
pub fn write_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_as(path, contents, 0o666)
}

/// The same, for nobody else to read.
///
/// # Errors
/// Those of the file system.
pub fn write_durably_for_us(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_as(path, contents, 0o600)
}

fn write_as(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // One that an earlier process left may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_rise_over_restarts_and_without_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (early, late) = (Wall::from_unix_nanos(0), Wall::from_unix_nanos(9_000_000_000));
        let mut first = Epochs::open(dir.path()).unwrap();
        assert_eq!((first.advance(early).unwrap(), first.advance(early).unwrap()), (1, 2));
        assert_eq!(Epochs::open(dir.path()).unwrap().advance(early).unwrap(), 3);
        fs::write(dir.path().join("epoch"), "x").unwrap();
        assert_eq!(Epochs::open(dir.path()).unwrap().advance(late).unwrap(), 9);
        assert_eq!(Epochs::open(dir.path()).unwrap().advance(early).unwrap(), 10);
    }
}
