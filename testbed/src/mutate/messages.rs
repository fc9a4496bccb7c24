//! What must hold when a coordinator or an agent gets any message.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use prost::Message as _;
use railgauge_agent::daemon::checks;
use railgauge_coordinator::clock::Now;
use railgauge_coordinator::fleet::Fleet;
use railgauge_coordinator::hello;
use railgauge_coordinator::store::Counts;
use railgauge_core::path_window::PathWindow;
use railgauge_core::probe_keys::AcceptedKeys;
use railgauge_core::time::{Monotonic, Wall};
use railgauge_proto::convert::{self, Batch};
use railgauge_proto::v1::agent_message::Message as FromAgent;
use railgauge_proto::v1::coordinator_message::Message as FromCoordinator;
use railgauge_proto::{protocol, v1};
use railgauge_report::gather::Gathered;

use super::{Outcomes, count, seeds};

/// Reads `octets` as what an agent says, and counts what became of it.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_agent_message(octets: &[u8], outcomes: &mut Outcomes) {
    let what = match v1::AgentMessage::decode(octets).map(|message| message.message) {
        Err(_) => "no message",
        Ok(None) => "empty",
        Ok(Some(FromAgent::Hello(from))) => said_hello(from),
        Ok(Some(FromAgent::Batch(batch))) => match convert::batch(&batch) {
            Err(_) => "batch refused",
            Ok(batch) => {
                check_batch(&batch);
                "batch taken"
            }
        },
        Ok(Some(FromAgent::SweepResult(result))) => sent_result(result),
        Ok(Some(FromAgent::Heartbeat(heartbeat))) => {
            let (fleet, node) = fleet();
            let session = fleet.nodes()[0].session.expect("it has just come");
            let sent_at = Wall::from_unix_nanos(heartbeat.sent_at_unix_ns);
            assert!(fleet.heard(&node, session, Some(sent_at), now(2)));
            fleet.is_skewed(&node);
            fleet.tick(now(3));
            "heartbeat"
        }
    };
    count(outcomes, what);
}

fn now(seconds: u64) -> Now {
    let wall = Wall::from_unix_nanos(seeds::AT + seconds * 1_000_000_000);
    Now { monotonic: Monotonic::from_nanos(seconds * 1_000_000_000), wall }
}

/// A fleet with one node, that of the seeds.
fn fleet() -> (Arc<Fleet>, railgauge_core::path::NodeName) {
    let fleet = Arc::new(Fleet::new(Duration::from_secs(10)));
    let hello = hello::check(seeds::hello()).expect("ours is one");
    let node = hello.node.clone();
    // Its stream stays open as far as the registry knows.
    let (_, mailbox) = fleet.join(hello, now(1)).expect("nobody else is there");
    std::mem::forget(mailbox);
    (fleet, node)
}

fn said_hello(from: v1::Hello) -> &'static str {
    let (major, minor) = (from.protocol.map(|p| p.major), from.protocol.map(|p| p.minor));
    let theirs = (from.protocol.as_ref(), from.software_version.as_str());
    if let Err(error) = protocol::fit((Some(&protocol::OURS), "0"), theirs) {
        assert!(
            error.to_string().len() < 2_000 + from.software_version.len(),
            "{major:?} {minor:?}"
        );
    }
    let Ok(hello) = hello::check(from) else { return "hello refused" };
    assert!(hello.endpoints.iter().all(|each| each.endpoint.node == hello.node));
    let texts = hello.labels.iter().flat_map(|(name, value)| [name, value]);
    for text in texts.chain([&hello.boot_id, &hello.software_version]) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let fleet = Fleet::new(Duration::from_secs(10));
    let joined = fleet.join(hello.clone(), now(1)).is_ok();
    let again = fleet.join(hello, now(2)).is_ok();
    assert!(!joined || again, "who was let in is let in again");
    "hello taken"
}

/// A result on the session that was asked for it.
fn sent_result(result: v1::SweepResult) -> &'static str {
    let (fleet, node) = fleet();
    let session = fleet.nodes()[0].session.expect("it has just come");
    let order = v1::SweepOrder {
        sweep_id: result.sweep_id.clone(),
        order: result.order,
        ..v1::SweepOrder::default()
    };
    let awaiting = fleet.order(&node, order).expect("it is there");
    assert!(fleet.result(&node, session, result), "somebody waits for it");
    let mut answer = pin!(awaiting.result());
    let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the result is not there");
    };
    let answer = answer.expect("its stream is open");
    assert!(answer.error.len() <= 4_096, "{} octets of error", answer.error.len());
    assert!(answer.validity.iter().chain([&answer.error]).all(|t| !t.contains('\u{1b}')));
    match answer.windows {
        None => "result without windows",
        Some(batch) => {
            assert_eq!(batch.agent, node);
            check_batch(&batch);
            "result taken"
        }
    }
}

