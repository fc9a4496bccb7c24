//! The table a person reads first.

use std::fmt::Write;

use railgauge_agent::WaitMode;
use railgauge_agent::ping::PingRun;
use railgauge_core::quantile::{Outcome, Quantile, Summary};

use crate::number::{count, in_unit_of, latency};

/// Widths: the row's name, then a column a series. Four series fit 100 columns.
const NAME: usize = 8;
const COLUMN: usize = 22;

/// A part that makes up at least this share of app RTT's p99 is named as where the tail is.
const MOST_OF_IT: f64 = 0.5;

/// The whole text.
pub fn render(run: &PingRun) -> String {
    let report = run.report();
    let judged = run.judge();
    let mut text = String::new();
    let stamps = judged.series.first().filter(|(name, ..)| *name == "network_rtt");
    let stamps =
        stamps.map_or_else(|| "no stamps".to_owned(), |(.., source)| format!("stamps {source}"));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} ({}): {}, {} octets every {}, {}, {stamps}",
        run.config.target,
        run.peer,
        report.transport,
        run.size_bytes,
        latency(report.interval_ns),
        report.mode,
    );
    if !judged.series.is_empty() {
        text.push('\n');
        let series: Vec<_> =
            judged.series.iter().map(|(name, summary, _)| (*name, summary)).collect();
        body(&mut text, &series);
    }
    account(&mut text, run);
    notes(
        &mut text,
        run,
        &report.validity,
        &judged.series.iter().map(|(n, s, _)| (*n, s)).collect::<Vec<_>>(),
    );
    text
}

fn body(text: &mut String, series: &[(&str, &Summary)]) {
    row(text, "", series.iter().map(|(name, _)| (*name).to_owned()));
    row(text, "n", series.iter().map(|(_, s)| count(s.count)));
    row(text, "min", series.iter().map(|(_, s)| s.min_ns.map_or_else(dash, latency)));
    for quantile in Quantile::ALL {
        row(text, &quantile.to_string(), series.iter().map(|(_, s)| cell(s, quantile)));
    }
    row(text, "max", series.iter().map(|(_, s)| maximum(s)));
    row(text, "loss", series.iter().map(|(name, s)| loss(name, s)));
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("{name:<NAME$}");
    for cell in cells {
        let _ = write!(line, "{cell:<COLUMN$}");
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn dash() -> String {
    "-".to_owned()
}

/// A quantile with its 95 % interval in the same unit: `12.3us [12.2-12.5]`.
fn cell(summary: &Summary, quantile: Quantile) -> String {
    let entry = summary.quantiles.iter().find(|entry| entry.quantile == quantile);
    match entry.map(|entry| entry.outcome) {
        Some(Outcome::Value { value_ns, low_ns, high_ns }) => {
            let (value, unit) = in_unit_of(value_ns, value_ns);
            let (low, _) = in_unit_of(value_ns, low_ns);
            let high = high_ns.map_or_else(
                || format!(">={}", latency(summary.censored_at_ns)),
                |high| in_unit_of(value_ns, high).0,
            );
            format!("{value}{unit} [{low}-{high}]")
        }
        Some(Outcome::AtLeast { timeout_ns }) => format!(">={}", latency(timeout_ns)),
        Some(Outcome::Withheld { needed }) => format!("- (needs n={})", count(needed)),
        None => dash(),
    }
}

fn maximum(summary: &Summary) -> String {
    if summary.censored > 0 {
        return format!(">={}", latency(summary.censored_at_ns));
    }
    summary.max_ns.map_or_else(dash, latency)
}

fn loss(name: &str, summary: &Summary) -> String {
    if !name.ends_with("rtt") {
        return dash();
    }
    percent(summary.censored, summary.count + summary.censored)
}

#[expect(clippy::cast_precision_loss, reason = "a share printed with three decimals")]
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { dash() } else { format!("{:.3} %", part as f64 / whole as f64 * 100.0) }
}

fn account(text: &mut String, run: &PingRun) {
    let a = &run.end.account;
    let _ = writeln!(
        text,
        "\nscheduled {} = sent {} + skipped {} + send errors {}",
        count(a.scheduled),
        count(a.sent),
        count(a.skipped),
        count(a.send_errors)
    );
    let _ = writeln!(
        text,
        "sent {} = received {} + lost {} + in flight {}",
        count(a.sent),
        count(a.received),
        count(a.lost),
        count(a.in_flight)
    );
    let more = [
        ("late starts", a.late_starts),
        ("late replies", a.late_replies),
        ("duplicate", a.duplicate),
        ("reordered", a.reordered),
        ("invalid stamps", a.invalid_stamps),
    ];
    let mut more: Vec<String> = more
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| format!("{name} {}", count(*n)))
        .collect();
    more.extend(a.errors_by_reason().iter().map(|(reason, n)| format!("{reason} {}", count(*n))));
    if !more.is_empty() {
        let _ = writeln!(text, "also: {}", more.join(", "));
    }
}

fn notes(text: &mut String, run: &PingRun, validity: &[String], series: &[(&str, &Summary)]) {
    if let Some(hint) = where_the_tail_is(run, series) {
        let _ = writeln!(text, "\n{hint}");
    }
    if !validity.is_empty() {
        let _ = writeln!(text, "\nbefore you believe it:");
        validity.iter().for_each(|note| {
            let _ = writeln!(text, "  - {note}");
        });
    }
}

/// Which part most of app RTT's p99 is, and what to do about it.
fn where_the_tail_is(run: &PingRun, series: &[(&str, &Summary)]) -> Option<String> {
    let p99 = |name: &str| {
        let summary = series.iter().find(|(n, _)| *n == name)?.1;
        let entry = summary.quantiles.iter().find(|entry| entry.quantile == Quantile::P99)?;
        match entry.outcome {
            Outcome::Value { value_ns, .. } => Some(value_ns),
            _ => None,
        }
    };
    let whole = p99("app_rtt")?;
    let parts = ["network_rtt", "prober_delay", "responder_delay"];
    let (part, value) =
        parts.iter().filter_map(|part| Some((*part, p99(part)?))).max_by_key(|(_, v)| *v)?;
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = value as f64 / whole.max(1) as f64;
    if share < MOST_OF_IT {
        return None;
    }
    let asleep = run.config.mode == WaitMode::Sleep;
    let advice = match part {
        "network_rtt" => "the path: compare with another target, another NIC, --flows 16",
        "prober_delay" if asleep => {
            "this host waking up and sending: --busy-poll takes most of it away"
        }
        "prober_delay" => "this host: see the notes, and try another --cpu",
        _ => {
            "the other host: see its load, or run its `railgauge reflect` with --busy-poll --cpu N"
        }
    };
    Some(format!("p99: {part} {} of app_rtt {}, that is {advice}", latency(value), latency(whole)))
}
