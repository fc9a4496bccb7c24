//! `railgauge ping`.

mod progress;
mod table;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use railgauge_agent::WaitMode;
use railgauge_agent::ping::{self, PingConfig, PingError, PingRun, WindowReport};
use railgauge_agent::target::Family;
use railgauge_core::histogram::log;
use railgauge_core::stamp::{self, Key};
use serde_json::json;

use crate::args::{Output, PingArgs, TimestampFormat, Transport};
use crate::fail_if::Judgement;
use crate::output::{self, say, sentence};
use crate::{Exit, stop};
use progress::ProgressLine;

/// How long to measure unless said otherwise.
const DURATION: Duration = Duration::from_secs(10);

/// The most samples kept for `--samples`: 64 octets each.
const MOST_SAMPLES: u64 = 50_000_000;

/// Runs the command.
pub fn run(args: PingArgs) -> Exit {
    let output = args.output;
    let fail = |text: String, exit| {
        failed(&args.target, output, &text);
        exit
    };
    let config = match config(&args) {
        Ok(config) => config,
        Err(text) => return fail(text, Exit::Usage),
    };
    let mut hlog = match args.hlog.as_deref().map(IntervalLog::create).transpose() {
        Ok(hlog) => hlog,
        Err(text) => return fail(text, Exit::Usage),
    };
    let stop = match stop::on_signal() {
        Ok(stop) => stop,
        Err(e) => return fail(format!("cannot listen for signals: {e}"), Exit::Unmeasured),
    };
    let line = ProgressLine::new(config.count);
    let run = ping::run(config, &stop, |window, progress| {
        line.update(progress);
        if let (Some(log), Some(window)) = (&mut hlog, window) {
            log.write(window);
        }
    });
    line.finish();
    match run {
        Ok(run) => {
            let written = finish_files(&run, hlog, args.samples.as_deref());
            let exit = show(&run, &args);
            written.map_or_else(
                |text| {
                    say(&text);
                    Exit::Unmeasured
                },
                |()| exit,
            )
        }
        Err(e) => {
            let exit = if PingError::is_usage(&e) { Exit::Usage } else { Exit::Unmeasured };
            fail(sentence(&e), exit)
        }
    }
}

/// Nothing could be measured: the sentence on stderr, and for programs the object that there is.
fn failed(target: &str, output: Output, text: &str) {
    if output == Output::Json {
        let version = railgauge_agent::VERSION;
        output::json(
            &json!({"schema": "railgauge/ping/v1", "version": version, "target": target, "error": text}),
        );
    }
    say(&format!("railgauge ping: {text}"));
}

fn config(args: &PingArgs) -> Result<PingConfig, String> {
    let key = args.auth_key_file.as_deref().map(|file| read_keys(file)).transpose()?;
    // With several keys in the file, while they rotate, the first is the new one.
    let key = key.and_then(|keys| keys.into_iter().next());
    let count =
        args.count.unwrap_or_else(|| slots(args.duration.unwrap_or(DURATION), args.interval));
    if args.samples.is_some() && count > MOST_SAMPLES {
        return Err(format!(
            "--samples keeps at most {MOST_SAMPLES} samples in memory, {count} were asked for: shorten the run"
        ));
    }
    Ok(PingConfig {
        target: args.target.clone(),
        family: match (args.v4, args.v6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        },
        transport: transport(args.transport),
        interval: args.interval,
        count,
        timeout: args.timeout,
        warmup: args.warmup,
        size: args.size,
        bare: args.bare,
        mode: if args.busy_poll { WaitMode::BusyPoll } else { WaitMode::Sleep },
        cpu: args.cpu,
        device: args.device.clone(),
        source: args.source,
        dscp: args.dscp,
        ttl: args.ttl,
        flows: args.flows,
        ssid: args.ssid,
        format: match args.timestamp_format {
            TimestampFormat::Ntp => stamp::TimestampFormat::Ntp,
            TimestampFormat::Ptp => stamp::TimestampFormat::Ptp,
        },
        key,
        keep_outcomes: args.samples.is_some(),
    })
}

pub(crate) const fn transport(typed: Transport) -> ping::Transport {
    match typed {
        Transport::Udp => ping::Transport::Udp,
        Transport::Tcp => ping::Transport::Tcp,
    }
}

