//! The object of a sweep: what was measured, judged.

use std::collections::BTreeMap;
use std::time::Duration;

use railgauge_core::finding::Verdict;
use railgauge_core::path::{NodeName, Path, Transport};
use railgauge_core::path_window::WindowAccount;
use railgauge_core::quantile::{Outcome as QuantileOutcome, Quantile, summarize};
use railgauge_core::sweep::{Failure, Measurement, NotMeasured as Why, Outcome};
use railgauge_core::verdict::{self, Judgement, NodeInput, PathInput, Series, Settings};
use railgauge_report::doc::{Measures, NotMeasured, Parameters, PathDoc, Sweep};
use railgauge_report::gather::Gathered;

use super::Finished;
use super::again::Again;
use super::drive::{Ended, path};
use super::suite;
use crate::documents::{leave_histograms_out, node_doc, rfc3339};
use crate::fleet::OrderResult;

/// Paths up to which all have their histograms; of more those that are not healthy, up to as many: some 60 MiB.
const WITH_HISTOGRAMS: usize = 4_096;

/// A measurement at a glance, while the sweep runs.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// Probes sent.
    pub sent: u64,
    /// Of them lost.
    pub lost: u64,
    /// The median, where there are samples enough.
    pub p50_ns: Option<u64>,
    /// 99 % of samples are at or under it.
    pub p99_ns: Option<u64>,
}

/// Of a result with windows.
pub fn glance(result: &OrderResult, timeout: Duration) -> Option<Glance> {
    let gathered = gathered(result)?;
    let summary =
        gathered.main_split().map(|(_, parts)| summarize(&parts.network_rtt, nanos(timeout)));
    let value = |quantile: Quantile| {
        let found = summary.as_ref()?.quantiles.iter().find(|q| q.quantile == quantile)?;
        match found.outcome {
            QuantileOutcome::Value { value_ns, .. } => Some(value_ns),
            QuantileOutcome::AtLeast { .. } | QuantileOutcome::Withheld { .. } => None,
        }
    };
    let WindowAccount { sent, lost, .. } = gathered.account;
    Some(Glance { sent, lost, p50_ns: value(Quantile::P50), p99_ns: value(Quantile::P99) })
}

fn gathered(result: &OrderResult) -> Option<Gathered> {
    let batch = result.windows.as_ref()?;
    Some(batch.windows.iter().map(|(_, window)| window).collect())
}

/// Why there are no numbers of it, if there are none.
pub fn why_not(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Measured => None,
        Outcome::Failed(failure) => Some(match failure {
            Failure::NoAnswer { node, within } => {
                format!("no answer from {node} within {:.1} s", within.as_secs_f64())
            }
            other => other.to_string(),
        }),
        Outcome::NotMeasured(why) => Some(why.to_string()),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Measurements, each with all that was measured on its path.
fn measured(ended: &Ended) -> Vec<(Measurement<'_>, Option<Gathered>)> {
    let all = |m: Measurement<'_>| {
        let results = results(ended, &m).filter_map(|result| result.windows.as_ref());
        let mut windows = results.flat_map(|b| b.windows.iter().map(|(_, w)| w)).peekable();
        windows.peek().is_some().then(|| windows.collect())
    };
    ended.run.measurements().map(|m| (m, all(m))).collect()
}

/// What came of a measurement: of the first, and of the second where its path was measured again.
fn results<'e>(ended: &'e Ended, m: &Measurement<'_>) -> impl Iterator<Item = &'e OrderResult> {
    let second = ended.second.as_ref().and_then(|second| {
        let same =
            second.run.measurements().find(|again| (again.src, again.dst) == (m.src, m.dst))?;
        second.results.get(&same.number)
    });
    ended.results.get(&m.number).into_iter().chain(second)
}

/// Who is to be measured again before it is accused.
pub fn stands_out(ended: &Ended) -> Option<Again> {
    let (measured, transport) = (measured(ended), ended.asked.transport);
    let paths: Vec<Path> = measured.iter().map(|(m, _)| path(m.src, m.dst, transport)).collect();
    Again::of(&judge(ended, &measured), &paths)
}

/// Judges and writes it.
pub fn make(ended: &Ended) -> Finished {
    let measured = measured(ended);
    let judgement = judge(ended, &measured);
    let sweep = sweep(ended, &measured, judgement);
    let json = serde_json::to_vec(&sweep).unwrap_or_default();
    Finished { json, verdict: sweep.verdict.as_str().to_owned() }
}

