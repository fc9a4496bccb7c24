//! `railgauge sweep` against a coordinator that answers from a script.
//! `UPDATE_GOLDEN=1 cargo test -p railgauge-cli --test sweeps` rewrites the tables.

#[path = "support/coordinator.rs"]
mod coordinator;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use coordinator::{Coordinator, Script};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::*;

const ANNOUNCED: &str = "sweep s-1: 4 nodes, 3 rounds, 12 measurements\n\
takes about 13.5s, at most 1m 12s; 49,200 packets, 5.8 MB on the wire\n";

fn ask(coordinator: &Coordinator, args: &[&str]) -> Done {
    run(&[args, &["--coordinator", &coordinator.url()]].concat())
}

fn golden(name: &str, text: &str) {
    let path = repository().join(format!("cli/tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{}", path.display());
}

fn with(sweep: Value) -> Coordinator {
    Coordinator::start(Script { sweep, ..Script::default() })
}

fn valid(json: &Value) {
    assert_eq!(faults(&schema("sweep-v1.json"), json), Vec::<String>::new());
}

#[test]
fn the_announcement_comes_first_and_the_result_alone_on_stdout() {
    let excluded = vec!["demo-5: it is not connected".to_owned()];
    let sweep = coordinator::sweep();
    let coordinator = Coordinator::start(Script { sweep, excluded, ..Script::default() });
    let done = ask(&coordinator, &["sweep"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stderr, format!("{ANNOUNCED}left out: demo-5: it is not connected\n"));
    golden("sweep-degraded", &done.stdout);
    assert!(done.stdout.lines().all(|line| line.len() <= 100), "{}", done.stdout);
    let heard = &coordinator.heard.lock().unwrap().started[0];
    assert_eq!((heard.suite.as_str(), heard.max_rounds, heard.detach), ("quick", 0, false));
}

#[test]
fn what_is_asked_for_reaches_the_coordinator() {
    let scratch = Scratch::new("asked");
    let expect = scratch.file("expect", "demo-1\n# none\ndemo-9 # new\n");
    let coordinator = with(coordinator::healthy_sweep());
    let args = ["--suite", "sockets", "--nodes", "demo-*", "--rounds", "2", "--expect", &expect];
    assert_eq!(ask(&coordinator, &[&["sweep"], &args[..]].concat()).code, Some(0));
    let heard = &coordinator.heard.lock().unwrap().started[0];
    assert_eq!((heard.suite.as_str(), heard.nodes.as_str()), ("sockets", "demo-*"));
    assert_eq!(
        (heard.max_rounds, &heard.expected[..]),
        (2, &["demo-1".into(), "demo-9".into()][..])
    );
}

#[test]
fn the_exit_code_is_the_verdict() {
    let mut early = coordinator::healthy_sweep();
    early["error"] = "the hard limit was reached".into();
    let mut unknown = coordinator::healthy_sweep();
    unknown["verdict"] = "unknown".into();
    let mut failed = coordinator::sweep();
    failed["verdict"] = "failed".into();
    let empty = json!({"schema": "railgauge/sweep/v1", "error": "no node takes part"});
    for (sweep, code, part) in [
        (
            coordinator::healthy_sweep(),
            0,
            "verdict healthy: nothing is wrong on 12 paths measured\n",
        ),
        (coordinator::sweep(), 1, "verdict degraded: demo-3 answers late"),
        (failed, 1, "verdict failed: demo-3 answers late"),
        (unknown, 3, "verdict unknown: too little was measured for a statement\n"),
        (early, 3, "error   the hard limit was reached\n"),
        (empty, 3, "verdict unknown: nothing was measured\n"),
    ] {
        let coordinator = with(sweep);
        let done = ask(&coordinator, &["sweep"]);
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert!(done.stdout.contains(part), "{}", done.stdout);
        let json = ask(&coordinator, &["sweep", "--output", "json"]);
        assert_eq!(json.code, Some(code));
        valid(&json.json());
    }
}

#[test]
fn a_dry_run_announces_and_stops() {
    let coordinator = with(json!(null));
    let done = ask(&coordinator, &["sweep", "--dry-run"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(done.stdout, ANNOUNCED);
    let json = ask(&coordinator, &["sweep", "--dry-run", "--output", "json"]).json();
    assert_eq!(faults(&schema("sweep-announcement-v1.json"), &json), Vec::<String>::new());
    assert_eq!(json["expected_packets"], 49_200);
    assert!(coordinator.heard.lock().unwrap().started.iter().all(|started| started.dry_run));
}

#[test]
fn a_detached_sweep_goes_on_and_says_where_its_result_is() {
    let sweep = coordinator::sweep();
    let coordinator = Coordinator::start(Script { sweep, endless: true, ..Script::default() });
    let done = ask(&coordinator, &["sweep", "--detach"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout.starts_with(ANNOUNCED), "{}", done.stdout);
    assert!(done.stdout.contains("`railgauge sweep show s-1` has its result"), "{}", done.stdout);
    let json = ask(&coordinator, &["sweep", "--detach", "--output", "json"]).json();
    assert_eq!(faults(&schema("sweep-announcement-v1.json"), &json), Vec::<String>::new());
    assert_eq!(json["id"], "s-1");
    let heard = coordinator.heard.lock().unwrap();
    assert!(heard.started.iter().all(|started| started.detach) && heard.cancelled.is_empty());
}

#[test]
fn interrupts_cancel_on_the_server_and_print_what_there_is() {
    for (signal, verdict, code) in
        [(Signal::SIGINT, "healthy", 3), (Signal::SIGTERM, "degraded", 1)]
    {
        let mut sweep = coordinator::healthy_sweep();
        sweep["verdict"] = verdict.into();
        sweep["error"] = "cancelled before its end".into();
        let coordinator = Coordinator::start(Script { sweep, endless: true, ..Script::default() });
        let args = ["sweep", "--coordinator", &coordinator.url(), "--output", "json"];
        let mut child = railgauge(&args).spawn().unwrap();
        // The announcement says that it has begun.
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        support::signal(child.id(), signal);
        let done = finish(child);
        assert_eq!(done.code, Some(code), "{}", done.stdout);
        assert_eq!(done.json()["error"], "cancelled before its end");
        assert_eq!(coordinator.heard.lock().unwrap().cancelled, ["s-1"]);
    }
}

#[test]
fn a_coordinator_that_goes_away_is_told_and_leaves_no_files() {
    let scratch = Scratch::new("goes-away");
    let (saved, old) = (scratch.path("new.json"), scratch.file("old.json", "kept"));
    let coordinator = Coordinator::start(Script { dies: true, ..Script::default() });
    let done =
        ask(&coordinator, &["sweep", "--save", &saved, "--report", &old, "--output", "json"]);
    assert_eq!(done.code, Some(3));
    assert!(
        done.stderr.contains("does not answer any more: its account of the sweep ended early"),
        "{}",
        done.stderr
    );
    valid(&done.json());
    assert!(!fs::exists(&saved).unwrap());
    assert_eq!(fs::read_to_string(&old).unwrap(), "kept");
}

#[test]
fn results_are_saved_reported_and_compared() {
    let scratch = Scratch::new("saved");
    let (saved, page) = (scratch.path("sweep.json"), scratch.path("report.html"));
    let before = with(coordinator::healthy_sweep());
    let done = ask(&before, &["sweep", "--save", &saved, "--report", &page]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(
        fs::read_to_string(&saved).unwrap(),
        coordinator::healthy_sweep().to_string() + "\n"
    );

    let same = ask(&before, &["sweep", "--diff", &saved]);
    assert!(same.stdout.ends_with("72 compared\n  nothing has changed\n"), "{}", same.stdout);
    assert_eq!(same.code, Some(0));

    let now = with(coordinator::sweep());
    let done = ask(&now, &["sweep", "show", "s-1", "--diff", &saved]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let diff = &done.stdout[done.stdout.find("compared with").unwrap()..];
    // Where the scratch directory's name is long, the first sentence takes two lines.
    let (first, rest) = diff.split_once("\n  rule").unwrap();
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ").replace(&saved, "FILE");
    golden("sweep-diff", &format!("{first}\n  rule{rest}"));
    let fits = |line: &str| line.len() <= 100 || line.contains(&saved);
    assert!(done.stdout.lines().all(fits), "{}", done.stdout);

    // --save may name the file that is compared with.
    let args = ["sweep", "--diff", &saved, "--save", &saved, "--output", "json"];
    let done = ask(&now, &args);
    let json = done.json();
    valid(&json);
    assert_eq!(json["diff"]["changes"].as_array().unwrap().len(), 3);
    assert_eq!(json["diff"]["findings_new"][0]["component"], "demo-3");
    assert_eq!(fs::read_to_string(&saved).unwrap(), coordinator::sweep().to_string() + "\n");
}

#[test]
fn sweeps_measured_in_different_ways_are_not_compared() {
    let scratch = Scratch::new("different");
    let mut before = coordinator::healthy_sweep();
    before["parameters"]["interval_ns"] = 5_000_000.into();
    let saved = scratch.file("sweep.json", before.to_string());
    let coordinator = with(coordinator::healthy_sweep());
    let done = ask(&coordinator, &["sweep", "--diff", &saved]);
    assert_eq!(done.code, Some(0));
    let why = "interval_ns differs: 5000000 then, 1000000 now";
    let words = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(why) && words.contains("not compared with sweep s-1"), "{words}");
    let json = ask(&coordinator, &["sweep", "--diff", &saved, "--output", "json"]).json();
    valid(&json);
    assert_eq!(json["diff"]["refused"], why);
    // Another suite is known before anything is measured.
    let done = ask(&coordinator, &["sweep", "--suite", "sockets", "--diff", &saved]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("ask for --suite quick"), "{}", done.stderr);
}

#[test]
fn sweeps_are_shown_listed_and_cancelled() {
    let coordinator = with(coordinator::sweep());
    let shown = ask(&coordinator, &["sweep", "show", "s-1", "--output", "json"]);
    assert_eq!((shown.code, shown.json()), (Some(1), coordinator::sweep()));
    let runs = ask(&coordinator, &["sweep", "show", "s-2"]);
    assert_eq!((runs.code, runs.stdout.as_str()), (Some(3), ""));
    assert!(
        runs.stderr.contains("sweep s-2 still runs, 3 of 12 measurements are done"),
        "{}",
        runs.stderr
    );

    let list = ask(&coordinator, &["sweep", "list"]);
    let lines = "SWEEP  STARTED                   VERDICT\ns-1    2025-11-23T08:03:00.000Z  degraded\ns-2    2025-11-23T08:03:00.000Z  runs\n";
    assert_eq!((list.code, list.stdout.as_str()), (Some(0), lines));
    let json = ask(&coordinator, &["sweep", "list", "--output", "json"]).json();
    assert_eq!(faults(&schema("sweep-list-v1.json"), &json), Vec::<String>::new());

    let one = ask(&coordinator, &["sweep", "cancel", "s-2"]);
    assert!(one.stdout.starts_with("cancelled s-2: `railgauge sweep show s-2`"), "{}", one.stdout);
    let all = ask(&coordinator, &["sweep", "cancel", "--all", "--output", "json"]).json();
    assert_eq!(faults(&schema("sweep-cancel-v1.json"), &all), Vec::<String>::new());
    assert_eq!(all["cancelled"], json!(["s-1", "s-2"]));
    assert_eq!(coordinator.heard.lock().unwrap().cancelled, ["s-2", ""]);
}

#[test]
fn new_keys_say_who_still_uses_the_old_ones() {
    let coordinator = with(coordinator::sweep());
    let waits = ask(&coordinator, &["keys", "rotate"]);
    assert_eq!(waits.code, Some(1), "{}", waits.stderr);
    let said = "epoch 1763884980: confirmed by 3 nodes; old keys are still answered, until nobody can probe with them any more\n  \
                waits: n4 has not confirmed its new key, and is out of reach\n";
    assert_eq!(
        waits.stdout.split_whitespace().collect::<Vec<_>>(),
        said.split_whitespace().collect::<Vec<_>>()
    );
    let done = ask(&coordinator, &["keys", "rotate", "--withdraw", "--output", "json"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(faults(&schema("keys-rotate-v1.json"), &done.json()), Vec::<String>::new());
}

#[test]
fn hostile_text_in_a_result_stays_text() {
    let hostile = "x\u{1b}]0;gone\u{7}\u{9b}2J\r\n\u{202e}y";
    let mut sweep = coordinator::sweep();
    for member in ["id", "started_at", "error"] {
        sweep[member] = hostile.into();
    }
    sweep["findings"][0]["summary"] = hostile.into();
    sweep["findings"][0]["next_test"] = hostile.repeat(50).into();
    sweep["findings"][0]["component"]["name"] = hostile.into();
    sweep["findings"][0]["evidence"]["convict"] = json!([hostile]);
    sweep["paths"][0]["src"] = "n".repeat(253).into();
    sweep["not_measured"][0]["what"] = hostile.into();
    sweep["validity"] = json!([hostile]);
    let excluded = vec![hostile.to_owned()];
    let coordinator = Coordinator::start(Script { sweep, excluded, ..Script::default() });
    for output in ["table", "json"] {
        let done = ask(&coordinator, &["sweep", "--output", output]);
        for text in [&done.stdout, &done.stderr] {
            assert!(text.contains("]0;gone"), "{text}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{output}: {text:?}");
        }
        let narrow = done.stdout.lines().all(|line| line.len() <= 100);
        assert!(narrow || output == "json", "{}", done.stdout);
    }
}

#[test]
fn on_a_terminal_rounds_and_the_worst_are_live_and_wiped_off() {
    let coordinator = with(coordinator::sweep());
    let scratch = Scratch::new("live");
    let out = scratch.path("stdout");
    let binary = env!("CARGO_BIN_EXE_railgauge");
    let shell = format!("{binary} sweep --coordinator {} > {out} || true", coordinator.url());
    let mut command = Command::new("script");
    command.args(["-qefc", &shell, "/dev/null"]).env("TERM", "xterm");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let seen = finish(command.spawn().expect("`script` of util-linux")).stdout;
    assert!(seen.contains("round 1 of 3: ") && seen.contains("worst so far"), "{seen:?}");
    assert!(!seen.contains("\u{1b}[2J"), "{seen:?}");
    assert!(fs::read_to_string(&out).unwrap().starts_with("verdict degraded"));
}
