//! Documents of finished sweeps, one file each: a restart does not lose them, and memory does not hold them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use railgauge_core::finding::Verdict;
use railgauge_core::time::Wall;
use railgauge_report::doc::Sweep;
use serde::Deserialize;

use crate::epoch::write_durably;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep finished sweeps in {}", path.display())]
pub struct KeptError {
    path: PathBuf,
    source: io::Error,
}

/// Where a document is.
#[derive(Clone, Debug)]
pub(super) enum Document {
    Disk(PathBuf),
    /// It could not be written.
    Memory(Arc<Vec<u8>>),
}

impl Document {
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Disk(path) => fs::read(path),
            Self::Memory(json) => Ok(json.to_vec()),
        }
    }
}

/// A sweep of an earlier process.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) started: Wall,
    pub(super) verdict: String,
    pub(super) document: Document,
}

/// What is looked at of a document.
#[derive(Deserialize)]
struct Head {
    schema: String,
    id: String,
    verdict: Verdict,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    /// Makes the directory where it is missing, and looks at what is there.
    pub(super) fn open(dir: PathBuf) -> Result<(Self, Vec<Found>), KeptError> {
        let failed = |source| KeptError { path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match look(&path) {
                    Ok(sweep) => found.push(sweep),
                    Err(why) => tracing::warn!("{} is skipped: {why}", path.display()),
                },
                // Of a process that was killed while it wrote.
                Some("new") => drop(fs::remove_file(&path)),
                _ => {}
            }
        }
        Ok((Self(dir), found))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Onto the disk; where that fails it stays in memory, and is lost with the process.
    pub(super) fn write(&self, id: &str, json: Vec<u8>) -> Document {
        let path = self.path(id);
        match write_durably(&path, &json) {
            Ok(()) => Document::Disk(path),
            Err(error) => {
                tracing::error!(
                    "the sweep {id} is kept in memory only: {}: {error}",
                    path.display()
                );
                Document::Memory(Arc::new(json))
            }
        }
    }

    pub(super) fn remove(&self, id: &str) {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("the old sweep {id} cannot be deleted: {error}");
            }
            _ => {}
        }
    }
}

fn look(path: &Path) -> Result<Found, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if head.schema != Sweep::SCHEMA {
        return Err(format!("its schema is {:?}, not {}", head.schema, Sweep::SCHEMA));
    }
    let is_named = path.file_stem().is_some_and(|stem| stem == head.id.as_str());
    let millis = head.id.strip_prefix('s').and_then(|millis| millis.parse::<u64>().ok());
    let Some(millis) = millis.filter(|_| is_named) else {
        return Err(format!("it names its sweep {:?}", head.id));
    };
    Ok(Found {
        started: Wall::from_unix_nanos(millis.saturating_mul(1_000_000)),
        verdict: head.verdict.as_str().to_owned(),
        document: Document::Disk(path.to_owned()),
        id: head.id,
    })
}
