//! The table a person reads first: at most 100 columns wide, but for names and notes.

mod rdma;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use railgauge_agent::WaitMode;
use railgauge_agent::ping::PingReport;
use railgauge_agent::ping::report::Judged;
use railgauge_core::quantile::{Outcome, Quantile, Summary};

use crate::number::{count, in_unit_of, latency};

/// Widths: the row's name, then a column a series. Four series fit 100 columns.
const NAME: usize = 8;
const COLUMN: usize = 23;

/// A part that makes up at least this share of app RTT's p99 is named as where the tail is.
const MOST_OF_IT: f64 = 0.5;

/// The whole text.
pub fn render(report: &PingReport, judged: &Judged) -> String {
    let mut text = header(report, judged);
    if let Some(rdma) = &report.rdma {
        text += &rdma::lines(rdma);
    }
    let series: Vec<_> = judged.series.iter().map(|(name, summary, _)| (*name, summary)).collect();
    if report.received > 0 && !series.is_empty() {
        text.push('\n');
        body(&mut text, report, &series);
    }
    account(&mut text, report);
    if let Some(hint) = where_the_tail_is(report, &series) {
        let _ = writeln!(text, "\n{hint}");
    }
    notes(&mut text, &report.validity);
    text
}

fn header(report: &PingReport, judged: &Judged) -> String {
    let split = judged.series.iter().find(|(name, ..)| *name == "network_rtt");
    let stamps = match (split, &report.network_rtt_reason) {
        _ if report.received == 0 => String::new(),
        (Some((.., source)), _) => format!("stamps t1/t2/t3/t4: {source}\n"),
        (None, why) => format!("no network_rtt: {}\n", why.unwrap_or("no stamps")),
    };
    let peer =
        if report.target == report.peer { String::new() } else { format!(" ({})", report.peer) };
    format!(
        "{}{peer} by {}, {} octets {}, {}\n{stamps}",
        report.target,
        report.transport,
        count(report.size_bytes as u64),
        schedule(report),
        report.mode,
    )
}

/// How often, or how else.
fn schedule(report: &PingReport) -> String {
    match &report.rdma {
        Some(rdma) if rdma.bandwidth.is_some() => format!("{} at a time", rdma.outstanding),
        _ if report.interval_ns == 0 => "one after the other".to_owned(),
        _ => format!("every {}", latency(report.interval_ns)),
    }
}

