//! A coordinator in this process and agents that speak the bare wire to it.

use std::net::SocketAddr;

use railgauge_core::histogram::Recorder;
use railgauge_core::path_window::{Parameters, PathWindow};
use railgauge_core::settings::read;
use railgauge_proto::v1::agents_client::AgentsClient;
use railgauge_proto::v1::operator_client::OperatorClient;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::config::{Config, Layer};
use crate::hello::tests::example;
use crate::server::{self, Running};

/// A start of windows that is not too old to be stored, the same at every call.
pub fn recent() -> u64 {
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *START.get_or_init(|| {
        let now = crate::clock::now().wall.as_unix_nanos();
        // Windows begin at multiples of their length.
        now - now % 10_000_000_000 - 20_000_000_000
    })
}

/// A batch of one window with `replies` of 1,000 ns and up, from `agent`.
pub fn batch(agent: &str, replies: u64) -> v1::WindowBatch {
    let at = |node: &str| v1::Endpoint { node: node.into(), port: "eth0".into(), rail: 0 };
    let mut recorder = Recorder::new();
    (0..replies).for_each(|n| recorder.record(1_000 + n));
    let parameters = Parameters {
        interval_ns: 1_000_000,
        timeout_ns: 1_000_000_000,
        size_bytes: 44,
        rdma: None,
    };
    let mut window = PathWindow::new(parameters);
    window.app_rtt = recorder.drain();
    window.account.scheduled = replies;
    window.account.sent = replies;
    window.account.received = replies;
    v1::WindowBatch {
        agent: agent.into(),
        instance: 1,
        first_sequence: 0,
        start_unix_ns: recent(),
        length_ns: 10_000_000_000,
        plan_epoch: 1,
        paths: vec![v1::Path {
            src: Some(at(agent)),
            dst: Some(at("z")),
            transport: v1::Transport::Udp.into(),
            memory: v1::Memory::Host.into(),
            flow: 0,
            dscp: 0,
        }],
        windows: vec![convert::window_message(0, &window)],
    }
}

pub(crate) struct Coordinator {
    pub(crate) running: Running,
    pub(crate) dir: tempfile::TempDir,
}

/// With these lines more.
pub(crate) fn config(dir: &std::path::Path, more: &str) -> Config {
    let text = format!(
        "insecure = true\nlisten = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\nstate_dir = {:?}\n{more}",
        dir.display().to_string()
    );
    let layer: Layer = read("test", &text).unwrap();
    Config::of(&layer, &Layer::default())
}

async fn coordinator_with(limits: Limits) -> Coordinator {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "lease = \"3s\"\n");
    Coordinator { running: server::start(config, limits).await.unwrap(), dir }
}

pub(crate) async fn coordinator() -> Coordinator {
    coordinator_with(Limits::default()).await
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("nothing came within 20 s")
}

pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub(crate) struct Agent {
    pub(crate) to: Option<mpsc::Sender<v1::AgentMessage>>,
    from: Streaming<v1::CoordinatorMessage>,
    /// The newest epoch of its keys, and that of its plan.
    held: (u64, u64),
}

impl Agent {
    async fn open(address: SocketAddr) -> Self {
        let mut client = AgentsClient::new(channel(address).await);
        let (to, messages) = mpsc::channel(64);
        let answer = client.session(ReceiverStream::new(messages)).await.unwrap();
        Self { to: Some(to), from: answer.into_inner(), held: (0, 0) }
    }

    pub(crate) async fn hello(address: SocketAddr, hello: v1::Hello) -> Self {
        let agent = Self::open(address).await;
        agent.say(From::Hello(hello)).await;
        agent
    }

    /// An agent that was welcomed.
    pub(crate) async fn joined(address: SocketAddr, name: &str, last: u8) -> Self {
        let mut agent = Self::hello(address, example(name, last)).await;
        assert!(matches!(agent.next().await, Ok(To::Welcome(_))));
        agent
    }

