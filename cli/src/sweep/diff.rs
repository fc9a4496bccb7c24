//! Two sweeps compared.
//!
//! A quantile of a path has changed when its two 95 % intervals do not overlap **and** one value is at least [`RATIO`] times the other. The
//! first keeps chance out (for two independent intervals of equal width, some 6 in 1,000 comparisons pass by chance), the second what
//! nobody would act on. A quantile that is withheld in either sweep is not compared. Prober and responder delay and the network RTT are
//! compared, app RTT only where a path has no stamps: elsewhere it is their sum.

use std::collections::{BTreeMap, BTreeSet};

use railgauge_core::finding::{ComponentKind, FindingKind, Verdict};
use railgauge_core::quantile::Quantile;
use railgauge_report::doc::{Measures, Parameters, PathDoc, Sweep};
use serde::Serialize;

use crate::reading::Reading;

/// Smaller differences are not worth a line.
pub(super) const RATIO: f64 = 1.25;

/// The rule, as it is printed.
const RULE: &str = "a quantile has changed when its 95 % intervals do not overlap and it differs by 1.25 x or more";

/// What is compared.
const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P99, Quantile::P99_9];
const PARTS: [&str; 3] = ["network_rtt", "prober_delay", "responder_delay"];
const WHOLE: [&str; 1] = ["app_rtt"];

/// What is different now (the member `diff` of the sweep object).
#[derive(Debug, Default, Serialize)]
pub(super) struct Diff {
    pub(super) with: Earlier,
    /// Why the two do not compare; all else is empty then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    pub(super) rule: &'static str,
    /// Quantiles that both sweeps know.
    pub(super) compared: u64,
    /// The greatest first.
    pub(super) changes: Vec<Change>,
    pub(super) verdicts: Vec<VerdictChange>,
    pub(super) paths_new: Vec<String>,
    pub(super) paths_missing: Vec<String>,
    pub(super) nodes_new: Vec<String>,
    pub(super) nodes_missing: Vec<String>,
    pub(super) findings_new: Vec<Found>,
    pub(super) findings_gone: Vec<Found>,
}

/// The sweep before.
#[derive(Debug, Default, Serialize)]
pub(super) struct Earlier {
    pub(super) id: String,
    pub(super) started_at: String,
    pub(super) software_version: String,
}

/// A quantile that has changed.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) series: &'static str,
    pub(super) q: f64,
    pub(super) before: Bounds,
    pub(super) now: Bounds,
    /// Now over before; where one is among the time-outs, what is known of it.
    pub(super) ratio: f64,
}

/// A quantile with its interval. Without a value it is among the time-outs and at least `low_ns`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Bounds {
    pub(super) value_ns: Option<u64>,
    pub(super) low_ns: u64,
    pub(super) high_ns: Option<u64>,
}

/// A verdict that is another now.
#[derive(Debug, Serialize)]
pub(super) struct VerdictChange {
    /// `sweep`, `node a`, or a path.
    pub(super) what: String,
    pub(super) before: Verdict,
    pub(super) now: Verdict,
}

/// What a finding is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Found {
    pub(super) kind: FindingKind,
    pub(super) component_kind: ComponentKind,
    pub(super) component: String,
}

impl Diff {
    /// What is different in `now`.
    pub(super) fn of(before: &Sweep, now: &Sweep) -> Self {
        let with = Earlier {
            id: before.id.clone(),
            started_at: before.started_at.clone(),
            software_version: before.software_version.clone(),
        };
        let mut diff = Self { with, rule: RULE, ..Self::default() };
        diff.refused = refusal(before, now);
        if diff.refused.is_none() {
            diff.verdict("sweep", before.verdict, now.verdict);
            diff.nodes(before, now);
            diff.paths(before, now);
            let (then, today) = (found(before), found(now));
            diff.findings_new = today.difference(&then).cloned().collect();
            diff.findings_gone = then.difference(&today).cloned().collect();
        }
        diff
    }

    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        let names = [&self.paths_new, &self.paths_missing, &self.nodes_new, &self.nodes_missing];
        self.changes.is_empty()
            && self.verdicts.is_empty()
            && self.findings_new.is_empty()
            && self.findings_gone.is_empty()
            && names.iter().all(|names| names.is_empty())
    }

    fn verdict(&mut self, what: &str, before: Verdict, now: Verdict) {
        if before != now {
            self.verdicts.push(VerdictChange { what: what.to_owned(), before, now });
        }
    }

    fn nodes(&mut self, before: &Sweep, now: &Sweep) {
        let there = |sweep: &Sweep| -> BTreeMap<String, Verdict> {
            let there = sweep.nodes.iter().filter(|node| node.state != "absent");
            there.map(|node| (node.name.clone(), node.verdict)).collect()
        };
        let (then, today) = (there(before), there(now));
        (self.nodes_new, self.nodes_missing) = new_and_missing(&then, &today, String::clone);
        for (name, now) in &today {
            if let Some(before) = then.get(name) {
                self.verdict(&format!("node {name}"), *before, *now);
            }
        }
    }

    fn paths(&mut self, before: &Sweep, now: &Sweep) {
        let (then, today) = (by_key(before), by_key(now));
        let name =
            |key: &Key<'_>| today.get(key).or(then.get(key)).map_or(String::new(), |p| p.name());
        (self.paths_new, self.paths_missing) = new_and_missing(&then, &today, name);
        for (key, now) in &today {
            let Some(before) = then.get(key) else { continue };
            self.verdict(&now.name(), before.verdict, now.verdict);
            self.measures(&now.name(), &before.measures, &now.measures);
        }
        self.changes.sort_by(|a, b| size(b.ratio).total_cmp(&size(a.ratio)));
    }

    fn measures(&mut self, path: &str, before: &Measures, now: &Measures) {
        let stamped = before.network_rtt.is_some() && now.network_rtt.is_some();
        let series: &[&'static str] = if stamped { &PARTS } else { &WHOLE };
        for series in series {
            for quantile in QUANTILES {
                let read = |m: &Measures| Bounds::of(Reading::of(m.series(series), quantile));
                let (Some(before), Some(now)) = (read(before), read(now)) else { continue };
                self.compared += 1;
                let ratio = now.over(&before);
                if !now.overlaps(&before) && size(ratio) >= RATIO {
                    let (path, q) = (path.to_owned(), quantile.share());
                    self.changes.push(Change { path, series, q, before, now, ratio });
                }
            }
        }
    }
}

