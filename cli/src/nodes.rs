//! `railgauge nodes`: who is there, and what the coordinator thinks of them.

use std::collections::BTreeMap;

use railgauge_proto::v1::{self, NodeState};
use railgauge_report::number::{count, counted, latency};
use serde::Serialize;

use crate::args::{AskArgs, NodesArgs, Output};
use crate::columns::{Columns, wrap};
use crate::remote::{Remote, RemoteError, refuse, rfc3339};
use crate::{Exit, output};

const SCHEMA: &str = "railgauge/nodes/v1";

/// What `--output json` prints (contract).
#[derive(Debug, Serialize)]
struct Nodes {
    schema: &'static str,
    coordinator: String,
    coordinator_version: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    state: &'static str,
    ports: Vec<Port>,
    labels: BTreeMap<String, String>,
    version: String,
    connected_at: Option<String>,
    last_heard_at: Option<String>,
    clock_skew_ns: i64,
    windows_ingested: u64,
    windows_refused: u64,
    windows_in_spool: u64,
    windows_dropped: u64,
    windows_unrecorded: u64,
    restarts: u32,
    reboots: u32,
    cpu_permille: u32,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Port {
    port: String,
    rail: u32,
    address: String,
}

/// Runs the command.
pub(crate) fn run(args: &NodesArgs) -> Exit {
    match ask(&args.ask) {
        Ok(nodes) => {
            let exit = exit_of(&nodes.nodes);
            match args.ask.output {
                Output::Json => output::json(&nodes, exit),
                Output::Table => output::result(&table(&nodes), exit),
            }
        }
        Err(error) => refuse("nodes", SCHEMA, args.ask.output, &error, Exit::from(&error)),
    }
}

fn ask(args: &AskArgs) -> Result<Nodes, RemoteError> {
    let remote = Remote::asked(args)?;
    let answer = remote.nodes()?;
    let mut nodes: Vec<Node> = answer.nodes.into_iter().map(Node::from).collect();
    nodes.sort_by(|a, b| (rank(a.state), &a.name).cmp(&(rank(b.state), &b.name)));
    Ok(Nodes {
        schema: SCHEMA,
        coordinator: remote.url().to_owned(),
        coordinator_version: answer.coordinator_version,
        nodes,
    })
}

impl From<v1::Node> for Node {
    fn from(node: v1::Node) -> Self {
        let state = state(node.state());
        let ports = node.endpoints.into_iter().map(|at| {
            let endpoint = at.endpoint.unwrap_or_default();
            Port { port: endpoint.port, rail: endpoint.rail, address: at.address }
        });
        Self {
            state,
            ports: ports.collect(),
            name: node.name,
            labels: node.labels.into_iter().collect(),
            version: node.software_version,
            connected_at: rfc3339(node.connected_at_unix_ns),
            last_heard_at: rfc3339(node.last_heard_unix_ns),
            clock_skew_ns: node.clock_skew_ns,
            windows_ingested: node.windows_ingested,
            windows_refused: node.windows_refused,
            windows_in_spool: node.windows_in_spool,
            windows_dropped: node.windows_dropped,
            windows_unrecorded: node.windows_unrecorded,
            restarts: node.restarts,
            reboots: node.reboots,
            cpu_permille: node.cpu_permille,
            notes: node.notes,
        }
    }
}

const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Connected => "connected",
        NodeState::Reconnecting => "reconnecting",
        NodeState::Lost => "lost",
        NodeState::Left => "left",
        NodeState::Unspecified => "unknown",
    }
}

/// The worst first.
fn rank(state: &str) -> u8 {
    match state {
        "lost" => 0,
        "reconnecting" => 1,
        "unknown" => 2,
        "connected" => 3,
        _ => 4,
    }
}

/// A node that is lost makes the fleet degraded; with nobody connected nothing is known of it. One that said goodbye was sent away.
fn exit_of(nodes: &[Node]) -> Exit {
    let any = |states: &[&str]| nodes.iter().any(|node| states.contains(&node.state));
    match () {
        () if any(&["lost", "reconnecting"]) => Exit::Degraded,
        () if any(&["unknown"]) || !any(&["connected"]) => Exit::Unmeasured,
        () => Exit::Healthy,
    }
}

