//! Sweeps of a coordinator in this process, over real connections, with agents that answer orders without measuring.

use std::fs;
use std::net::SocketAddr;

use railgauge_core::finding::{ComponentKind, FindingKind, Verdict};
use railgauge_core::histogram::Recorder;
use railgauge_core::path_window::{Parameters, PathWindow, Split};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_proto::convert;
use railgauge_proto::v1::agent_message::Message as From;
use railgauge_proto::v1::coordinator_message::Message as To;
use railgauge_proto::v1::operator_client::OperatorClient;
use railgauge_report::doc::Sweep as Doc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;

use super::*;
use crate::config::Layer;
use crate::session::tests::{Agent, channel, coordinator, within};
use v1::sweep_event::Event;

/// How an agent does its orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// At once; delays of so many times the usual.
    Answers(u64),
    /// Never.
    Silent,
    /// Says why it cannot.
    Refuses,
    /// Sends what another path measured.
    Lies,
    /// Its stream ends at its second order.
    Leaves,
}

fn canned(order: &v1::SweepOrder, times: u64, lie: bool) -> v1::SweepResult {
    let target = order.target.as_ref().unwrap();
    let mut path = target.path.clone().unwrap();
    let agent = path.src.as_ref().unwrap().node.clone();
    if lie {
        path.dst.as_mut().unwrap().node = "elsewhere".into();
    }
    let windows = (0..2u64).map(|second| {
        let replies = order.count / 2;
        let mut recorders = [0; 4].map(|_| Recorder::new());
        for n in 0..replies {
            let noise = (n * 7_919 + second) % 5_000;
            for (recorder, usual) in recorders.iter_mut().zip([180_000, 40_000, 90_000, 50_000]) {
                recorder.record(usual * if usual == 40_000 { times } else { 1 } + noise);
            }
        }
        let [app_rtt, network_rtt, prober_delay, responder_delay] =
            recorders.each_mut().map(Recorder::drain);
        let parameters = Parameters {
            interval_ns: target.interval_ns,
            timeout_ns: target.timeout_ns,
            size_bytes: target.size_bytes,
            rdma: None,
        };
        let mut window = PathWindow::new(parameters);
        window.app_rtt = app_rtt;
        let kernel = StampSource::Kernel;
        let source = TimestampSource { t1: kernel, t2: kernel, t3: kernel, t4: kernel };
        window.splits.push(Split { source, network_rtt, prober_delay, responder_delay });
        window.account.scheduled = replies;
        window.account.sent = replies;
        window.account.received = replies;
        convert::window_message(0, &window)
    });
    let windows = v1::WindowBatch {
        agent,
        instance: 1,
        first_sequence: 0,
        start_unix_ns: 20_000_000_000,
        length_ns: 1_000_000_000,
        plan_epoch: 0,
        windows: windows.collect(),
        paths: vec![path],
    };
    v1::SweepResult {
        sweep_id: order.sweep_id.clone(),
        order: order.order,
        windows: Some(windows),
        error: String::new(),
        validity: Vec::new(),
    }
}

/// An agent that is connected, and lives as long as its task.
async fn agent(address: SocketAddr, name: &str, last: u8, manner: Manner) -> JoinHandle<()> {
    let mut agent = Agent::joined(address, name, last).await;
    tokio::spawn(async move {
        let mut orders = 0;
        // Until the stream ends; a lease without messages in between is kept by heartbeats.
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            let message = tokio::select! {
                message = agent.receive() => message,
                _ = beat.tick() => {
                    agent.say(From::Heartbeat(v1::Heartbeat::default())).await;
                    continue;
                }
            };
            let Some(Ok(message)) = message else { return };
            let Some(To::SweepOrder(order)) = message.message else { continue };
            orders += 1;
            let result = match manner {
                Manner::Answers(times) => canned(&order, times, false),
                Manner::Lies => canned(&order, 1, true),
                Manner::Silent => continue,
                Manner::Leaves if orders > 1 => return,
                Manner::Leaves => canned(&order, 1, false),
                Manner::Refuses => v1::SweepResult {
                    windows: None,
                    error: "no thread is free".into(),
                    ..canned(&order, 1, false)
                },
            };
            agent.say(From::SweepResult(result)).await;
        }
    })
}

