//! The directory of one coordinator: there, writable, and nobody else's.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or written.
    #[error("cannot use the state directory {}: make it writable for this user, or set state_dir", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the state directory {} is in use by another coordinator: stop that one (`fuser {}/lock` names it), or set state_dir",
        path.display(), path.display()
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// Held as long as the process may write there; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct StateDirLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Makes the directory where it is missing, and takes it.
///
/// # Errors
/// When it cannot be written, or is another's.
pub fn take(path: &Path) -> Result<StateDirLock, StateDirError> {
    let failed = |source| StateDirError::Io { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(StateDirLock(file)),
        Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_one_coordinator() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path()).unwrap();
        assert!(take(dir.path()).unwrap_err().to_string().contains("in use by another"));
        drop(held);
        assert!(take(dir.path()).is_ok());
        assert!(take(Path::new("/proc/nowhere")).is_err());
    }
}
