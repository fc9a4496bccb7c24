//! One kind of samples in one size, many times.

use railgauge_core::histogram::Recorder;
use railgauge_core::quantile::{
    Blocks, Note, Outcome, Quantile, QuantileSummary, Summary, summarize,
};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng;
use serde::Serialize;

use super::series::{Arrivals, Scenario, Series};

/// Samples in a block: 1 s of 1,000 probes a second.
const BLOCK: u64 = 1_000;
/// Quantiles judged.
const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P99_9];
/// Fewer episodes than this must be noted.
const FEW: u64 = 10;

/// How often an interval was printed, and how often it held the truth.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// Intervals printed.
    pub shown: u64,
    /// Of those, intervals that hold the true quantile.
    pub covered: u64,
    /// The truth was below.
    pub truth_below: u64,
    /// The truth was above.
    pub truth_above: u64,
    /// covered / shown.
    pub share: Option<f64>,
    /// Mean of upper end / lower end.
    pub mean_ratio: Option<f64>,
    #[serde(skip)]
    ratios: f64,
}

/// The experiments of one scenario and size, seen from one quantile.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What the samples are like.
    pub samples: String,
    /// Whether they are independent.
    pub independent: bool,
    /// Samples in an experiment.
    pub n: u64,
    /// The quantile, `p99`.
    pub quantile: String,
    /// Its true value, in nanoseconds.
    pub truth_ns: u64,
    /// Experiments in which it was withheld.
    pub withheld: u64,
    /// All intervals.
    pub all: Coverage,
    /// Those whose tail rests on 10 events or more; `None` for quantiles whose events are not counted. Judged. Of a
    /// scenario with stalls, only experiments that met as many stalled samples as make one stall.
    pub many_episodes: Option<Coverage>,
    /// Of `many_episodes` with stalls, misses in which none made a sample wait as long as the true quantile.
    pub missed_without_long_stall: u64,
    /// As `many_episodes`, but of the experiments that met no stall, or only the end or the beginning of one. Not
    /// judged: no method can see what is not in the data.
    pub many_episodes_without_stall: Option<Coverage>,
    /// Those whose tail rests on fewer.
    pub few_episodes: Option<Coverage>,
    /// Experiments with fewer than 10 events in which the note was missing.
    pub notes_missing: u64,
}

impl Coverage {
    fn add(&mut self, truth: u64, (low, high): (u64, u64)) {
        self.shown += 1;
        self.covered += u64::from(holds((low, high), truth));
        self.truth_below += u64::from(truth < low);
        self.truth_above += u64::from(truth > high);
        self.ratios += high as f64 / low as f64;
        self.share = Some(self.covered as f64 / self.shown as f64);
        self.mean_ratio = Some(self.ratios / self.shown as f64);
    }
}

impl Row {
    fn new(scenario: Scenario, n: u64, quantile: Quantile) -> Self {
        let part = quantile.is_tail().then(Coverage::default);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 60e9")]
        let truth_ns = scenario.quantile(quantile.share()).round() as u64;
        Self {
            samples: scenario.name(),
            independent: scenario.arrivals == Arrivals::Independent,
            n,
            quantile: quantile.to_string(),
            truth_ns,
            withheld: 0,
            all: Coverage::default(),
            many_episodes: part.clone(),
            missed_without_long_stall: 0,
            many_episodes_without_stall: part.clone(),
            few_episodes: part,
            notes_missing: 0,
        }
    }

    fn add(&mut self, seen: &QuantileSummary, notes: &[Note], series: &Series) {
        let Outcome::Value { low_ns, high_ns: Some(high_ns), .. } = seen.outcome else {
            self.withheld += 1;
            return;
        };
        let interval = (low_ns, high_ns);
        self.all.add(self.truth_ns, interval);
        let Some(episodes) = seen.episodes else { return };
        let few = episodes < FEW;
        let judged = self.independent || series.met_a_stall();
        let part = match (few, judged) {
            (true, _) => &mut self.few_episodes,
            (false, true) => &mut self.many_episodes,
            (false, false) => &mut self.many_episodes_without_stall,
        };
        part.get_or_insert_default().add(self.truth_ns, interval);
        if !few && judged && !self.independent && !holds(interval, self.truth_ns) {
            let short = series.longest_wait() < self.truth_ns as f64;
            self.missed_without_long_stall += u64::from(short);
        }
        let noted = |note: &Note| matches!(note, Note::FewEpisodes { quantile, .. } if *quantile == seen.quantile);
        self.notes_missing += u64::from(few && !notes.iter().any(noted));
    }
}

fn holds((low, high): (u64, u64), truth: u64) -> bool {
    (low..=high).contains(&truth)
}

/// Runs one scenario in one size; a row for each quantile.
pub fn run_scenario(scenario: Scenario, n: u64, experiments: u64, seed: u64) -> Vec<Row> {
    let mut rows = QUANTILES.map(|quantile| Row::new(scenario, n, quantile));
    for experiment in 0..experiments {
        // Each experiment has random numbers of its own, so that one can be repeated alone.
        let random = Pcg64Mcg::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(experiment));
        let mut series = Series::new(scenario, random);
        let summary = one_experiment(&mut series, n);
        for (row, quantile) in rows.iter_mut().zip(QUANTILES) {
            let seen = summary.quantiles.iter().find(|q| q.quantile == quantile);
            seen.into_iter().for_each(|seen| row.add(seen, &summary.notes, &series));
        }
    }
    rows.into()
}

fn one_experiment(series: &mut Series, n: u64) -> Summary {
    let (mut recorder, mut blocks) = (Recorder::new(), Blocks::new());
    let mut left = n;
    while left > 0 {
        let block = left.min(BLOCK);
        for _ in 0..block {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates"
            )]
            recorder.record(series.sample().round() as u64);
        }
        blocks.push(&recorder.drain());
        left -= block;
    }
    summarize(&blocks, 1_000_000_000)
}
