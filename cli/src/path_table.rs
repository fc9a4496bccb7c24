//! The table of paths, worst first: what `paths` and `sweep` have in common.

use std::cmp::Ordering;

use railgauge_core::finding::Verdict;
use railgauge_core::quantile::Quantile;
use railgauge_report::doc::{Measures, PathDoc};
use railgauge_report::number::{count, percent};

use crate::columns::Columns;
use crate::reading::Reading;

/// A longer name stands on a line of its own, so that the table stays within its width.
const NAME: usize = 36;

/// The quantiles of the RTT that are shown.
const SHOWN: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P99_9];

/// What is printed under a table, once.
pub(crate) const LEGEND: &str =
    "In brackets the 95 % interval; `-` means: too few samples to know.";

/// What a path is put in order by: the parts of its app RTT, or that alone where packets have no stamps.
const PARTS: [&str; 3] = ["network_rtt", "prober_delay", "responder_delay"];
const WHOLE: &str = "app_rtt";

/// Worst first: by verdict, then silent ones, then by p99 as a multiple of the median p99 of all paths: of the part in which that is
/// greatest.
pub(crate) fn worst_first(paths: &[PathDoc]) -> Vec<&PathDoc> {
    let parts = PARTS.map(|series| (series, median_p99(paths, series)));
    let whole = [(WHOLE, median_p99(paths, WHOLE))];
    let key = |path: &PathDoc| {
        let stamped = path.measures.network_rtt.is_some();
        let series = if stamped { &parts[..] } else { &whole[..] };
        let ratios =
            series.iter().filter_map(|(name, median)| Some(times(p99(path, name)?, *median)));
        (path.verdict, path.measures.counts.is_silent(), ratios.fold(0.0, f64::max))
    };
    let mut order: Vec<_> = paths.iter().map(|path| (key(path), path)).collect();
    order.sort_by(|((verdict, silent, ratio), a), (other, b)| {
        let worse = other.0.cmp(verdict).then(other.1.cmp(silent));
        worse.then(other.2.total_cmp(ratio)).then_with(|| by_name(a, b))
    });
    order.into_iter().map(|(_, path)| path).collect()
}

fn by_name(a: &PathDoc, b: &PathDoc) -> Ordering {
    (&a.src, &a.dst, a.flow).cmp(&(&b.src, &b.dst, b.flow))
}

fn p99(path: &PathDoc, series: &str) -> Option<u64> {
    Reading::of(path.measures.series(series), Quantile::P99).reached_ns()
}

fn median_p99(paths: &[PathDoc], series: &str) -> u64 {
    let mut known: Vec<u64> = paths.iter().filter_map(|path| p99(path, series)).collect();
    known.sort_unstable();
    known.get(known.len() / 2).copied().unwrap_or(1)
}

#[expect(clippy::cast_precision_loss, reason = "for an order")]
fn times(value: u64, of: u64) -> f64 {
    value as f64 / of.max(1) as f64
}

/// A table of paths, or of what paths were merged to.
pub(crate) struct PathTable(Columns);

impl PathTable {
    /// With `what` above the names.
    pub(crate) fn new(what: &str) -> Self {
        let heads = ["VERDICT", what, "N", "LOSS", "APP p99", "PROBER p99", "RESPONDER p99"];
        Self(Columns::new(&heads).right_from(2))
    }

    /// Adds one.
    pub(crate) fn add(&mut self, name: &str, verdict: Verdict, measures: &Measures) {
        let series = measures.rtt();
        let p99 = |name| Reading::of(measures.series(name), Quantile::P99).short();
        let loss = measures.counts.loss().map_or_else(|| "-".to_owned(), percent);
        let mut cells = vec![
            verdict.as_str().to_owned(),
            name.to_owned(),
            count(series.map_or(0, |series| series.count)),
            loss,
            p99("app_rtt"),
            p99("prober_delay"),
            p99("responder_delay"),
        ];
        if name.len() > NAME {
            self.0.line(&format!("{:<10}", cells[0]), name);
            cells[0].clear();
            cells[1].clear();
        }
        self.0.row(cells);
        self.0.line(&" ".repeat(10), &rtt_line(measures));
    }

    /// Adds a path, with what went wrong on it.
    pub(crate) fn add_path(&mut self, path: &PathDoc) {
        self.add(&path.name(), path.verdict, &path.measures);
        if let Some(error) = &path.error {
            self.0.line(&" ".repeat(10), error);
        }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.0.text()
    }
}

/// `network RTT p50 49.1us [48.9-49.3]  p99 …`, or why there is none.
fn rtt_line(measures: &Measures) -> String {
    let (name, series) = match (&measures.network_rtt, &measures.app_rtt) {
        (Some(series), _) => ("network RTT", series),
        (None, Some(series)) => ("app RTT", series),
        (None, None) => {
            let why = measures.network_rtt_reason.as_deref().or(measures.app_rtt_reason.as_deref());
            return format!("no RTT: {}", why.unwrap_or("nothing was measured"));
        }
    };
    let quantiles =
        SHOWN.map(|quantile| format!("{quantile} {}", Reading::of(Some(series), quantile).full()));
    format!("{name} {}", quantiles.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(name: &str, verdict: &str, network: u64, responder: u64) -> PathDoc {
        let series = |p99: u64| {
            json!({
                "count": 9, "min_ns": 1, "max_ns": 9, "mean_ns": 2.0, "sum_ns": 9, "hdr_v2": "",
                "timestamp_source": "", "censored": {"count": 0, "at_ns": 9}, "episodes": {},
                "quantiles": [{"q": 0.99, "value_ns": p99, "low_ns": p99, "high_ns": p99}],
            })
        };
        let path = json!({
            "src": name, "verdict": verdict,
            "network_rtt": series(network), "responder_delay": series(responder),
        });
        serde_json::from_value(path).unwrap()
    }

    #[test]
    fn the_verdict_comes_first_then_the_part_that_stands_out_most() {
        let mut silent = path("silent", "failed", 1, 1);
        silent.measures = Measures::none("no reply");
        silent.measures.counts.lost = 9;
        let paths = [
            path("plain", "healthy", 1_000, 100),
            path("slow host", "healthy", 1_000, 5_000),
            path("slow network", "healthy", 9_000, 100),
            path("degraded", "degraded", 1_001, 100),
            path("failed", "failed", 1_002, 100),
            silent,
        ];
        let order: Vec<_> = worst_first(&paths).into_iter().map(|p| p.src.as_str()).collect();
        assert_eq!(order, ["silent", "failed", "degraded", "slow host", "slow network", "plain"]);
    }
}