    pub(crate) async fn say(&self, message: From) {
        let message = v1::AgentMessage { message: Some(message) };
        self.to.as_ref().unwrap().send(message).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Option<Result<v1::CoordinatorMessage, Status>> {
        self.from.next().await
    }

    /// The next message; keys are confirmed, and a plan is in force as soon as it is here.
    pub(crate) async fn next(&mut self) -> Result<To, Status> {
        match within(self.from.next()).await {
            Some(Ok(message)) => {
                let message = message.message.expect("a message of this version");
                match &message {
                    To::ProbeKeys(told) => {
                        let epochs = told.keys.iter().filter_map(|given| given.key.as_ref());
                        self.held.0 = epochs.map(|key| key.epoch).max().unwrap_or(0);
                    }
                    To::Plan(plan) => self.held.1 = plan.epoch,
                    _ => return Ok(message),
                }
                if let Some(to) = &self.to {
                    let (probe_key_epoch, plan_epoch) = self.held;
                    let sent_at_unix_ns = crate::clock::now().wall.as_unix_nanos();
                    let beat = v1::Heartbeat {
                        sent_at_unix_ns,
                        probe_key_epoch,
                        plan_epoch,
                        ..Default::default()
                    };
                    let message = v1::AgentMessage { message: Some(From::Heartbeat(beat)) };
                    // The stream may have ended behind what is read now.
                    drop(to.send(message).await);
                }
                Ok(message)
            }
            Some(Err(status)) => Err(status),
            None => Err(Status::ok("the end")),
        }
    }

    /// The next message that `wanted` takes.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(To) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the stream goes on");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    pub(crate) async fn plan(&mut self) -> v1::Plan {
        self.until(|m| if let To::Plan(plan) = m { Some(plan) } else { None }).await
    }

    pub(crate) async fn acknowledgement(&mut self) -> v1::Acknowledgement {
        self.until(|m| if let To::Acknowledgement(a) = m { Some(a) } else { None }).await
    }

    /// How the stream ends.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

pub(crate) async fn nodes(address: SocketAddr) -> Vec<v1::Node> {
    let mut client = OperatorClient::new(channel(address).await);
    client.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes
}

async fn until_state(address: SocketAddr, name: &str, state: v1::NodeState) {
    within(async {
        while !nodes(address).await.iter().any(|n| n.name == name && n.state() == state) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_agents_get_a_plan_of_each_other_and_it_is_renewed() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    let mut b = Agent::joined(c.running.grpc, "b", 2).await;
    b.plan().await;
    // The last of those that come until all have confirmed their keys.
    let mut plan = v1::Plan::default();
    let renewed = loop {
        match a.next().await.unwrap() {
            To::Plan(next) => plan = next,
            To::LeaseRenewal(renewal) if !plan.targets.is_empty() => break renewal,
            _ => {}
        }
    };
    assert_eq!(renewed.epoch, plan.epoch);
    assert_eq!((plan.targets.len(), plan.lease_ns), (1, 3_000_000_000));
    let target = &plan.targets[0];
    assert_eq!((target.address.as_str(), target.port), ("127.0.0.2", 862));
    // Membership changes: another plan, of a later epoch.
    drop(b.to.take());
    assert_eq!(b.end().await.code(), Code::Ok);
    let next = a.plan().await;
    assert!(next.epoch > plan.epoch && next.targets.is_empty());
    let listed = nodes(c.running.grpc).await;
    assert_eq!(listed[1].state(), v1::NodeState::Left);
    assert_eq!((listed[0].state(), listed[0].restarts), (v1::NodeState::Connected, 0));
    c.running.stop().await;
}

#[tokio::test]
async fn windows_are_acknowledged_once_stored_and_replays_change_nothing() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    for _ in 0..2 {
        a.say(From::Batch(batch("a", 5))).await;
        let told = a.acknowledgement().await;
        let key = v1::BatchKey { instance: 1, first_sequence: 0, windows: 1 };
        assert_eq!((told.stored.as_slice(), told.refused.len()), (&[key][..], 0));
    }
    let received = c.running.ingest.with_store(|store| {
        let totals = store.reader().totals().unwrap();
        totals.stored.values().map(|counts| counts.received).sum::<u64>()
    });
    assert_eq!(received.await, Ok(5));
    let node = &nodes(c.running.grpc).await[0];
    assert_eq!((node.windows_ingested, node.windows_refused), (1, 0));
    c.running.stop().await;
}

#[tokio::test]
async fn lies_and_damage_are_refused_with_a_reason_and_the_stream_goes_on() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    let lying_name = batch("b", 5);
    let mut contradicting = batch("a", 5);
    contradicting.windows[0].account.as_mut().unwrap().received = 4;
    let mut undecodable = batch("a", 5);
    undecodable.windows[0].app_rtt.as_mut().unwrap().hdr_v2[3] ^= 1;
    for (bad, reason) in [
        (lying_name, "it names \"b\" as its recorder, and came from a"),
        (contradicting, "window 0 contradicts itself: sent 5 is not received 4"),
        (undecodable, "app_rtt does not decode"),
    ] {
        a.say(From::Batch(bad)).await;
        let told = a.acknowledgement().await;
        assert!(told.refused[0].reason.contains(reason), "{}", told.refused[0].reason);
    }
    a.say(From::Batch(batch("a", 5))).await;
    assert_eq!(a.acknowledgement().await.stored.len(), 1);
    let node = &nodes(c.running.grpc).await[0];
    assert_eq!((node.windows_ingested, node.windows_refused), (1, 3));
    let said = |note: &String| note.contains("app_rtt does not decode");
    assert!(node.notes.iter().any(said), "{:?}", node.notes);
    c.running.stop().await;
}

#[tokio::test]
async fn an_oversized_message_ends_its_own_stream_only() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    let mut b = Agent::joined(c.running.grpc, "b", 2).await;
    let mut large = batch("a", 5);
    large.windows[0].app_rtt.as_mut().unwrap().hdr_v2 = vec![0; railgauge_proto::MAX_MESSAGE];
    a.say(From::Batch(large)).await;
    let status = a.end().await;
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    b.say(From::Batch(batch("b", 5))).await;
    assert_eq!(b.acknowledgement().await.stored.len(), 1);
    c.running.stop().await;
}

