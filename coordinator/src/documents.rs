//! The JSON documents of the operator API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::finding::Verdict;
use railgauge_core::path::{NodeName, Path, Transport};
use railgauge_core::path_window::{Parameters, PathWindow, Split};
use railgauge_core::quantile::Quantile;
use railgauge_core::selector::Selector;
use railgauge_core::time::Wall;
use railgauge_proto::v1;
use railgauge_report::doc::{
    Aggregate, Findings, Measures, NodeDoc, NodePort, OpenFinding, PathDoc, Paths, RdmaDoc,
};
use railgauge_report::gather::Gathered;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::clock;
use crate::fleet::Fleet;
use crate::judging::{Current, Judging, Measured, of_agent};
use crate::registry::Node;

/// When nobody says: what is judged, too.
const SINCE: Duration = crate::judging::JUDGED;

/// Paths up to which all have their histograms: some 5 MiB.
const WITH_HISTOGRAMS: usize = 512;
/// Of more, the worst that have.
const WORST_WITH_HISTOGRAMS: usize = 64;
/// Paths listed at most, the worst: some 8 MiB.
const LISTED: usize = 2_000;
/// One such document is made at a time, as each takes memory and, of a large fleet, a core for a while.
static ONE: Semaphore = Semaphore::const_new(1);

/// A time as RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(at: Wall) -> String {
    jiff::Timestamp::from_nanosecond(at.as_unix_nanos().into())
        .map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.3}"))
}

/// What documents say of a node.
pub fn node_doc(node: &Node, verdict: Verdict) -> NodeDoc {
    let port = |each: &crate::hello::AgentEndpoint| NodePort {
        port: each.endpoint.port.to_string(),
        rail: each.endpoint.rail,
        address: each.address.to_string(),
    };
    NodeDoc {
        name: node.hello.node.to_string(),
        verdict,
        state: node.state.as_str().to_owned(),
        notes: node.notes(),
        labels: node.hello.labels.clone(),
        version: node.hello.software_version.clone(),
        ports: node.hello.endpoints.iter().map(port).collect(),
    }
}

/// Schema `railgauge/paths/v1`.
///
/// # Errors
/// When the selection is none.
pub async fn paths(
    fleet: &Arc<Fleet>,
    judging: &Judging,
    request: &v1::ListPathsRequest,
) -> Result<Vec<u8>, Status> {
    let selector = Selector::parse(&request.nodes)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let since = if request.since_ns == 0 { SINCE } else { Duration::from_nanos(request.since_ns) };
    let (fleet, judging) = (Arc::clone(fleet), judging.clone());
    // It is never closed.
    let turn = ONE.acquire().await;
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let paths = paths_now(&fleet, &judging, since, &selector);
        serde_json::to_vec(&paths).unwrap_or_default()
    });
    made.await.map_err(|_| Status::internal("the document could not be made: see the log"))
}

/// What the store and the last judgement say.
pub fn paths_now(fleet: &Fleet, judging: &Judging, since: Duration, selector: &Selector) -> Paths {
    let now = clock::now().wall;
    let nodes = fleet.nodes();
    let labels: BTreeMap<&NodeName, &BTreeMap<String, String>> =
        nodes.iter().map(|node| (&node.hello.node, &node.hello.labels)).collect();
    let none = BTreeMap::new();
    let selected = |name: &NodeName| {
        selector.matches(name.as_str(), labels.get(name).copied().unwrap_or(&none))
    };
    let wanted = |path: &Path| selected(&path.src.node) || selected(&path.dst.node);
    let current = judging.current();
    let mut document = Paths {
        at: rfc3339(now),
        since_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        coordinator_version: crate::VERSION.to_owned(),
        nodes: nodes
            .iter()
            .filter(|node| selected(&node.hello.node))
            .map(|node| node_doc(node, verdict_of(&current, &node.hello.node)))
            .collect(),
        ..Paths::default()
    };
    let mut all = Listing::new(&current);
    for node in &nodes {
        let found = of_agent(judging.reader(), &node.hello.node, now, since, wanted);
        match found {
            Ok(measured) => document.by_node.extend(all.agent(&node.hello.node, &measured)),
            Err(error) => {
                document.error = Some(error.to_string());
                break;
            }
        }
    }
    all.fill(&mut document);
    document
}

