//! Documents against their schemas, and read back.

mod support;

use railgauge_core::finding::Verdict;
use railgauge_core::histogram::Recorder;
use railgauge_core::path::{Path, Transport};
use railgauge_core::path_window::{Parameters, PathWindow};
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::operation::{
    CompletionStamps, MemoryRoute, Method, Operation, Polling, Service,
};
use railgauge_core::rdma::parameters::RdmaParameters;
use railgauge_core::rdma::reliability::Profile;
use railgauge_report::doc::{Findings, Measures, PathDoc, Paths, ReadError, Sweep, from_json};
use railgauge_report::gather::Gathered;
use serde::Serialize;
use serde_json::{Value, json};
use support::{Fault, live, path, repository, sweep};

fn fits<T: Serialize>(document: &T, name: &str) -> Value {
    let text = std::fs::read_to_string(repository().join("docs/schema").join(name)).unwrap();
    let schema = jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap();
    let value = serde_json::to_value(document).unwrap();
    let faults: Vec<String> =
        schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{name}: {faults:#?}");
    value
}

fn everything() -> Fault {
    Fault {
        slow_network: Some(1),
        slow_host: Some(2),
        lossy: Some(3),
        silent: Some(4),
        absent: Some(5),
    }
}

#[test]
fn sweeps_fit_the_schema_and_are_read_back_as_they_were() {
    let mut cut = sweep(3, 5, Fault::default());
    cut.finished_at = None;
    cut.error = Some("cancelled by the operator".to_owned());
    cut.parameters.max_rounds = Some(2);
    cut.parameters.expected = vec!["gpu-01".to_owned()];
    cut.paths.push(PathDoc {
        error: Some("the order was not answered in time".to_owned()),
        ..PathDoc::new(
            &path("gpu-01", "gpu-09"),
            Verdict::Unknown,
            Measures::none("no probe was sent"),
        )
    });
    let empty = Sweep { error: Some("no agent is connected".to_owned()), ..Sweep::default() };
    for sweep in [sweep(6, 200, everything()), sweep(2, 1_000, Fault::default()), cut, empty] {
        let value = fits(&sweep, "sweep-v1.json");
        let read: Sweep = from_json(&serde_json::to_vec(&value).unwrap()).unwrap();
        assert_eq!(read, sweep);
    }
    fits(&json!({"schema": "railgauge/sweep/v1", "error": "no coordinator"}), "sweep-v1.json");
}

#[test]
fn live_documents_fit_the_schemas_and_are_read_back_as_they_were() {
    for (paths, findings) in [live(&sweep(6, 100, everything())), live(&Sweep::default())] {
        let value = fits(&paths, "paths-v1.json");
        assert_eq!(from_json::<Paths>(&serde_json::to_vec(&value).unwrap()).unwrap(), paths);
        let value = fits(&findings, "findings-v1.json");
        assert_eq!(from_json::<Findings>(&serde_json::to_vec(&value).unwrap()).unwrap(), findings);
    }
}

#[test]
fn the_contracts_fields_lie_where_it_says() {
    let value =
        serde_json::to_value(sweep(4, 100, Fault { slow_host: Some(1), ..Fault::default() }))
            .unwrap();
    let first = &value["paths"][0];
    assert_eq!((&first["src"], &first["transport"]), (&json!("gpu-01/eth0"), &json!("udp")));
    assert_eq!((&first["sent"], &first["network_rtt"]["count"]), (&json!(400), &json!(400)));
    assert_eq!(first["network_rtt"]["timestamp_source"], "kernel/kernel/kernel/kernel");
    let finding = &value["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["kind"]),
        (&json!("degraded"), &json!("host-delay"))
    );
    assert_eq!(finding["component"], json!({"kind": "node", "name": "gpu-02"}));
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_are_unknown() {
    let text = br#"{"schema":"railgauge/sweep/v1","new":{"a":1},"paths":[{"src":"a/eth0","newer":[2],"sent":3}]}"#;
    let read: Sweep = from_json(text).unwrap();
    assert_eq!((read.paths[0].measures.counts.sent, read.verdict), (3, Verdict::Unknown));
}

#[test]
fn what_is_no_sweep_is_refused_with_a_sentence() {
    let other = from_json::<Sweep>(br#"{"schema":"railgauge/ping/v1"}"#).unwrap_err();
    assert_eq!(
        other.to_string(),
        r#"its schema is "railgauge/ping/v1", wanted is railgauge/sweep/v1"#
    );
    let whole = serde_json::to_vec(&sweep(2, 10, Fault::default())).unwrap();
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        let cut = from_json::<Sweep>(&whole[..end]).unwrap_err();
        assert!(matches!(cut, ReadError::Malformed { .. }), "{end}: {cut}");
    }
    assert!(
        from_json::<Sweep>(br#"{"schema":"railgauge/sweep/v1","paths":[{"sent":-1}]}"#).is_err()
    );
}

#[test]
fn a_series_is_absent_only_with_a_reason() {
    let measures = Gathered::default().measures(1_000, Transport::Tcp);
    assert_eq!(measures.app_rtt_reason.as_deref(), Some("no probe was sent"));
    let silent = sweep(2, 10, Fault { silent: Some(0), ..Fault::default() });
    let m = &silent.paths[0].measures;
    assert_eq!(
        (m.network_rtt.is_none(), m.network_rtt_reason.as_deref()),
        (true, Some("no reply"))
    );
}

/// A path over verbs, as the coordinator writes it; `completed` operations.
fn over_verbs(completed: u64) -> PathDoc {
    let mut recorder = Recorder::new();
    (0..completed).for_each(|n| recorder.record(2_000 + n));
    let rdma = RdmaParameters {
        method: Method::latency(Service::Connection, Operation::Write, true),
        outstanding: 1,
        reliability: Some(Profile::Continuous.reliability()),
        mtu: PathMtu::B4096,
        service_level: 3,
        prober_route: MemoryRoute::Host,
        responder_route: MemoryRoute::Host,
        polling: Polling::Busy,
        stamps: CompletionStamps::Software,
    };
    let mut window = PathWindow::new(Parameters {
        interval_ns: 1,
        timeout_ns: 2,
        size_bytes: 64,
        rdma: Some(rdma),
    });
    (window.account.scheduled, window.account.sent) = (completed, completed);
    window.account.in_flight = completed;
    window.post_to_completion = (completed > 0).then(|| recorder.drain());
    window.check().unwrap();
    let measures = Gathered::from_iter([&window]).measures(2, Transport::RdmaRc);
    let path = Path { transport: Transport::RdmaRc, ..path("gpu-01", "gpu-02") };
    PathDoc { rdma: Some((&rdma).into()), ..PathDoc::new(&path, Verdict::Unknown, measures) }
}

#[test]
fn paths_over_verbs_say_how_and_have_a_fifth_series() {
    let documents = [over_verbs(40), over_verbs(0)];
    let paths = Paths {
        at: "2026-11-23T07:42:05Z".to_owned(),
        paths: documents.to_vec(),
        ..live(&sweep(2, 10, Fault::default())).0
    };
    let value = fits(&paths, "paths-v1.json");
    assert_eq!(from_json::<Paths>(&serde_json::to_vec(&value).unwrap()).unwrap(), paths);
    let [some, none] = [&value["paths"][0], &value["paths"][1]];
    assert_eq!(some["post_to_completion"]["count"], 40);
    assert_eq!(some["rdma"]["ack_timeout_ns"], 67_108_864);
    assert!(none["post_to_completion"].is_null());
    assert_eq!(none["post_to_completion_reason"], "no probe was sent");
    let sockets = &fits(&sweep(2, 10, Fault::default()), "sweep-v1.json")["paths"][0];
    assert!(sockets.get("post_to_completion").is_none() && sockets.get("rdma").is_none());
}
