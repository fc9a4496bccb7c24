//! The files beside a sweep's result.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use railgauge_report::doc::Sweep;
use railgauge_report::html;

use super::SweepError;
use super::diff::Diff;
use crate::args::ResultArgs;
use crate::remote::Answer;
use crate::report;

/// Files that were asked for, opened before the sweep: a path that cannot be written should not cost one.
pub(super) struct ResultFiles {
    /// The earlier sweep to compare with, and its file.
    pub(super) earlier: Option<(PathBuf, Sweep)>,
    report: Option<ResultFile>,
    save: Option<ResultFile>,
}

impl ResultFiles {
    pub(super) fn open(args: &ResultArgs) -> Result<Self, SweepError> {
        // Read first: --save may name the same file.
        let read = |path: &PathBuf| report::read(path).map(|sweep| (path.clone(), sweep));
        let earlier = args.diff.as_ref().map(read).transpose()?;
        let open = |path: &Option<PathBuf>| path.as_ref().map(ResultFile::open).transpose();
        Ok(Self { earlier, report: open(&args.report)?, save: open(&args.save)? })
    }

    /// Writes all; the first error, when every file has been tried.
    pub(super) fn write(self, answer: &Answer<Sweep>) -> Result<(), SweepError> {
        let saved = self.save.map_or(Ok(()), |file| file.write(&(answer.json.clone() + "\n")));
        let page = |file: ResultFile| file.write(&html::sweep_page(&answer.document));
        self.report.map_or(Ok(()), page).and(saved)
    }
}

/// A file that keeps what it holds until there is something to write.
struct ResultFile {
    path: PathBuf,
    file: File,
    /// It was not there before, so it goes when nothing was written.
    made: bool,
}

impl ResultFile {
    fn open(path: &PathBuf) -> Result<Self, SweepError> {
        let made = !path.exists();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let cannot = |source| SweepError::Write { path: path.clone(), source };
        Ok(Self { path: path.clone(), file: file.map_err(cannot)?, made })
    }

    fn write(mut self, text: &str) -> Result<(), SweepError> {
        self.made = false;
        // What is no file, as /dev/stderr, has no length.
        let regular = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        let cut = if regular { self.file.set_len(0) } else { Ok(()) };
        cut.and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|source| SweepError::Write { path: self.path.clone(), source })
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        if self.made {
            // Ours, and empty; when it cannot be removed it harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The sweep object with its comparison as a member `diff`. The object is the coordinator's own text, so nothing of it is lost.
pub(super) fn with_diff(json: &str, diff: Option<&Diff>) -> String {
    let member = diff.and_then(|diff| serde_json::to_string(diff).ok());
    match (member, json.strip_suffix('}')) {
        (Some(member), Some(open)) => format!("{},\"diff\":{member}}}", open.trim_end()),
        _ => json.to_owned(),
    }
}
