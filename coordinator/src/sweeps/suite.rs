//! What the suites run, and on whom.

use std::collections::BTreeMap;
use std::time::Duration;

use railgauge_core::path::{NodeName, Transport};
use railgauge_core::selector::{Piece, Selector};
use railgauge_core::sweep::SweepSettings;
use railgauge_proto::v1;
use tonic::Status;

use crate::planning::READ_BYTES;
use crate::registry::{Node, State};

/// Probes a measurement sends before those that count.
const WARMUP: u64 = 50;

/// Between probes: a rate that every NIC and thread keeps up with, and that gives p99.9 after 4 s.
const INTERVAL: Duration = Duration::from_millis(1);

/// When a packet of a sweep is lost.
const TIMEOUT: Duration = Duration::from_secs(1);

/// When a probe of a sweep over this transport is lost: on a connection, after all that it does about loss.
pub fn timeout(transport: Transport) -> Duration {
    crate::planning::timeout_over(transport, TIMEOUT)
}

/// A STAMP packet with our telemetry.
const SIZE_BYTES: u32 = 72;

/// The same, authenticated. Where some nodes cannot be asked so, they are sent as much: paths of one size can be compared.
pub const AUTHENTICATED_BYTES: u32 = 160;

/// What an agent may take, beside probing, until its result is here: a connection that is slow, a machine that is busy.
const ANSWER: Duration = Duration::from_secs(3);

/// A suite: its name, the probes that count on each path, and what carries them.
const SUITES: [(&str, u64, Transport); 3] = [
    ("quick", 2_000, Transport::Udp),
    ("sockets", 10_000, Transport::Udp),
    ("rdma", 2_000, Transport::RdmaRc),
];

/// A sweep that was asked for and can be.
#[derive(Debug)]
pub struct Asked {
    /// What it runs.
    pub suite: &'static str,
    /// Over what.
    pub transport: Transport,
    /// How.
    pub settings: SweepSettings,
    /// Who takes part.
    pub nodes: Vec<Node>,
    /// Who should and cannot, with the reason.
    pub absent: Vec<(NodeName, String)>,
}

/// Understands a request.
///
/// # Errors
/// With a sentence for what cannot be.
pub fn understand(request: &v1::StartSweepRequest, fleet: Vec<Node>) -> Result<Asked, Status> {
    let name = if request.suite.is_empty() { "quick" } else { &request.suite };
    let found = SUITES.into_iter().find(|(known, ..)| *known == name);
    let (suite, count, transport) = found.ok_or_else(|| {
        let name: String = crate::hello::printable(name).chars().take(60).collect();
        let known = SUITES.map(|(name, ..)| name).join(", ");
        Status::invalid_argument(format!(
            "{name:?} is no suite of this coordinator: there are {known}"
        ))
    })?;
    let selector = Selector::parse(&request.nodes)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    for piece in selector.pieces() {
        selects_somebody(piece, &fleet, &request.expected)?;
    }
    let (mut nodes, mut absent) = (Vec::new(), Vec::new());
    for node in fleet {
        let name = &node.hello.node;
        if !selector.matches(name.as_str(), &node.hello.labels) {
            continue;
        }
        // Who said goodbye was stopped on purpose: it is missed by whoever names it, or expects it.
        let is_it = |piece: &Piece| matches!(piece, Piece::Name(text) if text == name.as_str());
        let is_missed = selector.pieces().iter().any(is_it)
            || request.expected.iter().any(|expected| expected == name.as_str());
        if node.state == State::Left && !is_missed {
            continue;
        }
        match why_absent(&node, transport) {
            None => nodes.push(node),
            Some(why) => absent.push((name.clone(), why.to_owned())),
        }
    }
    for name in &request.expected {
        let name = NodeName::new(name)
            .map_err(|error| Status::invalid_argument(format!("expected: {error}")))?;
        let known = nodes.iter().any(|node| node.hello.node == name)
            || absent.iter().any(|(absent, _)| *absent == name);
        if !known {
            absent.push((name, "expected, and never heard of".to_owned()));
        }
    }
    let mut settings = SweepSettings {
        count,
        warmup: WARMUP,
        interval: INTERVAL,
        size_bytes: if transport == Transport::RdmaRc { READ_BYTES } else { SIZE_BYTES },
        measurement_limit: Duration::ZERO,
        whole_limit: None,
        max_rounds: usize::try_from(request.max_rounds).ok().filter(|rounds| *rounds > 0),
    };
    settings.measurement_limit = settings.probing_time() + timeout(transport) * 2 + ANSWER;
    Ok(Asked { suite, transport, settings, nodes, absent })
}

/// A name that was mistyped must not become a sweep of the rest.
fn selects_somebody(piece: &Piece, fleet: &[Node], expected: &[String]) -> Result<(), Status> {
    let is_known =
        fleet.iter().any(|node| piece.matches(node.hello.node.as_str(), &node.hello.labels));
    if is_known || expected.iter().any(|name| piece.matches(name, &BTreeMap::new())) {
        return Ok(());
    }
    let text = match piece {
        Piece::Name(name) => name.clone(),
        Piece::Label { label, value } => format!("{label}={value}"),
    };
    let text: String = text.chars().take(300).collect();
    Err(Status::invalid_argument(format!(
        "{text:?} selects no node of the fleet: `railgauge nodes` lists them"
    )))
}

fn why_absent(node: &Node, transport: Transport) -> Option<&'static str> {
    let endpoints = &node.hello.endpoints;
    let answers = || endpoints.iter().any(|each| each.reached_by(transport).is_some());
    match node.state {
        State::Connected if endpoints.is_empty() => Some("it names no endpoint"),
        State::Connected if !answers() => Some("no endpoint of it has an rdma_device"),
        State::Connected => None,
        State::Reconnecting => Some("its stream ended a moment ago"),
        State::Lost => Some("it is not connected"),
        State::Left => Some("it has left the fleet"),
    }
}
