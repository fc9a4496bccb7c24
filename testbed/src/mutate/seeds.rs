//! What the parts of a fleet really say, from which mutation starts.

use std::time::{Duration, SystemTime};

use prost::Message as _;
use railgauge_access::authority::{Authority, Request};
use railgauge_core::access::Role;
use railgauge_core::finding::{
    Component, ComponentKind, Effect, Evidence, Finding, FindingKind, Severity, Verdict,
};
use railgauge_core::path::{PortName, Transport};
use railgauge_core::path_window::PathWindow;
use railgauge_core::rdma::endpoint::{self, Message, Offer, RdmaEndpoint, Region};
use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::gid::{Gid, GidKind, LinkLayer};
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::operation::{MemoryRoute, Method, Operation, Service};
use railgauge_core::rdma::reliability::Profile;
use railgauge_proto::v1::agent_message::Message as FromAgent;
use railgauge_proto::v1::coordinator_message::Message as FromCoordinator;
use railgauge_proto::{convert, protocol, v1};
use railgauge_report::doc::{
    Aggregate, Findings, NodeDoc, NodePort, NotMeasured, OpenFinding, PathDoc, Paths, Sweep,
};
use railgauge_report::gather::Gathered;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::fresh::{self, Fresh, WINDOW_NS};

/// When all of it was said, nanoseconds since 1970: a whole number of windows.
pub const AT: u64 = 1_767_225_600_000_000_000;

/// A path of the node of the seeds, to one of two others.
pub fn path(n: usize) -> v1::Path {
    fresh::paths(0, 3, n + 1).swap_remove(n)
}

/// A hello of that node.
pub fn hello() -> v1::Hello {
    let endpoint = v1::AgentEndpoint {
        endpoint: path(0).src,
        address: "127.0.0.1".into(),
        port: 862,
        rdma: None,
    };
    v1::Hello {
        protocol: Some(protocol::OURS),
        software_version: "0.1.0".into(),
        node: fresh::name(0),
        identity: vec![7; 16],
        instance: 5,
        boot_id: "0a1b2c3d".into(),
        endpoints: vec![endpoint],
        labels: [("rack".to_owned(), "r1".to_owned())].into(),
        inventory_json: b"{}".to_vec(),
        sent_at_unix_ns: AT,
        refuses_unauthenticated: false,
    }
}

/// A window with some replies, one with a loss too, and one that was merged so often that its counts are huge.
fn windows() -> Vec<PathWindow> {
    let mut fresh = Fresh::new(8762);
    let few = fresh.window_of(9);
    let mut lossy = fresh.window_of(3);
    lossy.account.scheduled += 2;
    lossy.account.sent += 1;
    lossy.account.skipped += 1;
    lossy.account.in_flight += 1;
    let mut huge = fresh.window_of(3);
    for _ in 0..33 {
        huge.merge(&huge.clone());
    }
    vec![few, lossy, huge]
}

fn batch(windows: &[PathWindow]) -> v1::WindowBatch {
    let windows = (0..).zip(windows).map(|(at, window)| convert::window_message(at % 2, window));
    v1::WindowBatch {
        agent: fresh::name(0),
        instance: 5,
        first_sequence: 9,
        start_unix_ns: AT,
        length_ns: WINDOW_NS,
        plan_epoch: 3,
        paths: vec![path(0), path(1)],
        windows: windows.collect(),
    }
}

/// What an agent says.
pub fn agent_messages() -> Vec<Vec<u8>> {
    let windows = windows();
    let result = v1::SweepResult {
        sweep_id: "s1".into(),
        order: 4,
        windows: Some(batch(&windows[..1])),
        error: "cancelled".into(),
        validity: vec!["few samples".into()],
    };
    let heartbeat = v1::Heartbeat {
        sent_at_unix_ns: AT + 1_500_000_000,
        plan_epoch: 3,
        spool: Some(v1::SpoolState { windows: 4, ..v1::SpoolState::default() }),
        cpu_permille: 12,
        probes_over_budget: 0,
        probe_key_epoch: 5,
        probing_ended: false,
    };
    let said = [
        FromAgent::Hello(hello()),
        FromAgent::Batch(batch(&windows[..1])),
        FromAgent::Batch(batch(&windows[1..2])),
        FromAgent::Batch(batch(&windows[2..])),
        FromAgent::Batch(batch(&windows)),
        FromAgent::SweepResult(result),
        FromAgent::Heartbeat(heartbeat),
    ];
    let encode = |message| v1::AgentMessage { message: Some(message) }.encode_to_vec();
    said.map(encode).to_vec()
}

