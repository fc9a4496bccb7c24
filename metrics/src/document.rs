//! `docs/metrics.md`, made from the definitions.

use std::fmt::Write as _;

use crate::buckets::{CLASSIC_NS, seconds};
use crate::definitions::{ALL, LABELS, Metric, On};
use crate::model::Kind;
use crate::text::float;

/// The page as Markdown.
pub fn document() -> String {
    let mut page = String::from(HEAD);
    let bounds: Vec<String> = CLASSIC_NS.iter().map(|ns| float(seconds(*ns))).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(page, "\nClassic bounds, in seconds: {}, +Inf.\n", bounds.join(", "));
    for (title, on) in [
        ("Both daemons", On::Both),
        ("`railgauge-agent`", On::Agent),
        ("`railgauge-coordinator`", On::Coordinator),
    ] {
        let _ = writeln!(page, "## {title}\n");
        page.push_str("| metric | type | unit | labels | what it says |\n|---|---|---|---|---|\n");
        ALL.iter().filter(|metric| metric.on == on).for_each(|metric| row(&mut page, metric));
        page.push('\n');
    }
    page.push_str("## Labels\n\n| label | values |\n|---|---|\n");
    for (label, values) in LABELS {
        let _ = writeln!(page, "| `{label}` | {values} |");
    }
    page
}

fn row(page: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let Metric { name, unit, help, .. } = metric;
    let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
}

const HEAD: &str = "\
<!-- Made by `cargo xtask gen` from metrics/src/definitions.rs: change that. -->

# Metrics

Both daemons serve `/metrics` over HTTP: agents at 127.0.0.1:7462, the coordinator at 127.0.0.1:7461 (`http_listen`). The page is
Prometheus' text format 0.0.4, or its delimited protobuf where the scraper asks for that first. Only the protobuf carries native
histograms; classic buckets are in both. `deploy/prometheus` has configurations, `deploy/grafana` a dashboard.

Native histograms need `--enable-feature=native-histograms` up to Prometheus 3.7, and `scrape_native_histograms: true` in the scrape
configuration from 3.9 on (3.8 takes either). A server that takes them drops the classic buckets; one that does not sees classic ones alone.

- Histograms have replies as samples. A probe that was not answered in time has no latency; it is in `railgauge_probes_lost_total`. Where losses
  matter to a quantile, ask `railgauge paths` or a sweep: there they rank above all replies.
- Native buckets are those of schema 4: each bound is 4.4 % above the one before. Samples come from windows whose buckets are 0.1 % wide at most
  (exact up to 2 us), and are counted where the middle of that bucket lies. Sum and count are exact.
- No label names a node, port or path, but for the ten worst paths: the number of series does not grow with the fleet. Which agent says
  something is the scraper's `instance`.
- Counters begin at 0 when the daemon starts, but for those that say otherwise. Probes are counted when their window is recorded (agent)
  or on the disk (coordinator), so up to some windows later than sent.
- Probes of sweeps are in no metric: they load what they measure, and would drown what goes on all the time.
- What has no value is absent, never 0: there is no finding before the first judgement, and no expiry without a certificate.
";

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_has_its_row() {
        let page = super::document();
        for metric in super::ALL {
            let rows = page.matches(&format!("\n| `{}` |", metric.name)).count();
            assert_eq!(rows, 1, "{}", metric.name);
        }
        assert!(page.contains("1e-06, 2e-06, 5e-06, 1e-05"));
    }
}
