//! `railgauge sweep`: the fleet measured on demand.

mod diff;
mod diff_text;
mod files;
mod live;
mod shown;
mod stored;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use railgauge_core::finding::Verdict;
use railgauge_core::path::{NameError, NodeName};
use railgauge_proto::v1::sweep_event::Event;
use railgauge_proto::v1::{StartSweepRequest, SweepAnnounced};
use railgauge_report::doc::Sweep;

use crate::args::{Output, SweepArgs, SweepCommand};
use crate::remote::{Answer, Remote, RemoteError, SweepEnd, refuse};
use crate::report::FileError;
use crate::{Exit, output, stop};
use files::ResultFiles;
pub use live::Live;
pub use table::table;

/// Why a sweep has no result.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot write {path}: create its directory, or name a file that this user may write")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {path}: name a file with one node's name a line")]
    Expect { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}")]
    Name { path: PathBuf, line: usize, source: NameError },
    #[error("{0} names no node: write one node's name a line")]
    NoName(PathBuf),
    #[error(
        "{path} is a sweep of suite {then:?}, which does not compare with {now}: ask for --suite {then}"
    )]
    OtherSuite { path: PathBuf, then: String, now: &'static str },
    #[error(
        "sweep {id} still runs, {done} of {measurements} measurements are done: ask again later"
    )]
    Runs { id: String, done: u32, measurements: u32 },
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
}

impl From<&SweepError> for Exit {
    fn from(error: &SweepError) -> Self {
        match error {
            SweepError::Remote(error) => Self::from(error),
            SweepError::Runs { .. } | SweepError::Signals(_) => Self::Unmeasured,
            _ => Self::Usage,
        }
    }
}

/// The exit code of a verdict (contract).
pub const fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Healthy => Exit::Healthy,
        Verdict::Degraded | Verdict::Failed => Exit::Degraded,
        Verdict::Unknown => Exit::Unmeasured,
    }
}

/// Runs the command.
pub(crate) fn run(args: &SweepArgs) -> Exit {
    let (done, output, schema) = match &args.command {
        None if args.dry_run || args.detach => {
            (announce(args), args.ask.output, shown::ANNOUNCEMENT)
        }
        None => (sweep(args), args.ask.output, Sweep::SCHEMA),
        Some(SweepCommand::Show(args)) => (stored::show(args), args.ask.output, Sweep::SCHEMA),
        Some(SweepCommand::List(args)) => (stored::list(args), args.ask.output, stored::LIST),
        Some(SweepCommand::Cancel(args)) => (stored::cancel(args), args.ask.output, stored::CANCEL),
    };
    done.unwrap_or_else(|error| refuse("sweep", schema, output, &error, Exit::from(&error)))
}

fn request(args: &SweepArgs) -> Result<StartSweepRequest, SweepError> {
    let expected = args.expect.as_deref().map_or_else(|| Ok(Vec::new()), expected)?;
    Ok(StartSweepRequest {
        suite: args.suite.as_str().to_owned(),
        nodes: args.nodes.clone(),
        max_rounds: args.rounds.unwrap_or(0),
        expected,
        dry_run: args.dry_run,
        detach: args.detach,
    })
}

/// Names of nodes, one a line; `#` begins a comment.
fn expected(path: &Path) -> Result<Vec<String>, SweepError> {
    let text = fs::read_to_string(path)
        .map_err(|source| SweepError::Expect { path: path.into(), source })?;
    let mut names = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        let wrong = |source| SweepError::Name { path: path.into(), line: number + 1, source };
        let name = NodeName::new(name).map_err(wrong)?.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { Err(SweepError::NoName(path.into())) } else { Ok(names) }
}

/// `--dry-run` and `--detach`: the announcement is the result.
fn announce(args: &SweepArgs) -> Result<Exit, SweepError> {
    let request = request(args)?;
    let remote = Remote::asked(&args.ask)?;
    let stop = stop::on_signal().map_err(SweepError::Signals)?;
    let mut announced = SweepAnnounced::default();
    let end = remote.run_sweep(request, &stop, |event| {
        if let Event::Announced(event) = event {
            announced.clone_from(event);
        }
    })?;
    Ok(match args.ask.output {
        Output::Json => output::json(&shown::Announcement::new(&announced), Exit::Healthy),
        Output::Table => {
            let mut text = shown::announcement(&announced);
            if let SweepEnd::Detached(id) = end {
                text += &shown::where_to_look(&id);
            }
            output::result(&text, Exit::Healthy)
        }
    })
}

/// Runs one and prints what came of it.
fn sweep(args: &SweepArgs) -> Result<Exit, SweepError> {
    let request = request(args)?;
    let files = ResultFiles::open(&args.result)?;
    if let Some((path, sweep)) = &files.earlier
        && sweep.suite != args.suite.as_str()
    {
        let (path, then) = (path.clone(), sweep.suite.clone());
        return Err(SweepError::OtherSuite { path, then, now: args.suite.as_str() });
    }
    let remote = Remote::asked(&args.ask)?;
    let stop = stop::on_signal().map_err(SweepError::Signals)?;
    let screen = Screen::new();
    let mut live = Live::default();
    let end = remote.run_sweep(request, &stop, |event| match event {
        Event::Announced(announced) => {
            output::say(shown::announcement(announced).trim_end());
        }
        event => {
            if live.line(event).is_some() {
                screen.shows(&live.screen());
            }
        }
    });
    screen.clear();
    match end? {
        SweepEnd::Finished(answer) => Ok(finish(files, &answer, args.ask.output)),
        // Neither was asked for.
        SweepEnd::Detached(_) | SweepEnd::Announced => Ok(Exit::Unmeasured),
    }
}

/// The result, on stdout and in files.
fn finish(files: ResultFiles, answer: &Answer<Sweep>, output: Output) -> Exit {
    let sweep = &answer.document;
    let mut exit = match exit_of(sweep.verdict) {
        // What ended early has not shown health.
        Exit::Healthy if sweep.error.is_some() => Exit::Unmeasured,
        exit => exit,
    };
    let earlier = files.earlier.as_ref();
    let diff = earlier.map(|(path, earlier)| (path.clone(), diff::Diff::of(earlier, sweep)));
    if let Err(error) = files.write(answer) {
        output::say(&format!("railgauge sweep: {}", output::sentence(&error)));
        exit = if exit == Exit::Healthy { Exit::Unmeasured } else { exit };
    }
    match output {
        Output::Json => {
            let diff = diff.as_ref().map(|(_, diff)| diff);
            output::result(&(files::with_diff(&answer.json, diff) + "\n"), exit)
        }
        Output::Table => {
            let mut text = table(sweep);
            if let Some((path, diff)) = diff {
                text += "\n";
                text += &diff_text::text(&path, &diff);
            }
            output::result(&text, exit)
        }
    }
}

/// Live lines on stderr, where that is a terminal.
struct Screen(ProgressBar);

impl Screen {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn shows(&self, text: &str) {
        self.0.set_message(text.to_owned());
        self.0.tick();
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_nodes_are_read_and_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            expected(&path).map_err(|error| output::sentence(&error))
        };
        let names = read("# rack 12\ngpu-01\n\n gpu-02 # new\ngpu-01\n").unwrap();
        assert_eq!(names, ["gpu-01", "gpu-02"]);
        let error = read("gpu-01\ngpu 02\n").unwrap_err();
        assert!(error.contains("nodes, line 2: \"gpu 02\" is no node name"), "{error}");
        assert!(read("# none\n").unwrap_err().ends_with("write one node's name a line"));
    }
}
