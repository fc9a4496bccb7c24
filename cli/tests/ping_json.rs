//! `ping --output json` of the real binary, in many kinds of run, against `docs/schema/ping-v1.json`.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::*;

const KEY: &str = "00112233445566778899aabbccddeeff";

/// Checks what holds for every run; returns its object.
fn checked(done: &Done, code: i32, what: &str) -> Value {
    assert_eq!(done.code, Some(code), "{what}: {}", done.stderr);
    let json = done.json();
    let faults = faults(&schema("ping-v1.json"), &json);
    assert!(faults.is_empty(), "{what}: {faults:#?}\n{json:#}");
    let n = |field: &str| json[field].as_u64().unwrap_or_else(|| panic!("{what}: {field}"));
    if json.get("scheduled").is_some() {
        assert_eq!(n("scheduled"), n("sent") + n("skipped") + n("send_errors"), "{what}");
        assert_eq!(n("sent"), n("received") + n("lost") + n("in_flight"), "{what}");
        assert_eq!(json["app_rtt"]["count"].as_u64().unwrap_or(0), n("received"), "{what}");
    }
    assert_eq!(json.get("error").is_some(), code >= 2, "{what}: {json:#}");
    json
}

fn ping(target: &str, args: &[&str]) -> Done {
    let common = ["ping", target, "--output", "json", "--warmup", "5"];
    run(&[&common, args].concat())
}

#[test]
fn every_kind_of_run_with_replies_fits_the_schema() {
    let reflector = Reflector::start(&[]);
    let v6 = Reflector::on("[::1]:0", &[]);
    let runs: [(&str, &Reflector, &[&str]); 8] = [
        ("plain", &reflector, &["--count", "400"]),
        ("bare", &reflector, &["--count", "100", "--bare"]),
        ("ptp", &reflector, &["--count", "100", "--timestamp-format", "ptp"]),
        ("flows", &reflector, &["--count", "100", "--flows", "4"]),
        ("IPv6", &v6, &["--count", "100"]),
        ("busy-poll", &reflector, &["--count", "100", "--busy-poll"]),
        ("large", &reflector, &["--count", "50", "--size", "8KiB"]),
        ("marked", &reflector, &["--count", "50", "--dscp", "46", "--ttl", "3", "--ssid", "7"]),
    ];
    for (what, reflector, args) in runs {
        // So that a machine that stands still for a second loses nothing.
        let args = [args, &["--timeout", "20s"]].concat();
        let json = checked(&ping(&reflector.target(), &args), 0, what);
        assert_eq!(json["peer"], reflector.target(), "{what}");
        assert_eq!(json["lost"], 0, "{what}");
        assert!(json["network_rtt"].is_object(), "{what}: {json:#}");
    }
}

