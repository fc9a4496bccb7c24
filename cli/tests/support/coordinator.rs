//! A coordinator that answers from a script: the real wire, no fleet behind it.
#![allow(dead_code, reason = "each test file takes the part it needs")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use railgauge_proto::v1;
use railgauge_proto::v1::operator_server::{Operator, OperatorServer};
use railgauge_proto::v1::sweep_event::Event;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// What it says.
#[derive(Clone, Default)]
pub struct Script {
    pub nodes: Vec<v1::Node>,
    pub paths: Value,
    pub sweep: Value,
    /// The sweep ends only when it is cancelled.
    pub endless: bool,
    /// It dies in the middle of a sweep.
    pub dies: bool,
    pub excluded: Vec<String>,
}

/// What it was asked.
#[derive(Default)]
pub struct Heard {
    pub started: Vec<v1::StartSweepRequest>,
    pub cancelled: Vec<String>,
    pub paths: Vec<v1::ListPathsRequest>,
}

struct Fake {
    script: Script,
    heard: Arc<Mutex<Heard>>,
    cancelled: Arc<Notify>,
}

impl Fake {
    fn check(nodes: &str) -> Result<(), Status> {
        let wrong =
            |e: railgauge_core::selector::SelectorError| Status::invalid_argument(e.to_string());
        railgauge_core::selector::Selector::parse(nodes).map_err(wrong).map(|_| ())
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Operator for Fake {
    type StartSweepStream = Pin<Box<dyn Stream<Item = Result<v1::SweepEvent, Status>> + Send>>;

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesResponse> {
        let (nodes, coordinator_version) = (self.script.nodes.clone(), "0.1.0 (abc)".to_owned());
        Ok(Response::new(v1::ListNodesResponse { nodes, coordinator_version }))
    }

    async fn list_paths(
        &self,
        request: Request<v1::ListPathsRequest>,
    ) -> Answer<v1::ListPathsResponse> {
        let request = request.into_inner();
        Self::check(&request.nodes)?;
        self.heard.lock().unwrap().paths.push(request);
        let json = self.script.paths.to_string().into_bytes();
        Ok(Response::new(v1::ListPathsResponse { json }))
    }

    async fn list_findings(
        &self,
        _: Request<v1::ListFindingsRequest>,
    ) -> Answer<v1::ListFindingsResponse> {
        Err(Status::unimplemented("no command asks for it"))
    }

    async fn start_sweep(
        &self,
        request: Request<v1::StartSweepRequest>,
    ) -> Answer<Self::StartSweepStream> {
        let request = request.into_inner();
        Self::check(&request.nodes)?;
        let only_announced = request.dry_run;
        self.heard.lock().unwrap().started.push(request);
        let (to, events) = mpsc::channel(16);
        let (script, cancelled) = (self.script.clone(), Arc::clone(&self.cancelled));
        tokio::spawn(async move {
            let mut script_events = vec![announced(&script)];
            if !only_announced {
                script_events
                    .push(Event::RoundStarted(v1::SweepRoundStarted { round: 1, rounds: 3 }));
                script_events.extend((1..=12).map(pair_done));
            }
            for event in script_events {
                // The caller may have gone.
                let _ = to.send(Ok(v1::SweepEvent { event: Some(event) })).await;
            }
            if script.endless {
                cancelled.notified().await;
            }
            if !only_announced && !script.dies {
                let json = script.sweep.to_string().into_bytes();
                let event = Some(Event::Finished(v1::SweepFinished { json }));
                let _ = to.send(Ok(v1::SweepEvent { event })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn get_sweep(
        &self,
        request: Request<v1::GetSweepRequest>,
    ) -> Answer<v1::GetSweepResponse> {
        let id = request.into_inner().id;
        let json = self.script.sweep.to_string().into_bytes();
        match id.as_str() {
            "s-1" => Ok(Response::new(v1::GetSweepResponse { json, ..Default::default() })),
            "s-2" => Ok(Response::new(v1::GetSweepResponse {
                running: true,
                done: 3,
                measurements: 12,
                ..Default::default()
            })),
            _ => Err(Status::not_found(format!("no sweep is called {id}"))),
        }
    }

    async fn list_sweeps(
        &self,
        _: Request<v1::ListSweepsRequest>,
    ) -> Answer<v1::ListSweepsResponse> {
        let entry = |id: &str, running: bool, verdict: &str| v1::SweepEntry {
            id: id.to_owned(),
            started_at_unix_ns: 1_763_884_980_000_000_000,
            running,
            verdict: verdict.to_owned(),
        };
        let sweeps = vec![entry("s-1", false, "degraded"), entry("s-2", true, "")];
        Ok(Response::new(v1::ListSweepsResponse { sweeps }))
    }

    async fn cancel_sweep(
        &self,
        request: Request<v1::CancelSweepRequest>,
    ) -> Answer<v1::CancelSweepResponse> {
        let id = request.into_inner().id;
        if !id.is_empty() && !id.starts_with("s-") {
            return Err(Status::not_found(format!("no sweep is called {id}")));
        }
        self.heard.lock().unwrap().cancelled.push(id.clone());
        self.cancelled.notify_one();
        let cancelled =
            if id.is_empty() { vec!["s-1".to_owned(), "s-2".to_owned()] } else { vec![id] };
        Ok(Response::new(v1::CancelSweepResponse { cancelled }))
    }

    async fn rotate_probe_keys(
        &self,
        request: Request<v1::RotateProbeKeysRequest>,
    ) -> Answer<v1::RotateProbeKeysResponse> {
        Ok(Response::new(v1::RotateProbeKeysResponse {
            epoch: 1_763_884_980,
            nodes_confirmed: 3,
            nodes_without_keys: Vec::new(),
            old_keys_withdrawn: request.into_inner().withdraw,
            waits_for: vec!["n4 has not confirmed its new key, and is out of reach".to_owned()],
        }))
    }
}

fn announced(script: &Script) -> Event {
    Event::Announced(v1::SweepAnnounced {
        id: "s-1".to_owned(),
        nodes: 4,
        rounds: 3,
        measurements: 12,
        expected_duration_ns: 13_500_000_000,
        limit_ns: 72_000_000_000,
        expected_packets: 49_200,
        expected_bytes: 5_805_600,
        excluded: script.excluded.clone(),
    })
}

fn pair_done(done: u32) -> Event {
    Event::PairDone(v1::SweepPairDone {
        src: format!("demo-{}", done % 4 + 1),
        dst: "demo-\u{1b}[2J".to_owned(),
        round: 1,
        done,
        measurements: 12,
        sent: 2_000,
        network_rtt_p50_ns: Some(50_000),
        network_rtt_p99_ns: Some(60_000 + u64::from(done)),
        ..Default::default()
    })
}

/// A running one; it ends with its owner.
pub struct Coordinator {
    pub address: SocketAddr,
    pub heard: Arc<Mutex<Heard>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Coordinator {
    pub fn start(script: Script) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (end, ended) = oneshot::channel();
        let (to, address) = std::sync::mpsc::channel();
        let cancelled = Arc::new(Notify::new());
        let fake = Fake { script, heard: Arc::clone(&heard), cancelled };
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                to.send(listener.local_addr().unwrap()).unwrap();
                let service = OperatorServer::new(fake).max_encoding_message_size(64 << 20);
                let serving = tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    done = serving => done.unwrap(),
                    _ = ended => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let address = address.recv().unwrap();
        Self { address, heard, end: Some(end), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Four nodes, the third of them lost, the fourth with everything to say.
pub fn nodes() -> Vec<v1::Node> {
    let mut nodes: Vec<v1::Node> = (1..=4).map(node).collect();
    nodes[2].set_state(v1::NodeState::Lost);
    nodes[3].software_version = "0.2.0 (def)".to_owned();
    nodes[3].labels = [("rack", "r12"), ("zone", "a")]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into();
    nodes[3].windows_refused = 2;
    nodes[3].windows_in_spool = 5_000;
    nodes[3].windows_dropped = 1;
    nodes[3].windows_unrecorded = 3;
    nodes[3].restarts = 2;
    nodes[3].reboots = 1;
    nodes[3].notes = vec!["its clock was stepped by 3 s".to_owned()];
    let second = v1::NodeEndpoint {
        endpoint: Some(v1::Endpoint { node: "demo-4".into(), port: "eth1".into(), rail: 1 }),
        address: "127.0.2.4:7463".to_owned(),
    };
    nodes[3].endpoints.push(second);
    nodes
}

pub fn node(number: u64) -> v1::Node {
    let name = format!("demo-{number}");
    v1::Node {
        state: v1::NodeState::Connected.into(),
        endpoints: vec![v1::NodeEndpoint {
            endpoint: Some(v1::Endpoint { node: name.clone(), port: "eth0".into(), rail: 0 }),
            address: format!("127.0.1.{number}:7463"),
        }],
        name,
        software_version: "0.1.0 (abc)".to_owned(),
        connected_at_unix_ns: 1_763_884_900_000_000_000,
        last_heard_unix_ns: 1_763_884_980_000_000_000,
        clock_skew_ns: if number == 2 { -3_000 } else { 1_250_000 },
        windows_ingested: 360,
        ..Default::default()
    }
}

/// A series whose p50 and p99 are known within 2 %.
pub fn series(n: u64, p50: u64, p99: u64) -> Value {
    let known = |q: f64, v: u64| json!({"q": q, "value_ns": v, "low_ns": v - v / 50, "high_ns": v + v / 50});
    let withheld = |q: f64| json!({"q": q, "value_ns": null, "reason": "n"});
    let mut recorder = railgauge_core::histogram::Recorder::new();
    (0..n).for_each(|i| recorder.record(if i * 50 < n { p99 } else { p50 }));
    json!({
        "count": n, "min_ns": p50, "max_ns": p99, "mean_ns": p50, "sum_ns": n * p50,
        "timestamp_source": "kernel/kernel/kernel/kernel",
        "censored": {"count": 0, "at_ns": 1_000_000_000}, "episodes": {"p99": 20},
        "quantiles": [known(0.5, p50), known(0.9, p50 + p50 / 10), known(0.99, p99),
            withheld(0.999), withheld(0.9999)],
        "hdr_v2": recorder.drain().counts().to_base64(),
    })
}

/// A path; `responder_p99` in nanoseconds makes it what it is.
pub fn path(src: &str, dst: &str, verdict: &str, responder_p99: u64) -> Value {
    json!({
        "src": format!("{src}/eth0"), "dst": format!("{dst}/eth0"), "src_node": src, "dst_node": dst,
        "rail": 0, "transport": "udp", "memory": "host", "flow": 0, "dscp": 0, "verdict": verdict,
        "scheduled": 2000, "sent": 2000, "skipped": 0, "send_errors": 0, "received": 2000, "lost": 0,
        "in_flight": 0, "late_replies": 0, "duplicate": 0, "reordered": 0, "late_starts": 0,
        "invalid_stamps": 0, "validity": [],
        "network_rtt": series(2_000, 49_000, 61_000),
        "app_rtt": series(2_000, 70_000, 90_000 + responder_p99),
        "prober_delay": series(2_000, 11_000, 15_000),
        "responder_delay": series(2_000, 10_000, responder_p99),
    })
}

/// All pairs of four nodes; those towards the third are slow.
pub fn all_paths() -> Vec<Value> {
    let pairs = (1..=4).flat_map(|a| (1..=4).map(move |b| (a, b))).filter(|(a, b)| a != b);
    pairs
        .map(|(a, b)| {
            let (verdict, p99) = if b == 3 { ("degraded", 1_200_000) } else { ("healthy", 14_000) };
            path(&format!("demo-{a}"), &format!("demo-{b}"), verdict, p99)
        })
        .collect()
}

fn node_docs() -> Vec<Value> {
    (1..=4)
        .map(|number| {
            json!({
                "name": format!("demo-{number}"), "state": "connected", "notes": [], "labels": {},
                "verdict": if number == 3 { "degraded" } else { "healthy" }, "version": "0.1.0 (abc)",
                "ports": [{"port": "eth0", "rail": 0, "address": format!("127.0.1.{number}:7463")}],
            })
        })
        .collect()
}

pub fn paths() -> Value {
    let aggregate = |name: &str| {
        let mut aggregate = path("x", "y", "healthy", 14_000);
        let members = aggregate.as_object_mut().unwrap();
        for key in
            ["src", "dst", "src_node", "dst_node", "rail", "transport", "memory", "flow", "dscp"]
        {
            members.remove(key);
        }
        members.insert("name".to_owned(), name.into());
        members.insert("paths".to_owned(), 12.into());
        aggregate
    };
    json!({
        "schema": "railgauge/paths/v1", "at": "2025-11-23T08:03:00.000Z", "since_ns": 300_000_000_000_u64,
        "coordinator_version": "0.1.0 (abc)", "nodes": node_docs(), "paths": all_paths(),
        "by_node": [], "by_rail": [aggregate("rail 0")], "fleet": aggregate("fleet"),
    })
}

pub fn finding() -> Value {
    json!({
        "severity": "degraded", "kind": "host-delay",
        "component": {"kind": "node", "name": "demo-3"},
        "summary": "demo-3 answers late: its responder delay is far above the fleet's on every path towards it",
        "effect": {"series": "responder_delay", "q": 0.99, "value_ns": 1_200_000, "low_ns": 1_176_000,
            "high_ns": 1_224_000, "fleet_median_ns": 14_000, "at_least_times": 84.0},
        "evidence": {
            "convict": (1..=5).map(|n| format!("demo-{n}/eth0 > demo-3/eth0 udp: p99 1.20ms")).collect::<Vec<_>>(),
            "acquit": ["demo-3/eth0 > demo-1/eth0 udp: network RTT p99 61.0us, as the fleet's"],
        },
        "next_test": "look at the load of demo-3, then run `railgauge sweep --nodes demo-3,demo-1`",
    })
}

pub fn sweep() -> Value {
    json!({
        "schema": "railgauge/sweep/v1", "id": "s-1", "started_at": "2025-11-23T08:03:00.000Z",
        "finished_at": "2025-11-23T08:03:14.000Z", "suite": "quick", "verdict": "degraded",
        "software_version": "0.1.0 (abc)",
        "parameters": {"count": 2000, "interval_ns": 1_000_000, "warmup": 50, "timeout_ns": 1_000_000_000,
            "size_bytes": 72, "transport": "udp", "nodes": ""},
        "nodes": node_docs(), "rounds": 3, "rounds_planned": 3, "duration_ns": 14_000_000_000_u64,
        "paths": all_paths(), "findings": [finding()],
        "not_measured": [{"what": "demo-5", "reason": "expected, and never heard of"}],
        "validity": ["all nodes run on one machine"],
    })
}

/// The same with nothing wrong.
pub fn healthy_sweep() -> Value {
    let mut sweep = sweep();
    sweep["verdict"] = "healthy".into();
    sweep["findings"] = json!([]);
    sweep["not_measured"] = json!([]);
    let paths = all_paths().into_iter().map(|p| {
        path(p["src_node"].as_str().unwrap(), p["dst_node"].as_str().unwrap(), "healthy", 14_000)
    });
    sweep["paths"] = paths.collect();
    for node in sweep["nodes"].as_array_mut().unwrap() {
        node["verdict"] = "healthy".into();
    }
    sweep
}