/// How great a change is, whichever its direction.
fn size(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}

impl Bounds {
    fn of(reading: Reading) -> Option<Self> {
        match reading {
            Reading::Value { value_ns, low_ns, high_ns } => {
                Some(Self { value_ns: Some(value_ns), low_ns, high_ns })
            }
            Reading::AtLeast(ns) => Some(Self { value_ns: None, low_ns: ns, high_ns: None }),
            Reading::Withheld => None,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let reaches = |high: Option<u64>, low| high.is_none_or(|high| high >= low);
        reaches(self.high_ns, other.low_ns) && reaches(other.high_ns, self.low_ns)
    }

    /// A value below a nanosecond counts as one.
    #[expect(clippy::cast_precision_loss, reason = "a ratio printed with two digits")]
    fn over(&self, other: &Self) -> f64 {
        let reached = |bounds: &Self| bounds.value_ns.unwrap_or(bounds.low_ns).max(1) as f64;
        reached(self) / reached(other)
    }

    /// As it was read.
    pub(super) fn reading(&self) -> Reading {
        let (low_ns, high_ns) = (self.low_ns, self.high_ns);
        self.value_ns.map_or(Reading::AtLeast(low_ns), |value_ns| Reading::Value {
            value_ns,
            low_ns,
            high_ns,
        })
    }
}

/// What tells paths apart.
type Key<'a> = (&'a str, &'a str, &'a str, &'a str, u16, u8);

fn by_key(sweep: &Sweep) -> BTreeMap<Key<'_>, &PathDoc> {
    sweep
        .paths
        .iter()
        .map(|path| {
            let ends = (path.src.as_str(), path.dst.as_str());
            let how = (path.transport.as_str(), path.memory.as_str());
            ((ends.0, ends.1, how.0, how.1, path.flow, path.dscp), path)
        })
        .collect()
}

fn found(sweep: &Sweep) -> BTreeSet<Found> {
    let findings = sweep.findings.iter().map(|finding| Found {
        kind: finding.kind,
        component_kind: finding.component.kind,
        component: finding.component.name.clone(),
    });
    findings.collect()
}

fn new_and_missing<K: Ord, V, W>(
    then: &BTreeMap<K, V>,
    today: &BTreeMap<K, W>,
    name: impl Fn(&K) -> String,
) -> (Vec<String>, Vec<String>) {
    let new = today.keys().filter(|key| !then.contains_key(key)).map(&name);
    let missing = then.keys().filter(|key| !today.contains_key(key)).map(&name);
    (new.collect(), missing.collect())
}

/// Why two sweeps do not compare: they were measured in different ways. Which nodes and how many rounds may differ.
fn refusal(before: &Sweep, now: &Sweep) -> Option<String> {
    if before.suite != now.suite {
        let (then, now) = (&before.suite, &now.suite);
        return Some(format!("the suites differ: {then:?} then, {now:?} now"));
    }
    let of = |p: &Parameters| -> [(&'static str, String); 6] {
        [
            ("transport", p.transport.clone()),
            ("count", p.count.to_string()),
            ("interval_ns", p.interval_ns.to_string()),
            ("warmup", p.warmup.to_string()),
            ("timeout_ns", p.timeout_ns.to_string()),
            ("size_bytes", p.size_bytes.to_string()),
        ]
    };
    let (then, today) = (of(&before.parameters), of(&now.parameters));
    let differ = then.iter().zip(&today).find(|(a, b)| a != b);
    differ.map(|((name, then), (_, now))| format!("{name} differs: {then} then, {now} now"))
}

#[cfg(test)]
mod tests;
