//! Whether a quantile lies clear of its reference.

use std::collections::BTreeMap;

use super::facts::{Facts, Measured, Part};
use super::words;
use super::{Settings, Step};
use crate::finding::Effect;

/// Values of one quantile over paths, from which the median without some of them can be taken.
pub(super) struct Ranked {
    values: Vec<u64>,
    position: BTreeMap<usize, usize>,
}

impl Ranked {
    pub(super) fn new(facts: &Facts<'_>, part: Part, step: usize, paths: &[usize]) -> Self {
        let value = |&n: &usize| Some((facts.paths[n].at(part, step)?.value, n));
        let mut sorted: Vec<(u64, usize)> = paths.iter().filter_map(value).collect();
        sorted.sort_unstable();
        let position = sorted.iter().enumerate().map(|(place, &(_, n))| (n, place)).collect();
        Self { values: sorted.into_iter().map(|(value, _)| value).collect(), position }
    }

    /// The median (of evenly many the lower) without those of `removed`, if at least `least` are left.
    pub(super) fn median_without(
        &self,
        removed: impl Iterator<Item = usize>,
        least: usize,
    ) -> Option<u64> {
        let mut gone: Vec<usize> = removed.filter_map(|n| self.position.get(&n).copied()).collect();
        gone.sort_unstable();
        gone.dedup();
        let left = self.values.len() - gone.len();
        if left < least.max(1) {
            return None;
        }
        // The place among those left, moved up by each one removed before it.
        let place =
            gone.iter().fold((left - 1) / 2, |at, &gone| if gone <= at { at + 1 } else { at });
        self.values.get(place).copied()
    }

    pub(super) fn contains(&self, path: usize) -> bool {
        self.position.contains_key(&path)
    }
}

/// A quantile that lies clear of its reference, on some paths.
#[derive(Clone)]
pub(super) struct Excess {
    pub(super) part: Part,
    /// Which of the settings' steps.
    pub(super) step: usize,
    pub(super) reference: u64,
    /// Paths that show it, the largest effect first.
    pub(super) showing: Vec<usize>,
    /// Those that could have.
    pub(super) judged: usize,
}

pub(super) const fn steps(settings: &Settings, part: Part) -> &[Step; 3] {
    match part {
        Part::Network => &settings.network,
        Part::Prober | Part::Responder => &settings.host,
    }
}

/// What the low end must reach.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "latencies are far below 2^53 ns"
)]
pub(super) fn threshold(settings: &Settings, step: &Step, reference: u64) -> u64 {
    let times = (settings.ratio * reference as f64).ceil() as u64;
    times.max(reference.saturating_add(step.least_ns))
}

/// Whether a path lies clear of the reference; `alone`: without others that show it too.
pub(super) fn shows(
    settings: &Settings,
    step: &Step,
    measured: &Measured,
    reference: u64,
    alone: bool,
) -> bool {
    let runs = if alone { step.least_runs_alone } else { step.least_runs };
    measured.low >= threshold(settings, step, reference) && measured.runs >= runs
}

impl Excess {
    /// `showing` is put in order.
    pub(super) fn new(
        facts: &Facts<'_>,
        (part, step): (Part, usize),
        reference: u64,
        mut showing: Vec<usize>,
        judged: usize,
    ) -> Self {
        let low = |n: usize| facts.paths[n].at(part, step).map_or(0, |m| m.low);
        showing.sort_by_key(|&n| std::cmp::Reverse(low(n)));
        Self { part, step, reference, showing, judged }
    }

    /// That of the path where it is largest.
    pub(super) fn worst(&self, facts: &Facts<'_>) -> Measured {
        let none = Measured { value: 0, low: 0, high: None, runs: 0 };
        let first = self.showing.first();
        first.and_then(|&n| facts.paths[n].at(self.part, self.step)).unwrap_or(none)
    }

    /// How many times the reference the low end is.
    #[expect(clippy::cast_precision_loss, reason = "a ratio is printed with few digits")]
    pub(super) fn times(&self, facts: &Facts<'_>) -> f64 {
        self.worst(facts).low as f64 / self.reference.max(1) as f64
    }

    pub(super) fn effect(&self, facts: &Facts<'_>) -> Effect {
        let worst = self.worst(facts);
        Effect::Latency {
            series: self.part.series().to_owned(),
            q: steps(facts.settings, self.part)[self.step].quantile.share(),
            value_ns: worst.value,
            low_ns: worst.low,
            high_ns: worst.high,
            fleet_median_ns: self.reference,
            at_least_times: self.times(facts),
        }
    }

    /// `responder delay p90 24.1 ms [20.3 ms, 31.0 ms], at least 203 times the others' 100 us`.
    pub(super) fn words(&self, facts: &Facts<'_>) -> String {
        let quantile = steps(facts.settings, self.part)[self.step].quantile;
        format!(
            "{} {quantile} {}, at least {} times the others' {}",
            self.part.words(),
            words::interval(&self.worst(facts)),
            words::times(self.times(facts)),
            words::duration(self.reference),
        )
    }

    pub(super) fn convict(&self, facts: &Facts<'_>) -> Vec<(usize, String)> {
        self.showing.iter().map(|&n| (n, self.sentence(facts, n))).collect()
    }

    /// Those of `paths` that have the quantile and do not show it, the smallest first.
    pub(super) fn acquit(
        &self,
        facts: &Facts<'_>,
        paths: impl Iterator<Item = usize>,
    ) -> Vec<(usize, String)> {
        let step = &steps(facts.settings, self.part)[self.step];
        let below = threshold(facts.settings, step, self.reference);
        let value = |n: usize| facts.paths[n].at(self.part, self.step).map(|m| (m.value, n));
        let mut clean: Vec<(u64, usize)> =
            paths.filter_map(value).filter(|v| v.0 < below).collect();
        clean.sort_unstable();
        clean.into_iter().map(|(_, n)| (n, self.sentence(facts, n))).collect()
    }

    fn sentence(&self, facts: &Facts<'_>, path: usize) -> String {
        let quantile = steps(facts.settings, self.part)[self.step].quantile;
        let facts = &facts.paths[path];
        let measured = facts.at(self.part, self.step);
        let value = measured.map_or_else(|| "-".to_owned(), |m| words::interval(&m));
        format!("{}: {} {quantile} {value}", facts.input.path, self.part.words())
    }
}
