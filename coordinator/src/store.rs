//! The embedded store (design D8; why it is as it is: docs/adr/0006-store.md).
//!
//! **Files.** redb databases, one every five minutes for windows as they came, one an hour for their merges by minute and one an hour
//! for the merge of the hour. A file only ever grows, and is deleted as a whole: nothing is pruned inside. A window belongs
//! to the minute and the hour of its start.
//!
//! **Once.** At every instant one level stands for a minute: the hour file when its hour is closed, else the minute file when the minute is
//! rolled up, else the raw file. A window goes to the level that stands, with its key, in one durable transaction, and a unit changes its level
//! in one transaction. The finer files stay for as long as they are wanted and hold all that the coarser ones do, except
//! windows that came late, which only the level that stands has: a reader uses finer rows only where both count equally many windows.
//!
//! **Clocks.** Windows from a skewed clock are series of their own ([`Series::skewed`]): kept, counted, and not in joins unless asked for.
//!
//! **Errors.** Nothing is acknowledged that did not commit. After an I/O error the file is opened anew at the next use. A damaged
//! file is renamed, reported ([`Incident`]) and costs what it alone held; a file of a newer version is never touched.

mod file;
mod files;
mod maintain;
mod name;
mod read;
mod roll;
mod row;
mod seen;
mod state;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use railgauge_core::path_window::PathWindow;
use railgauge_core::time::Wall;
use railgauge_proto::convert;
use redb::ReadableTable as _;

pub use maintain::Progress;
pub use name::Level;
pub use read::{Reader, Resolution, Selection, SeriesWindows, Stored, Totals};
pub use row::{Counts, Series, readable, readable_content};

use file::{Disk, FileError, SCHEMA, Tables, View, unit, write};
use files::Files;
use name::{FileId, HOUR, minute_of};
use row::{
    batch_content, batch_key, batch_rows, counts_key, read_window, seal, unit_key, unseal,
    window_content,
};
use seen::{Range, Stored as Seen};
use state::{Found, State};

/// How far ahead of the coordinator's clock a window may begin.
const MOST_AHEAD_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// How the store is kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub dir: PathBuf,
    /// Octets on disk at most; the oldest hours go first.
    pub cap_octets: u64,
    /// How long windows are kept as they came.
    pub keep_raw: Duration,
    /// How long 1-minute merges are kept.
    pub keep_minutes: Duration,
    /// How long 1-hour merges are kept.
    pub keep_hours: Duration,
}

impl Config {
    /// 20 GiB; 15 minutes, 6 hours, 30 days.
    pub const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            cap_octets: 20 << 30,
            keep_raw: Duration::from_secs(15 * 60),
            keep_minutes: Duration::from_secs(6 * 3_600),
            keep_hours: Duration::from_secs(30 * 24 * 3_600),
        }
    }
}

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory.
    #[error("the store's directory {path} cannot be used")]
    Directory {
        /// As configured.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another coordinator.
    #[error("the store's directory {path} is in use by another process")]
    Locked {
        /// As configured.
        path: String,
    },
    /// A newer version wrote it.
    #[error(
        "the store in {path} has schema {found}, and this version knows schemas up to {SCHEMA}: start the version that wrote it, or another directory"
    )]
    Newer {
        /// The directory, or the file in it.
        path: String,
        /// As written there.
        found: u64,
    },
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file is damaged. It will be set aside; asked again, the rest answers.
    #[error("{file} is damaged and will be set aside: {reason}")]
    Damaged {
        /// Which.
        file: String,
        /// What contradicts itself.
        reason: String,
    },
    /// A file, or the directory, cannot be read or written.
    #[error("{file} cannot be used: {reason}")]
    Unusable {
        /// Which.
        file: String,
        /// What the system says.
        reason: String,
    },
}

/// A file that was damaged and set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What it was called.
    pub file: String,
    /// What it is called now.
    pub set_aside_as: String,
    /// What it held.
    pub level: Level,
    /// From when, RFC 3339.
    pub from: String,
    /// To when.
    pub to: String,
    /// Its size.
    pub octets: u64,
    /// What was wrong with it.
    pub reason: String,
}

