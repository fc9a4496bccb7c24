//! The directory: which files there are, the few that are open, and those set aside.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use redb::Database;

use super::file::{self, Disk, FileError};
use super::name::{FileId, Level, minute_text};
use super::{Incident, OpenError};

/// Files kept open.
const OPEN: usize = 8;
/// How often a file that is being closed is tried.
const CLOSING: u32 = 10_000;
/// Incidents kept for the telling.
const INCIDENTS: usize = 1_000;

#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    disk: Disk,
    inner: Mutex<Inner>,
    /// Held as long as the store is open.
    _lock: File,
}

#[derive(Debug, Default)]
struct Inner {
    present: BTreeSet<FileId>,
    recent: VecDeque<(FileId, Arc<Database>)>,
    /// All that somebody still uses: a file must not be opened twice.
    used: HashMap<FileId, Weak<Database>>,
    /// Hours known to be closed: asking their files each time would open and close them, which writes.
    closed: BTreeSet<u32>,
    incidents: Vec<Incident>,
    /// Damage seen by readers, for the writer to act on.
    suspects: Vec<(FileId, String)>,
}

impl Files {
    /// Takes the directory for this process and looks at what is in it.
    pub(super) fn open(dir: &Path, disk: Disk) -> Result<Self, OpenError> {
        let at =
            |source: io::Error| OpenError::Directory { path: dir.display().to_string(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(at)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: dir.display().to_string() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(at(error)),
        }
        let mut inner = Inner::default();
        for entry in fs::read_dir(dir).map_err(at)? {
            let entry = entry.map_err(at)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".new") {
                fs::remove_file(entry.path()).map_err(at)?;
            }
            inner.present.extend(FileId::parse(&name));
        }
        Ok(Self { dir: dir.into(), disk, inner: Mutex::new(inner), _lock: lock })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// All files, in order of time.
    pub(super) fn present(&self) -> Vec<FileId> {
        self.inner().present.iter().copied().collect()
    }

    /// A file, where there is one.
    pub(super) fn get(&self, id: FileId) -> Result<Option<Arc<Database>>, FileError> {
        let mut inner = self.inner();
        if !inner.present.contains(&id) {
            return Ok(None);
        }
        if let Some(database) = inner.used.get(&id).and_then(Weak::upgrade) {
            inner.keep(id, &database);
            return Ok(Some(database));
        }
        let path = self.path(id);
        if let Err(error) = fs::metadata(&path)
            && error.kind() == io::ErrorKind::NotFound
        {
            return Err(FileError::Damaged("somebody deleted it".into()));
        }
        let database = Arc::new(self.open_file(&path)?);
        inner.keep(id, &database);
        Ok(Some(database))
    }

    /// A reader that was the last to use a file may be closing it at this very moment.
    fn open_file(&self, path: &Path) -> Result<Database, FileError> {
        for _ in 0..CLOSING {
            match file::open(path, &self.disk) {
                Err(FileError::Open) => std::thread::yield_now(),
                other => return other,
            }
        }
        file::open(path, &self.disk)
    }

    /// A file, made if need be. It gets its name when it is whole.
    pub(super) fn get_or_create(&self, id: FileId) -> Result<Arc<Database>, FileError> {
        if let Some(database) = self.get(id)? {
            return Ok(database);
        }
        let new = self.dir.join(format!("{id}.new"));
        let made = file::create(&new, &self.disk).and_then(|database| {
            fs::rename(&new, self.path(id))?;
            self.sync_dir()?;
            Ok(database)
        });
        let database =
            made.inspect_err(|_| drop(fs::remove_file(&new))).map_err(|error| match error {
                // A file that was never whole lost nothing.
                FileError::Damaged(what) => FileError::Io(io::Error::other(what)),
                other => other,
            });
        let database = match database {
            Ok(database) => Arc::new(database),
            Err(error) => {
                // Renamed, perhaps, and the directory not synced: without a window in it, it can go.
                drop(fs::remove_file(self.path(id)));
                return Err(error);
            }
        };
        let mut inner = self.inner();
        inner.present.insert(id);
        inner.keep(id, &database);
        Ok(database)
    }

    /// Whether an hour is known to be closed.
    pub(super) fn is_known_closed(&self, hour: u32) -> bool {
        self.inner().closed.contains(&hour)
    }

    /// Remembers that an hour is closed, until its file goes.
    pub(super) fn know_closed(&self, hour: u32) {
        self.inner().closed.insert(hour);
    }

    pub(super) fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Closes a file, so that the next use opens it anew: redb asks for it after any I/O error.
    pub(super) fn close(&self, id: FileId) {
        self.inner().forget(id);
    }

    /// Deletes a file.
    pub(super) fn delete(&self, id: FileId) -> io::Result<()> {
        let mut inner = self.inner();
        inner.forget(id);
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => inner.gone(id),
        }
        Ok(())
    }