fn asked(nodes: &str) -> v1::StartSweepRequest {
    v1::StartSweepRequest { nodes: nodes.into(), suite: "quick".into(), ..Default::default() }
}

type Stream = tonic::Streaming<v1::SweepEvent>;

async fn started(address: SocketAddr, request: v1::StartSweepRequest) -> Result<Stream, Status> {
    let mut client = OperatorClient::new(channel(address).await);
    Ok(client.start_sweep(request).await?.into_inner())
}

async fn next(stream: &mut Stream) -> Event {
    within(stream.next()).await.unwrap().unwrap().event.unwrap()
}

/// All events but the last, and the document.
async fn to_the_end(mut stream: Stream) -> (Vec<Event>, Doc) {
    let mut events = Vec::new();
    loop {
        match next(&mut stream).await {
            Event::Finished(finished) => {
                return (events, serde_json::from_slice(&finished.json).unwrap());
            }
            event => events.push(event),
        }
    }
}

async fn swept(manners: &[Manner], request: v1::StartSweepRequest) -> (Vec<Event>, Doc) {
    let c = coordinator().await;
    let mut agents = Vec::new();
    for (manner, last) in manners.iter().zip(1u8..) {
        agents.push(agent(c.running.grpc, &format!("n{last}"), last, *manner).await);
    }
    let found = to_the_end(started(c.running.grpc, request).await.unwrap()).await;
    c.running.stop().await;
    found
}

const FINE: Manner = Manner::Answers(1);

#[tokio::test]
async fn four_healthy_nodes_are_measured_in_three_rounds() {
    let (events, doc) = swept(&[FINE; 4], asked("")).await;
    let Event::Announced(announced) = &events[0] else { panic!("{events:?}") };
    assert_eq!((announced.nodes, announced.rounds, announced.measurements), (4, 3, 12));
    let done = events.iter().filter(|event| matches!(event, Event::PairDone(_))).count();
    assert_eq!(done, 12);
    assert_eq!((doc.verdict, doc.rounds, doc.paths.len()), (Verdict::Healthy, 3, 12));
    assert!(doc.findings.is_empty() && doc.not_measured.is_empty() && doc.error.is_none());
    let p50 = doc.paths[0].measures.network_rtt.as_ref().unwrap();
    assert_eq!(p50.count, 2_000);
}

#[tokio::test]
async fn two_nodes_and_one_are_swept_and_what_cannot_be_said_is_said() {
    let (_, doc) = swept(&[FINE; 2], asked("")).await;
    assert_eq!((doc.paths.len(), doc.verdict), (2, Verdict::Unknown));
    assert!(doc.findings[0].summary.contains("with two nodes"), "{:?}", doc.findings);
    let (_, doc) = swept(&[FINE], asked("")).await;
    assert_eq!((doc.paths.len(), doc.verdict), (0, Verdict::Unknown));
}

#[tokio::test]
async fn a_slow_node_is_named() {
    let manners = [FINE, FINE, FINE, Manner::Answers(40)];
    let (_, doc) = swept(&manners, asked("")).await;
    let top = &doc.findings[0];
    assert_eq!((top.component.kind, top.component.name.as_str()), (ComponentKind::Node, "n4"));
}

/// Before it is accused, whoever stands out is measured again with two who do not; nobody is where nobody does.
#[tokio::test]
async fn who_stands_out_is_measured_again_with_good_partners() {
    let manners = [FINE, FINE, FINE, Manner::Answers(40)];
    let (events, doc) = swept(&manners, asked("")).await;
    let sentence = "n4 stood out and was measured again with n1 and n2, which did not";
    assert!(doc.validity.iter().any(|said| said.starts_with(sentence)), "{:?}", doc.validity);
    let sent = |src: &str, dst: &str| {
        let path = doc.paths.iter().find(|path| path.src_node == src && path.dst_node == dst);
        path.unwrap().measures.counts.sent
    };
    let once = sent("n3", "n1");
    for (a, b) in [("n4", "n1"), ("n1", "n4"), ("n4", "n2"), ("n2", "n4")] {
        assert_eq!(sent(a, b), 2 * once, "{a} > {b}");
    }
    assert_eq!((sent("n4", "n3"), doc.rounds, doc.rounds_planned), (once, 3, 3));
    let last = events.iter().rev().find_map(|event| match event {
        Event::PairDone(pair) => Some((pair.done, pair.measurements)),
        _ => None,
    });
    assert_eq!(last, Some((18, 18)));
    let (_, doc) = swept(&[FINE, FINE, FINE, FINE], asked("")).await;
    assert_eq!(doc.validity, Vec::<String>::new());
}