/// A batch to be stored.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message, encoded.
    pub encoded: Vec<u8>,
    /// The message, checked.
    pub batch: convert::Batch,
    /// The agent's clock is known to be wrong.
    pub skewed: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On disk.
    Stored,
    /// On disk since earlier: to be acknowledged, and not counted again.
    Duplicate,
    /// Never to be stored, and why.
    Refused(String),
    /// Not stored now; to be tried again.
    Failed(String),
}

/// The store: one thread writes.
#[derive(Debug)]
pub struct Store {
    config: Config,
    files: Arc<Files>,
    tally: Arc<Tally>,
    state: State,
    /// The roll-up that is under way.
    roll: Option<roll::Roll>,
    /// Windows it reads in a step.
    roll_step: u64,
    /// When units last got windows, by file and unit: what still grows is not rolled up.
    touched: HashMap<(FileId, u32), u64>,
}

/// What the reader tells beside what is on disk.
#[derive(Debug, Default)]
struct Tally {
    duplicates: AtomicU64,
    refused: AtomicU64,
    state: std::sync::Mutex<State>,
}

impl Store {
    /// Opens the store, makes it if need be, sets damaged files aside.
    ///
    /// # Errors
    /// Where the directory cannot be used or is of a newer version.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_with(config, Disk::default())
    }

    fn open_with(config: Config, disk: Disk) -> Result<Self, OpenError> {
        let path = config.dir.display().to_string();
        let at = |source: io::Error| OpenError::Directory { path: path.clone(), source };
        let files = Files::open(&config.dir, disk)?;
        let state = match state::load(&config.dir).map_err(at)? {
            Found::State(state) if state.schema > SCHEMA => {
                return Err(OpenError::Newer { path, found: state.schema });
            }
            Found::State(state) => State { schema: SCHEMA, ..state },
            Found::Nothing => State { schema: SCHEMA, ..State::default() },
            Found::Damaged(reason) => {
                let octets =
                    std::fs::metadata(config.dir.join("state.json")).map_or(0, |m| m.len());
                let aside = state::set_aside(&config.dir).map_err(at)?;
                files.report(Incident {
                    file: "state.json".into(),
                    set_aside_as: aside,
                    level: Level::Hour,
                    from: String::new(),
                    to: String::new(),
                    octets,
                    reason,
                });
                State { schema: SCHEMA, ..State::default() }
            }
        };
        state::save(&config.dir, &state).map_err(at)?;
        for id in files.present() {
            if id.start < state.floor {
                files.delete(id).map_err(at)?;
                continue;
            }
            match file::guarded(|| files.get(id)) {
                Ok(_) => {}
                Err(FileError::Damaged(reason)) => files.set_aside(id, &reason).map_err(at)?,
                Err(FileError::Newer { found }) => {
                    return Err(OpenError::Newer { path: format!("{path}/{id}"), found });
                }
                Err(FileError::Io(error)) => return Err(at(error)),
                Err(error @ FileError::Open) => return Err(at(io::Error::other(error))),
            }
        }
        let tally = Arc::new(Tally::default());
        let mut store = Self {
            config,
            files: Arc::new(files),
            tally,
            state,
            roll: None,
            roll_step: roll::STEP,
            touched: HashMap::new(),
        };
        store.publish_state();
        Ok(store)
    }

    fn publish_state(&mut self) {
        let mut state = self.tally.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.clone_from(&self.state);
    }

    /// A handle for other threads to read with.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.files), Arc::clone(&self.tally))
    }

    /// Where the store is.
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Files set aside since it was opened.
    pub fn incidents(&self) -> Vec<Incident> {
        self.files.incidents()
    }

    /// Stores batches: one durable commit for each file they belong to. `now` is this coordinator's clock.
    pub fn ingest(&mut self, batches: &[Incoming], now: Wall) -> Vec<Outcome> {
        self.set_suspects_aside();
        let mut outcomes = vec![Outcome::Stored; batches.len()];
        let mut groups = BTreeMap::<FileId, Vec<usize>>::new();
        for (index, incoming) in batches.iter().enumerate() {
            if let Some(reason) = self.out_of_time(&incoming.batch, now) {
                outcomes[index] = Outcome::Refused(reason);
                continue;
            }
            match self.place(&incoming.batch) {
                Ok(Place::At(id)) => groups.entry(id).or_default().push(index),
                Ok(Place::Known(outcome)) => outcomes[index] = outcome,
                Err((id, error)) => outcomes[index] = Outcome::Failed(self.failed(id, error)),
            }
        }
        for (id, members) in groups {
            let written = self.write_group(id, batches, &members);
            match written {
                Ok(group) => {
                    for (index, outcome) in members.iter().zip(group) {
                        if outcome == Outcome::Stored {
                            self.note(id, &batches[*index].batch, now);
                        }
                        outcomes[*index] = outcome;
                    }
                }
                Err(error) => {
                    let reason = self.failed(id, error);
                    members.iter().for_each(|m| outcomes[*m] = Outcome::Failed(reason.clone()));
                }
            }
        }
        for (incoming, outcome) in batches.iter().zip(&outcomes) {
            let windows = incoming.batch.windows.len() as u64;
            match outcome {
                Outcome::Duplicate => self.tally.duplicates.fetch_add(windows, Ordering::Relaxed),
                Outcome::Refused(_) => self.tally.refused.fetch_add(windows, Ordering::Relaxed),
                Outcome::Stored | Outcome::Failed(_) => 0,
            };
        }
        outcomes
    }

    fn out_of_time(&self, batch: &convert::Batch, now: Wall) -> Option<String> {
        let (start, now) = (batch.start_unix_ns, now.as_unix_nanos());
        if start > now.saturating_add(MOST_AHEAD_NS) {
            let ahead = (start - now) / 1_000_000_000;
            return Some(format!("its windows begin {ahead} s from now, more than a day ahead"));
        }
        let minute = minute_of(start);
        let end = u64::from(FileId::of(Level::Hour, minute).end()) * name::MINUTE_NS;
        let keep = u64::try_from(self.config.keep_hours.as_nanos()).unwrap_or(u64::MAX);
        if end.saturating_add(keep) <= now {
            let days = self.config.keep_hours.as_secs() / 86_400;
            return Some(format!("its windows are older than the {days} days that are kept"));
        }
        if minute < self.state.floor {
            let floor = name::minute_text(self.state.floor);
            return Some(format!(
                "its windows are older than what there is room for, from {floor} on"
            ));
        }
        None
    }

    /// The file that stands for the minute of a batch, unless the batch is known already.
    fn place(&self, batch: &convert::Batch) -> Result<Place, (FileId, FileError)> {
        let minute = minute_of(batch.start_unix_ns);
        let range = range_of(batch);
        let mut stands = FileId::of(Level::Raw, minute);
        for level in [Level::Raw, Level::Minute, Level::Hour] {
            let id = FileId::of(level, minute);
            let at = |error| (id, error);
            let Some(database) = self.files.get(id).map_err(at)? else { continue };
            let looked = file::guarded(|| {
                let view = View::of(id, &database)?;
                let counted = if level == Level::Hour { minute - minute % HOUR } else { minute };
                let stands = level != Level::Raw && unit(&view.units, counted)?.is_some();
                Ok((stands, range.stored(&view.seen)?))
            });
            let (this, seen) = looked.map_err(at)?;
            if this {
                stands = id;
            }
            // Raw files and unfinished roll-ups hold keys that the level above has too, or will.
            if let Some(known) = known(batch, seen) {
                return Ok(Place::Known(known));
            }
        }
        Ok(Place::At(stands))
    }

    fn write_group(
        &self,
        id: FileId,
        batches: &[Incoming],
        members: &[usize],
    ) -> Result<Vec<Outcome>, FileError> {
        let database = self.files.get_or_create(id)?;
        file::guarded(|| {
            write(&database, |tables| {
                let mut outcomes = Vec::with_capacity(members.len());
                for index in members {
                    outcomes.push(insert(tables, id.level, &batches[*index])?);
                }
                Ok(outcomes)
            })
        })
    }

    /// Remembers what a stored batch means for roll-ups.
    fn note(&mut self, id: FileId, batch: &convert::Batch, now: Wall) {
        let minute = minute_of(batch.start_unix_ns);
        let touched = match id.level {
            Level::Raw => minute,
            Level::Minute => id.start,
            Level::Hour => return,
        };
        self.touched.insert((id, touched), now.as_unix_nanos());
        if let Some(roll) = &mut self.roll {
            roll.redo(id, touched, batch.agent.as_str());
        }
    }

    /// Acts on an error of a file, and says it.
    fn failed(&self, id: FileId, error: FileError) -> String {
        self.files.close(id);
        let text = format!("{id}: {error}");
        if let FileError::Damaged(reason) = error
            && let Err(error) = self.files.set_aside(id, &reason)
        {
            tracing::error!(%id, %error, "a damaged file of the store cannot be set aside");
        }
        text
    }

    fn set_suspects_aside(&mut self) {
        for (id, reason) in self.files.take_suspects() {
            // A reader may have seen the file that had this name before.
            let name = id.to_string();
            let is_new = self.files.incidents().iter().any(|incident| incident.file == name);
            if is_new && self.is_whole(id) {
                continue;
            }
            self.roll = None;
            self.failed(id, FileError::Damaged(reason));
        }
    }

    fn is_whole(&self, id: FileId) -> bool {
        let verified = file::guarded(|| match self.files.get(id)? {
            Some(database) => View::of(id, &database)?.verify(),
            None => Ok(()),
        });
        verified.is_ok()
    }
}

