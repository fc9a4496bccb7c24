//! Sweeps that the coordinator knows: shown, listed, cancelled.

use railgauge_proto::v1::SweepEntry;
use serde::Serialize;

use super::files::ResultFiles;
use super::{SweepError, finish};
use crate::args::{CancelArgs, ListArgs, Output, ShowArgs};
use crate::columns::{Columns, ascii};
use crate::remote::{Remote, rfc3339};
use crate::{Exit, output};

/// Schemas of what is printed here.
pub(super) const LIST: &str = "railgauge/sweep-list/v1";
pub(super) const CANCEL: &str = "railgauge/sweep-cancel/v1";

pub(super) fn show(args: &ShowArgs) -> Result<Exit, SweepError> {
    let files = ResultFiles::open(&args.result)?;
    let remote = Remote::asked(&args.ask)?;
    match remote.sweep(&args.id)? {
        (Some(answer), _) => Ok(finish(files, &answer, args.ask.output)),
        (None, progress) => Err(SweepError::Runs {
            id: args.id.clone(),
            done: progress.done,
            measurements: progress.measurements,
        }),
    }
}

#[derive(Debug, Serialize)]
struct List {
    schema: &'static str,
    sweeps: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    id: String,
    started_at: Option<String>,
    running: bool,
    verdict: Option<String>,
}

impl From<SweepEntry> for Entry {
    fn from(entry: SweepEntry) -> Self {
        Self {
            id: entry.id,
            started_at: rfc3339(entry.started_at_unix_ns),
            running: entry.running,
            verdict: (!entry.verdict.is_empty()).then_some(entry.verdict),
        }
    }
}

pub(super) fn list(args: &ListArgs) -> Result<Exit, SweepError> {
    let sweeps = Remote::asked(&args.ask)?.sweeps()?;
    let list = List { schema: LIST, sweeps: sweeps.into_iter().map(Entry::from).collect() };
    if args.ask.output == Output::Json {
        return Ok(output::json(&list, Exit::Healthy));
    }
    if list.sweeps.is_empty() {
        let text = "no sweep was run yet: `railgauge sweep` runs one\n";
        return Ok(output::result(text, Exit::Healthy));
    }
    let mut columns = Columns::new(&["SWEEP", "STARTED", "VERDICT"]);
    for entry in list.sweeps {
        let over = entry.verdict.unwrap_or_else(|| "-".to_owned());
        let verdict = if entry.running { "runs".to_owned() } else { over };
        columns.row(vec![entry.id, entry.started_at.unwrap_or_else(|| "-".to_owned()), verdict]);
    }
    Ok(output::result(&columns.text(), Exit::Healthy))
}

#[derive(Debug, Serialize)]
struct Cancelled {
    schema: &'static str,
    cancelled: Vec<String>,
}

pub(super) fn cancel(args: &CancelArgs) -> Result<Exit, SweepError> {
    let remote = Remote::asked(&args.ask)?;
    let cancelled = remote.cancel(args.id.as_deref().unwrap_or_default())?;
    let done = Cancelled { schema: CANCEL, cancelled };
    if args.ask.output == Output::Json {
        return Ok(output::json(&done, Exit::Healthy));
    }
    let mut text = String::new();
    for id in &done.cancelled {
        let id = ascii(id);
        text += &format!("cancelled {id}: `railgauge sweep show {id}` has what it measured\n");
    }
    if done.cancelled.is_empty() {
        let which = if args.all { "no sweep runs" } else { "that sweep has ended" };
        text += &format!("nothing to cancel: {which}\n");
    }
    Ok(output::result(&text, Exit::Healthy))
}
