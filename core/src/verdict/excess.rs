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
    /// The quantile of the component.
    pub(super) measured: Measured,
    /// Paths that show it, the largest effect first.
    pub(super) showing: Vec<usize>,
    /// Those that could have.
    pub(super) judged: usize,
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

/// Whether a path's quantile is too high and rests on enough events. Whether it is clear of chance is then asked of the
/// interval, of all such paths of a component together.
pub(super) fn shows(settings: &Settings, step: &Step, measured: &Measured, reference: u64) -> bool {
    measured.value >= threshold(settings, step, reference) && measured.runs >= step.least_runs
}

/// Whether a path lies clear of the reference, with no other that shows it too.
pub(super) fn shows_alone(
    settings: &Settings,
    step: &Step,
    measured: &Measured,
    reference: u64,
) -> bool {
    measured.low >= threshold(settings, step, reference) && measured.runs >= step.least_runs_alone
}

impl Excess {
    /// Of several paths that agree, if their quantile lies clear of the reference when they are told as one. Judged are `paths`.
    pub(super) fn of_all(
        facts: &Facts<'_>,
        (part, step): (Part, usize),
        reference: u64,
        showing: Vec<usize>,
        paths: &[usize],
    ) -> Option<Self> {
        let measured = facts.pooled(part, step, paths)?;
        let clear = threshold(facts.settings, &part.steps(facts.settings)[step], reference);
        let excess = Self { part, step, reference, measured, showing, judged: paths.len() };
        (measured.low >= clear).then(|| excess.in_order(facts))
    }

    /// Of the paths of one pair; its quantile is that of the worst.
    pub(super) fn of_worst(
        facts: &Facts<'_>,
        (part, step): (Part, usize),
        reference: u64,
        showing: Vec<usize>,
        judged: usize,
    ) -> Option<Self> {
        let low = |n: &usize| facts.paths[*n].at(part, step).map(|m| (m.low, m));
        let (_, measured) = showing.iter().filter_map(low).max_by_key(|(low, _)| *low)?;
        Some(Self { part, step, reference, measured, showing, judged }.in_order(facts))
    }

    fn in_order(mut self, facts: &Facts<'_>) -> Self {
        let low = |n: usize| facts.paths[n].at(self.part, self.step).map_or(0, |m| m.low);
        self.showing.sort_by_key(|&n| std::cmp::Reverse(low(n)));
        self
    }

    /// How many times the reference the low end is.
    #[expect(clippy::cast_precision_loss, reason = "a ratio is printed with few digits")]
    pub(super) fn times(&self) -> f64 {
        self.measured.low as f64 / self.reference.max(1) as f64
    }

    pub(super) fn effect(&self, facts: &Facts<'_>) -> Effect {
        let Measured { value, low, high, .. } = self.measured;
        Effect::Latency {
            series: self.part.series().to_owned(),
            q: self.part.steps(facts.settings)[self.step].quantile.share(),
            value_ns: value,
            low_ns: low,
            high_ns: high,
            fleet_median_ns: self.reference,
            at_least_times: self.times(),
        }
    }

    /// `responder delay p90 24.1 ms [20.3 ms, 31.0 ms], at least 203 times the others' 100 us`.
    pub(super) fn words(&self, facts: &Facts<'_>) -> String {
        let quantile = self.part.steps(facts.settings)[self.step].quantile;
        format!(
            "{} {quantile} {}, at least {} times the others' {}",
            self.part.words(),
            words::interval(&self.measured),
            words::times(self.times()),
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
    ) -> Vec<usize> {
        let step = &self.part.steps(facts.settings)[self.step];
        let below = threshold(facts.settings, step, self.reference);
        let value = |n: usize| facts.paths[n].at(self.part, self.step).map(|m| (m.value, n));
        let mut clean: Vec<(u64, usize)> =
            paths.filter_map(value).filter(|v| v.0 < below).collect();
        clean.sort_unstable();
        clean.dedup();
        clean.into_iter().map(|(_, n)| n).collect()
    }

    pub(super) fn sentence(&self, facts: &Facts<'_>, path: usize) -> String {
        let quantile = self.part.steps(facts.settings)[self.step].quantile;
        let facts = &facts.paths[path];
        let measured = facts.at(self.part, self.step);
        let value = measured.map_or_else(|| "-".to_owned(), |m| words::interval(&m));
        format!("{}: {} {quantile} {value}", facts.input.path, self.part.words())
    }
}