/// Where a batch goes.
enum Place {
    At(FileId),
    Known(Outcome),
}

fn range_of(batch: &convert::Batch) -> Range<'_> {
    Range {
        agent: batch.agent.as_str(),
        instance: batch.instance,
        first: batch.first_sequence,
        end: batch.first_sequence.saturating_add(batch.windows.len() as u64),
    }
}

fn known(batch: &convert::Batch, seen: Seen) -> Option<Outcome> {
    match seen {
        Seen::Nothing => None,
        Seen::All => Some(Outcome::Duplicate),
        Seen::Some => {
            let Range { agent, instance, first, end } = range_of(batch);
            Some(Outcome::Refused(format!(
                "some of the windows {first} to {} of {agent}'s instance {instance:016x} are stored, and came with others",
                end - 1
            )))
        }
    }
}

/// Stores one batch in the file that stands for it.
fn insert(
    tables: &mut Tables<'_>,
    level: Level,
    incoming: &Incoming,
) -> Result<Outcome, FileError> {
    let batch = &incoming.batch;
    let range = range_of(batch);
    if let Some(known) = known(batch, range.stored(&tables.seen)?) {
        return Ok(known);
    }
    let minute = minute_of(batch.start_unix_ns);
    let counted = if level == Level::Hour { minute - minute % HOUR } else { minute };
    range.insert(&mut tables.seen)?;
    let agent = batch.agent.as_str();
    tables.add_counts(&counts_key(counted, agent), &Counts::of_batch(batch))?;
    let windows = unit(&tables.units, counted)?.unwrap_or(0) + batch.windows.len() as u64;
    tables.set_unit(counted, windows)?;
    if level == Level::Raw {
        let key = batch_key(minute, agent, batch.instance, batch.first_sequence);
        let content = batch_content(incoming.skewed, &incoming.encoded);
        for (key, value) in batch_rows(&key, &content) {
            tables.rows.insert(key.as_slice(), value.as_slice())?;
        }
        return Ok(Outcome::Stored);
    }
    for (path, window) in &batch.windows {
        let path = batch.paths[*path].clone();
        let series = Series { path, parameters: window.parameters, skewed: incoming.skewed };
        let key = [unit_key(counted).as_slice(), &series.key()].concat();
        let before = match tables.rows.get(key.as_slice())? {
            Some(value) => Some(read_window(unseal(&key, value.value())?)?),
            None => None,
        };
        let merged = before.map_or_else(|| window.clone(), |before| joined(before, window));
        let content = window_content(&merged);
        tables.rows.insert(key.as_slice(), seal(&key, &content).as_slice())?;
    }
    Ok(Outcome::Stored)
}

fn joined(mut one: PathWindow, other: &PathWindow) -> PathWindow {
    one.merge(other);
    one
}