fn check_batch(batch: &Batch) {
    let counts = Counts::of_batch(batch);
    assert_eq!(counts.windows, batch.windows.len() as u64);
    let (mut gathered, mut last) = (Gathered::default(), None);
    for (path, window) in &batch.windows {
        let path = &batch.paths[*path];
        window.check().expect("what is taken can be true");
        assert_eq!(&again(window), window);
        // What the store keeps of it, however often it came: read back, it must not look like damage.
        let mut merged = window.clone();
        for _ in 0..3 {
            merged.merge(&merged.clone());
        }
        merged.check().expect("sums of what can be true can be true");
        assert_eq!(again(&merged), merged);
        gathered.push(window);
        gathered.push(&merged);
        last = Some((window.parameters.timeout_ns, path.transport));
    }
    if let Some((timeout_ns, transport)) = last {
        drop(gathered.measures(timeout_ns, transport));
    }
}

/// As it comes back from the wire and from the store.
fn again(window: &PathWindow) -> PathWindow {
    let octets = convert::window_message(0, window).encode_to_vec();
    let message = v1::Window::decode(&*octets).expect("what we write we read");
    convert::window(0, &message).expect("what we write can be true")
}

/// Reads `octets` as what a coordinator says, and counts what became of it.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_coordinator_message(octets: &[u8], outcomes: &mut Outcomes) {
    let what = match v1::CoordinatorMessage::decode(octets).map(|message| message.message) {
        Err(_) => "no message",
        Ok(None) => "empty",
        Ok(Some(FromCoordinator::Plan(plan))) => got_plan(&plan),
        Ok(Some(FromCoordinator::ProbeKeys(keys))) => got_keys(&keys),
        Ok(Some(FromCoordinator::SweepOrder(order))) => got_order(&order),
        Ok(Some(FromCoordinator::Welcome(welcome))) => {
            let theirs = (welcome.protocol.as_ref(), welcome.software_version.as_str());
            match protocol::fit((Some(&protocol::OURS), "0"), theirs) {
                Ok(_) => "welcome",
                Err(error) => {
                    assert!(!checks::printable(&error.to_string()).chars().any(char::is_control));
                    "welcome refused"
                }
            }
        }
        Ok(Some(_)) => "other",
    };
    count(outcomes, what);
}

/// Where the agent of the seeds answers.
fn ours() -> Vec<checks::Own> {
    let endpoint = seeds::path(0).src.expect("it has one");
    let own = SocketAddr::from(([127, 0, 0, 1], 862));
    vec![checks::Own::plain(
        convert::endpoint(Some(&endpoint)).expect("ours is one"),
        own.ip(),
        own,
    )]
}

fn got_plan(plan: &v1::Plan) -> &'static str {
    let ours = ours();
    let (lanes, left_out) = checks::lanes(&plan.targets, &ours);
    let left = left_out.as_ref().map_or(0, |(_, count)| *count);
    assert_eq!(lanes.len() + left, plan.targets.len(), "each is probed or left out");
    let memory: usize = lanes.iter().map(|l| railgauge_agent::mesh::memory_of(&l.setup)).sum();
    assert!(memory <= 256 << 20, "{memory} octets");
    assert!(lanes.iter().all(|lane| lane.setup.authenticated == lane.key.is_some()));
    for lane in lanes.iter().map(|lane| &lane.setup) {
        assert_eq!(lane.path.src, ours[0].endpoint);
        assert!(lane.interval >= Duration::from_micros(100) && lane.size <= 8_972, "{lane:?}");
        assert!(!lane.timeout.is_zero() && lane.timeout <= Duration::from_secs(60), "{lane:?}");
        assert!(!lane.peer.ip().is_multicast() && lane.peer.port() > 0, "{lane:?}");
    }
    match left_out {
        Some((why, _)) => {
            assert!(why.len() <= 800 && !why.chars().any(char::is_control), "{why:?}");
            if lanes.is_empty() { "plan left out" } else { "plan in part" }
        }
        None if lanes.is_empty() => "plan of nothing",
        None => "plan taken",
    }
}

fn got_keys(keys: &v1::ProbeKeys) -> &'static str {
    let (given, others) = keys.read();
    assert_eq!(given.len() + others, keys.keys.len(), "each is a key or none");
    let (mut accepted, at) = (AcceptedKeys::default(), now(1));
    accepted.take(given, keys.forget_from_epoch, at.monotonic);
    let text = accepted.write(at.monotonic, at.wall);
    let again = AcceptedKeys::read(text.as_bytes(), at.monotonic, at.wall);
    let again = again.expect("what we write we read");
    assert!(again.epochs().eq(accepted.epochs()) && accepted.keys().len() <= 16);
    if accepted.newest_given() > 0 { "keys taken" } else { "keys refused" }
}

fn got_order(order: &v1::SweepOrder) -> &'static str {
    let ours = ours();
    match checks::order(order, &ours) {
        Err(_) => "order refused",
        Ok((path, config)) => {
            assert_eq!(path.src, ours[0].endpoint);
            assert!(config.interval >= Duration::from_micros(10) && config.count > 0);
            assert!(!config.timeout.is_zero() && config.timeout <= Duration::from_secs(60));
            "order taken"
        }
    }
}
