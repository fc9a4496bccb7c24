//! Continuous judgement: what the last minutes say, looked at again and again, and which findings are open since when.
//!
//! **Memory.** Windows are read agent by agent; of each path only its facts are kept, about 1 KiB. Small fleets keep their series as well.
//! In larger ones the few that several paths are told as one by are read again.
//!
//! **Share.** After each piece of work nine times as long is left to others. So a pass over a large fleet takes minutes, and its
//! agents are read at different times of them: each over the same length of time.

mod measured;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use railgauge_core::finding::{Component, Finding, FindingKind, Verdict};
use railgauge_core::path::{NodeName, Path};
use railgauge_core::path_window::WindowAccount;
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::verdict::{self, Judgement, NodeInput, PathFacts, PathInput, Series, Settings};
use railgauge_proto::convert;
use tokio::sync::watch;

use crate::clock;
use crate::fleet::Fleet;
use crate::planning::Plans;
use crate::registry::{Node, State};
use crate::store::{Reader, StoreError};
use crate::sweeps::series;
pub use measured::{Measured, of_agent};

/// What is judged: at 10 probes a second 3,000 samples a path, enough for p99 and its interval.
pub const JUDGED: Duration = Duration::from_secs(300);

/// A planned path without a window for so long is told: windows take 10 s, their way some more, and an agent that comes back has
/// older ones to deliver first.
const OVERDUE: Duration = Duration::from_secs(60);

/// How often at most.
const EVERY: Duration = Duration::from_secs(5);
/// One of so many parts of a core's time goes to judgement.
const SHARE: u32 = 10;
/// Work without a pause: shorter than what anybody who shares the core would notice.
const PIECE: Duration = Duration::from_millis(50);

/// Paths that are judged at most: a GiB of facts. A fleet of 64 targets by agent would have 15,000 nodes.
const MOST_PATHS: usize = 1_000_000;
/// Paths whose series stay in memory, some 50 KiB each at 10 probes a second.
const KEPT_SERIES: usize = 512;
/// Agents that are read again for series told as one, at least; else as many as there are. Where so many are accused that this
/// does not do, the rest is judged by the medians of single paths, which accuses less.
const READ_AGAIN: usize = 256;
/// Paths that are told as the worst.
const WORST: usize = 10;
/// Findings that are kept; more are counted.
const MOST_FINDINGS: usize = 1_000;

/// What identifies a finding over time.
type Key = (FindingKind, Component);

/// A finding and since when.
#[derive(Clone, Debug)]
pub struct Open {
    /// As judged last.
    pub finding: Finding,
    /// When it was first judged so, without a break since.
    pub first_seen: Wall,
    /// When last.
    pub last_seen: Wall,
}

/// The last judgement.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// When; `None` before the first.
    pub at: Option<Wall>,
    /// Of the fleet.
    pub verdict: Verdict,
    /// Worst first.
    pub open: Vec<Open>,
    /// Of each path.
    pub paths: BTreeMap<Path, Verdict>,
    /// Of each node.
    pub nodes: BTreeMap<NodeName, Verdict>,
    /// The paths with the highest p99 of network RTT, the highest first.
    pub worst: Vec<Worst>,
    /// Why there is no judgement, or not of all.
    pub error: Option<String>,
}

/// A path with its network RTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worst {
    /// Which.
    pub path: Path,
    /// At p50, p90 and p99, nanoseconds; none where losses decide.
    pub network_rtt_ns: [Option<u64>; 3],
}

/// Judges, and keeps the last judgement.
#[derive(Clone, Debug)]
pub struct Judging {
    fleet: Arc<Fleet>,
    reader: Reader,
    plans: watch::Receiver<Arc<Plans>>,
    current: Arc<Mutex<Arc<Current>>>,
}

/// Planned paths that had no window when they were last looked for, and since when.
type Overdue = HashMap<Path, Monotonic>;

impl Judging {
    /// Nothing judged yet.
    pub fn new(fleet: Arc<Fleet>, reader: Reader, plans: watch::Receiver<Arc<Plans>>) -> Self {
        Self { fleet, reader, plans, current: Arc::default() }
    }