#[tokio::test]
async fn who_refuses_or_lies_costs_its_own_measurements() {
    let (_, doc) = swept(&[FINE, FINE, FINE, Manner::Refuses, Manner::Lies], asked("")).await;
    let of = |from: &'static str| doc.paths.iter().filter(move |path| path.src_node == from);
    assert!(of("n4").all(|path| path.error.as_ref().unwrap().contains("no thread is free")));
    assert!(of("n5").all(|path| path.error.as_ref().unwrap().contains("of another path")));
    assert!(of("n1").chain(of("n2")).all(|path| path.error.is_none()));
    assert!(doc.findings.iter().all(|f| f.kind == FindingKind::NoData), "{:?}", doc.findings);
    assert_eq!(doc.not_measured.len(), 2, "{:?}", doc.not_measured);
}

#[tokio::test]
async fn who_leaves_midway_is_away_and_the_others_go_on() {
    let (_, doc) = swept(&[FINE, FINE, FINE, Manner::Leaves], asked("")).await;
    assert_eq!(doc.rounds_planned, 3);
    let fine = doc.paths.iter().filter(|p| p.src_node != "n4" && p.dst_node != "n4");
    assert_eq!(fine.filter(|path| path.error.is_none()).count(), 6);
    let lost = doc.paths.iter().filter(|path| path.error.is_some()).count();
    assert!((2..=5).contains(&lost), "{lost}");
}

#[tokio::test]
async fn who_never_answers_is_held_out_after_one_limit() {
    let (_, doc) = swept(&[FINE, FINE, FINE, Manner::Silent], asked("")).await;
    let of = |path: &&railgauge_report::doc::PathDoc| path.src_node == "n4";
    let errors: Vec<&str> =
        doc.paths.iter().filter(of).map(|p| p.error.as_deref().unwrap()).collect();
    assert_eq!(errors.len(), 3);
    assert_eq!(errors.iter().filter(|e| e.contains("no answer from n4")).count(), 1, "{errors:?}");
    assert!(doc.paths.iter().filter(|path| path.src_node != "n4").all(|path| path.error.is_none()));
}

#[tokio::test]
async fn a_dry_run_announces_and_nothing_is_kept() {
    let c = coordinator().await;
    let _a = agent(c.running.grpc, "a", 1, Manner::Silent).await;
    let _b = agent(c.running.grpc, "b", 2, Manner::Silent).await;
    let request = v1::StartSweepRequest {
        dry_run: true,
        expected: vec!["a".into(), "ghost".into()],
        ..asked("")
    };
    let mut stream = started(c.running.grpc, request).await.unwrap();
    let Event::Announced(announced) = next(&mut stream).await else { panic!() };
    assert_eq!((announced.nodes, announced.measurements), (2, 2));
    assert_eq!(announced.excluded, ["ghost: expected, and never heard of"]);
    assert!(matches!(next(&mut stream).await, Event::Finished(f) if f.json.is_empty()));
    let mut client = OperatorClient::new(channel(c.running.grpc).await);
    let listed = client.list_sweeps(v1::ListSweepsRequest {}).await.unwrap().into_inner();
    assert!(listed.sweeps.is_empty());
    c.running.stop().await;
}

#[tokio::test]
async fn who_is_expected_and_absent_is_in_the_document() {
    let request = v1::StartSweepRequest { expected: vec!["ghost".into()], ..asked("") };
    let (_, doc) = swept(&[FINE; 4], request).await;
    assert_eq!(doc.verdict, Verdict::Unknown);
    let ghost = doc.nodes.iter().find(|node| node.name == "ghost").unwrap();
    assert_eq!((ghost.state.as_str(), ghost.verdict), ("absent", Verdict::Unknown));
    assert!(doc.findings[0].summary.contains("ghost was not measured"), "{:?}", doc.findings);
}

