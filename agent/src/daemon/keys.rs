//! The keys that this node's reflector answers: taken from the coordinator, put to work at once, and kept in the state directory so
//! that an agent that starts again answers before it has a coordinator.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use railgauge_core::probe_keys::AcceptedKeys;
use railgauge_fabric::clock;
use railgauge_proto::v1;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::news::Said;
use crate::reflect::KeyRing;
use crate::spool::sync_directory;

/// The file in the state directory.
const FILE: &str = "probe_keys";

/// A disk that takes longer is not waited for: the reflector has the keys, and only a restart would miss them.
const DISK: Duration = Duration::from_secs(2);

/// The keys, their file, and the responder that answers them.
pub struct ReflectorKeys {
    accepted: AcceptedKeys,
    ring: KeyRing,
    path: PathBuf,
    /// What is being written.
    job: Option<(JoinHandle<io::Result<()>>, Instant)>,
    /// What is in memory is not in the file, nor on its way there.
    is_unwritten: bool,
    /// The coordinator has said on this stream what it gives.
    is_told: bool,
    /// The newest epoch that it gave; 0 before that.
    given: u64,
    /// The same, once it is kept.
    confirmed: u64,
    said: Said,
}

impl ReflectorKeys {
    /// Those of the file in `state_dir`, for the responder with this ring. A file that is damaged, or that others could read, is
    /// not used, and said: the coordinator gives its keys again.
    pub fn open(state_dir: &Path, ring: KeyRing) -> Self {
        let path = state_dir.join(FILE);
        let accepted = match read(&path) {
            Ok(accepted) => accepted,
            Err(why) => {
                tracing::error!(
                    "{} is not used: {why}; the coordinator gives new keys",
                    path.display()
                );
                AcceptedKeys::default()
            }
        };
        ring.set(accepted.keys());
        Self {
            accepted,
            ring,
            path,
            job: None,
            is_unwritten: false,
            is_told: false,
            given: 0,
            confirmed: 0,
            said: Said::default(),
        }
    }

    /// A new stream: nothing was given on it yet.
    pub const fn connected(&mut self) {
        (self.is_told, self.given, self.confirmed) = (false, 0, 0);
    }

    /// Takes what the coordinator gives.
    pub fn take(&mut self, from: &v1::ProbeKeys) {
        let (given, others) = from.read();
        if others > 0 && self.said.is_news("others") {
            tracing::error!("the coordinator gave {others} keys that are none");
        }
        self.accepted.take(given, from.forget_from_epoch, clock::monotonic());
        self.ring.set(self.accepted.keys());
        (self.is_told, self.given) = (true, self.accepted.newest_given());
        self.is_unwritten = true;
        self.write();
    }

    /// The coordinator has renewed them.
    pub fn renew(&mut self) {
        if self.accepted.renew(clock::monotonic()) {
            self.is_unwritten = true;
            self.write();
        }
    }

    /// Forgets what is good no more; to be called about twice a second.
    pub fn tick(&mut self) {
        if self.accepted.expire(clock::monotonic()) {
            tracing::warn!(
                "a key of this node's reflector is good no more: no coordinator has renewed it"
            );
            self.ring.set(self.accepted.keys());
            self.is_unwritten = true;
            self.write();
        }
    }

    /// The newest epoch that is answered here and kept, of those given on this stream.
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Whether all that the coordinator gave on this stream is confirmed; not before it has said anything.
    pub const fn are_settled(&self) -> bool {
        self.is_told && self.given == self.confirmed
    }

    /// Waits until what was taken is kept, so that [`confirmed`](Self::confirmed) has changed. For ever where nothing is to be kept.
    pub async fn kept(&mut self) {
        loop {
            let Some((job, since)) = &mut self.job else { return std::future::pending().await };
            let written = if self.confirmed == self.given {
                job.await
            } else {
                let Ok(written) = tokio::time::timeout_at(*since + DISK, job).await else {
                    self.confirmed = self.given;
                    return;
                };
                written
            };
            let written = written.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
            self.job = None;
            match written {
                Ok(()) => self.said.forget(),
                Err(error) => {
                    let text = format!("keys cannot be kept in {}: {error}", self.path.display());
                    if self.said.is_news(&text) {
                        tracing::error!("{text}; they are answered all the same, until a restart");
                    }
                }
            }
            if self.is_unwritten {
                self.write();
            } else if self.confirmed != self.given {
                self.confirmed = self.given;
                return;
            }
        }
    }

    fn write(&mut self) {
        if self.job.is_some() {
            // When that is done, this is next.
            return;
        }
        self.is_unwritten = false;
        let text = self.accepted.write(clock::monotonic(), clock::wall());
        let path = self.path.clone();
        let job = tokio::task::spawn_blocking(move || write(&path, &text));
        self.job = Some((job, Instant::now()));
    }
}

fn read(path: &Path) -> Result<AcceptedKeys, String> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AcceptedKeys::default()),
        found => found.map_err(|error| error.to_string())?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others may read it (mode {mode:04o})"));
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let read = AcceptedKeys::read(&text, clock::monotonic(), clock::wall());
    read.map_err(|error| error.to_string())
}

/// Whole or not at all, and for nobody else to read.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    // One that an earlier process left may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use railgauge_core::probe_keys::Secret;

    use super::*;

    fn given(epochs: &[u64], forget_from_epoch: u64) -> v1::ProbeKeys {
        let key = |epoch: &u64| v1::AcceptedProbeKey {
            key: Some(v1::ProbeKey::of(*epoch, &Secret::new([7; 32]))),
            valid_ns: 3_600_000_000_000,
        };
        v1::ProbeKeys { keys: epochs.iter().map(key).collect(), forget_from_epoch }
    }

    #[tokio::test]
    async fn keys_are_confirmed_once_kept_and_are_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = ReflectorKeys::open(dir.path(), KeyRing::default());
        keys.take(&given(&[5, 6], 0));
        assert_eq!(keys.confirmed(), 0);
        keys.kept().await;
        assert_eq!(keys.confirmed(), 6);
        let file = dir.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        keys.connected();
        assert_eq!(keys.confirmed(), 0, "nothing was given on this stream");
        keys.take(&given(&[6], 0));
        keys.take(&given(&[6, 7], 0));
        keys.kept().await;
        assert_eq!(keys.confirmed(), 7);
        let again = ReflectorKeys::open(dir.path(), KeyRing::default());
        assert_eq!(again.accepted.epochs().collect::<Vec<_>>(), [7, 6]);
        assert_eq!(again.confirmed(), 0);
    }

    #[tokio::test]
    async fn a_file_that_others_read_or_that_is_damaged_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let mut keys = ReflectorKeys::open(dir.path(), KeyRing::default());
        keys.take(&given(&[5], 0));
        keys.kept().await;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&file).unwrap_err().contains("others may read it (mode 0640)"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut text = fs::read(&file).unwrap();
        text[40] ^= 1;
        fs::write(&file, text).unwrap();
        assert!(read(&file).is_err());
        assert_eq!(
            ReflectorKeys::open(dir.path(), KeyRing::default()).accepted.epochs().count(),
            0
        );
    }

    #[tokio::test]
    async fn a_disk_that_refuses_does_not_keep_the_node_from_being_probed() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        let mut keys = ReflectorKeys::open(&nowhere, KeyRing::default());
        keys.take(&given(&[5], 0));
        keys.kept().await;
        assert_eq!(keys.confirmed(), 5);
    }
}
