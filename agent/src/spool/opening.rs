//! Opening a spool: what the files say, and what of them can no longer be read.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::book::Book;
use super::directory::{DirectoryError, StateDirectory};
use super::frames::{self, FORMAT, Totals};
use super::{Limits, Spool, segment};

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory of segments cannot be read.
    #[error("cannot list the spool {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another version of the software wrote it.
    #[error(
        "{path} has spool format {found} and this agent knows {FORMAT}: run the version that wrote it, or move the spool directory away"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What its header says.
        found: u32,
    },
}

/// Octets of a segment that were damaged since it was last opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its file.
    pub path: PathBuf,
    /// How many.
    pub octets: u64,
}

/// What an opening found.
#[derive(Debug, Default)]
pub struct Opening {
    /// The state directory had no identity that could be read, and has a new one.
    pub identity_made: bool,
    /// Segments read.
    pub segments: usize,
    /// Damage not reported before.
    pub damage: Vec<Damage>,
    /// Files that could not be read at all; they are left as they are, and tried again at the next opening.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

impl Opening {
    /// Octets not reported as damaged before.
    pub fn octets_damaged(&self) -> u64 {
        self.damage.iter().map(|damage| damage.octets).sum()
    }
}

/// What was lost, a line each; nothing when nothing was.
impl fmt::Display for Opening {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let damage = self.damage.iter().map(|Damage { path, octets }| {
            format!(
                "{}: {octets} octets are damaged or incomplete and were skipped",
                path.display()
            )
        });
        let unreadable = self.unreadable.iter().map(|(path, error)| {
            format!("{}: cannot be read and is left alone: {error}", path.display())
        });
        let lines: Vec<String> = damage.chain(unreadable).collect();
        out.write_str(&lines.join("\n"))
    }
}

impl Spool {
    /// Opens the spool in a state directory, making both where they are missing.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds a later format. Damage is no error: it is reported, counted and skipped.
    pub fn open(directory: &Path, limits: Limits) -> Result<(Self, Opening), OpenError> {
        let home = StateDirectory::open(directory)?;
        let numbers = segment::list(&home.spool)
            .map_err(|source| OpenError::List { path: home.spool.clone(), source })?;
        let mut opening = Opening { identity_made: home.identity_made, ..Opening::default() };
        let next = numbers.last().map_or(1, |last| last + 1);
        let replayed = replay(&home.spool, &numbers, &mut opening)?;
        let Replayed { book, totals, anchor } = replayed;
        let next = next.max(totals.oldest);
        let mut spool = Self {
            home,
            limits,
            book,
            writer: None,
            next,
            anchor,
            withdrawn: Vec::new(),
            dead: Vec::new(),
        };
        spool.bury_before(totals.oldest);
        if !opening.damage.is_empty() {
            // Its count is kept at once: the damaged segment may be gone before anything else is recorded.
            spool.writer = spool.begin(0, u64::MAX).ok();
        }
        spool.sweep();
        Ok((spool, opening))
    }

    /// Deletes the segments that the totals declare gone, once it is certain that these totals are on disk: a crash may have left them in
    /// the page cache alone.
    fn bury_before(&mut self, oldest: u64) {
        let numbers = self.book.segments().map(|(number, _)| number);
        self.dead = numbers.filter(|number| *number < oldest).collect();
        for number in &self.dead {
            self.book.remove_segment(*number);
        }
        let directory = &self.home.spool;
        self.anchor = self.anchor.filter(|anchor| {
            let file = File::open(segment::path(directory, *anchor));
            let synced = file.and_then(|file| file.sync_all());
            synced.and_then(|()| segment::sync_directory(directory)).is_ok()
        });
        if self.anchor.is_some() {
            self.bury();
        }
    }
}

struct Replayed {
    book: Book,
    totals: Totals,
    anchor: Option<u64>,
}

fn replay(directory: &Path, numbers: &[u64], opening: &mut Opening) -> Result<Replayed, OpenError> {
    let mut replayed = Replayed { book: Book::default(), totals: Totals::default(), anchor: None };
    let mut damage = Vec::new();
    for &number in numbers {
        let path = segment::path(directory, number);
        let (bytes, len) = match segment::read(&path) {
            Ok(read) => read,
            Err(error) => {
                opening.unreadable.push((path, error));
                continue;
            }
        };
        let parsed = frames::parse(&bytes);
        if let Some(found) = parsed.format.filter(|format| *format != FORMAT) {
            return Err(OpenError::Format { path, found });
        }
        opening.segments += 1;
        if let Some(totals) = replayed.book.replay(number, len, &parsed) {
            replayed.totals = totals;
            replayed.anchor = Some(number);
        }
        // What lies beyond the octets read is nothing of ours.
        let unread = len - u64::try_from(bytes.len()).unwrap_or(len);
        let octets = u64::try_from(parsed.octets_damaged).unwrap_or(u64::MAX);
        damage.push((number, path, octets.saturating_add(unread)));
    }
    for (number, path, octets) in damage {
        let known = &replayed.totals.known_damage;
        let known = known.iter().find(|(segment, _)| *segment == number).map_or(0, |known| known.1);
        replayed.book.ignore(number, known);
        let octets = octets.saturating_sub(known);
        if octets > 0 && number >= replayed.totals.oldest {
            replayed.book.damaged(number, octets);
            opening.damage.push(Damage { path, octets });
        }
    }
    Ok(replayed)
}
