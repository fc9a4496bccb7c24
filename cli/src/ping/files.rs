//! The files a run writes beside its result.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use railgauge_agent::ping::{self, PingRun, WindowReport};
use railgauge_core::histogram::log;

/// A file that results go to, made before the first probe: a path that cannot be written should not cost a run.
pub struct ResultFile {
    path: String,
    out: BufWriter<File>,
}

/// Creates the file.
pub fn create(path: &Path) -> Result<ResultFile, String> {
    let shown = path.display().to_string();
    match File::create(path) {
        Ok(file) => Ok(ResultFile { path: shown, out: BufWriter::new(file) }),
        Err(e) => Err(format!(
            "cannot write {shown}: create its directory, or name a file that this user may write: {e}"
        )),
    }
}

impl ResultFile {
    fn incomplete(&self, error: &io::Error) -> String {
        format!("{} is incomplete: make room there, or name a file elsewhere: {error}", self.path)
    }
}

/// Writes the samples and closes the interval log.
pub fn finish_files(
    run: &PingRun,
    hlog: Option<IntervalLog>,
    samples: Option<ResultFile>,
) -> Result<(), String> {
    hlog.map_or(Ok(()), IntervalLog::finish)?;
    let Some(mut samples) = samples else { return Ok(()) };
    let mut write = || -> io::Result<()> {
        writeln!(samples.out, "{}", ping::SAMPLES_HEADER)?;
        for outcome in &run.end.outcomes {
            writeln!(samples.out, "{}", ping::sample_line(run, outcome))?;
        }
        samples.out.flush()
    };
    write().map_err(|e| samples.incomplete(&e))
}

/// The interval log as it grows.
pub struct IntervalLog {
    file: ResultFile,
    begun: bool,
    error: Option<io::Error>,
}

impl IntervalLog {
    /// Creates the file; its header waits for the first window.
    pub fn create(path: &Path) -> Result<Self, String> {
        Ok(Self { file: create(path)?, begun: false, error: None })
    }

    /// Appends a window; what goes wrong is told at the end, since the measurement goes on.
    pub fn write(&mut self, window: &WindowReport) {
        if let Err(e) = self.try_write(window) {
            self.error.get_or_insert(e);
        }
    }

    fn try_write(&mut self, window: &WindowReport) -> io::Result<()> {
        if !self.begun {
            write!(self.file.out, "{}", log::Header { start: window.run_started_at })?;
            self.begun = true;
        }
        let second = Duration::from_secs(1);
        let start = Duration::from_secs(window.index);
        let out = &mut self.file.out;
        let mut line = |tag: &str, window| {
            write!(out, "{}", log::Interval { tag, start, length: second, window })
        };
        for (at, (source, parts)) in window.split.iter().enumerate() {
            // Different stamps are never merged (design D2): those that came later in the run have tags of their own.
            let tag =
                |name: &str| if at == 0 { name.to_owned() } else { format!("{name}[{source}]") };
            line(&tag("network_rtt"), &parts.network_rtt)?;
            line(&tag("prober_delay"), &parts.prober_delay)?;
            line(&tag("responder_delay"), &parts.responder_delay)?;
        }
        for (tag, extra) in &window.extras {
            line(tag, extra)?;
        }
        line("app_rtt", &window.app_rtt)
    }

    fn finish(mut self) -> Result<(), String> {
        let result = self.error.take().map_or_else(|| self.file.out.flush(), Err);
        result.map_err(|e| self.file.incomplete(&e))
    }
}
