//! `nodes`, `paths` and `report`, and what all that ask the coordinator have in common.
//! `UPDATE_GOLDEN=1 cargo test -p railgauge-cli --test fleet` rewrites the tables.

#[path = "support/coordinator.rs"]
mod coordinator;
mod support;

use std::fs;
use std::net::TcpListener;

use coordinator::{Coordinator, Script};
use railgauge_proto::v1;
use serde_json::json;
use support::*;

/// Asks `coordinator`.
fn ask(coordinator: &Coordinator, args: &[&str]) -> Done {
    run(&[args, &["--coordinator", &coordinator.url()]].concat())
}

/// The text, without what differs from run to run.
fn golden(name: &str, coordinator: &Coordinator, text: &str) {
    let text = text.replace(&coordinator.url(), "URL");
    let path = repository().join(format!("cli/tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{}", path.display());
}

fn script() -> Script {
    Script { nodes: coordinator::nodes(), paths: coordinator::paths(), ..Script::default() }
}

#[test]
fn nodes_are_listed_the_worst_first() {
    let coordinator = Coordinator::start(script());
    let done = ask(&coordinator, &["nodes"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    golden("nodes", &coordinator, &done.stdout);
    let json = ask(&coordinator, &["nodes", "--output", "json"]).json();
    assert_eq!(faults(&schema("nodes-v1.json"), &json), Vec::<String>::new());
    assert_eq!(json["nodes"][0]["state"], "lost");
    assert_eq!(json["nodes"][3]["windows_in_spool"], 5_000);
}

#[test]
fn the_exit_code_of_nodes_is_the_fleets_state() {
    let mut left = coordinator::node(2);
    left.set_state(v1::NodeState::Left);
    let mut away = coordinator::node(2);
    away.set_state(v1::NodeState::Reconnecting);
    for (nodes, code, part) in [
        (vec![coordinator::node(1)], 0, "1 node: 1 connected"),
        (vec![coordinator::node(1), left.clone()], 0, "2 nodes: 1 connected, 1 left"),
        (vec![coordinator::node(1), away], 1, "1 reconnecting, 1 connected"),
        (vec![left], 3, "1 node: 1 left"),
        (vec![v1::Node { name: "odd".into(), ..Default::default() }], 3, "1 unknown"),
        (vec![], 3, "start railgauge-agent on the nodes"),
    ] {
        let coordinator = Coordinator::start(Script { nodes, ..Script::default() });
        let done = ask(&coordinator, &["nodes"]);
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert!(done.stdout.contains(part), "{}", done.stdout);
        let json = ask(&coordinator, &["nodes", "--output", "json"]).json();
        assert_eq!(faults(&schema("nodes-v1.json"), &json), Vec::<String>::new());
    }
}

#[test]
fn paths_are_listed_the_worst_first() {
    let coordinator = Coordinator::start(script());
    let done = ask(&coordinator, &["paths", "--worst", "5"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    golden("paths", &coordinator, &done.stdout);
    assert!(done.stdout.lines().all(|line| line.len() <= 100), "{}", done.stdout);
}

#[test]
fn paths_as_json_are_what_the_coordinator_wrote() {
    let coordinator = Coordinator::start(script());
    let args = ["paths", "--since", "90s", "--nodes", "demo-*", "--output", "json"];
    let done = ask(&coordinator, &args);
    assert_eq!(done.stdout, coordinator::paths().to_string() + "\n");
    assert_eq!(faults(&schema("paths-v1.json"), &done.json()), Vec::<String>::new());
    let heard = &coordinator.heard.lock().unwrap().paths[0];
    assert_eq!((heard.since_ns, heard.nodes.as_str()), (90_000_000_000, "demo-*"));
}

#[test]
fn no_path_is_unknown_and_a_verdict_decides_otherwise() {
    let mut silent = coordinator::path("a", "b", "unknown", 1);
    for series in ["network_rtt", "app_rtt", "prober_delay", "responder_delay"] {
        silent[series] = json!(null);
        silent[format!("{series}_reason")] = "no reply".into();
    }
    let healthy = coordinator::path("b", "a", "healthy", 14_000);
    for (paths, code, part) in [
        (json!([]), 3, "no measurements of that time are here"),
        (json!([healthy]), 0, "verdict healthy: 1 path\n"),
        (json!([healthy, silent]), 3, "verdict unknown: 2 paths, 1 unknown\n"),
        (json!([silent]), 3, "no RTT: no reply"),
    ] {
        let mut document = coordinator::paths();
        document["paths"] = paths;
        let coordinator = Coordinator::start(Script { paths: document, ..Script::default() });
        let done = ask(&coordinator, &["paths"]);
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert!(done.stdout.contains(part), "{}", done.stdout);
    }
}

#[test]
fn names_are_data_and_reach_no_terminal_as_commands() {
    let hostile = "x\u{1b}]0;gone\u{7}\u{9b}2J\r\n\u{202e}y";
    let mut node = coordinator::node(1);
    node.name = hostile.to_owned();
    node.notes = vec![hostile.to_owned()];
    node.labels = [(hostile.to_owned(), hostile.to_owned())].into();
    let mut paths = coordinator::paths();
    paths["paths"][0]["src"] = hostile.into();
    paths["paths"][0]["error"] = hostile.into();
    paths["coordinator_version"] = hostile.into();
    let coordinator = Coordinator::start(Script { nodes: vec![node], paths, ..Script::default() });
    for command in ["nodes", "paths"] {
        for output in ["table", "json"] {
            let done = ask(&coordinator, &[command, "--output", output]);
            assert!(done.stdout.contains("]0;gone"), "{}", done.stdout);
            let control = |c: char| c.is_control() && c != '\n';
            assert!(!done.stdout.contains(control), "{command} {output}: {:?}", done.stdout);
        }
    }
}

#[test]
fn a_coordinator_that_is_not_there_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    for (args, schema_file) in [
        (&["nodes"][..], "nodes-v1.json"),
        (&["paths"], "paths-v1.json"),
        (&["sweep"], "sweep-v1.json"),
        (&["sweep", "--dry-run"], "sweep-announcement-v1.json"),
        (&["sweep", "show", "s-1"], "sweep-v1.json"),
        (&["sweep", "list"], "sweep-list-v1.json"),
        (&["sweep", "cancel", "--all"], "sweep-cancel-v1.json"),
        (&["keys", "rotate"], "keys-rotate-v1.json"),
    ] {
        let done = run(&[args, &["--coordinator", &url, "--output", "json"]].concat());
        assert_eq!(done.code, Some(3), "{args:?}: {}", done.stderr);
        let said = format!(
            "no coordinator answers at {url}: is railgauge-coordinator running there? --coordinator URL names another"
        );
        assert!(done.stderr.contains(&said), "{}", done.stderr);
        let json = done.json();
        assert_eq!(faults(&schema(schema_file), &json), Vec::<String>::new(), "{args:?}");
        assert!(json["error"].as_str().unwrap().contains(&said));
        let table = run(&[args, &["--coordinator", &url]].concat());
        assert_eq!((table.code, table.stdout.as_str()), (Some(3), ""));
    }
}

#[test]
fn what_was_typed_wrong_is_exit_code_2() {
    let coordinator = Coordinator::start(script());
    for (args, part) in [
        (&["paths", "--nodes", "a b"][..], "\"a b\" matches no node: a name has no ' '"),
        (&["sweep", "--nodes", "rack="], "has no value after its '='"),
        (&["sweep", "show", "nosuch"], "no sweep is called nosuch"),
        (&["sweep", "cancel", "nosuch"], "no sweep is called nosuch"),
        (&["sweep", "show", "../x"], "`railgauge sweep list` has their names"),
        (&["sweep", "cancel"], "<ID|--all>"),
        (&["sweep", "cancel", "s-1", "--all"], "cannot be used with"),
        (&["sweep", "--suite", "gpu"], "[possible values: quick, sockets, rdma]"),
        (&["sweep", "--rounds", "0"], "from 1 to"),
        (&["sweep", "--dry-run", "--save", "x"], "cannot be used with"),
        (&["sweep", "--detach", "--diff", "x"], "cannot be used with"),
        (&["sweep", "--expect", "/nonexistent"], "cannot read /nonexistent: name a file with one"),
        (
            &["sweep", "--report", "/nonexistent/x"],
            "cannot write /nonexistent/x: create its directory",
        ),
        (&["paths", "--since", "0s"], "from 1s to 30d"),
        (&["paths", "--worst", "0"], "from 1 to"),
    ] {
        let done = ask(&coordinator, args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(part), "{args:?}: {}", done.stderr);
    }
    for url in ["", "127.0.0.1:7460", "ftp://x", "http://", "http://a b", "http://a"] {
        let done = run(&["nodes", "--coordinator", url]);
        assert_eq!(done.code, Some(2), "{url:?}: {}", done.stderr);
        assert!(
            done.stderr.contains("is no coordinator: write https://HOST:PORT"),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn the_environment_names_the_coordinator_and_the_flag_wins() {
    let coordinator = Coordinator::start(script());
    let with = |args: &[&str], url: &str| {
        finish(railgauge(args).env("RAILGAUGE_COORDINATOR", url).spawn().unwrap()).code
    };
    assert_eq!(with(&["nodes"], &coordinator.url()), Some(1));
    assert_eq!(with(&["nodes"], "nonsense"), Some(2));
    let args = ["nodes", "--coordinator", &coordinator.url()];
    assert_eq!(with(&args, "nonsense"), Some(1));
    assert_eq!(with(&["sweep", "show", "s-9"], &coordinator.url()), Some(2));
}

#[test]
fn documents_of_another_version_are_refused_or_read() {
    let mut newer = coordinator::paths();
    newer["more"] = json!({"than": "we know"});
    for (paths, code) in [
        (newer, 1),
        (json!({"schema": "railgauge/paths/v2"}), 3),
        (json!({"schema": "railgauge/paths/v1", "paths": 3}), 3),
        (json!([]), 3),
    ] {
        let coordinator = Coordinator::start(Script { paths, ..Script::default() });
        let done = ask(&coordinator, &["paths"]);
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        let said = done.stderr.contains("cannot be read: are both of one version?");
        assert_eq!(said, code == 3, "{}", done.stderr);
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let coordinator = Coordinator::start(script());
    for (command, code) in [("nodes", 1), ("paths", 1)] {
        let mut child = railgauge(&[command, "--coordinator", &coordinator.url()]).spawn().unwrap();
        drop(child.stdout.take());
        let done = finish(child);
        assert_eq!((done.code, done.stderr.as_str()), (Some(code), ""));
    }
}

#[test]
fn a_saved_sweep_becomes_a_page() {
    let scratch = Scratch::new("report");
    let saved = scratch.file("sweep.json", coordinator::sweep().to_string());
    let out = scratch.path("report.html");
    let done = run(&["report", &saved]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout.starts_with("<!DOCTYPE html>") && done.stdout.contains("demo-3"));
    let written = run(&["report", &saved, "--out", &out]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""));
    assert_eq!(fs::read_to_string(&out).unwrap(), done.stdout);
    let unwritable = run(&["report", &saved, "--out", "/nonexistent/x.html"]);
    assert_eq!(unwritable.code, Some(2));
    assert!(
        unwritable.stderr.contains("cannot write /nonexistent/x.html"),
        "{}",
        unwritable.stderr
    );
}

#[test]
fn files_that_are_no_sweep_are_named() {
    let scratch = Scratch::new("no-sweep");
    for (file, part) in [
        (scratch.path("missing"), "cannot read"),
        (scratch.file("empty", ""), "is no saved sweep"),
        (scratch.file("paths", coordinator::paths().to_string()), "its schema is"),
        (scratch.file("cut", &coordinator::sweep().to_string()[..3000]), "EOF while parsing"),
        (scratch.file("binary", [0xff, 0x00, 0xfe]), "is no saved sweep"),
    ] {
        for args in [&["report", &file][..], &["sweep", "--diff", &file]] {
            let done = run(args);
            assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{}", done.stderr);
            assert!(done.stderr.contains(&file) && done.stderr.contains(part), "{}", done.stderr);
            assert!(done.stderr.contains("`railgauge sweep --save`"), "{}", done.stderr);
        }
    }
}
