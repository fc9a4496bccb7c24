//! The secrets in the state directory: `probe_keys`, for nobody else to read. Whoever has it can answer, and send, probes in anybody's
//! name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use railgauge_core::path::NodeName;
use railgauge_core::probe_keys::{self, Generation, KeyFile, SECRET_LEN, Secret};
use railgauge_core::time::Wall;

use crate::epoch::write_durably_for_us;

/// What it is called.
pub const NAME: &str = "probe_keys";
/// And the file that says who may probe with them.
const PROBERS: &str = "probe_key_holders";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file.
    #[error("cannot keep the keys of probes in {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever has read it can forge probes and replies.
    #[error(
        "{path} can be read by others (mode {mode:04o}): `chmod 600 {path}`, or remove it if somebody may have, and new keys \
         are made", path = path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Randomness.
    #[error("the kernel gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// What is in the file, nothing where there is none. One that is damaged is said and taken for none: reflectors keep the keys that they
/// have until their time is over, so that no probe is lost.
pub fn read(path: &Path) -> Result<KeyFile, KeysError> {
    let failed = |source| KeysError::Io { path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeyFile::default()),
        found => found.map_err(failed)?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Open { path: path.to_owned(), mode });
    }
    let text = fs::read(path).map_err(failed)?;
    Ok(KeyFile::read(&text).unwrap_or_else(|_| {
        tracing::error!("{} is damaged: new keys begin", path.display());
        KeyFile::default()
    }))
}

/// Writes it, whole and durably.
pub fn write(path: &Path, file: &KeyFile) -> Result<(), KeysError> {
    let written = write_durably_for_us(path, file.write().as_bytes());
    written.map_err(|source| KeysError::Io { path: path.to_owned(), source })
}

/// Who may probe with keys, as remembered; nothing where that cannot be known, as in the first start of all.
pub fn read_probers(state_dir: &Path) -> Option<BTreeMap<NodeName, Vec<u8>>> {
    let path = state_dir.join(PROBERS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("{}: {error}: keys of before are withdrawn later", path.display());
            return None;
        }
    };
    let probers = probe_keys::read_probers(&text);
    if probers.is_err() {
        tracing::warn!("{} is damaged: keys of before are withdrawn later", path.display());
    }
    probers.ok()
}

/// Writes who may, whole and durably.
///
/// # Errors
/// When it cannot be written.
pub fn write_probers(
    state_dir: &Path,
    probers: &BTreeMap<NodeName, Vec<u8>>,
) -> Result<(), KeysError> {
    let (path, text) = (state_dir.join(PROBERS), probe_keys::write_probers(probers));
    let written = write_durably_for_us(&path, text.as_bytes());
    written.map_err(|source| KeysError::Io { path, source })
}

/// A new one, later than all up to `last`: at least the time in seconds, so that epochs rise though the file be lost.
pub fn make(last: u64, now: Wall) -> Result<Generation, KeysError> {
    let mut octets = [0; SECRET_LEN];
    getrandom::fill(&mut octets).map_err(KeysError::Random)?;
    let made_unix_s = now.as_unix_nanos() / 1_000_000_000;
    let epoch = last.saturating_add(1).max(made_unix_s);
    Ok(Generation { epoch, made_unix_s, secret: Secret::new(octets) })
}
