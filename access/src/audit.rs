//! The audit log: who tried what, when, and whether they might; one JSON object a line.
//!
//! What changes something is always written. Refusals cost who is refused nothing, and reading costs who may read next to nothing, so that a flood
//! of either is written as its first hundreds or thousands and a line with how many more there were: else who has done something
//! could have the line about it pushed out of the file.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::connection::{Peer, Who};
use crate::now;

/// Beyond this the file is put aside as `NAME.1`, in place of the one before it.
const LARGEST: u64 = 64 << 20;

/// What was decided about a connection before anything was asked.
pub const HANDSHAKE: &str = "tls";

/// Refusals that are written at once, and reads: some for each agent of a large fleet that comes back.
const REFUSALS: u32 = 500;
const READS: u32 = 20_000;
/// How many more of either each second: some hundred MiB a day at most.
const MORE_PER_SECOND: u32 = 2;

/// Characters of what was asked for that are written, and of why not: who is refused chooses them.
const LONGEST: usize = 500;

/// Whether they might.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No.
    Refused,
}

/// One decision.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// Who, and from where.
    pub peer: &'a Peer,
    /// What: an RPC, a page, `tls`, or an action in words.
    pub what: &'a str,
    /// Whether they might.
    pub verdict: Verdict,
    /// With what, or why not.
    pub detail: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    verdict: Verdict,
    who: String,
    peer: Option<SocketAddr>,
    what: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// Why it cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error("cannot write the audit log {file}", file = .file.display())]
    Write {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Decisions for.
    pub allowed: u64,
    /// Decisions against.
    pub refused: u64,
    /// Of those, connections that did not get through the handshake.
    pub handshakes: u64,
    /// Refusals beyond what is written one by one.
    pub unwritten: u64,
    /// Reads beyond that.
    pub unwritten_reads: u64,
    /// Lines that the disk would not take.
    pub failed: u64,
}

/// The log. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    octets: u64,
    /// It ends within a line.
    is_torn: bool,
    written: Written,
    refusals: Bounded,
    reads: Bounded,
    failing: bool,
}

/// What is written as long as there is not too much of it.
#[derive(Debug)]
struct Bounded {
    most: u32,
    /// What may be written now, and since when.
    tokens: u32,
    filled_at: SystemTime,
    /// Beyond that, and not said yet.
    unsaid: u64,
}

impl Bounded {
    const fn new(most: u32, now: SystemTime) -> Self {
        Self { most, tokens: most, filled_at: now, unsaid: 0 }
    }

    /// Whether one more may be written.
    fn take(&mut self, now: SystemTime) -> bool {
        // A clock that was set back gives as much as a second.
        let since = now.duration_since(self.filled_at).unwrap_or(Duration::from_secs(1));
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            let more = seconds.saturating_mul(MORE_PER_SECOND);
            self.tokens = self.tokens.saturating_add(more).min(self.most);
            self.filled_at = now;
        }
        let token = self.tokens > 0;
        self.tokens -= u32::from(token);
        self.unsaid += u64::from(!token);
        token
    }
}

/// The file, how long it is, and whether it ends within a line, as after a loss of power.
fn open(path: &Path) -> Result<(File, u64, bool), AuditError> {
    let failed = |source| AuditError::Write { file: path.to_owned(), source };
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(failed)?;
    let octets = file.metadata().map_err(failed)?.len();
    let mut last = [b'\n'];
    if let Some(before) = octets.checked_sub(1) {
        file.read_exact_at(&mut last, before).map_err(failed)?;
    }
    Ok((file, octets, last != [b'\n']))
}

/// Characters that JSON leaves as they are and that command a terminal, end a line for some, or turn the order of what is shown.
const fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// As much of it as is written.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}... ({} octets)", &text[..end], text.len()).into(),
        None => text.into(),
    }
}

