//! Continuous judgement: what the last minutes say, looked at again and again, and which findings are open since when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use railgauge_core::finding::{Component, Finding, FindingKind, Verdict};
use railgauge_core::path::{NodeName, Path};
use railgauge_core::path_window::Parameters;
use railgauge_core::time::Wall;
use railgauge_core::verdict::{self, Judgement, NodeInput, PathInput, Settings};
use railgauge_report::gather::Gathered;

use crate::clock;
use crate::fleet::Fleet;
use crate::registry::{Node, State};
use crate::store::{Reader, Resolution, Selection, StoreError};
use crate::sweeps::series;

/// What is judged: at 10 probes a second 3,000 samples a path, enough for p99 and its interval.
pub const JUDGED: Duration = Duration::from_secs(300);

/// How often, unless judging takes long: then nine tenths of the time are left to others.
const EVERY: Duration = Duration::from_secs(5);
const SHARE: u32 = 10;

/// Paths judged continuously at most: their series are in memory together. Beyond, sweeps judge.
pub const MOST_PATHS: usize = 4_096;

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
    /// Why there is no judgement, or not of all.
    pub error: Option<String>,
}

/// Judges, and keeps the last judgement.
#[derive(Clone, Debug)]
pub struct Judging {
    fleet: Arc<Fleet>,
    reader: Reader,
    current: Arc<Mutex<Arc<Current>>>,
}

impl Judging {
    /// Nothing judged yet.
    pub fn new(fleet: Arc<Fleet>, reader: Reader) -> Self {
        Self { fleet, reader, current: Arc::default() }
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
        let mut wait = EVERY;
        loop {
            tokio::time::sleep(wait).await;
            let began = clock::now().monotonic;
            let own = self.clone();
            if tokio::task::spawn_blocking(move || own.judge(clock::now().wall)).await.is_err() {
                tracing::error!("the judgement failed; it is tried again");
            }
            let took = clock::now().monotonic.saturating_since(began);
            wait = EVERY.max(took * (SHARE - 1));
        }
    }

    fn judge(&self, now: Wall) {
        let nodes = self.fleet.nodes();
        let next = match gather(&self.reader, now, JUDGED, |_| true) {
            Err(error) => Current { error: Some(error.to_string()), ..Current::default() },
            Ok(paths) if paths.len() > MOST_PATHS => Current {
                error: Some(format!(
                    "{} paths are more than are judged continuously ({MOST_PATHS}): sweeps judge them",
                    paths.len()
                )),
                ..Current::default()
            },
            Ok(paths) => self.judged(&paths, &nodes, now),
        };
        let next = Arc::new(Current { at: Some(now), ..next });
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn judged(&self, measured: &[Measured], nodes: &[Node], now: Wall) -> Current {
        let present = |name: &NodeName| {
            nodes.iter().any(|node| node.hello.node == *name && node.state != State::Left)
        };
        let measured: Vec<&Measured> = measured
            .iter()
            .filter(|m| present(&m.path.src.node) && present(&m.path.dst.node))
            .collect();
        let inputs: Vec<PathInput> = measured.iter().map(|m| m.input()).collect();
        let judgement = verdict::judge(&inputs, &node_inputs(nodes), &Settings::default());
        let paths = measured.iter().zip(&judgement.paths);
        let paths = paths.map(|(m, judged)| (m.path.clone(), judged.verdict)).collect();
        let before = self.current();
        Current {
            at: Some(now),
            verdict: judgement.verdict,
            paths,
            open: followed(&before, &judgement, now),
            nodes: judgement.nodes,
            error: None,
        }
    }
}

fn node_inputs(nodes: &[Node]) -> Vec<NodeInput> {
    let there = nodes.iter().filter(|node| node.state != State::Left);
    let input = |node: &Node| NodeInput {
        name: node.hello.node.clone(),
        absent: (node.state == State::Lost).then(|| "it is not connected".to_owned()),
    };
    there.map(input).collect()
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
    judgement.findings.iter().map(open).collect()
}

/// A path and what was measured on it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub path: Path,
    /// When a probe was lost.
    pub timeout_ns: u64,
    /// All of it.
    pub gathered: Gathered,
    /// Windows in it.
    pub windows: u64,
    /// End of the last.
    pub last_end_unix_ns: u64,
}

impl Measured {
    fn input(&self) -> PathInput {
        PathInput {
            path: self.path.clone(),
            timeout_ns: self.timeout_ns,
            account: self.gathered.account,
            series: Ok(series(&self.gathered)),
        }
    }
}

/// What is in the store about the last `since`. Windows that were probed alike but for the rate are one series; of several sizes or
/// time-outs the one with most probes stands for the path.
///
/// # Errors
/// When the store cannot be read.
pub fn gather(
    reader: &Reader,
    now: Wall,
    since: Duration,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<Measured>, StoreError> {
    let now = now.as_unix_nanos();
    let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let selection = Selection {
        resolution: Resolution::Finest,
        // A clock that is a little ahead is no reason to be left out.
        ..Selection::between(now.saturating_sub(since), now.saturating_add(60_000_000_000))
    };
    let mut found: BTreeMap<(Path, u64, u32), Vec<crate::store::Stored>> = BTreeMap::new();
    reader.each(&selection, |series, stored| {
        if wanted(&series.path) {
            let Parameters { timeout_ns, size_bytes, .. } = series.parameters;
            found.entry((series.path, timeout_ns, size_bytes)).or_default().push(stored);
        }
    })?;
    let mut all: Vec<Measured> = Vec::new();
    for ((path, timeout_ns, _), mut windows) in found {
        windows.sort_by_key(|stored| stored.start_unix_ns);
        let last = windows.last().map_or(0, |last| last.start_unix_ns + last.length_ns);
        let measured = Measured {
            path,
            timeout_ns,
            windows: windows.len() as u64,
            last_end_unix_ns: last,
            gathered: windows.iter().map(|stored| &stored.window).collect(),
        };
        match all.last_mut().filter(|before| before.path == measured.path) {
            Some(before) => {
                if before.gathered.account.sent < measured.gathered.account.sent {
                    *before = measured;
                }
            }
            None => all.push(measured),
        }
    }
    Ok(all)
}
