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

/// Worst first: by verdict, then by how many times the median p99 of the paths of its kind (with stamps or without) the path's is.
pub(crate) fn worst_first(paths: &[PathDoc]) -> Vec<&PathDoc> {
    let medians = [true, false].map(|stamped| median_p99(paths, stamped));
    let key = |path: &PathDoc| {
        let median = medians[usize::from(path.measures.network_rtt.is_none())];
        let ratio = p99(path).map_or(0.0, |p99| times(p99, median));
        (path.verdict, path.measures.counts.is_silent(), ratio)
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

fn p99(path: &PathDoc) -> Option<u64> {
    Reading::of(path.measures.rtt(), Quantile::P99).reached_ns()
}

fn median_p99(paths: &[PathDoc], stamped: bool) -> u64 {
    let alike = paths.iter().filter(|path| path.measures.network_rtt.is_some() == stamped);
    let mut known: Vec<u64> = alike.filter_map(p99).collect();
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