    /// Notes damage, for the writer to act on: somebody may be writing to the file.
    pub(super) fn suspect(&self, id: FileId, reason: String) {
        self.inner().suspects.push((id, reason));
    }

    pub(super) fn take_suspects(&self) -> Vec<(FileId, String)> {
        std::mem::take(&mut self.inner().suspects)
    }

    /// Takes a damaged file out of use, under another name.
    pub(super) fn set_aside(&self, id: FileId, reason: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.forget(id);
        if !inner.present.contains(&id) {
            return Ok(());
        }
        let path = self.path(id);
        let octets = fs::metadata(&path).map_or(0, |meta| meta.len());
        let mut aside = (1u32..).map(|n| self.dir.join(format!("{id}.damaged-{n}")));
        let aside =
            aside.find(|aside| !aside.exists()).unwrap_or_else(|| path.with_extension("damaged"));
        match fs::rename(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        inner.gone(id);
        let incident = Incident {
            file: id.to_string(),
            set_aside_as: aside.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            level: id.level,
            from: minute_text(id.start),
            to: minute_text(id.end()),
            octets,
            reason: reason.into(),
        };
        drop(inner);
        self.report(incident);
        Ok(())
    }

    /// Tells of an incident.
    pub(super) fn report(&self, incident: Incident) {
        let Incident { file, set_aside_as, octets, reason, .. } = &incident;
        tracing::error!(
            file,
            set_aside_as,
            octets,
            reason,
            "a file of the store is damaged and was set aside: what it held is missing from what is shown, the rest goes on"
        );
        let mut inner = self.inner();
        if inner.incidents.len() < INCIDENTS {
            inner.incidents.push(incident);
        }
    }

    pub(super) fn incidents(&self) -> Vec<Incident> {
        self.inner().incidents.clone()
    }

    /// Octets on disk of everything in the directory.
    pub(super) fn octets(&self) -> io::Result<u64> {
        let mut octets = 0;
        for entry in fs::read_dir(&self.dir)? {
            octets += entry?.metadata().map_or(0, |meta| meta.blocks() * 512);
        }
        Ok(octets)
    }

    /// The files that were set aside, oldest hour first.
    pub(super) fn aside(&self) -> io::Result<Vec<(FileId, PathBuf)>> {
        let mut aside = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some((name, _)) = name.to_string_lossy().split_once(".damaged-") {
                aside.extend(FileId::parse(name).map(|id| (id, entry.path())));
            }
        }
        aside.sort();
        Ok(aside)
    }
}

impl Inner {
    fn keep(&mut self, id: FileId, database: &Arc<Database>) {
        self.recent.retain(|(other, _)| *other != id);
        self.recent.push_back((id, Arc::clone(database)));
        while self.recent.len() > OPEN {
            self.recent.pop_front();
        }
        self.used.retain(|_, used| used.strong_count() > 0);
        self.used.insert(id, Arc::downgrade(database));
    }

    fn gone(&mut self, id: FileId) {
        self.present.remove(&id);
        if id.level == Level::Hour {
            self.closed.remove(&id.start);
        }
    }

    fn forget(&mut self, id: FileId) {
        self.recent.retain(|(other, _)| *other != id);
        self.used.remove(&id);
    }
}
