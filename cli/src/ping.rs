//! `railgauge ping`.

mod files;
mod progress;
mod rdma;
mod table;

use std::io;
use std::path::Path;
use std::time::Duration;

use railgauge_agent::WaitMode;
use railgauge_agent::ping::report::Judged;
use railgauge_agent::ping::{self, PingConfig, PingError, PingRun};
use railgauge_agent::target::Family;
use railgauge_core::stamp::{self, Key};
use serde_json::json;

use crate::args::{Output, PingArgs, TimestampFormat, Transport};
use crate::fail_if::{FailIf, Judgement};
use crate::output::{self, say, sentence};
use crate::{Exit, stop};
use files::{IntervalLog, create, finish_files};
use progress::ProgressLine;

/// How long to measure unless said otherwise.
const DURATION: Duration = Duration::from_secs(10);

/// Least octets of a STAMP packet's payload: the base packet.
const STAMP_SIZE: usize = 44;

/// The most samples kept for `--samples`: 64 octets each.
const MOST_SAMPLES: u64 = 50_000_000;

/// Runs the command.
pub fn run(args: PingArgs) -> Exit {
    let fail = |text: String, exit| failed(&args, &text, exit);
    let config = match config(&args) {
        Ok(config) => config,
        Err(text) => return fail(text, Exit::Usage),
    };
    let mut hlog = match args.hlog.as_deref().map(IntervalLog::create).transpose() {
        Ok(hlog) => hlog,
        Err(text) => return fail(text, Exit::Usage),
    };
    let samples = match args.samples.as_deref().map(create).transpose() {
        Ok(samples) => samples,
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
            let written = finish_files(&run, hlog, samples);
            show(&run, &args, written.err())
        }
        Err(e) => {
            let exit = if PingError::is_usage(&e) { Exit::Usage } else { Exit::Unmeasured };
            fail(sentence(&e), exit)
        }
    }
}

/// Nothing could be measured: the sentence on stderr, and for programs the object that there is.
fn failed(args: &PingArgs, text: &str, exit: Exit) -> Exit {
    let exit = match args.output {
        Output::Json => {
            let (version, target) = (railgauge_agent::VERSION, &args.target);
            let object = json!({"schema": "railgauge/ping/v1", "version": version, "target": target, "error": text});
            output::json(&object, exit)
        }
        Output::Table => exit,
    };
    say(&format!("railgauge ping: {text}"));
    exit
}

fn config(args: &PingArgs) -> Result<PingConfig, String> {
    let key = args.auth_key_file.as_deref().map(read_keys).transpose()?;
    // With several keys in the file, while they rotate, the first is the new one.
    let key = key.and_then(|keys| keys.into_iter().next());
    match args.transport {
        Transport::Tcp => only_for_udp(args)?,
        Transport::Udp | Transport::RdmaUd | Transport::RdmaRc => {}
    }
    rdma::check(args)?;
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
        size: args.size.unwrap_or(STAMP_SIZE),
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
        exchange_from: None,
        rdma: rdma::config(args)?,
    })
}

/// What the `tcp` transport cannot do is refused: a flag that is not obeyed makes the result a lie.
fn only_for_udp(args: &PingArgs) -> Result<(), String> {
    let typed = [
        ("--source", args.source.is_some()),
        ("--dscp", args.dscp != 0),
        ("--ttl", args.ttl != 255),
    ];
    typed.iter().find(|(_, is)| *is).map_or(Ok(()), |(flag, _)| {
        Err(format!("{flag} works with --transport udp only: leave it out, or measure by udp"))
    })
}

pub(crate) const fn transport(typed: Transport) -> ping::Transport {
    match typed {
        Transport::Udp => ping::Transport::Udp,
        Transport::Tcp => ping::Transport::Tcp,
        Transport::RdmaUd => ping::Transport::RdmaUd,
        Transport::RdmaRc => ping::Transport::RdmaRc,
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
        .map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => format!(
                "the key file {shown} is no text: write the key in hexadecimal, as from `openssl rand -hex 32`"
            ),
            _ => format!("cannot read the key file {shown}: check its path and permissions: {e}"),
        })?;
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
///
/// `unwritten` is why a file that was asked for is not complete: the run counts as failed, with its numbers shown.
fn show(run: &PingRun, args: &PingArgs, unwritten: Option<String>) -> Exit {
    let judged = run.judge();
    let mut report = run.report();
    let failures: Vec<String> = report.error.into_iter().chain(unwritten).collect();
    report.error = failures.first().cloned();
    let (exit, said) = if failures.is_empty() {
        conditions(run, &judged, &args.fail_if)
    } else {
        (Exit::Unmeasured, failures)
    };
    let exit = match args.output {
        Output::Json => output::json(&report, exit),
        Output::Table => output::result(&table::render(&report, &judged), exit),
    };
    said.iter().for_each(|text| say(&format!("railgauge ping: {text}")));
    exit
}

/// Judges the conditions: the exit code, and which hold or cannot be known.
fn conditions(run: &PingRun, judged: &Judged, conditions: &[FailIf]) -> (Exit, Vec<String>) {
    let account = &run.end.account;
    let summary =
        |name: &str| judged.series.iter().find(|(n, ..)| *n == name).map(|(_, s, _)| s.clone());
    let (mut exit, mut said) = (Exit::Healthy, Vec::new());
    for condition in conditions {
        let text = condition.text();
        match condition.judge(account.sent, account.lost, summary) {
            Judgement::Holds => {
                said.push(format!("fail-if {text} holds"));
                exit = Exit::Degraded;
            }
            Judgement::Unknown => {
                let replies = account.received;
                said.push(format!("fail-if {text} cannot be known from {replies} replies"));
            }
            Judgement::Fine => {}
        }
    }
    (exit, said)
}