/// Stopped on purpose is not ill; but who is named, or expected, is missed.
#[test]
fn who_said_goodbye_is_missed_by_who_names_it() {
    let fleet = crate::fleet::Fleet::new(Duration::from_secs(30));
    for (name, last) in [("a", 1), ("b", 2), ("gone", 3)] {
        let hello = crate::hello::check(crate::hello::tests::example(name, last)).unwrap();
        let (_, mailbox) = fleet.join(hello, crate::clock::now()).unwrap();
        if name == "gone" {
            fleet.closed(
                &railgauge_core::path::NodeName::new(name).unwrap(),
                mailbox.session,
                true,
            );
        }
    }
    let absent = |request: &v1::StartSweepRequest| {
        let asked = suite::understand(request, fleet.nodes()).unwrap();
        asked.absent.into_iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>()
    };
    let missed = ["gone: it has left the fleet"];
    assert_eq!(absent(&asked("")), [""; 0]);
    assert_eq!(absent(&asked("*")), [""; 0]);
    assert_eq!(absent(&asked("a,b,gone")), missed);
    let expected = v1::StartSweepRequest { expected: vec!["gone".into()], ..asked("") };
    assert_eq!(absent(&expected), missed);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_a_sentence() {
    let c = coordinator().await;
    let _a = agent(c.running.grpc, "a", 1, FINE).await;
    let bad = |change: fn(&mut v1::StartSweepRequest)| {
        let mut request = asked("");
        change(&mut request);
        request
    };
    for (request, sentence) in [
        (bad(|r| r.suite = "no\nsuch".into()), "is no suite of this coordinator: there are quick"),
        (bad(|r| r.nodes = "gone*".into()), "gone*"),
        (bad(|r| r.nodes = "a[".into()), "a["),
        (bad(|r| r.expected = vec!["a b".into()]), "expected: "),
    ] {
        let error = started(c.running.grpc, request).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
        assert!(error.message().contains(sentence), "{sentence}: {error}");
    }
    c.running.stop().await;
}

async fn until_ended(address: SocketAddr) -> (String, Doc) {
    let mut client = OperatorClient::new(channel(address).await);
    within(async {
        loop {
            let listed = client.list_sweeps(v1::ListSweepsRequest {}).await.unwrap().into_inner();
            if let Some(sweep) = listed.sweeps.iter().find(|sweep| !sweep.running) {
                let id = sweep.id.clone();
                let found = client.get_sweep(v1::GetSweepRequest { id: id.clone() }).await.unwrap();
                return (id, serde_json::from_slice(&found.into_inner().json).unwrap());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_unless_detached() {
    let c = coordinator().await;
    let address = c.running.grpc;
    let _a = agent(address, "a", 1, Manner::Silent).await;
    let _b = agent(address, "b", 2, FINE).await;
    let mut stream = started(address, asked("")).await.unwrap();
    next(&mut stream).await;
    drop(stream);
    let (_, doc) = until_ended(address).await;
    assert_eq!(doc.error.as_deref(), Some("cancelled before its end"));
    assert_eq!(doc.verdict, Verdict::Unknown);
    c.running.stop().await;

    let c = coordinator().await;
    let _a = agent(c.running.grpc, "a", 1, FINE).await;
    let _b = agent(c.running.grpc, "b", 2, FINE).await;
    let request = v1::StartSweepRequest { detach: true, ..asked("") };
    drop(started(c.running.grpc, request).await.unwrap());
    let (_, doc) = until_ended(c.running.grpc).await;
    assert_eq!((doc.error, doc.paths.len()), (None, 2));
    c.running.stop().await;
}

#[tokio::test]
async fn it_is_cancelled_by_its_name() {
    let c = coordinator().await;
    let address = c.running.grpc;
    let _a = agent(address, "a", 1, Manner::Silent).await;
    let _b = agent(address, "b", 2, Manner::Silent).await;
    let mut stream = started(address, asked("")).await.unwrap();
    let Event::Announced(announced) = next(&mut stream).await else { panic!() };
    let second = started(address, asked("")).await.map(drop).unwrap_err();
    assert_eq!(second.code(), tonic::Code::FailedPrecondition);
    assert!(second.message().contains("would disturb each other"), "{second}");
    let dry = v1::StartSweepRequest { dry_run: true, ..asked("") };
    assert!(started(address, dry).await.is_ok());
    let mut client = OperatorClient::new(channel(address).await);
    let cancel = v1::CancelSweepRequest { id: announced.id.clone() };
    let cancelled = client.cancel_sweep(cancel).await.unwrap().into_inner().cancelled;
    assert_eq!(cancelled, [announced.id]);
    let (_, doc) = to_the_end(stream).await;
    assert_eq!(doc.error.as_deref(), Some("cancelled before its end"));
    c.running.stop().await;
}

fn configured(text: &str) -> watch::Receiver<Arc<Config>> {
    let layer = railgauge_core::settings::read("test", text).unwrap();
    watch::channel(Arc::new(Config::of(&layer, &Layer::default()))).1
}

fn table(dir: &std::path::Path) -> Sweeps {
    let fleet = Arc::new(Fleet::new(Duration::from_secs(30)));
    Sweeps::open(fleet, dir.to_owned(), configured("")).unwrap()
}

fn document(id: &str) -> Finished {
    let doc = Doc { id: id.into(), verdict: Verdict::Degraded, ..Doc::default() };
    Finished { json: serde_json::to_vec(&doc).unwrap(), verdict: "degraded".into() }
}

#[tokio::test]
async fn the_table_names_keeps_and_cancels() {
    let dir = tempfile::tempdir().unwrap();
    let sweeps = table(dir.path());
    let now = Wall::from_unix_nanos(5_000_000);
    let (cancel, cancelled) = watch::channel(false);
    assert_eq!(sweeps.enter(now, cancel), "s5");
    assert_eq!(sweeps.enter(now, watch::channel(false).0), "s6");
    assert_eq!(sweeps.cancel("s7").unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(sweeps.cancel("s5").unwrap(), ["s5"]);
    assert!(*cancelled.borrow());
    sweeps.finish("s5", document("s5"));
    assert_eq!(sweeps.cancel("").unwrap(), ["s6"]);
    assert!(!sweeps.get("s5").await.unwrap().running);
    let list = sweeps.list();
    assert_eq!((list[0].verdict.as_str(), list[1].running), ("degraded", true));
    for n in 0..2 * KEPT {
        let id = sweeps.enter(now, watch::channel(false).0);
        sweeps.finish(&id, document(&id));
        assert!(sweeps.list().len() <= KEPT + 1, "{n}");
        assert!(fs::read_dir(dir.path()).unwrap().count() <= KEPT, "{n}");
    }
}

#[tokio::test]
async fn documents_outlive_the_process_and_damaged_ones_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let sweeps = table(dir.path());
    let id = sweeps.enter(Wall::from_unix_nanos(7_000_000), watch::channel(false).0);
    sweeps.finish(&id, document(&id));
    let whole = fs::read(dir.path().join("s7.json")).unwrap();
    fs::write(dir.path().join("s8.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.path().join("s9.json"), &whole).unwrap();
    fs::write(dir.path().join("s7.json.new"), "half").unwrap();
    fs::write(dir.path().join("note.txt"), "somebody's").unwrap();
    let again = table(dir.path());
    let list = again.list();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!((list[0].started_at_unix_ns, list[0].verdict.as_str()), (7_000_000, "degraded"));
    assert_eq!(again.get("s7").await.unwrap().json, whole);
    assert!(!dir.path().join("s7.json.new").exists() && dir.path().join("note.txt").exists());
    fs::remove_file(dir.path().join("s7.json")).unwrap();
    assert_eq!(again.get("s7").await.unwrap_err().code(), tonic::Code::DataLoss);
    assert!(Sweeps::open(again.fleet, "/proc/nowhere".into(), configured("")).is_err());
}