#[tokio::test]
async fn protocols_one_minor_apart_work() {
    let ours = v1::Protocol { major: 1, minor: 3 };
    let c = coordinator_with(Limits { protocol: ours, ..Limits::default() }).await;
    for (last, (major, minor), fits) in [
        (1, (1, 2), true),
        (2, (1, 4), true),
        (3, (1, 1), false),
        (4, (1, 5), false),
        (5, (2, 3), false),
    ] {
        let mut hello = example(&format!("n{last}"), last);
        hello.protocol = Some(v1::Protocol { major, minor });
        let mut agent = Agent::hello(c.running.grpc, hello).await;
        match agent.next().await {
            Ok(To::Welcome(welcome)) if fits => assert_eq!(welcome.protocol, Some(ours)),
            Err(status) if !fits => {
                assert_eq!(status.code(), Code::FailedPrecondition);
                let (theirs, ours) = (format!("protocol {major}.{minor}"), "coordinator 1.3");
                let said = status.message();
                assert!(said.contains(&theirs) && said.contains(ours), "{said}");
            }
            other => panic!("{major}.{minor}: {other:?}"),
        }
    }
    c.running.stop().await;
}

#[tokio::test]
async fn what_is_no_hello_is_not_served() {
    let c =
        coordinator_with(Limits { hello: Duration::from_millis(100), ..Limits::default() }).await;
    let mut silent = Agent::open(c.running.grpc).await;
    let status = silent.end().await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "no hello came within 100ms");
    let mut hasty = Agent::open(c.running.grpc).await;
    hasty.say(From::Batch(batch("a", 1))).await;
    assert_eq!(hasty.end().await.code(), Code::InvalidArgument);
    let mut malformed = example("a", 1);
    malformed.node = "a b".into();
    let mut malformed = Agent::hello(c.running.grpc, malformed).await;
    let status = malformed.end().await;
    assert!(status.message().starts_with("malformed hello: \"a b\" is no node name"), "{status:?}");
    let mut twice = Agent::joined(c.running.grpc, "a", 1).await;
    twice.say(From::Hello(example("a", 1))).await;
    assert_eq!(twice.end().await.code(), Code::InvalidArgument);
    c.running.stop().await;
}