fn verdict_of(current: &Current, node: &NodeName) -> Verdict {
    current.nodes.get(node).copied().unwrap_or_default()
}

/// How bad a path is; the worst is the largest.
type Rank = (Verdict, u64, u16);

/// Paths on their way into a document: agent by agent, so that memory is that of the worst paths and one agent.
struct Listing<'c> {
    current: &'c Current,
    /// Twice as many as are listed at most.
    worst: Vec<(Rank, PathDoc)>,
    /// Nothing below this is among the worst any more.
    least: Option<Rank>,
    rails: BTreeMap<u16, Sum>,
    fleet: Sum,
}

impl<'c> Listing<'c> {
    fn new(current: &'c Current) -> Self {
        let (rails, fleet) = (BTreeMap::new(), Sum::default());
        Self { current, worst: Vec::new(), least: None, rails, fleet }
    }

    /// Adds the paths from one agent; returns them as one.
    fn agent(&mut self, name: &NodeName, measured: &[Measured]) -> Option<Aggregate> {
        let mut sum = Sum::default();
        for each in measured {
            let verdict = self.current.paths.get(&each.path).copied().unwrap_or_default();
            let merged = merged(&each.gathered);
            sum.push(each, &merged, verdict);
            // What leaves on one rail and arrives on another tells of neither.
            if each.path.src.rail == each.path.dst.rail {
                self.rails.entry(each.path.src.rail).or_default().push(each, &merged, verdict);
            }
            self.fleet.push(each, &merged, verdict);
            let rank = rank(each, verdict);
            if self.least.is_none_or(|least| rank > least) {
                self.worst.push((rank, path_doc(each, verdict)));
                if self.worst.len() >= 2 * LISTED {
                    self.cut(LISTED);
                }
            }
        }
        let verdict = verdict_of(self.current, name);
        (!measured.is_empty()).then(|| sum.aggregate(name.to_string(), verdict))
    }

    fn cut(&mut self, most: usize) {
        self.worst.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        if self.worst.len() > most {
            self.worst.truncate(most);
            self.least = self.worst.last().map(|(rank, _)| *rank);
        }
    }

    fn fill(mut self, document: &mut Paths) {
        let paths = self.fleet.paths;
        if paths > WITH_HISTOGRAMS as u64 {
            self.cut(LISTED);
            for (_, path) in self.worst.iter_mut().skip(WORST_WITH_HISTOGRAMS) {
                leave_histograms_out(&mut path.measures);
            }
            document.by_node.iter_mut().for_each(|node| leave_histograms_out(&mut node.measures));
            let listed = self.worst.len();
            let most = if paths > listed as u64 {
                format!("of {paths} paths the worst {listed} are listed; ")
            } else {
                String::new()
            };
            document.error.get_or_insert_with(|| {
                format!(
                    "{most}of more than {WITH_HISTOGRAMS} paths only the worst {WORST_WITH_HISTOGRAMS}, the rails and the fleet \
                     have histograms: ask for some nodes to have all"
                )
            });
        }
        document.paths = self.worst.into_iter().map(|(_, path)| path).collect();
        document.paths.sort_by(|a, b| (&a.src, &a.dst, a.flow).cmp(&(&b.src, &b.dst, b.flow)));
        let rails = self.rails.into_iter().map(|(rail, sum)| {
            let worst = sum.worst;
            sum.aggregate(format!("rail {rail}"), worst)
        });
        document.by_rail = rails.collect();
        document.fleet =
            (paths > 0).then(|| self.fleet.aggregate("fleet".to_owned(), self.current.verdict));
    }
}

fn left_out(probes: u64) -> Option<String> {
    (probes > 0).then(|| {
        format!(
            "{probes} more probes had another size, time-out or operation: they are in none of these numbers"
        )
    })
}