/// A line of JSON, in which whatever is deceptive is escaped.
fn json(line: &Line<'_>) -> String {
    let json = serde_json::to_string(line).unwrap_or_default();
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_deceptive(c) {
            // All of them are within strings, and of four digits.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

impl Audit {
    /// Goes on with the file, or begins it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let (file, octets, is_torn) = open(path)?;
        let now = now();
        Ok(Self(Arc::new(Mutex::new(Log {
            path: path.to_owned(),
            file,
            octets,
            is_torn,
            written: Written::default(),
            refusals: Bounded::new(REFUSALS, now),
            reads: Bounded::new(READS, now),
            failing: false,
        }))))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // What a panic left of a line is told by `is_torn`.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a decision.
    ///
    /// # Errors
    /// When it cannot be written; what was asked for had better not be done then, if it is more than reading.
    pub fn record(&self, decision: &Decision<'_>) -> Result<(), AuditError> {
        self.log().record(decision, false, now())
    }

    /// Writes a decision about what changes nothing, where there are not too many of them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record_read(&self, decision: &Decision<'_>) -> Result<(), AuditError> {
        self.log().record(decision, true, now())
    }

    /// Opens the file anew, as after it was moved away.
    ///
    /// # Errors
    /// When it cannot be; then the old one is written to as before.
    pub fn reopen(&self) -> Result<(), AuditError> {
        let mut log = self.log();
        (log.file, log.octets, log.is_torn) = open(&log.path)?;
        Ok(())
    }

    /// What has been written since the start.
    pub fn written(&self) -> Written {
        self.log().written
    }
}

impl Log {
    fn record(
        &mut self,
        decision: &Decision<'_>,
        is_read: bool,
        now: SystemTime,
    ) -> Result<(), AuditError> {
        match decision.verdict {
            Verdict::Allowed => {
                self.written.allowed += 1;
                if is_read && !self.reads.take(now) {
                    self.written.unwritten_reads += 1;
                    return Ok(());
                }
            }
            Verdict::Refused => {
                self.written.refused += 1;
                self.written.handshakes += u64::from(decision.what == HANDSHAKE);
                if !self.refusals.take(now) {
                    self.written.unwritten += 1;
                    return Ok(());
                }
            }
        }
        self.say_more(Verdict::Refused, now)?;
        self.say_more(Verdict::Allowed, now)?;
        self.write(&Line {
            at: at(now),
            verdict: decision.verdict,
            who: decision.peer.who.to_string(),
            peer: Some(decision.peer.address),
            what: &cut(decision.what),
            detail: &cut(decision.detail),
        })
    }

    /// How many there were that were not written.
    fn say_more(&mut self, verdict: Verdict, now: SystemTime) -> Result<(), AuditError> {
        let (bounded, what) = match verdict {
            Verdict::Refused => (&self.refusals, "refusals"),
            Verdict::Allowed => (&self.reads, "reads"),
        };
        if bounded.unsaid == 0 {
            return Ok(());
        }
        let detail = format!("{} more {what}", bounded.unsaid);
        let who = "several".to_owned();
        self.write(&Line {
            at: at(now),
            verdict,
            who,
            peer: None,
            what: "several",
            detail: &detail,
        })?;
        match verdict {
            Verdict::Refused => self.refusals.unsaid = 0,
            Verdict::Allowed => self.reads.unsaid = 0,
        }
        Ok(())
    }

    fn write(&mut self, line: &Line<'_>) -> Result<(), AuditError> {
        let text = json(line);
        let written = self.make_room().and_then(|()| self.append(text.as_bytes()));
        if let Err(source) = written {
            self.written.failed += 1;
            let error = AuditError::Write { file: self.path.clone(), source };
            if !self.failing {
                tracing::error!("{}", crate::sentence(&error));
            }
            self.failing = true;
            return Err(error);
        }
        self.failing = false;
        Ok(())
    }

    /// Writes a line whole, or takes back what a disk without room took of it: half a line would spoil the next one, too.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            (self.is_torn, self.octets) = (false, self.octets + 1);
        }
        let mut left = line;
        while !left.is_empty() {
            let error = match self.file.write(left) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(octets) => {
                    left = &left[octets..];
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let partly = (line.len() - left.len()) as u64;
            if partly > 0 {
                let whole = self.file.metadata().map(|file| file.len().saturating_sub(partly));
                self.is_torn = whole.and_then(|whole| self.file.set_len(whole)).is_err();
            }
            return Err(error);
        }
        self.octets += line.len() as u64;
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.octets < LARGEST {
            return Ok(());
        }
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        match std::fs::rename(&self.path, aside) {
            // Somebody else has put it aside, and not said so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        (self.file, self.octets, self.is_torn) =
            open(&self.path).map_err(|AuditError::Write { source, .. }| source)?;
        Ok(())
    }
}

fn at(now: SystemTime) -> String {
    jiff::Timestamp::try_from(now).map_or_else(|_| "?".to_owned(), |now| format!("{now:.3}"))
}

/// Somebody who did not get far enough to say who they are.
pub(crate) fn stranger(address: SocketAddr) -> Peer {
    Peer { address, who: Who::Stranger }
}

#[cfg(test)]
mod tests;