/// Slots that begin within `duration`, at least one.
fn slots(duration: Duration, interval: Duration) -> u64 {
    let slots = duration.as_nanos().div_ceil(interval.as_nanos().max(1));
    u64::try_from(slots).unwrap_or(u64::MAX).max(1)
}

/// Reads keys: one a line, in hexadecimal; blank lines and lines that begin with `#` are skipped.
pub(crate) fn read_keys(file: &Path) -> Result<Vec<Key>, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| format!("cannot read the key file {shown}: {e}"))?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<Key> =
        lines.map(Key::from_hex).collect::<Result<_, _>>().map_err(|e| format!("{shown}: {e}"))?;
    if keys.is_empty() {
        return Err(format!(
            "{shown} holds no key: write one in hexadecimal, as from `openssl rand -hex 32`"
        ));
    }
    Ok(keys)
}

/// Prints the result; returns the exit code (contract: 0 with any reply, 1 when a condition holds, 3 without replies).
fn show(run: &PingRun, args: &PingArgs) -> Exit {
    let failure = run.failure();
    match args.output {
        Output::Json => output::json(&run.report()),
        Output::Table => output::result(&table::render(run)),
    }
    if let Some(failure) = failure {
        say(&format!("railgauge ping: {failure}"));
        return Exit::Unmeasured;
    }
    let judged = run.judge();
    let summary =
        |name: &str| judged.series.iter().find(|(n, ..)| *n == name).map(|(_, s, _)| s.clone());
    let mut exit = Exit::Healthy;
    for condition in &args.fail_if {
        let account = &run.end.account;
        match condition.judge(account.sent, account.lost, summary) {
            Judgement::Holds => {
                say(&format!("fail-if {} holds", condition.text()));
                exit = Exit::Degraded;
            }
            Judgement::Unknown => {
                say(&format!(
                    "fail-if {} cannot be known from {} replies",
                    condition.text(),
                    account.received
                ));
            }
            Judgement::Fine => {}
        }
    }
    exit
}

/// Writes the samples and closes the interval log.
fn finish_files(
    run: &PingRun,
    hlog: Option<IntervalLog>,
    samples: Option<&Path>,
) -> Result<(), String> {
    hlog.map_or(Ok(()), IntervalLog::finish)?;
    let Some(file) = samples else { return Ok(()) };
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(file)?);
        writeln!(out, "{}", ping::SAMPLES_HEADER)?;
        for outcome in &run.end.outcomes {
            writeln!(out, "{}", ping::sample_line(run, outcome))?;
        }
        out.flush()
    };
    write().map_err(|e| format!("cannot write the samples to {}: {e}", file.display()))
}

/// The interval log as it grows.
struct IntervalLog {
    path: String,
    out: BufWriter<File>,
    begun: bool,
    error: Option<io::Error>,
}

impl IntervalLog {
    /// Created before the first probe: a path that cannot be written should not cost a run.
    fn create(path: &Path) -> Result<Self, String> {
        let shown = path.display().to_string();
        let file = File::create(path)
            .map_err(|e| format!("cannot write the interval log {shown}: {e}"))?;
        Ok(Self { path: shown, out: BufWriter::new(file), begun: false, error: None })
    }

    fn write(&mut self, window: &WindowReport) {
        if let Err(e) = self.try_write(window) {
            self.error.get_or_insert(e);
        }
    }

    fn try_write(&mut self, window: &WindowReport) -> io::Result<()> {
        if !self.begun {
            write!(self.out, "{}", log::Header { start: window.run_started_at })?;
            self.begun = true;
        }
        let second = Duration::from_secs(1);
        let start = Duration::from_secs(window.index);
        let out = &mut self.out;
        let mut line = |tag: &str, window| {
            write!(out, "{}", log::Interval { tag, start, length: second, window })
        };
        if let [(_, parts)] = window.split.as_slice() {
            line("network_rtt", &parts.network_rtt)?;
            line("prober_delay", &parts.prober_delay)?;
            line("responder_delay", &parts.responder_delay)?;
        } else {
            // Different stamps are never merged (design D2): each combination gets its own tag.
            for (source, parts) in &window.split {
                line(&format!("network_rtt[{source}]"), &parts.network_rtt)?;
            }
        }
        line("app_rtt", &window.app_rtt)
    }

    fn finish(mut self) -> Result<(), String> {
        let result = self.error.take().map_or_else(|| self.out.flush(), Err);
        result.map_err(|e| format!("cannot write the interval log {}: {e}", self.path))
    }
}
