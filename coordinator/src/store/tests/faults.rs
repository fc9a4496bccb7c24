//! A backend that fails when told.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// How many more operations that change the disk succeed; negative: none.
#[derive(Debug)]
pub(in super::super) struct Faults {
    pub(in super::super) left: AtomicI64,
}

impl Faults {
    pub(in super::super) fn never() -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(i64::MAX) })
    }

    fn check(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(28)),
        }
    }
}

#[derive(Debug)]
pub(in super::super) struct Faulty {
    file: FileBackend,
    faults: Arc<Faults>,
}

impl Faulty {
    pub(in super::super) fn open(path: &Path, faults: &Arc<Faults>) -> io::Result<Self> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let file = FileBackend::new(file).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { file, faults: Arc::clone(faults) })
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.check()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.check()?;
        self.file.write(offset, data)
    }
}