    /// The last judgement.
    pub fn current(&self) -> Arc<Current> {
        // It is replaced whole.
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where windows are read from.
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Judges until the task is ended.
    pub async fn run(self) {
        let mut overdue = Overdue::new();
        loop {
            tokio::time::sleep(EVERY).await;
            overdue = self.pass(overdue).await;
        }
    }

    /// One look at everything.
    async fn pass(&self, overdue: Overdue) -> Overdue {
        let nodes: Arc<[Node]> = self.fleet.nodes().into();
        let mut work = Work::new(self.reader.clone(), Arc::clone(&nodes), overdue);
        let began = clock::now().monotonic;
        while work.error.is_none() && !work.agents.is_empty() {
            let Some((after, took)) = piece(work, Work::read_some).await else {
                return Overdue::new();
            };
            work = after;
            tokio::time::sleep(took * (SHARE - 1)).await;
        }
        let own = self.clone();
        let plans = Arc::clone(&self.plans.borrow());
        let judge = move |work: &mut Work| {
            work.miss(&plans, &nodes, began, clock::now().monotonic);
            own.judge(work, &nodes, clock::now().wall);
        };
        let Some((work, took)) = piece(work, judge).await else { return Overdue::new() };
        tokio::time::sleep((took * (SHARE - 1)).saturating_sub(EVERY)).await;
        work.overdue
    }

    fn judge(&self, work: &mut Work, nodes: &[Node], now: Wall) {
        let before = self.current();
        let next = match work.error.take() {
            // What was found is not over because nobody can look; but nobody knows that all is well.
            Some(error) => Current {
                at: before.at,
                verdict: before.verdict.max(Verdict::Unknown),
                open: before.open.clone(),
                error: Some(error),
                ..Current::default()
            },
            None => {
                let judgement = work.judgement(nodes, now);
                let paths = work.facts.iter().zip(&judgement.paths);
                let more = judgement.findings.len().saturating_sub(MOST_FINDINGS);
                Current {
                    at: Some(now),
                    verdict: judgement.verdict,
                    paths: paths.map(|(facts, j)| (facts.path().clone(), j.verdict)).collect(),
                    open: followed(&before, &judgement, now),
                    nodes: judgement.nodes,
                    worst: worst(&work.facts),
                    error: (more > 0).then(|| {
                        format!(
                            "{more} more findings are not listed: the worst {MOST_FINDINGS} are"
                        )
                    }),
                }
            }
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// Works in a thread of its own, and tells how long that took; `None` after a panic.
async fn piece(
    mut work: Work,
    act: impl FnOnce(&mut Work) + Send + 'static,
) -> Option<(Work, Duration)> {
    let done = tokio::task::spawn_blocking(move || {
        let began = clock::now().monotonic;
        act(&mut work);
        (work, clock::now().monotonic.saturating_since(began))
    });
    let done = done.await;
    if done.is_err() {
        tracing::error!("the judgement failed; it is tried again");
    }
    done.ok()
}

/// A pass under way.
struct Work {
    reader: Reader,
    /// Agents that are still to be read, last first.
    agents: Vec<NodeName>,
    present: BTreeSet<NodeName>,
    facts: Vec<PathFacts>,
    /// Of as many of the first paths as are kept.
    series: Vec<Series>,
    most_series: usize,
    overdue: Overdue,
    settings: Settings,
    error: Option<String>,
}

impl Work {
    fn new(reader: Reader, nodes: Arc<[Node]>, overdue: Overdue) -> Self {
        let there = nodes.iter().filter(|node| node.state != State::Left);
        let present: BTreeSet<NodeName> = there.map(|node| node.hello.node.clone()).collect();
        Self {
            reader,
            agents: present.iter().rev().cloned().collect(),
            present,
            facts: Vec::new(),
            series: Vec::new(),
            most_series: KEPT_SERIES,
            overdue,
            settings: Settings::default(),
            error: None,
        }
    }

    /// Reads agents until a piece of work is done.
    fn read_some(&mut self) {
        let began: Monotonic = clock::now().monotonic;
        while let Some(agent) = self.agents.pop() {
            if let Err(error) = self.read(&agent) {
                self.error = Some(error.to_string());
            } else if self.facts.len() > MOST_PATHS {
                self.error = Some(format!(
                    "there are more than {MOST_PATHS} paths, which are not judged continuously: sweeps judge them"
                ));
            }
            let took = clock::now().monotonic.saturating_since(began);
            if self.error.is_some() || took >= PIECE {
                return;
            }
        }
    }

    fn read(&mut self, agent: &NodeName) -> Result<(), StoreError> {
        let wanted = |path: &Path| self.present.contains(&path.dst.node);
        let now = clock::now().wall;
        for measured in of_agent(&self.reader, agent, now, JUDGED, wanted)? {
            let input = measured.input();
            self.facts.push(PathFacts::of(&input, &self.settings));
            if self.series.len() < self.most_series
                && let Ok(series) = input.series
            {
                self.series.push(series);
            }
        }
        Ok(())
    }

    /// Adds the planned paths that should have had a window long ago, so that what a node does not measure is not taken for well.
    /// `began` is when the first agent was read. A node from which nothing comes at all is told as such elsewhere.
    fn miss(&mut self, plans: &Plans, nodes: &[Node], began: Monotonic, now: Monotonic) {
        if self.error.is_some() {
            return;
        }
        let connected = nodes.iter().filter(|node| node.state == State::Connected);
        let connected: BTreeSet<&NodeName> = connected.map(|node| &node.hello.node).collect();
        let mut measured: BTreeMap<&NodeName, BTreeSet<&Path>> = BTreeMap::new();
        for facts in &self.facts {
            measured.entry(&facts.path().src.node).or_default().insert(facts.path());
        }
        let (mut missing, mut overdue) = (Vec::new(), Overdue::new());
        for (agent, targets) in &plans.targets {
            let Some(measured) = measured.get(agent).filter(|_| connected.contains(agent)) else {
                continue;
            };
            for target in targets {
                let Some(Ok(path)) = target.path.as_ref().map(convert::path) else { continue };
                if measured.contains(&path) || !self.present.contains(&path.dst.node) {
                    continue;
                }
                let since = self.overdue.get(&path).copied().unwrap_or(now);
                overdue.insert(path.clone(), since);
                if began.saturating_since(since) >= OVERDUE {
                    missing.push(without_windows(path, target.timeout_ns));
                }
            }
        }
        self.overdue = overdue;
        self.facts.extend(missing.iter().map(|input| PathFacts::of(input, &self.settings)));
    }

    fn judgement(&mut self, nodes: &[Node], now: Wall) -> Judgement {
        let (facts, kept) = (&self.facts, std::mem::take(&mut self.series));
        let mut left = READ_AGAIN.max(self.present.len());
        let mut show = |wanted: &[usize], see: &mut dyn FnMut(&Series)| {
            // Facts without series come last.
            if wanted.iter().all(|&n| n < kept.len()) {
                wanted.iter().for_each(|&n| see(&kept[n]));
                return true;
            }
            let paths: BTreeSet<&Path> = wanted.iter().map(|&n| facts[n].path()).collect();
            let agents: BTreeSet<&NodeName> = paths.iter().map(|path| &path.src.node).collect();
            if agents.len() > left {
                return false;
            }
            left -= agents.len();
            let mut read = Vec::new();
            for agent in agents {
                let own = |path: &Path| paths.contains(path);
                match of_agent(&self.reader, agent, now, JUDGED, own) {
                    Ok(measured) => read.extend(measured.iter().map(|m| series(&m.gathered))),
                    Err(error) => {
                        tracing::warn!(%error, "windows cannot be read again to be judged");
                        return false;
                    }
                }
            }
            read.iter().for_each(see);
            true
        };
        verdict::judge_facts(facts, &node_inputs(nodes, facts), &self.settings, &mut show)
    }
}

fn worst(facts: &[PathFacts]) -> Vec<Worst> {
    let mut ranked: Vec<(u64, &PathFacts)> =
        facts.iter().filter_map(|facts| Some((facts.network_rtt()[2]?, facts))).collect();
    let by_p99 = |(p99, facts): &(u64, &PathFacts)| (std::cmp::Reverse(*p99), facts.path().clone());
    if ranked.len() > WORST {
        // Of many paths, few are worth sorting.
        ranked.select_nth_unstable_by_key(WORST - 1, |(p99, _)| std::cmp::Reverse(*p99));
        ranked.truncate(WORST);
    }
    ranked.sort_by_key(by_p99);
    let told = |(_, facts): (u64, &PathFacts)| Worst {
        path: facts.path().clone(),
        network_rtt_ns: facts.network_rtt(),
    };
    ranked.into_iter().map(told).collect()
}

fn without_windows(path: Path, timeout_ns: u64) -> PathInput {
    let why = format!(
        "it is planned, and no window of it has come for {} s: the log of the agent on {} says why",
        OVERDUE.as_secs(),
        path.src.node
    );
    PathInput { path, timeout_ns, account: WindowAccount::default(), series: Err(why) }
}

/// A node that is connected and records nothing is not known to be well because others reach it: its own probes may fail, its disk be
/// full, its clock wrong.
fn node_inputs(nodes: &[Node], facts: &[PathFacts]) -> Vec<NodeInput> {
    let recording: BTreeSet<&NodeName> = facts.iter().map(|path| &path.path().src.node).collect();
    let there: Vec<&Node> = nodes.iter().filter(|node| node.state != State::Left).collect();
    let alone = there.len() < 2;
    let absent = |node: &Node| match node.state {
        State::Lost => Some("it is not connected".to_owned()),
        _ if alone || recording.contains(&node.hello.node) => None,
        _ => Some(format!(
            "no window of a path from it that can be used has come for {} s",
            JUDGED.as_secs()
        )),
    };
    let input = |node: &&Node| NodeInput { name: node.hello.node.clone(), absent: absent(node) };
    there.iter().map(input).collect()
}

fn followed(before: &Current, judgement: &Judgement, now: Wall) -> Vec<Open> {
    let key = |finding: &Finding| -> Key { (finding.kind, finding.component.clone()) };
    let since: BTreeMap<Key, Wall> =
        before.open.iter().map(|open| (key(&open.finding), open.first_seen)).collect();
    let open = |finding: &Finding| Open {
        finding: finding.clone(),
        first_seen: since.get(&key(finding)).copied().unwrap_or(now),
        last_seen: now,
    };
    judgement.findings.iter().take(MOST_FINDINGS).map(open).collect()
}

#[cfg(test)]
mod tests;
