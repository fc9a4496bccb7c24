//! The JSON documents of the operator API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::finding::Verdict;
use railgauge_core::path::{NodeName, Path};
use railgauge_core::path_window::PathWindow;
use railgauge_core::selector::Selector;
use railgauge_core::time::Wall;
use railgauge_proto::v1;
use railgauge_report::doc::{Aggregate, Findings, NodeDoc, NodePort, OpenFinding, PathDoc, Paths};
use railgauge_report::gather::Gathered;
use tonic::Status;

use crate::clock;
use crate::fleet::Fleet;
use crate::judging::{Current, Judging, Measured, gather};
use crate::registry::{Node, State};

/// When nobody says: what is judged, too.
const SINCE: Duration = crate::judging::JUDGED;

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
    let state = match node.state {
        State::Connected => "connected",
        State::Reconnecting => "reconnecting",
        State::Lost => "lost",
        State::Left => "left",
    };
    NodeDoc {
        name: node.hello.node.to_string(),
        verdict,
        state: state.to_owned(),
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
    let made = tokio::task::spawn_blocking(move || {
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
    match gather(judging.reader(), now, since, wanted) {
        Ok(measured) => fill(&mut document, &measured, &current),
        Err(error) => document.error = Some(error.to_string()),
    }
    document
}

fn verdict_of(current: &Current, node: &NodeName) -> Verdict {
    current.nodes.get(node).copied().unwrap_or_default()
}

fn fill(document: &mut Paths, measured: &[Measured], current: &Current) {
    for each in measured {
        let measures = each.gathered.measures(each.timeout_ns, each.path.transport);
        let verdict = current.paths.get(&each.path).copied().unwrap_or_default();
        let mut path = PathDoc::new(&each.path, verdict, measures);
        path.windows = Some(each.windows);
        path.last_window_at = Some(rfc3339(Wall::from_unix_nanos(each.last_end_unix_ns)));
        document.paths.push(path);
    }
    let mut by_node: BTreeMap<&NodeName, Vec<&Measured>> = BTreeMap::new();
    let mut by_rail: BTreeMap<u16, Vec<&Measured>> = BTreeMap::new();
    for each in measured {
        by_node.entry(&each.path.src.node).or_default().push(each);
        by_rail.entry(each.path.src.rail).or_default().push(each);
    }
    let nodes = by_node
        .into_iter()
        .map(|(name, paths)| aggregate(name.to_string(), verdict_of(current, name), &paths));
    document.by_node = nodes.collect();
    let rails = by_rail
        .into_iter()
        .map(|(rail, paths)| aggregate(format!("rail {rail}"), worst(current, &paths), &paths));
    document.by_rail = rails.collect();
    let all: Vec<&Measured> = measured.iter().collect();
    document.fleet =
        (!all.is_empty()).then(|| aggregate("fleet".to_owned(), current.verdict, &all));
}

fn worst(current: &Current, paths: &[&Measured]) -> Verdict {
    let verdicts = paths.iter().filter_map(|each| current.paths.get(&each.path).copied());
    verdicts.max().unwrap_or_default()
}

/// The same windows, merged exactly. The paths' blocks are not in step, so that each path is one block.
fn aggregate(name: String, verdict: Verdict, paths: &[&Measured]) -> Aggregate {
    let mut all = Gathered::default();
    let (mut timeout_ns, mut transport) = (0, None);
    for each in paths {
        all.push(&merged(&each.gathered));
        timeout_ns = timeout_ns.max(each.timeout_ns);
        transport = transport.or(Some(each.path.transport));
    }
    let transport = transport.unwrap_or(railgauge_core::path::Transport::Udp);
    Aggregate {
        name,
        paths: paths.len() as u64,
        verdict,
        measures: all.measures(timeout_ns, transport),
    }
}

fn merged(gathered: &Gathered) -> PathWindow {
    let parameters =
        railgauge_core::path_window::Parameters { interval_ns: 0, timeout_ns: 0, size_bytes: 0 };
    let splits = gathered.splits.iter().map(|(source, parts)| railgauge_core::path_window::Split {
        source: *source,
        network_rtt: parts.network_rtt.total().clone(),
        prober_delay: parts.prober_delay.total().clone(),
        responder_delay: parts.responder_delay.total().clone(),
    });
    PathWindow {
        account: gathered.account,
        app_rtt: gathered.app_rtt.total().clone(),
        splits: splits.collect(),
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
