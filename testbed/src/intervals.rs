//! Does a printed interval contain the true quantile as often as it says?
//!
//! Experiments are simulated from distributions whose quantiles are known in closed form and sent through the real
//! recorder, blocks and summary, 1,000 samples to a block of 1 s. Counted is how often the interval, as printed,
//! contains the true quantile: for independent samples, and for samples that stalls hit many at a time.
//!
//! Short runs of a path that stalls now and then may meet no stall. Their samples are then those of a path without
//! stalls, and no method can know better: neither interval nor count of events. Those with 10 events or more are
//! published as `many_episodes_without_stall` and named in `not_judged`; all others are judged.

mod experiment;
mod series;

use serde::Serialize;

pub use experiment::{Coverage, Row, run_scenario};
pub use series::{Arrivals, Scenario};

/// Samples of an experiment.
pub const SIZES: [u64; 3] = [400, 4_000, 40_000];

/// Independent samples: the share of intervals that contain the truth must lie between these.
pub const INDEPENDENT: (f64, f64) = (0.93, 0.995);
/// With stalls, where the tail rests on 10 events or more: the least share.
pub const STALLED: f64 = 0.85;

/// All rows, and what they violate.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of this check.
    pub row: &'static str,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Experiments for each kind of samples and size.
    pub experiments: u64,
    /// One for each kind of samples, size and quantile.
    pub rows: Vec<Row>,
    /// What is not as promised, a sentence each.
    pub violations: Vec<String>,
    /// What was left out of that judgement and why, a sentence for each row concerned.
    pub not_judged: Vec<String>,
}

/// Runs every scenario in the given sizes. `allowance` is how far a share may be off its bounds by chance, in standard
/// errors of that share: 0 for runs that are recorded.
pub fn run(sizes: &[u64], experiments: u64, seed: u64, allowance: f64) -> Report {
    let mut rows = Vec::new();
    for scenario in Scenario::ALL {
        for &size in sizes {
            rows.extend(run_scenario(scenario, size, experiments, seed));
        }
    }
    let violations = rows.iter().filter_map(|row| violation(row, allowance)).collect();
    let not_judged = rows.iter().filter_map(not_judged).collect();
    Report { row: "intervals", seed, experiments, rows, violations, not_judged }
}

fn name(row: &Row) -> String {
    format!("{} n={} {}", row.samples, row.n, row.quantile)
}

fn not_judged(row: &Row) -> Option<String> {
    let unseen = row.many_episodes_without_stall.as_ref().filter(|part| part.shown > 0)?;
    let judged = row.many_episodes.as_ref()?;
    let (covered, shown) = (judged.covered + unseen.covered, judged.shown + unseen.shown);
    Some(format!(
        "{}: {} of {shown} experiments with 10 events or more met no whole stall, which no method can see in their \
         samples; with them, {covered} of {shown} intervals hold the truth, without them {} of {}",
        name(row),
        unseen.shown,
        judged.covered,
        judged.shown,
    ))
}

fn violation(row: &Row, allowance: f64) -> Option<String> {
    let name = name(row);
    if row.notes_missing > 0 {
        return Some(format!(
            "{name}: {} experiments lack the note about few events",
            row.notes_missing
        ));
    }
    let (part, low, high) = if row.independent {
        (&row.all, INDEPENDENT.0, INDEPENDENT.1)
    } else {
        (row.many_episodes.as_ref()?, STALLED, 1.0)
    };
    let share = part.share?;
    let slack = |bound: f64| allowance * (bound * (1.0 - bound) / part.shown as f64).sqrt();
    let bad = share < low - slack(low) || share > high + slack(high);
    bad.then(|| {
        let (shown, missed, short) =
            (part.shown, part.shown - part.covered, row.missed_without_long_stall);
        format!(
            "{name}: {share:.4} of {shown} intervals hold the truth; of the {missed} that do not, {short} are from \
             samples whose longest stall was shorter than the true quantile"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_truth_in_miniature() {
        for (sizes, experiments) in [(&SIZES[..2], 300), (&SIZES[2..], 40)] {
            let report = run(sizes, experiments, 7, 3.5);
            assert!(report.violations.is_empty(), "{:#?}", report.violations);
            let unseen = |sentence: &String| sentence.contains("stalls of 100 n=4000 p99: ");
            assert!(report.not_judged.iter().all(unseen), "{:#?}", report.not_judged);
            assert_eq!(report.not_judged.len(), if sizes.contains(&4_000) { 2 } else { 0 });
            for row in report.rows {
                let withheld = row.n == 400 && row.quantile == "p99.9";
                assert_eq!(row.withheld, if withheld { experiments } else { 0 }, "{row:?}");
            }
        }
    }
}
