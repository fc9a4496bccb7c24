//! The result of a sweep for people: the verdict, what is wrong, the worst paths, what was not measured.

use railgauge_core::finding::{ComponentKind, Effect, Finding, FindingKind, Verdict};
use railgauge_report::doc::Sweep;
use railgauge_report::number::{count, counted, interval, latency, percent, span};

use crate::columns::{WIDTH, cut, wrap};
use crate::path_table::{LEGEND, PathTable, worst_first};

/// How much of each is printed; the rest is in the report and the object.
const FINDINGS: usize = 10;
const EVIDENCE: usize = 3;
const PATHS: usize = 10;
const LISTED: usize = 10;

/// The whole text.
pub fn table(sweep: &Sweep) -> String {
    let mut text = cut(&format!("verdict {}: {}", sweep.verdict.as_str(), sentence(sweep)), WIDTH);
    text.push('\n');
    wrap(&mut text, "sweep   ", &about(sweep));
    if let Some(error) = &sweep.error {
        wrap(&mut text, "error   ", error);
    }
    findings(&mut text, &sweep.findings);
    if !sweep.paths.is_empty() {
        let mut paths = PathTable::new("WORST PATHS");
        for path in worst_first(&sweep.paths).into_iter().take(PATHS) {
            paths.add_path(path);
        }
        text = text + "\n" + &paths.text();
        more(&mut text, sweep.paths.len(), PATHS);
        wrap(&mut text, "", LEGEND);
    }
    let not_measured = sweep.not_measured.iter();
    let not_measured = not_measured.map(|left| format!("{}: {}", left.what, left.reason));
    list(&mut text, "not measured", &not_measured.collect::<Vec<_>>());
    list(&mut text, "before you believe it", &sweep.validity);
    text
}

/// What the verdict rests on.
fn sentence(sweep: &Sweep) -> String {
    let measured = sweep.paths.iter().filter(|path| path.measures.counts.sent > 0).count();
    match (sweep.verdict, sweep.findings.first()) {
        (_, Some(top)) => {
            let others = sweep.findings.len() - 1;
            let more = match others {
                0 => String::new(),
                others => format!(" (and {})", counted(others, "finding")),
            };
            let room = WIDTH - "verdict degraded: ".len() - more.len();
            cut(top.summary.trim_end_matches('.'), room) + &more
        }
        (_, None) if measured == 0 => "nothing was measured".to_owned(),
        (Verdict::Healthy, None) => {
            format!("nothing is wrong on {} measured", counted(measured, "path"))
        }
        (Verdict::Unknown, None) => "too little was measured for a statement".to_owned(),
        (Verdict::Degraded, None) => "something slows those who wait for it".to_owned(),
        (Verdict::Failed, None) => "something does not work".to_owned(),
    }
}

fn about(sweep: &Sweep) -> String {
    let measured = sweep.paths.iter().filter(|path| path.measures.counts.sent > 0).count();
    format!(
        "{}, suite {}, {}: {}, {} of {}, {} of {} in {}",
        sweep.id,
        sweep.suite,
        sweep.started_at,
        counted(sweep.nodes.len(), "node"),
        count(measured as u64),
        counted(sweep.paths.len(), "path"),
        sweep.rounds,
        counted(sweep.rounds_planned as usize, "round"),
        span(sweep.duration_ns)
    )
}

fn findings(text: &mut String, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    *text += "\nfindings, worst first\n";
    for (number, finding) in (1..).zip(findings.iter().take(FINDINGS)) {
        let head = format!("{:?}", finding.severity).to_lowercase();
        let component = &finding.component;
        let name = named(component.kind, &component.name);
        wrap(text, &format!("{number:>2} "), &format!("{head}  {name}, {}", kind(finding.kind)));
        wrap(text, "   ", &finding.summary);
        wrap(text, "   effect   ", &effect(&finding.effect));
        evidence(text, "   for      ", &finding.evidence.convict);
        evidence(text, "   against  ", &finding.evidence.acquit);
        wrap(text, "   next     ", &finding.next_test);
    }
    more(text, findings.len(), FINDINGS);
}

/// `node demo-3`; the name of a rail says that it is one.
pub(super) fn named(kind: ComponentKind, name: &str) -> String {
    match kind {
        ComponentKind::Path => format!("path {name}"),
        ComponentKind::Port => format!("port {name}"),
        ComponentKind::Node => format!("node {name}"),
        ComponentKind::Rail | ComponentKind::Fleet => name.to_owned(),
    }
}

/// What is wrong, as words.
pub(super) const fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::NetworkLatency => "network latency",
        FindingKind::HostDelay => "host delay",
        FindingKind::Loss => "loss",
        FindingKind::Unreachable => "unreachable",
        FindingKind::NoData => "no data",
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Latency {
            series,
            q,
            value_ns,
            low_ns,
            high_ns,
            fleet_median_ns,
            at_least_times,
        } => format!(
            "{series} {} {} {}, the others' median is {}: at least {at_least_times:.1} x",
            quantile(*q),
            latency(*value_ns),
            interval(*value_ns, *low_ns, *high_ns),
            latency(*fleet_median_ns)
        ),
        Effect::Loss { sent, lost, share, low, high } => format!(
            "{} of {} probes lost: {} [{} to {}]",
            count(*lost),
            count(*sent),
            percent(*share),
            percent(*low),
            percent(*high)
        ),
        Effect::Samples { samples, needed } if samples >= needed => {
            format!("{} samples a path at least, but nothing to hold them against", count(*samples))
        }
        Effect::Samples { samples, needed } => {
            format!("{} samples, {} needed for a statement", count(*samples), count(*needed))
        }
    }
}

/// `p99.9` of 0.999, without the noise of the product.
pub(super) fn quantile(q: f64) -> String {
    format!("p{}", (q * 1e6).round() / 1e4)
}

fn evidence(text: &mut String, prefix: &str, sentences: &[String]) {
    let blank = " ".repeat(prefix.len());
    for (number, sentence) in sentences.iter().take(EVIDENCE).enumerate() {
        wrap(text, if number == 0 { prefix } else { &blank }, sentence);
    }
    let left = sentences.len().saturating_sub(EVIDENCE);
    if left > 0 {
        *text += &format!("{blank}and {} more\n", count(left as u64));
    }
}

fn list(text: &mut String, what: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    *text += &format!("\n{what}\n");
    for line in lines.iter().take(LISTED) {
        wrap(text, "- ", line);
    }
    more(text, lines.len(), LISTED);
}

fn more(text: &mut String, all: usize, shown: usize) {
    let left = all.saturating_sub(shown);
    if left > 0 {
        *text += &format!("{} more: --output json has them\n", count(left as u64));
    }
}