fn path_doc(measured: &Measured, verdict: Verdict) -> PathDoc {
    let Measured { path, timeout_ns, rdma, gathered, .. } = measured;
    let mut doc = PathDoc::new(path, verdict, gathered.measures(*timeout_ns, path.transport));
    doc.measures.validity.extend(left_out(measured.left_out));
    doc.rdma = rdma.as_ref().map(RdmaDoc::from);
    doc.windows = Some(measured.windows);
    doc.last_window_at = Some(rfc3339(Wall::from_unix_nanos(measured.last_end_unix_ns)));
    doc
}

fn rank(measured: &Measured, verdict: Verdict) -> Rank {
    let gathered = &measured.gathered;
    let main = gathered.main_split().map_or(&gathered.app_rtt, |(_, parts)| &parts.network_rtt);
    let counts = main.total().counts();
    // A bucket's number rises with what is in it.
    let p99 = counts.index_at_rank(Quantile::P99.rank(counts.total()));
    (verdict, gathered.account.lost, p99.unwrap_or(0))
}

/// A document has them empty where they were left out; its error says so.
pub fn leave_histograms_out(measures: &mut Measures) {
    let Measures { network_rtt, app_rtt, prober_delay, responder_delay, .. } = measures;
    for series in [network_rtt, app_rtt, prober_delay, responder_delay].into_iter().flatten() {
        series.hdr_v2 = String::new();
    }
}

/// Windows of many paths, merged exactly. The paths' blocks are not in step, so that each path is one block.
#[derive(Debug, Default)]
struct Sum {
    all: Gathered,
    /// The shortest: no more is known of every probe without a reply.
    timeout_ns: Option<u64>,
    /// Probes of another size or time-out than stands for their path.
    left_out: u64,
    transport: Option<Transport>,
    paths: u64,
    worst: Verdict,
}

impl Sum {
    fn push(&mut self, path: &Measured, merged: &PathWindow, verdict: Verdict) {
        self.all.push(merged);
        self.timeout_ns =
            Some(self.timeout_ns.map_or(path.timeout_ns, |least| least.min(path.timeout_ns)));
        self.left_out += path.left_out;
        self.transport.get_or_insert(path.path.transport);
        self.worst = if self.paths == 0 { verdict } else { self.worst.max(verdict) };
        self.paths += 1;
    }

    fn aggregate(self, name: String, verdict: Verdict) -> Aggregate {
        let transport = self.transport.unwrap_or(Transport::Udp);
        let mut measures = self.all.measures(self.timeout_ns.unwrap_or(0), transport);
        measures.validity.extend(left_out(self.left_out));
        Aggregate { name, paths: self.paths, verdict, measures }
    }
}

fn merged(gathered: &Gathered) -> PathWindow {
    let parameters = Parameters { interval_ns: 0, timeout_ns: 0, size_bytes: 0, rdma: None };
    let splits = gathered.splits.iter().map(|(source, parts)| Split {
        source: *source,
        network_rtt: parts.network_rtt.total().clone(),
        prober_delay: parts.prober_delay.total().clone(),
        responder_delay: parts.responder_delay.total().clone(),
    });
    let completions = gathered.post_to_completion.total();
    PathWindow {
        account: gathered.account,
        app_rtt: gathered.app_rtt.total().clone(),
        splits: splits.collect(),
        post_to_completion: (completions.samples() > 0).then(|| completions.clone()),
        clock_stepped: gathered.clock_stepped,
        ..PathWindow::new(parameters)
    }
}

/// Schema `railgauge/findings/v1`.
pub fn findings(judging: &Judging) -> Vec<u8> {
    serde_json::to_vec(&findings_now(judging)).unwrap_or_default()
}

/// The open findings.
pub fn findings_now(judging: &Judging) -> Findings {
    let current = judging.current();
    let open = |open: &crate::judging::Open| OpenFinding {
        finding: open.finding.clone(),
        first_seen: rfc3339(open.first_seen),
        last_seen: rfc3339(open.last_seen),
    };
    Findings {
        at: rfc3339(current.at.unwrap_or_else(|| clock::now().wall)),
        verdict: current.verdict,
        findings: current.open.iter().map(open).collect(),
        error: match (&current.error, current.at) {
            (None, None) => Some("nothing is judged yet: ask again in some seconds".to_owned()),
            (error, _) => error.clone(),
        },
        ..Findings::default()
    }
}