#[test]
fn options_show_in_the_result() {
    let reflector = Reflector::start(&[]);
    let target = reflector.target();
    let flows = checked(&ping(&target, &["--count", "100", "--flows", "4"]), 0, "flows");
    let ports: std::collections::BTreeSet<_> =
        flows["flows"].as_array().unwrap().iter().map(|f| f["source_port"].as_u64()).collect();
    assert_eq!(ports.len(), 4, "{flows:#}");
    let flow_replies: u64 = flows["flows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|f| f["app_rtt"]["count"].as_u64())
        .sum();
    assert_eq!(Some(flow_replies), flows["received"].as_u64());

    let ptp = checked(&ping(&target, &["--count", "20", "--timestamp-format", "ptp"]), 0, "ptp");
    assert_eq!(ptp["timestamp_format"], "ptp");
    let busy = checked(&ping(&target, &["--count", "20", "--busy-poll"]), 0, "busy-poll");
    assert_eq!((&busy["mode"], &busy["late_threshold_ns"]), (&"busy-poll".into(), &50_000.into()));
    let bare = checked(&ping(&target, &["--count", "20", "--bare"]), 0, "bare");
    assert_eq!(bare["size_bytes"], 44);
    let notes = bare["validity"].to_string();
    assert!(notes.contains("network_rtt is an upper bound"), "{notes}");
}

#[test]
fn quantiles_of_five_samples_are_withheld() {
    let reflector = Reflector::start(&[]);
    let json = checked(&ping(&reflector.target(), &["--count", "5"]), 0, "five");
    for quantile in json["app_rtt"]["quantiles"].as_array().unwrap() {
        assert_eq!(quantile["value_ns"], Value::Null);
        assert_eq!(quantile["reason"], "n");
    }
}

#[test]
fn tcp_has_no_split_and_says_why() {
    let reflector = Reflector::start(&["--transport", "tcp"]);
    let done = ping(&reflector.target(), &["--transport", "tcp", "--count", "100"]);
    let json = checked(&done, 0, "tcp");
    for series in ["network_rtt", "prober_delay", "responder_delay"] {
        assert_eq!(json[series], Value::Null);
        assert!(json[format!("{series}_reason")].as_str().unwrap().contains("byte stream"));
    }
}

#[test]
fn authentication_needs_the_same_key_at_both_ends() {
    let scratch = Scratch::new("keys");
    let ours = scratch.file("ours", KEY);
    let other = scratch.file("other", KEY.replace("00", "ff"));
    let closed = Reflector::start(&["--auth-key-file", &ours, "--output", "json"]);
    let open = Reflector::start(&[]);
    let with = |key: &str, target: &str| {
        let key: &[&str] = if key.is_empty() { &[] } else { &["--auth-key-file", key] };
        ping(target, &[&["--count", "10", "--timeout", "50ms"], key].concat())
    };

    let json = checked(&with(&ours, &closed.target()), 0, "same key");
    assert_eq!(json["authenticated"], true);
    assert!(json["size_bytes"].as_u64().unwrap() >= 112);
    for (key, target, hint) in [
        (&other, closed.target(), "the same key"),
        (&String::new(), closed.target(), "does not ask for a key"),
        (&ours, open.target(), "the same key"),
    ] {
        let done = with(key, &target);
        let json = checked(&done, 3, "other key");
        assert!(json["error"].as_str().unwrap().contains(hint), "{json:#}");
        assert!(done.stderr.contains(hint), "{}", done.stderr);
    }

    let end = closed.stop();
    let totals = end.json();
    let faults = faults(&schema("reflect-v1.json"), &totals);
    assert!(faults.is_empty(), "{faults:#?}\n{totals:#}");
    assert_eq!(totals["dropped"], serde_json::json!({"bad_hmac": 15, "not_authenticated": 15}));
    assert_eq!(end.code, Some(0));
}

#[test]
fn silence_is_exit_code_3_with_every_loss_in_the_account() {
    let (_socket, target) = mute();
    let json = checked(&ping(&target, &["--count", "50", "--timeout", "50ms"]), 3, "mute");
    assert_eq!((&json["sent"], &json["lost"]), (&50.into(), &50.into()));
    assert_eq!(json["app_rtt_reason"], "no reply");
    let error = json["error"].as_str().unwrap();
    assert!(error.starts_with(&format!("no reply from {target} within 50ms: check")), "{error}");
}

#[test]
fn a_closed_port_is_named_and_not_waited_for() {
    let target = closed_port();
    let done = run(&["ping", &target, "--output", "json", "--duration", "300s"]);
    let json = checked(&done, 3, "closed");
    let error = json["error"].as_str().unwrap();
    assert!(error.contains("nobody listens on that port"), "{error}");
    assert!(json["errors"]["port_unreachable"].as_u64().unwrap() > 0);
    assert!(json["validity"].to_string().contains("gave up after the warm-up"), "{json:#}");
}

#[test]
fn what_cannot_begin_is_an_error_object() {
    for (target, code, part) in [
        ("nosuch.invalid", 3, "cannot resolve \"nosuch.invalid\""),
        ("127.0.0.1:0", 2, "is no port"),
        ("fe80::1", 2, "add the interface"),
        ("0.0.0.0", 2, "where a reflector listens"),
    ] {
        let json = checked(&ping(target, &["--count", "5"]), code, target);
        assert_eq!(json["target"], target);
        assert!(json["error"].as_str().unwrap().contains(part), "{json:#}");
    }
}

/// Passes packets between a ping and `reflector`, and interrupts the ping after `probes` of them.
/// A path that hangs when a person has had enough: its longest waits are in flight.
#[test]
fn what_waits_when_ctrl_c_comes_is_noted() {
    let (front, target) = mute();
    let args = [
        "ping",
        &target,
        "--output",
        "json",
        "--warmup",
        "0",
        "--count",
        "9000",
        "--timeout",
        "9s",
    ];
    let child = railgauge(&args).spawn().unwrap();
    let mut packet = [0; 2048];
    for _ in 0..30 {
        let (length, _) = front.recv_from(&mut packet).unwrap();
        assert!(length >= 44);
    }
    signal(child.id(), Signal::SIGINT);
    let json = checked(&finish(child), 3, "nothing answered");
    let in_flight = json["in_flight"].as_u64().unwrap();
    assert!(in_flight >= 30, "{json:#}");
    let note = format!("{in_flight} probes still in flight");
    assert!(json["validity"].to_string().contains(&note), "{json:#}");
}

/// The answer of a reflector that says where it takes t2, and that its t3 is the user's.
fn answer(request: &[u8], t2_source: u8) -> Vec<u8> {
    let mut reply = request.to_vec();
    let (sequence, t1) = (request[..4].to_vec(), request[4..12].to_vec());
    reply[16..24].copy_from_slice(&t1);
    reply[24..28].copy_from_slice(&sequence);
    reply[28..36].copy_from_slice(&t1);
    // Follow-Up Telemetry with nothing to tell, then the sources, both understood.
    (reply[44], reply[64]) = (0, 0);
    (reply[70], reply[71]) = (t2_source, 4);
    reply
}

/// Losses that go with rare stamps are in the series that is printed all the same: no reflector can rid it of them.
#[test]
fn losses_between_rare_stamps_stay_in_the_printed_series() {
    let (front, target) = mute();
    let args = ["ping", &target, "--output", "json", "--warmup", "0", "--count", "40"];
    let args = [&args[..], &["--interval", "5ms", "--timeout", "100ms"]].concat();
    let child = railgauge(&args).spawn().unwrap();
    let mut packet = [0; 2048];
    for number in 0..40 {
        let (length, prober) = front.recv_from(&mut packet).unwrap();
        let source = if number % 10 == 8 { 4 } else { 3 };
        if number % 10 != 9 {
            front.send_to(&answer(&packet[..length], source), prober).unwrap();
        }
    }
    let json = checked(&finish(child), 0, "stamps of two kinds");
    let (lost, placed) = (&json["lost"], &json["network_rtt"]["censored"]["count"]);
    assert!(lost.as_u64() >= Some(4), "{json:#}");
    assert_eq!(lost, placed, "{json:#}");
}

/// Behind for good, the prober still hears a request to stop.
#[test]
fn ctrl_c_is_heard_on_a_schedule_that_cannot_be_kept() {
    let (front, target) = mute();
    let args = ["ping", &target, "--output", "json", "--warmup", "0", "--interval", "1us"];
    let args = [&args[..], &["--duration", "60s", "--timeout", "300ms"]].concat();
    let child = railgauge(&args).spawn().unwrap();
    let mut packet = [0; 2048];
    for _ in 0..2_000 {
        front.recv_from(&mut packet).unwrap();
    }
    signal(child.id(), Signal::SIGINT);
    let json = checked(&finish(child), 3, "nothing answered");
    let scheduled = json["scheduled"].as_u64().unwrap();
    assert!(scheduled < 2_000_000, "{scheduled} slots of 1 us came before it stopped");
}

fn interrupted(reflector: &Reflector, probes: usize, signal_sent: Signal) -> Done {
    let (front, target) = mute();
    let (back, _) = mute();
    back.connect(reflector.address).unwrap();
    let args = ["ping", &target, "--output", "json", "--warmup", "5", "--duration", "300s"];
    let child = railgauge(&args).spawn().unwrap();
    let mut packet = [0; 2048];
    for _ in 0..probes {
        let (length, prober) = front.recv_from(&mut packet).unwrap();
        back.send(&packet[..length]).unwrap();
        let length = back.recv(&mut packet).unwrap();
        front.send_to(&packet[..length], prober).unwrap();
    }
    signal(child.id(), signal_sent);
    finish(child)
}

#[test]
fn ctrl_c_and_sigterm_end_early_with_what_was_measured() {
    let reflector = Reflector::start(&[]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let json = checked(&interrupted(&reflector, 100, signal), 0, signal.as_str());
        let received = json["received"].as_u64().unwrap();
        // Those that it had not yet read when the signal came are in flight.
        assert!((1..=95).contains(&received), "{json:#}");
        assert!(json["validity"].to_string().contains("stopped early"), "{json:#}");
    }
}

#[test]
fn ctrl_c_before_any_reply_is_exit_code_3() {
    let reflector = Reflector::start(&[]);
    let json = checked(&interrupted(&reflector, 2, Signal::SIGINT), 3, "in the warm-up");
    assert!(json["error"].as_str().unwrap().contains("stopped"), "{json:#}");
}

type Spoil = fn(&mut Value);

#[test]
fn the_schema_refuses_what_the_contract_does() {
    let reflector = Reflector::start(&[]);
    let schema = schema("ping-v1.json");
    let good = ping(&reflector.target(), &["--count", "40"]).json();
    assert!(schema.is_valid(&good));
    let spoilt: [(&str, Spoil); 6] = [
        ("a null without its reason", |json| json["network_rtt"] = Value::Null),
        ("an undeclared field", |json| json["jitter"] = 1.into()),
        ("a negative count", |json| json["lost"] = (-1).into()),
        ("a missing field", |json| drop(json.as_object_mut().unwrap().remove("sent"))),
        ("a quantile without interval", |json| {
            drop(json["app_rtt"]["quantiles"][0].as_object_mut().unwrap().remove("low_ns"));
        }),
        ("a quantile out of place", |json| {
            json["app_rtt"]["quantiles"].as_array_mut().unwrap().swap(0, 1);
        }),
    ];
    for (what, spoil) in spoilt {
        let mut json = good.clone();
        spoil(&mut json);
        assert!(!schema.is_valid(&json), "{what} passed");
    }
}