fn table(nodes: &Nodes) -> String {
    let mut text = String::new();
    wrap(&mut text, "", &head(nodes));
    if nodes.nodes.is_empty() {
        let way = "no agent has joined: start railgauge-agent on the nodes with this coordinator's address, and look at its log";
        wrap(&mut text, "", way);
        return text;
    }
    let mut columns = Columns::new(&[
        "NODE",
        "STATE",
        "PORT",
        "RAIL",
        "ADDRESS",
        "VERSION",
        "SKEW",
        "LAST HEARD",
        "WINDOWS",
    ])
    .right_from(8);
    for node in &nodes.nodes {
        rows(&mut columns, node, &nodes.coordinator_version);
    }
    text.push('\n');
    text + &columns.text()
}

fn head(nodes: &Nodes) -> String {
    let mut states: Vec<String> = Vec::new();
    for state in ["lost", "reconnecting", "unknown", "connected", "left"] {
        let number = nodes.nodes.iter().filter(|node| node.state == state).count();
        if number > 0 {
            states.push(format!("{} {state}", count(number as u64)));
        }
    }
    let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    let all = counted(nodes.nodes.len(), "node");
    format!("{all}{states}; coordinator {} at {}", nodes.coordinator_version, nodes.coordinator)
}

/// One row a port; what is the node's own stands in the first.
fn rows(columns: &mut Columns, node: &Node, coordinator_version: &str) {
    let dash = || "-".to_owned();
    let mut own = [
        node.name.clone(),
        node.state.to_owned(),
        node.version.split(' ').next().filter(|v| !v.is_empty()).map_or_else(dash, str::to_owned),
        skew(node),
        node.last_heard_at.clone().unwrap_or_else(dash),
        count(node.windows_ingested),
    ];
    let mut ports = node.ports.iter();
    let mut port = ports.next();
    loop {
        let [name, state, version, skew, heard, windows] = std::mem::take(&mut own);
        let [at, rail, address] = port.map_or_else(
            || [dash(), dash(), dash()],
            |port| [port.port.clone(), port.rail.to_string(), port.address.clone()],
        );
        columns.row(vec![name, state, at, rail, address, version, skew, heard, windows]);
        port = ports.next();
        if port.is_none() {
            break;
        }
    }
    for line in lines(node, coordinator_version) {
        columns.line("  ", &line);
    }
}

fn skew(node: &Node) -> String {
    if node.last_heard_at.is_none() {
        return "-".to_owned();
    }
    let sign = if node.clock_skew_ns < 0 { '-' } else { '+' };
    format!("{sign}{}", latency(node.clock_skew_ns.unsigned_abs()))
}

/// What is worth saying of a node beside its ports.
fn lines(node: &Node, coordinator_version: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if !node.labels.is_empty() {
        let labels: Vec<_> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        lines.push(format!("labels {}", labels.join(", ")));
    }
    let windows = [
        ("refused", node.windows_refused),
        ("in the spool", node.windows_in_spool),
        ("dropped", node.windows_dropped),
        ("unrecorded", node.windows_unrecorded),
    ];
    let windows: Vec<_> = windows
        .into_iter()
        .filter(|(_, number)| *number > 0)
        .map(|(what, number)| format!("{} {what}", count(number)))
        .collect();
    if !windows.is_empty() {
        lines.push(format!("windows {}", windows.join(", ")));
    }
    if !node.version.is_empty() && node.version != coordinator_version {
        lines.push(format!("its version is {}, not the coordinator's", node.version));
    }
    let begun = [("restart", node.restarts), ("reboot", node.reboots)];
    let begun = begun.into_iter().filter(|(_, number)| *number > 0);
    let begun: Vec<_> = begun.map(|(what, number)| counted(number as usize, what)).collect();
    if !begun.is_empty() {
        lines.push(begun.join(", "));
    }
    lines.extend(node.notes.iter().cloned());
    if node.state == "lost" {
        let way =
            "see `systemctl status railgauge-agent` there, its log, and its way to the coordinator";
        lines.push(way.to_owned());
    }
    lines
}