/// What a coordinator says.
pub fn coordinator_messages() -> Vec<Vec<u8>> {
    let target = |n| v1::Target {
        path: Some(path(n)),
        address: "127.0.0.2".into(),
        port: 862,
        interval_ns: 10_000_000,
        phase_ns: 77,
        timeout_ns: 1_000_000_000,
        size_bytes: 44,
        probe_key: (n < 2).then(|| v1::ProbeKey { epoch: 5, octets: vec![7; 32] }),
    };
    let order = v1::SweepOrder {
        sweep_id: "s1".into(),
        order: 4,
        target: Some(target(0)),
        count: 200,
        warmup: 10,
        limit_ns: 30_000_000_000,
    };
    let welcome = v1::Welcome {
        protocol: Some(protocol::OURS),
        software_version: "0.1.0".into(),
        window_ns: WINDOW_NS,
    };
    let plan = v1::Plan {
        epoch: 3,
        lease_ns: 30_000_000_000,
        targets: (0..3).map(target).collect(),
        probe_keys_valid_ns: 86_400_000_000_000,
    };
    let key = |epoch| v1::AcceptedProbeKey {
        key: Some(v1::ProbeKey { epoch, octets: vec![7; 32] }),
        valid_ns: 86_400_000_000_000,
    };
    let keys = v1::ProbeKeys { keys: [5, 6].map(key).into(), forget_from_epoch: 5 };
    let said = [
        FromCoordinator::Welcome(welcome),
        FromCoordinator::Plan(plan),
        FromCoordinator::ProbeKeys(keys),
        FromCoordinator::SweepOrder(order),
        FromCoordinator::LeaseRenewal(v1::LeaseRenewal { epoch: 3 }),
    ];
    let encode = |message| v1::CoordinatorMessage { message: Some(message) }.encode_to_vec();
    said.map(encode).to_vec()
}

/// One of each document.
pub fn documents() -> Vec<Vec<u8>> {
    let mut gathered = Gathered::default();
    gathered.push(&windows()[0]);
    let measures = gathered.measures(1_000_000_000, Transport::Udp);
    let whole = convert::path(&path(0)).expect("ours is one");
    let paths = vec![PathDoc::new(&whole, Verdict::Degraded, measures.clone())];
    let node = |n| NodeDoc {
        name: fresh::name(n),
        state: "connected".into(),
        notes: vec!["its clock is wrong".into()],
        ports: vec![NodePort { port: "eth0".into(), rail: 0, address: "127.0.0.1:862".into() }],
        ..NodeDoc::default()
    };
    let nodes: Vec<_> = (0..3).map(node).collect();
    let effects = [
        Effect::Latency {
            series: "network_rtt".into(),
            q: 0.99,
            value_ns: 90_000,
            low_ns: 80_000,
            high_ns: Some(95_000),
            fleet_median_ns: 20_000,
            at_least_times: 4.0,
        },
        Effect::Loss { sent: 1_000, lost: 10, share: 0.01, low: 0.005, high: 0.018 },
        Effect::Samples { samples: 3, needed: 59 },
    ];
    let finding = |effect| Finding {
        severity: Severity::Degraded,
        kind: FindingKind::NetworkLatency,
        component: Component { kind: ComponentKind::Node, name: fresh::name(1) },
        summary: "n0001 answers late".into(),
        effect,
        evidence: Evidence { convict: vec!["a".into()], acquit: vec!["b".into()] },
        next_test: "look at it".into(),
    };
    let findings: Vec<_> = effects.map(finding).to_vec();
    let seen = "2026-01-01T00:00:00Z";
    let open = |finding: &Finding| OpenFinding {
        finding: finding.clone(),
        first_seen: seen.into(),
        last_seen: seen.into(),
    };
    let open = Findings {
        at: seen.into(),
        verdict: Verdict::Degraded,
        findings: findings.iter().map(open).collect(),
        ..Findings::default()
    };
    let fleet = Aggregate { name: "fleet".into(), paths: 1, verdict: Verdict::Healthy, measures };
    let now = Paths {
        at: seen.into(),
        nodes: nodes.clone(),
        paths: paths.clone(),
        by_node: vec![fleet.clone()],
        fleet: Some(fleet),
        ..Paths::default()
    };
    let left = NotMeasured { what: fresh::name(2), reason: "absent".into() };
    let sweep = Sweep {
        id: "s1".into(),
        started_at: seen.into(),
        finished_at: Some(seen.into()),
        verdict: Verdict::Degraded,
        nodes,
        rounds: 2,
        rounds_planned: 2,
        duration_ns: 3_000_000_000,
        paths,
        findings,
        not_measured: vec![left],
        validity: vec!["one block".into()],
        ..Sweep::default()
    };
    let empty = serde_json::to_vec(&Sweep::default());
    [serde_json::to_vec(&sweep), serde_json::to_vec(&now), serde_json::to_vec(&open), empty]
        .map(|octets| octets.expect("documents can be written"))
        .to_vec()
}