fn body(text: &mut String, report: &PingReport, series: &[(&str, &Summary)]) {
    row(text, "", series.iter().map(|(name, _)| (*name).to_owned()));
    row(text, "n", series.iter().map(|(_, s)| count(s.count)));
    row(text, "min", series.iter().map(|(_, s)| s.min_ns.map_or_else(dash, latency)));
    for quantile in Quantile::ALL {
        row(text, &quantile.to_string(), series.iter().map(|(_, s)| cell(s, quantile)));
    }
    row(text, "max", series.iter().map(|(_, s)| maximum(s)));
    row(text, "loss", series.iter().map(|(name, _)| loss(name, report)));
    if let Some((_, app_rtt)) = series.iter().find(|(name, _)| *name == "app_rtt") {
        withheld(text, app_rtt, report.interval_ns);
    }
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("{name:<NAME$}");
    for cell in cells {
        let _ = write!(line, "{cell:<COLUMN$}");
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn dash() -> String {
    "-".to_owned()
}

fn outcome(summary: &Summary, quantile: Quantile) -> Option<Outcome> {
    summary.quantiles.iter().find(|entry| entry.quantile == quantile).map(|entry| entry.outcome)
}

/// A quantile with its 95 % interval: `12.3us [12.2-12.5]`.
fn cell(summary: &Summary, quantile: Quantile) -> String {
    match outcome(summary, quantile) {
        Some(Outcome::Value { value_ns, low_ns, high_ns }) => {
            format!("{} {}", latency(value_ns), interval(value_ns, low_ns, high_ns))
        }
        Some(Outcome::AtLeast { timeout_ns }) => format!(">={}", latency(timeout_ns)),
        Some(Outcome::Withheld { .. }) | None => dash(),
    }
}

/// In the value's unit where all three have the same, else each end with its own; `timeout` for an end among the losses.
fn interval(value_ns: u64, low_ns: u64, high_ns: Option<u64>) -> String {
    let unit = |nanos: u64| in_unit_of(nanos, nanos).1;
    let alike =
        unit(low_ns) == unit(value_ns) && high_ns.is_none_or(|high| unit(high) == unit(value_ns));
    let end = |nanos| if alike { in_unit_of(value_ns, nanos).0 } else { latency(nanos) };
    let high = high_ns.map_or_else(|| "timeout".to_owned(), end);
    format!("[{}-{high}]", end(low_ns))
}

/// With losses the maximum is not known, but at least the time-out; the longest reply stands beside it.
fn maximum(summary: &Summary) -> String {
    match summary.max_ns {
        Some(max) if summary.censored > 0 && max < summary.censored_at_ns => {
            format!(">={} [seen {}]", latency(summary.censored_at_ns), latency(max))
        }
        Some(max) if summary.censored > 0 => format!(">={}", latency(max)),
        Some(max) => latency(max),
        None if summary.censored > 0 => format!(">={}", latency(summary.censored_at_ns)),
        None => dash(),
    }
}

/// Of what was sent; a loss belongs to no host's part.
fn loss(name: &str, report: &PingReport) -> String {
    if name.ends_with("rtt") { percent(report.lost, report.sent) } else { dash() }
}

#[expect(clippy::cast_precision_loss, reason = "a share printed with three decimals")]
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { dash() } else { format!("{:.3} %", part as f64 / whole as f64 * 100.0) }
}

/// Which quantiles are missing for want of samples, and how long a run has them.
fn withheld(text: &mut String, app_rtt: &Summary, interval_ns: u64) {
    let needed: Vec<_> = Quantile::ALL
        .into_iter()
        .filter_map(|quantile| match outcome(app_rtt, quantile) {
            Some(Outcome::Withheld { needed }) => Some((quantile, needed)),
            _ => None,
        })
        .collect();
    let Some((_, most)) = needed.last() else { return };
    let list: Vec<_> = needed.iter().map(|(q, needed)| format!("{q} {}", count(*needed))).collect();
    let time = match interval_ns {
        0 => String::new(),
        _ => format!(" ({} here)", latency(most.saturating_mul(interval_ns))),
    };
    let _ = writeln!(text, "- too few samples: needed for {}{time}", list.join(", "));
}

fn account(text: &mut String, report: &PingReport) {
    let _ = writeln!(
        text,
        "\nscheduled {} = sent {} + skipped {} + send errors {}",
        count(report.scheduled),
        count(report.sent),
        count(report.skipped),
        count(report.send_errors)
    );
    let _ = writeln!(
        text,
        "sent {} = received {} + lost {} + in flight {}",
        count(report.sent),
        count(report.received),
        count(report.lost),
        count(report.in_flight)
    );
    let more = [
        ("late starts", report.late_starts),
        ("late replies", report.late_replies),
        ("duplicate", report.duplicate),
        ("reordered", report.reordered),
        ("invalid stamps", report.invalid_stamps),
    ];
    let errors = report.errors.iter().map(|(reason, number)| (*reason, *number));
    let more: Vec<String> = more
        .into_iter()
        .chain(errors)
        .filter(|(_, number)| *number > 0)
        .map(|(name, number)| format!("{name} {}", count(number)))
        .collect();
    if !more.is_empty() {
        let _ = writeln!(text, "also: {}", more.join(", "));
    }
}

fn notes(text: &mut String, validity: &[String]) {
    if !validity.is_empty() {
        let _ = writeln!(text, "\nbefore you believe it:");
        for note in validity {
            let _ = writeln!(text, "  - {note}");
        }
    }
}

/// Which part has most of the tail, and what to do about it. Quantiles of parts do not add up; one that is more than half
/// of the whole's tells where to look all the same.
fn where_the_tail_is(report: &PingReport, series: &[(&str, &Summary)]) -> Option<String> {
    let p99 = |name: &str| {
        let summary = series.iter().find(|(n, _)| *n == name)?.1;
        match outcome(summary, Quantile::P99)? {
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
    let asleep = report.mode == WaitMode::Sleep.as_str();
    // A prober that stood still longer than its p99 is not helped by polling: somebody else had the CPU.
    let stood_still = report.probe_thread.clock_gaps.longest_ns > value;
    let advice = match part {
        "network_rtt" => "look at the path: try another target, another NIC, --flows 16",
        "prober_delay" if stood_still => {
            "this host stood still: see what else runs on its CPUs, and give the prober one with --cpu"
        }
        "prober_delay" if asleep => {
            "this host wakes up and sends late: --busy-poll takes most of it away"
        }
        "prober_delay" => "this host is late: see the notes, and try another --cpu",
        _ => "the other host is late: see its load, or run its `reflect` with --busy-poll --cpu N",
    };
    Some(format!(
        "most of the p99 is {part} ({} of {}):\n  {advice}",
        latency(value),
        latency(whole)
    ))
}
