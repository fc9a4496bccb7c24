//! The audit log: who tried what, when, and whether they might; one JSON object a line.
//!
//! What is allowed is always written. Refusals cost who is refused nothing, so that a flood of them is written as its first hundreds
//! and a line with how many more there were.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
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

/// Refusals that are written at once, and how many more each second.
const REFUSALS: u32 = 500;
const REFUSALS_PER_SECOND: u32 = 50;

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
    written: Written,
    /// What may be written of refusals now, and since when.
    tokens: u32,
    filled_at: SystemTime,
    unsaid: u64,
    failing: bool,
}

fn open(path: &Path) -> Result<(File, u64), AuditError> {
    let failed = |source| AuditError::Write { file: path.to_owned(), source };
    let file =
        OpenOptions::new().create(true).append(true).mode(0o640).open(path).map_err(failed)?;
    let octets = file.metadata().map_err(failed)?.len();
    Ok((file, octets))
}

impl Audit {
    /// Goes on with the file, or begins it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let (file, octets) = open(path)?;
        Ok(Self(Arc::new(Mutex::new(Log {
            path: path.to_owned(),
            file,
            octets,
            written: Written::default(),
            tokens: REFUSALS,
            filled_at: now(),
            unsaid: 0,
            failing: false,
        }))))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A line is written or not: there is no half of one to find.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a decision.
    ///
    /// # Errors
    /// When it cannot be written; what was asked for had better not be done then, if it is more than reading.
    pub fn record(&self, decision: &Decision<'_>) -> Result<(), AuditError> {
        self.log().record(decision, now())
    }

    /// Opens the file anew, as after it was moved away.
    ///
    /// # Errors
    /// When it cannot be; then the old one is written to as before.
    pub fn reopen(&self) -> Result<(), AuditError> {
        let mut log = self.log();
        (log.file, log.octets) = open(&log.path)?;
        Ok(())
    }

    /// What has been written since the start.
    pub fn written(&self) -> Written {
        self.log().written
    }
}

impl Log {
    fn record(&mut self, decision: &Decision<'_>, now: SystemTime) -> Result<(), AuditError> {
        match decision.verdict {
            Verdict::Allowed => self.written.allowed += 1,
            Verdict::Refused => {
                self.written.refused += 1;
                self.written.handshakes += u64::from(decision.what == HANDSHAKE);
                if !self.has_token(now) {
                    self.written.unwritten += 1;
                    self.unsaid += 1;
                    return Ok(());
                }
            }
        }
        if self.unsaid > 0 {
            let detail = format!("{} more refusals", self.unsaid);
            let line = Line {
                at: at(now),
                verdict: Verdict::Refused,
                who: "several".to_owned(),
                peer: None,
                what: "several",
                detail: &detail,
            };
            self.write(&line)?;
            self.unsaid = 0;
        }
        self.write(&Line {
            at: at(now),
            verdict: decision.verdict,
            who: decision.peer.who.to_string(),
            peer: Some(decision.peer.address),
            what: decision.what,
            detail: decision.detail,
        })
    }

    fn has_token(&mut self, now: SystemTime) -> bool {
        let since = now.duration_since(self.filled_at).unwrap_or(Duration::from_secs(1));
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            let more = seconds.saturating_mul(REFUSALS_PER_SECOND);
            self.tokens = self.tokens.saturating_add(more).min(REFUSALS);
            self.filled_at = now;
        }
        let token = self.tokens > 0;
        self.tokens -= u32::from(token);
        token
    }

    fn write(&mut self, line: &Line<'_>) -> Result<(), AuditError> {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        let written = self.make_room().and_then(|()| self.file.write_all(&text));
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
        self.octets += text.len() as u64;
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.octets < LARGEST {
            return Ok(());
        }
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        std::fs::rename(&self.path, aside)?;
        (self.file, self.octets) =
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
mod tests {
    use super::*;

    fn peer() -> Peer {
        stranger(SocketAddr::from(([192, 0, 2, 1], 5)))
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn decision(peer: &Peer, verdict: Verdict) -> Decision<'_> {
        Decision { peer, what: "/metrics", verdict, detail: "a \"reason\"\n" }
    }

    #[test]
    fn a_decision_is_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
        audit.record(&decision(&peer(), Verdict::Refused)).unwrap();
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["verdict"], "refused");
        assert_eq!(lines[1]["who"], "unknown");
        assert_eq!(lines[1]["peer"], "192.0.2.1:5");
        assert_eq!(lines[1]["what"], "/metrics");
        assert_eq!(lines[1]["detail"], "a \"reason\"\n");
        assert!(lines[0]["at"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_what_is_allowed_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        audit.log().filled_at = begin;
        let peer = peer();
        for _ in 0..10_000 {
            audit.log().record(&decision(&peer, Verdict::Refused), begin).unwrap();
        }
        audit.log().record(&decision(&peer, Verdict::Allowed), begin).unwrap();
        let found = lines(&path);
        assert_eq!(found.len(), 502);
        assert_eq!(found[500]["detail"], "9500 more refusals");
        assert_eq!(found[501]["verdict"], "allowed");
        let later = begin + Duration::from_secs(1);
        audit.log().record(&decision(&peer, Verdict::Refused), later).unwrap();
        assert_eq!(lines(&path).len(), 503);
        let written =
            Written { allowed: 1, refused: 10_001, handshakes: 0, unwritten: 9_500, failed: 0 };
        assert_eq!(audit.written(), written);
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
        audit.log().octets = LARGEST;
        audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
        assert_eq!(lines(&path).len(), 1);
        assert_eq!(lines(&dir.path().join("audit.jsonl.1")).len(), 1);
    }

    #[test]
    fn where_it_cannot_be_written_that_is_an_error_and_counted() {
        let error = Audit::open(Path::new("/nowhere/audit.jsonl")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/audit.jsonl"));
        let audit = Audit::open(Path::new("/dev/full")).unwrap();
        assert!(audit.record(&decision(&peer(), Verdict::Allowed)).is_err());
        assert_eq!(audit.written().failed, 1);
    }
}