fn judge(ended: &Ended, measured: &[(Measurement<'_>, Option<Gathered>)]) -> Judgement {
    let transport = ended.asked.transport;
    let paths = measured.iter().map(|(m, gathered)| input(m, gathered, transport));
    let paths: Vec<PathInput> = paths.collect();
    let there = ended.asked.nodes.iter().map(|node| (node.hello.node.clone(), None));
    let absent = ended.asked.absent.iter().map(|(name, why)| (name.clone(), Some(why.clone())));
    let nodes: Vec<NodeInput> =
        there.chain(absent).map(|(name, absent)| NodeInput { name, absent }).collect();
    verdict::judge(&paths, &nodes, &Settings::default())
}

fn input(m: &Measurement<'_>, gathered: &Option<Gathered>, transport: Transport) -> PathInput {
    let series = match (gathered, m.outcome) {
        (Some(gathered), _) => Ok(series(gathered)),
        (None, Some(outcome)) => Err(why_not(outcome).unwrap_or_else(|| "no window".to_owned())),
        (None, None) => Err("the sweep ended before its turn".to_owned()),
    };
    PathInput {
        path: path(m.src, m.dst, transport),
        timeout_ns: nanos(suite::timeout(transport)),
        account: gathered.as_ref().map(|g| g.account).unwrap_or_default(),
        series,
    }
}

/// The parts that a path is judged by.
pub fn series(gathered: &Gathered) -> Series {
    gathered.main_split().map_or_else(Series::default, |(source, parts)| Series {
        source: Some(*source),
        network_rtt: parts.network_rtt.clone(),
        prober_delay: parts.prober_delay.clone(),
        responder_delay: parts.responder_delay.clone(),
    })
}

fn sweep(
    ended: &Ended,
    measured: &[(Measurement<'_>, Option<Gathered>)],
    judgement: Judgement,
) -> Sweep {
    let (began, over) = ended.times;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let paths = measured
        .iter()
        .zip(&judgement.paths)
        .map(|((m, gathered), judged)| path_doc(ended, m, gathered.as_ref(), judged.verdict));
    let mut paths: Vec<PathDoc> = paths.collect();
    let again = ended.second.as_ref().filter(|second| !second.results.is_empty());
    let again = again.map(|second| second.again.sentence());
    let validity = again.into_iter().chain(bounded(&mut paths)).collect();
    Sweep {
        id: ended.id.clone(),
        started_at: rfc3339(began),
        finished_at: Some(rfc3339(over)),
        suite: ended.asked.suite.to_owned(),
        verdict: judgement.verdict,
        software_version: crate::VERSION.to_owned(),
        parameters: parameters(ended),
        nodes: nodes(ended, &judgement.nodes),
        rounds: ended.rounds,
        rounds_planned: count(ended.run.announce().rounds),
        duration_ns: over.minus(began).non_negative().unwrap_or(0),
        paths,
        not_measured: not_measured(ended, measured),
        findings: judgement.findings,
        validity,
        error: ended.cancelled.then(|| "cancelled before its end".to_owned()),
        ..Sweep::default()
    }
}

/// Leaves histograms out of the document of a large sweep, and says so.
fn bounded(paths: &mut [PathDoc]) -> Option<String> {
    if paths.len() <= WITH_HISTOGRAMS {
        return None;
    }
    let mut left = WITH_HISTOGRAMS;
    for path in paths.iter_mut() {
        if path.verdict == Verdict::Healthy || left == 0 {
            leave_histograms_out(&mut path.measures);
        } else {
            left -= 1;
        }
    }
    Some(format!(
        "of more than {WITH_HISTOGRAMS} paths only those that are not healthy have histograms, and of those the first \
         {WITH_HISTOGRAMS}: quantiles and counts are those of all samples"
    ))
}

fn path_doc(
    ended: &Ended,
    m: &Measurement<'_>,
    gathered: Option<&Gathered>,
    verdict: Verdict,
) -> PathDoc {
    let (error, transport) = (m.outcome.and_then(why_not), ended.asked.transport);
    let mut measures = match gathered {
        Some(gathered) => gathered.measures(nanos(suite::timeout(transport)), transport),
        None => Measures::none(error.as_deref().unwrap_or("not measured")),
    };
    for result in results(ended, m) {
        // With windows it is a part that is missing; without, it is the path's error.
        if gathered.is_some() && !result.error.is_empty() {
            measures.validity.push(format!("not all was measured: {}", result.error));
        }
        for note in &result.validity {
            if !measures.validity.contains(note) {
                measures.validity.push(note.clone());
            }
        }
    }
    let mut doc = PathDoc::new(&path(m.src, m.dst, transport), verdict, measures);
    doc.round = Some(m.round);
    doc.error = error;
    doc
}

fn parameters(ended: &Ended) -> Parameters {
    let settings = &ended.asked.settings;
    Parameters {
        count: settings.count,
        interval_ns: nanos(settings.interval),
        warmup: settings.warmup,
        timeout_ns: nanos(suite::timeout(ended.asked.transport)),
        size_bytes: settings.size_bytes,
        transport: ended.asked.transport.as_str().to_owned(),
        nodes: ended.request.nodes.clone(),
        max_rounds: settings.max_rounds.and_then(|n| u32::try_from(n).ok()),
        expected: ended.request.expected.clone(),
    }
}

fn nodes(
    ended: &Ended,
    verdicts: &BTreeMap<NodeName, Verdict>,
) -> Vec<railgauge_report::doc::NodeDoc> {
    let verdict = |name: &NodeName| verdicts.get(name).copied().unwrap_or_default();
    let there = ended.asked.nodes.iter().map(|node| node_doc(node, verdict(&node.hello.node)));
    let absent = ended.asked.absent.iter().map(|(name, why)| railgauge_report::doc::NodeDoc {
        name: name.to_string(),
        verdict: Verdict::Unknown,
        state: "absent".to_owned(),
        notes: vec![why.clone()],
        ..Default::default()
    });
    there.chain(absent).collect()
}

/// What has no numbers, gathered by reason.
fn not_measured(
    ended: &Ended,
    measured: &[(Measurement<'_>, Option<Gathered>)],
) -> Vec<NotMeasured> {
    let mut by_reason: BTreeMap<String, usize> = BTreeMap::new();
    for (m, gathered) in measured {
        if gathered.is_none() {
            let reason = m.outcome.and_then(why_not);
            let reason = reason.unwrap_or_else(|| Why::TimeLimit.to_string());
            *by_reason.entry(reason).or_default() += 1;
        }
    }
    let mut list: Vec<NotMeasured> = by_reason
        .into_iter()
        .map(|(reason, paths)| NotMeasured {
            what: if paths == 1 { "1 path".to_owned() } else { format!("{paths} paths") },
            reason,
        })
        .collect();
    let without = ended.run.unmeasurable().map(|(a, b)| NotMeasured {
        what: format!("{a} and {b}"),
        reason: "they have no rail in common".to_owned(),
    });
    list.extend(without);
    list
}
