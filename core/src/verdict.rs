//! What a set of measured paths says of the fleet: verdicts by path and node, and findings with their evidence (D10).
//!
//! **Whom a series accuses.** Prober delay passes in the prober's host, responder delay in the responder's: each accuses the
//! node that owns it. Network RTT, losses and silence accuse what lies between: the path, or the node, rail or port that all
//! such paths share.
//!
//! **Against what.** A fleet is its own yardstick until it has baselines: the reference of a quantile is its median over
//! the paths that do *not* touch the accused. One slow node of four has 6 of the 12 paths and of three even 4 of 6, so a
//! median over all of them would be its own; the paths between the others tell which end is at fault, and are the
//! finding's `acquit`. With two nodes there are no such paths: latency of the network is then `Unknown`, and a
//! loss or silence is reported of the path, not of a node.
//!
//! **When.** The low end of the 95 % interval must reach [`Settings::ratio`] times the reference *and* lie a least absolute
//! step above it (three times nothing is nothing), a tail must rest on enough separate events, and of a node's paths two
//! thirds must show it. So one stall, one unlucky path, or one quantile of hundreds just outside its interval
//! accuses nobody. All thresholds are in [`Settings`], each with its reason.
//!
//! **In which order.** What explains most is accused first (node, then rail, port, path); the paths it explains are its
//! evidence and make no findings of their own. Two nodes at fault alike among four or fewer hide each other.

mod candidates;
mod excess;
mod facts;
mod hosts;
mod losses;
mod network;
mod next_test;
mod settings;
mod silence;
mod unknown;
mod verdicts;
mod wilson;
mod words;

use std::collections::BTreeMap;

use crate::finding::{Component, Effect, Evidence, Finding, FindingKind, Severity, Verdict};
use crate::path::{NodeName, Path};
use crate::path_window::WindowAccount;
use crate::quantile::Blocks;
use crate::timestamp_source::TimestampSource;

pub use facts::PathFacts;
use facts::{Facts, Fetch};
pub use settings::{Settings, Step};

/// The parts of app RTT of a path: those of its main split, in blocks of time.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Network RTT, time-outs as censored samples.
    pub network_rtt: Blocks,
    /// Prober delay.
    pub prober_delay: Blocks,
    /// Responder delay.
    pub responder_delay: Blocks,
    /// Where their stamps were taken.
    pub source: Option<TimestampSource>,
}

/// A path that was measured, or should have been.
#[derive(Clone, Debug)]
pub struct PathInput {
    /// Which.
    pub path: Path,
    /// When a probe was lost, nanoseconds.
    pub timeout_ns: u64,
    /// What became of its probes; empty when it was not measured.
    pub account: WindowAccount,
    /// Its series, or why there are none.
    pub series: Result<Series, String>,
}

/// A node that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInput {
    /// Which.
    pub name: NodeName,
    /// Why it could not be measured (not connected, busy), if so.
    pub absent: Option<String>,
}

/// What is said of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not `Healthy`, one sentence each.
    pub reasons: Vec<String>,
}

/// What is said of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Of each path, in the order they were given.
    pub paths: Vec<PathVerdict>,
    /// Of each node that was given or has a path.
    pub nodes: BTreeMap<NodeName, Verdict>,
    /// Of all of it.
    pub verdict: Verdict,
    /// What is wrong or not known, worst first.
    pub findings: Vec<Finding>,
}

/// An accusation, before it is put into words.
struct Accusation {
    severity: Severity,
    kind: FindingKind,
    component: Component,
    summary: String,
    effect: Effect,
    /// Paths that show it, as indices, worst first, with the sentence for each.
    convict: Vec<(usize, String)>,
    /// Paths that do not.
    acquit: Acquittal,
    next_test: String,
    /// For the order of findings: how many times too much.
    times: f64,
}

/// Paths that acquit others: the first in words, the rest counted.
#[derive(Default)]
struct Acquittal {
    named: Vec<String>,
    more: usize,
}

impl Acquittal {
    fn of(facts: &Facts<'_>, paths: &[usize], sentence: impl Fn(usize) -> String) -> Self {
        let most = facts.settings.most_evidence;
        let named = paths.iter().take(most).map(|&n| sentence(n)).collect();
        Self { named, more: paths.len().saturating_sub(most) }
    }
}

/// Judges. Pure: the same input gives the same judgement.
pub fn judge(paths: &[PathInput], nodes: &[NodeInput], settings: &Settings) -> Judgement {
    let facts: Vec<PathFacts> = paths.iter().map(|path| PathFacts::of(path, settings)).collect();
    judge_facts(&facts, nodes, settings, &mut |wanted, show| {
        wanted.iter().filter_map(|&n| paths[n].series.as_ref().ok()).for_each(show);
        true
    })
}

/// The same where the series of all paths do not fit into memory together: of each path its facts, and `series`, which shows those
/// of a few paths (by their places in `paths`) again, in any order, when they are to be told as one; it may refuse with `false`.
pub fn judge_facts<'a>(
    paths: &'a [PathFacts],
    nodes: &'a [NodeInput],
    settings: &'a Settings,
    series: &'a mut Fetch<'a>,
) -> Judgement {
    let facts = Facts::gather(paths, nodes, settings, series);
    let silent = silence::accuse(&facts);
    let mut accusations = losses::accuse(&facts, &silent);
    accusations.extend(hosts::accuse(&facts));
    accusations.extend(network::accuse(&facts));
    accusations.extend(unknown::accuse(&facts, &silent));
    accusations.extend(silent);
    accusations.sort_by(|a, b| {
        (b.severity, b.convict.len())
            .cmp(&(a.severity, a.convict.len()))
            .then(b.times.total_cmp(&a.times))
            .then_with(|| a.component.cmp(&b.component))
    });
    let (paths, nodes, verdict) = verdicts::of(&facts, &accusations);
    let findings = accusations.into_iter().map(|a| a.into_finding(settings.most_evidence));
    Judgement { paths, nodes, verdict, findings: findings.collect() }
}

impl Accusation {
    fn into_finding(self, most: usize) -> Finding {
        let counted = |mut list: Vec<String>, more: usize| {
            if more > 0 {
                list.push(format!("and {more} more"));
            }
            list
        };
        let more = self.convict.len().saturating_sub(most);
        let convict = self.convict.into_iter().take(most).map(|(_, text)| text).collect();
        let evidence = Evidence {
            convict: counted(convict, more),
            acquit: counted(self.acquit.named, self.acquit.more),
        };
        Finding {
            severity: self.severity,
            kind: self.kind,
            component: self.component,
            summary: self.summary,
            effect: self.effect,
            evidence,
            next_test: self.next_test,
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