/// A selector, and settings of each daemon.
pub fn texts() -> Vec<Vec<u8>> {
    let agent = "node = \"a\"\ncoordinator = \"http://127.0.0.1:7460\"\nspool_bytes = \"64MiB\"\n\
                 [labels]\nrack = \"r1\"\n[budget]\ncpu_percent = 5\n[[endpoint]]\nport = \"eth0\"\n\
                 address = \"127.0.0.1\"\nadvertise = \"[::1]:862\"\n";
    let coordinator = "window = \"10s\"\nlisten = \"127.0.0.1:0\"\nkeep_bytes = \"20GiB\"\n\
                       lease = \"1.5m\"\ninsecure = true\n";
    [agent, coordinator, "gpu-0?,rack=r1*, *a*b", ""].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Rows of the store, each behind its key and the key's length.
pub fn rows() -> Vec<Vec<u8>> {
    let windows = windows();
    let row = |key: &[u8], content: &[u8]| {
        let length = u8::try_from(key.len()).expect("keys are short");
        [&[length], key, content].concat()
    };
    let minute = [0, 0, 0, 1];
    let names = b"n0000\0n0001\0eth0\0eth0\0";
    let mut tail = [0u8; 30];
    tail[17] = 100;
    tail[25] = 100;
    let series = [&minute[..], names, &tail].concat();
    let agent = [&minute[..], b"n0000\0"].concat();
    let whole = [&[1, 0], &*batch(&windows[..1]).encode_to_vec()].concat();
    vec![
        row(&series, &convert::window_message(0, &windows[0]).encode_to_vec()),
        row(&series, &convert::window_message(0, &windows[2]).encode_to_vec()),
        row(&agent, &[1; 48]),
        row(&[&agent[..], &[0; 18]].concat(), &whole),
        row(&minute, &[9; 8]),
    ]
}

/// What a prober says to a responder over a connection: an offer, a sign of life, a move, the end.
///
/// # Panics
/// Never: the numbers are good.
pub fn endpoint_messages() -> Vec<u8> {
    let end = RdmaEndpoint {
        port: name("mlx5_0/1"),
        link_layer: LinkLayer::Ethernet,
        gid: Gid::from(std::net::IpAddr::from([10, 0, 0, 1])),
        gid_kind: GidKind::RoceV2,
        lid: 0,
        mtu: PathMtu::B4096,
        queue_pair: 0x1234,
        packet_sequence: 0x56_789a,
        queue_key: 0,
        reads_out: 1,
        reads_in: 1,
        in_order: true,
        route: MemoryRoute::Host,
        region: Some(Region { address: 0x7f00_0000_1000, len: 4096, remote_key: 0xabcd }),
    };
    let offer = Offer {
        method: Method::latency(Service::Connection, Operation::Write, true),
        size: 64,
        outstanding: 1,
        reliability: Profile::Continuous.reliability(),
        traffic_class: 104,
        service_level: 3,
        flow_label: FlowLabel::of_flow(0).unwrap_or_default(),
        wanted: Some(name("mlx5_1/1")),
        endpoint: end.clone(),
    };
    let moved = Message::Moved(Box::new(end));
    let messages = [Message::Offer(Box::new(offer)), Message::Keep, moved, Message::Close];
    messages.iter().flat_map(endpoint::encode).collect()
}

fn name(text: &str) -> PortName {
    PortName::new(text).expect("a port name")
}

/// What servers send as `Accept`: of Prometheus 2 with and without native histograms, of 3, and of a browser.
pub fn accepts() -> Vec<Vec<u8>> {
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let open = "application/openmetrics-text;version=1.0.0;q=0.8";
    let text = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let said = [
        format!("{protobuf},{open},{text}"),
        format!("{open},{text}"),
        format!("{protobuf};q=0.6\n{open}\ntext/plain;version=1.0.0;escaping=allow-utf-8;q=0.3"),
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8".to_owned(),
        format!("{protobuf};q=0"),
        String::new(),
    ];
    said.map(String::into_bytes).to_vec()
}

/// Identities as text; an authority and certificates of it, and of another kind, as DER and as a file.
pub fn identities() -> Vec<Vec<u8>> {
    let from = SystemTime::UNIX_EPOCH + Duration::from_nanos(AT);
    let valid = Duration::from_secs(86_400);
    let (authority, _) =
        Authority::new("test.internal", from, valid).expect("an authority is made of nothing");
    let hosts = ["localhost".to_owned(), "::1".to_owned()];
    let issue = |role, name| {
        let request = Request { role, name, hosts: &hosts, from, valid };
        authority.issue(&request).expect("all names are some").certificate
    };
    let (agent, admin) = (issue(Role::Agent, "gpu-07"), issue(Role::Admin, "a"));
    let pems = [authority.pem(), &agent, &admin].map(str::to_owned);
    let der = |pem: &String| {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("ours is one");
        der.as_ref().to_vec()
    };
    let mut seeds: Vec<Vec<u8>> = pems.iter().map(der).collect();
    seeds.extend(pems.iter().map(|pem| pem.clone().into_bytes()));
    seeds.push(pems.concat().into_bytes());
    seeds.push(b"spiffe://test.internal/railgauge/agent/gpu-07".to_vec());
    seeds.push(b"spiffe://test.internal/railgauge/coordinator/main".to_vec());
    seeds.push(b"spiffe://test.internal/ns/default/sa/gpu-07".to_vec());
    seeds
}

/// Messages of keys in a row, and what stands between first line and sum of each file.
pub fn probe_keys() -> Vec<Vec<u8>> {
    let keys = |epochs: &[u64], forget_from_epoch, valid_ns| {
        let key = |epoch: &u64| v1::AcceptedProbeKey {
            key: Some(v1::ProbeKey { epoch: *epoch, octets: vec![7; 32] }),
            valid_ns,
        };
        let keys = epochs.iter().map(key).collect();
        v1::ProbeKeys { keys, forget_from_epoch }.encode_length_delimited_to_vec()
    };
    let day = 86_400_000_000_000;
    let row = [
        keys(&[5], 0, day),
        keys(&[5, 6], 0, day),
        keys(&[6], 0, day),
        keys(&[1_767_225_600, 1_767_225_601], 1_767_225_600, 3_000_000_000_000),
        keys(&[], 0, day),
    ];
    let hex = "07".repeat(32);
    vec![
        row.concat(),
        keys(&(1..20).collect::<Vec<_>>(), 3, day),
        format!("first 5\n5 1767225600 {hex}\n6 1767312000 {hex}").into_bytes(),
        b"n0000 07070707070707070707070707070707\nn0001 0808".to_vec(),
        format!("6 {day} {} {hex}\n5 {day} {AT} {hex}", AT + day).into_bytes(),
    ]
}