#[tokio::test]
async fn a_name_belongs_to_one_machine_and_a_newer_stream_replaces_the_older() {
    let c = coordinator().await;
    let mut first = Agent::joined(c.running.grpc, "a", 1).await;
    let mut second = Agent::hello(c.running.grpc, example("a", 2)).await;
    let status = second.end().await;
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("in use by another machine"), "{status:?}");
    let mut again = Agent::joined(c.running.grpc, "a", 1).await;
    let status = first.end().await;
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.message(), "replaced by a newer stream of the same agent");
    again.say(From::Batch(batch("a", 5))).await;
    assert_eq!(again.acknowledgement().await.stored.len(), 1);
    c.running.stop().await;
}

#[tokio::test]
async fn a_cut_connection_is_forgiven_until_the_lease_and_the_name_is_free_after_it() {
    let c = coordinator().await;
    let grpc = c.running.grpc;
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = relay.local_addr().unwrap();
    let relaying = tokio::spawn(async move {
        let (mut from, _) = relay.accept().await.unwrap();
        let mut to = TcpStream::connect(grpc).await.unwrap();
        drop(copy_bidirectional(&mut from, &mut to).await);
    });
    let _cut = Agent::joined(through, "a", 1).await;
    relaying.abort();
    until_state(grpc, "a", v1::NodeState::Reconnecting).await;
    until_state(grpc, "a", v1::NodeState::Lost).await;
    let _taken_over = Agent::joined(grpc, "a", 2).await;
    c.running.stop().await;
}

#[tokio::test]
async fn a_stream_without_heartbeats_is_lost_though_it_is_open() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    assert_eq!(a.end().await.code(), Code::DeadlineExceeded);
    until_state(c.running.grpc, "a", v1::NodeState::Lost).await;
    c.running.stop().await;
}

#[tokio::test]
async fn orders_are_answered_by_whom_they_were_given_to() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    let b = Agent::joined(c.running.grpc, "b", 2).await;
    let name = NodeName::new("a").unwrap();
    let order = |order| v1::SweepOrder { sweep_id: "s1".into(), order, ..Default::default() };
    let waiting = c.running.fleet.order(&name, order(1)).unwrap();
    let told = a.until(|m| if let To::SweepOrder(o) = m { Some(o) } else { None }).await;
    assert_eq!(told.order, 1);
    let mut windows = batch("a", 5);
    windows.length_ns = 1_000_000_000;
    let result = v1::SweepResult {
        sweep_id: "s1".into(),
        order: 1,
        windows: Some(windows),
        ..Default::default()
    };
    // Another node's answer does not count.
    b.say(From::SweepResult(result.clone())).await;
    a.say(From::SweepResult(result)).await;
    let result = within(waiting.result()).await.unwrap();
    assert_eq!(result.windows.unwrap().windows[0].1.account.received, 5);
    // The stream ends before the answer: whoever waits hears of it at once.
    let waiting = c.running.fleet.order(&name, order(2)).unwrap();
    drop(a);
    assert_eq!(within(waiting.result()).await.unwrap_err().to_string(), "a is not connected");
    assert!(c.running.fleet.order(&NodeName::new("nobody").unwrap(), order(3)).is_err());
    c.running.stop().await;
}

#[tokio::test]
async fn a_stop_stores_what_has_come_and_says_so() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    a.say(From::Batch(batch("a", 5))).await;
    // The batch has been read once its heartbeat has.
    let heartbeat = v1::Heartbeat { plan_epoch: 7, ..Default::default() };
    a.say(From::Heartbeat(heartbeat)).await;
    within(async {
        let plan_epoch = || c.running.fleet.nodes()[0].health.plan_epoch;
        while plan_epoch() != 7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let stopped = tokio::spawn(c.running.stop());
    assert_eq!(a.acknowledgement().await.stored.len(), 1);
    let status = a.end().await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("the coordinator is stopping"), "{status:?}");
    timeout(Duration::from_secs(5), stopped).await.unwrap().unwrap();
}
