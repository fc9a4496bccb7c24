//! `railgauge report`: the page of a saved sweep.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use railgauge_report::doc::{self, ReadError, Sweep};
use railgauge_report::html;

use crate::args::ReportArgs;
use crate::columns::ascii;
use crate::{Exit, output};

/// Why a file is no sweep.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}: name a file that `railgauge sweep --save` wrote")]
    Read {
        /// As typed.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} is no saved sweep: name a file that `railgauge sweep --save` wrote")]
    Document {
        /// As typed.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
}

/// Reads a saved sweep.
///
/// # Errors
/// When the file holds none.
pub(crate) fn read(path: &Path) -> Result<Sweep, FileError> {
    let bytes = fs::read(path).map_err(|source| FileError::Read { path: path.into(), source })?;
    doc::from_json(&bytes).map_err(|source| FileError::Document { path: path.into(), source })
}

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> Exit {
    let sweep = match read(&args.file) {
        Ok(sweep) => sweep,
        Err(error) => {
            output::say(&format!("railgauge report: {}", ascii(&output::sentence(&error))));
            return Exit::Usage;
        }
    };
    let page = html::sweep_page(&sweep);
    let Some(out) = &args.out else { return output::result(&page, Exit::Healthy) };
    let cannot = |error, exit| {
        output::say(&format!(
            "railgauge report: cannot write {}: create its directory, or name a file that this user may write: {error}",
            out.display()
        ));
        exit
    };
    let mut file = match fs::File::create(out) {
        Ok(file) => file,
        Err(error) => return cannot(error, Exit::Usage),
    };
    file.write_all(page.as_bytes())
        .map_or_else(|error| cannot(error, Exit::Unmeasured), |()| Exit::Healthy)
}
