//! The agent's state directory: whose it is, that nobody else uses it, and the identity it gives the agent.
//!
//! ```text
//! DIRECTORY/lock       locked (flock) while an agent runs; its process id
//! DIRECTORY/identity   16 random octets in hexadecimal, made once
//! DIRECTORY/spool/     segments
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::segment::sync_directory;

/// Why the state directory cannot be used; each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Not there, and its parent is not either.
    #[error(
        "there is no {0}, nor the directory it would be made in: make it, or name another state directory"
    )]
    Missing(PathBuf),
    /// Something else has the name.
    #[error("{0} is not a directory: name another state directory")]
    NotADirectory(PathBuf),
    /// Its files would be mixed.
    #[error(
        "{path} belongs to user {owner} and this process runs as user {user}: run as that user, or name another state directory"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// Another agent runs with it.
    #[error(
        "{path} is in use by {holder}: stop that agent, or give this one a state directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds the lock, as far as known.
        holder: String,
    },
    /// No permission, or a read-only file system.
    #[error("{path} cannot be written: let this user write there, or name another state directory")]
    Unwritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDirectory {
    /// Where segments are.
    pub spool: PathBuf,
    pub identity: [u8; 16],
    /// There was none, or none that could be read.
    pub identity_made: bool,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is missing, locks it, and reads or makes its identity.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        make(path)?;
        let lock = lock(path)?;
        let spool = path.join("spool");
        make(&spool)?;
        let file = path.join("identity");
        let (identity, identity_made) = match read_identity(&file)? {
            Some(identity) => (identity, false),
            None => (make_identity(path, &file)?, true),
        };
        Ok(Self { spool, identity, identity_made, _lock: lock })
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DirectoryError::Unwritable { path: path.to_owned(), source }
        }
        _ => DirectoryError::Io { doing, path: path.to_owned(), source },
    }
}

/// Makes a directory that only we may enter, or checks the one that is there.
fn make(path: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            return sync_directory(parent).map_err(failed("sync", parent));
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DirectoryError::Missing(path.to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(DirectoryError::NotADirectory(path.to_owned()));
        }
        Err(error) => return Err(failed("make", path)(error)),
    }
    let found = fs::metadata(path).map_err(failed("look at", path))?;
    if !found.is_dir() {
        return Err(DirectoryError::NotADirectory(path.to_owned()));
    }
    // The owner of this entry is the effective user.
    let user =
        fs::metadata("/proc/self").map_err(failed("look at", Path::new("/proc/self")))?.uid();
    if found.uid() != user {
        return Err(DirectoryError::NotOurs { path: path.to_owned(), owner: found.uid(), user });
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(failed("close", path))?;
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let mut file = file.map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&file).take(32).read_to_string(&mut text);
            let holder = text.trim().parse::<u32>();
            let holder =
                holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            return Err(DirectoryError::InUse { path: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
    }
    // For people and for the sentence above: a full disk is no reason not to start.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// The identity in the file; none when there is no file or it holds something else.
fn read_identity(path: &Path) -> Result<Option<[u8; 16]>, DirectoryError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", path))?,
    };
    let mut octets = Vec::new();
    file.take(64).read_to_end(&mut octets).map_err(failed("read", path))?;
    let text = std::str::from_utf8(&octets).ok().map(str::trim_end);
    let text = text.filter(|text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()));
    let number = text.and_then(|text| u128::from_str_radix(text, 16).ok());
    Ok(number.map(u128::to_be_bytes))
}

/// Whole or not at all: a power cut must not leave half an identity.
fn make_identity(directory: &Path, path: &Path) -> Result<[u8; 16], DirectoryError> {
    let mut identity = [0; 16];
    getrandom::fill(&mut identity)
        .map_err(|error| failed("draw", path)(io::Error::other(error.to_string())))?;
    let new = directory.join("identity.new");
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut file = options.map_err(failed("make", &new))?;
    writeln!(file, "{:032x}", u128::from_be_bytes(identity)).map_err(failed("write", &new))?;
    file.sync_all().map_err(failed("sync", &new))?;
    fs::rename(&new, path).map_err(failed("rename", &new))?;
    sync_directory(directory).map_err(failed("sync", directory))?;
    Ok(identity)
}
