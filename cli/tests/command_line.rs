//! What the command line promises beside its results: help, version, exit codes, streams, sentences about bad input.
//! `UPDATE_GOLDEN=1 cargo test -p railgauge-cli --test command_line` rewrites the help.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::*;

#[test]
fn help_reads_as_its_golden() {
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help-ping", &["ping", "--help"]),
        ("help-reflect", &["reflect", "--help"]),
        ("help-inventory", &["inventory", "--help"]),
        ("help-demo", &["demo", "--help"]),
        ("help-nodes", &["nodes", "--help"]),
        ("help-paths", &["paths", "--help"]),
        ("help-sweep", &["sweep", "--help"]),
        ("help-sweep-show", &["sweep", "show", "--help"]),
        ("help-sweep-list", &["sweep", "list", "--help"]),
        ("help-sweep-cancel", &["sweep", "cancel", "--help"]),
        ("help-report", &["report", "--help"]),
    ] {
        let done = run(args);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        let golden = repository().join(format!("cli/tests/golden/{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &done.stdout).unwrap();
        }
        assert_eq!(done.stdout, fs::read_to_string(&golden).unwrap(), "{}", golden.display());
    }
}

#[test]
fn every_version_names_the_commit() {
    for args in [&["--version"][..], &["ping", "--version"], &["reflect", "-V"]] {
        let done = run(args);
        let version = done.stdout.trim_end().split_once(' ').unwrap().1;
        let (number, commit) = version.split_once(" (").unwrap();
        assert!(number.ends_with(env!("CARGO_PKG_VERSION")), "{version}");
        let commit = commit.strip_suffix(')').unwrap();
        assert!(commit.len() >= 7, "{version}");
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(hex(commit.trim_end_matches("-dirty")) || commit == "unknown", "{version}");
    }
}

#[test]
fn conditions_decide_between_0_and_1_and_silence_is_3() {
    let reflector = Reflector::start(&[]);
    let (_socket, mute) = mute();
    let target = reflector.target();
    for (target, condition, code, said) in [
        (&target, "max>1ns", 1, "fail-if max>1ns holds\n"),
        (&target, "network_rtt.p50>1ns", 1, "fail-if network_rtt.p50>1ns holds\n"),
        (&target, "p50>10s", 0, ""),
        (&target, "loss>0%", 0, ""),
        (&target, "p99.99>1ns", 0, "fail-if p99.99>1ns cannot be known from 50 replies\n"),
        (&mute, "loss>1%", 3, "no reply from"),
    ] {
        let timeout = if code == 3 { "100ms" } else { "20s" };
        let args = ["ping", target, "--count", "50", "--timeout", timeout, "--warmup", "0"];
        let done = run(&[&args[..], &["--fail-if", condition]].concat());
        assert_eq!(done.code, Some(code), "{condition}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{condition}: {}", done.stderr);
        assert!(!said.is_empty() || done.stderr.is_empty(), "{condition}: {}", done.stderr);
    }
}

#[test]
fn without_a_terminal_stderr_is_silent_and_stdout_holds_the_table() {
    let reflector = Reflector::start(&[]);
    let target = reflector.target();
    let done = run(&["ping", &target, "--count", "1100", "--warmup", "0"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let first = format!("{target} by udp, 72 octets every 1.00ms, sleep\n");
    assert!(done.stdout.starts_with(&first), "{}", done.stdout);
    assert!(!done.stdout.contains('\u{1b}'), "{}", done.stdout);
}

/// Runs `shell` with a terminal on stderr; returns what the terminal got. `script` is part of util-linux.
fn on_a_terminal(shell: &str) -> String {
    let mut command = Command::new("script");
    command.args(["-qefc", shell, "/dev/null"]).env("TERM", "xterm");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().expect("`script` of util-linux")).stdout
}

#[test]
fn on_a_terminal_progress_goes_to_stderr_and_is_wiped_off() {
    let reflector = Reflector::start(&[]);
    let scratch = Scratch::new("terminal");
    let out = scratch.path("stdout");
    let binary = env!("CARGO_BIN_EXE_railgauge");
    let target = reflector.target();
    let seen = on_a_terminal(&format!("{binary} ping {target} --count 1200 --warmup 0 > {out}"));
    assert!(seen.contains("app_rtt p50"), "{seen:?}");
    assert!(seen.ends_with("\u{1b}[2K"), "not wiped off: {seen:?}");
    let table = fs::read_to_string(&out).unwrap();
    assert!(table.starts_with(&target) && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn no_color_is_obeyed() {
    let binary = env!("CARGO_BIN_EXE_railgauge");
    let plain = on_a_terminal(&format!("NO_COLOR=1 {binary} ping"));
    let coloured = on_a_terminal(&format!("{binary} ping"));
    assert!(coloured.contains("\u{1b}[1m"), "the control has no colour: {coloured:?}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let reflector = Reflector::start(&[]);
    let target = reflector.target();
    for output in ["table", "json"] {
        let args = ["ping", &target, "--count", "20", "--warmup", "0", "--output", output];
        let mut child = railgauge(&args).spawn().unwrap();
        drop(child.stdout.take());
        let done = finish(child);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_result_that_nobody_got_is_exit_code_3() {
    let reflector = Reflector::start(&[]);
    let target = reflector.target();
    for args in [&["ping", &target, "--count", "20"][..], &["inventory"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = finish(railgauge(args).stdout(full).spawn().unwrap());
        assert_eq!(done.code, Some(3));
        assert!(done.stderr.contains("the result is not all written"), "{}", done.stderr);
    }
}

#[test]
fn absurd_values_are_named_with_their_flag_and_what_is_allowed() {
    let spans = [
        ("--interval", "from 1us to 1h", &["0us", "2h"][..]),
        ("--duration", "from 1ms to 30d", &["0s", "31d"]),
        ("--timeout", "from 1ms to 1m", &["0ms", "2m"]),
        ("--interval", "is no duration", &["", "-1ms", "nan", "inf", "1e9s", "ms", "1 ms", "9"]),
        ("--interval", "works with --transport rdma-rc only", &["0"]),
        ("--size", "from 1 to 67108864 octets", &["0", "70000000"]),
        ("--size", "from 1 to 65507 octets", &["65508", "999KiB"]),
        ("--size", "is no size", &["", "-1", "x", "1.5"]),
        (
            "--count",
            "from 1 to 1000000000000",
            &["0", "-1", "x", "", "1e6", "99999999999999999999"],
        ),
        ("--warmup", "from 0 to 1000000", &["-1", "1000001", "nan"]),
        ("--cpu", "from 0 to 8191", &["-1", "8192", "x", ""]),
        ("--dscp", "from 0 to 63", &["64", "-1", "af11"]),
        ("--ttl", "from 1 to 255", &["0", "256", "-1"]),
        ("--flows", "from 1 to 64", &["0", "65", "-4"]),
        ("--ssid", "from 0 to 65535", &["65536", "-1"]),
        ("--source", "is no address", &["eth0", "", "300.1.1.1"]),
        ("--timestamp-format", "[possible values: ntp, ptp]", &["x", ""]),
        ("--transport", "[possible values: udp, tcp, rdma-ud, rdma-rc]", &["rdma", ""]),
        ("--output", "[possible values: table, json]", &["xml", ""]),
        ("--fail-if", "is no condition", &["x", "", "p98>1us", "p99<1us", "loss>1"]),
        ("--fail-if", "is no duration", &["p99>", "p99>50", "p99>-1us"]),
    ];
    for (flag, allowed, values) in spans {
        for value in values {
            let done = run(&["ping", "127.0.0.1", flag, value]);
            let what = format!("{flag} {value:?}: {}", done.stderr);
            assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{what}");
            assert!(done.stderr.contains(flag), "{what}");
            assert!(done.stderr.contains(allowed), "{what}");
        }
    }
}

#[test]
fn what_cannot_be_together_is_refused() {
    let many = ["--interval", "1us", "--timeout", "60s"];
    let samples = ["--interval", "1us", "--duration", "720h", "--samples", "/dev/null"];
    for (args, part) in [
        (&["--count", "5", "--duration", "1s"][..], "cannot be used with"),
        (&["-4", "-6"], "cannot be used with"),
        (&["--cpu", "0", "--device", "eth0"], "leave one out"),
        (&["--transport", "tcp", "--source", "127.0.0.1"], "--source works with --transport udp"),
        (&["--transport", "tcp", "--dscp", "8"], "--dscp works with --transport udp"),
        (&["--transport", "tcp", "--ttl", "1"], "--ttl works with --transport udp"),
        (&["-6"], "\"127.0.0.1\" has no IPv6 address: leave out -6"),
        (&["--source", "::1"], "--source ::1 cannot reach 127.0.0.1:862"),
        (&["--source", "192.0.2.77"], "192.0.2.77 is not an address of this machine: `ip address`"),
        (&["--cpu", "8191"], "cannot run on CPU 8191: this process may use CPUs"),
        (&["--device", "nosuch0"], "`railgauge inventory` lists them"),
        (&many, "lengthen the interval or shorten the time-out"),
        (&samples, "--samples keeps at most"),
    ] {
        let done = run(&[&["ping", "127.0.0.1"], args].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(part), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn key_files_that_hold_no_key_say_how_to_make_one() {
    let scratch = Scratch::new("bad-keys");
    for (file, part) in [
        (scratch.path("missing"), "check its path and permissions"),
        (scratch.0.to_str().unwrap().to_owned(), "check its path and permissions"),
        (scratch.file("empty", ""), "holds no key"),
        (scratch.file("comment", "# nothing\n\n"), "holds no key"),
        (scratch.file("short", "0011"), "2 octets and needs at least 16"),
        (scratch.file("odd", "0".repeat(33)), "an odd number"),
        (scratch.file("words", "correct horse battery staple"), "no hexadecimal digit"),
        (scratch.file("binary", [0xff, 0xfe, 0]), "is no text"),
    ] {
        for args in [["ping", "127.0.0.1"], ["reflect", "--listen=127.0.0.1:0"]] {
            let done = run(&[&args[..], &["--auth-key-file", &file]].concat());
            assert_eq!(done.code, Some(2), "{file}: {}", done.stderr);
            let named = done.stderr.contains(&file) && done.stderr.contains(part);
            assert!(named, "{}", done.stderr);
        }
    }
}

#[test]
fn rdma_that_cannot_be_had_is_a_sentence_and_3() {
    let device = "no-such-device0";
    for transport in ["rdma-rc", "rdma-ud"] {
        let measure = ["ping", "127.0.0.1", "--count", "1"];
        for args in [&measure[..], &["reflect", "--listen", "127.0.0.1:0"][..]] {
            let rdma = ["--transport", transport, "--device", device];
            let done = run(&[args, &rdma].concat());
            assert_eq!((done.code, done.stdout.as_str()), (Some(3), ""), "{}", done.stderr);
            assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
            let json = run(&[args, &rdma, &["--output", "json"]].concat()).json();
            let name = if args[0] == "ping" { "ping-v1.json" } else { "reflect-v1.json" };
            assert_eq!(faults(&schema(name), &json), Vec::<String>::new());
        }
    }
}

#[test]
fn flags_that_rdma_would_not_obey_are_usage() {
    for (args, said) in [
        (&["--op", "read"][..], "--op works with --transport rdma-rc only"),
        (&["--interval", "0"], "--interval 0 works with --transport rdma-rc only"),
        (&["--transport", "rdma-rc", "--op", "send", "--completion", "imm"], "--op write only"),
        (&["--transport", "rdma-rc", "--depth", "4"], "--op write-bw or read-bw only"),
        (&["--transport", "rdma-rc", "--op", "atomic", "--size", "4"], "works on 8 octets"),
        (&["--transport", "rdma-rc", "--interval", "0"], "say how many with --count"),
        (&["--transport", "rdma-rc", "--completion", "memory"], "add --busy-poll"),
        (&["--transport", "rdma-ud", "--ttl", "3"], "--ttl works with --transport udp only"),
    ] {
        let done = run(&[&["ping", "127.0.0.1"], args].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn a_reflector_that_cannot_listen_says_why() {
    let first = Reflector::start(&[]);
    let tcp = Reflector::start(&["--transport", "tcp"]);
    let (taken, taken_tcp) = (first.target(), tcp.target());
    for (args, code, part) in [
        (&["--listen", &taken][..], 3, "is in use by another process: choose another port"),
        (&["--listen", &taken_tcp, "--transport", "tcp"], 3, "choose another address or port"),
        (&["--listen", "192.0.2.77:7463"], 2, "192.0.2.77 is not an address of this machine"),
        (&["--listen", "127.0.0.1"], 2, "is no address and port: write them as"),
        (&["--listen", "127.0.0.1:0", "--cpu", "8191"], 2, "cannot run on CPU 8191"),
        (&["--transport", "tcp", "--cpu", "0"], 2, "--cpu works with --transport udp only"),
        (&["--transport", "tcp", "--busy-poll"], 2, "--busy-poll works with --transport udp only"),
        (&["--listen", "127.0.0.1:0", "--max-rate", "-1"], 2, "from 0 to 4294967295"),
    ] {
        let done = run(&[&["reflect"], args].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{args:?}");
        assert!(done.stderr.contains(part), "{args:?}: {}", done.stderr);
        assert!(!done.stderr.contains("listening on "), "{args:?}: {}", done.stderr);
        if code == 3 {
            let json = run(&[&["reflect", "--output", "json"], args].concat()).json();
            assert_eq!(faults(&schema("reflect-v1.json"), &json), Vec::<String>::new());
            assert!(json["error"].as_str().unwrap().contains(part), "{json:#}");
        }
    }
}

#[test]
fn a_reflector_announces_the_ping_that_measures_it() {
    let scratch = Scratch::new("announce");
    let key = scratch.file("key", "00112233445566778899aabbccddeeff");
    for (listen, args, tail) in [
        ("127.0.0.1:0", &[][..], ""),
        ("[::1]:0", &[], ""),
        ("127.0.0.1:0", &["--transport", "tcp"], " --transport tcp"),
        ("127.0.0.1:0", &["--auth-key-file", &key], " --auth-key-file FILE"),
    ] {
        let reflector = Reflector::on(listen, args);
        let expected = format!("measure with: railgauge ping {}{tail}\n", reflector.address);
        assert!(reflector.announced.ends_with(&expected), "{}", reflector.announced);
        let end = reflector.stop();
        assert_eq!(
            (end.code, end.stdout.as_str()),
            (Some(0), "requests 0, replies 0, sessions 0\n")
        );
    }
}

#[test]
fn a_rate_above_the_reflectors_is_told_from_the_paths_losses() {
    let reflector = Reflector::start(&["--max-rate", "1000"]);
    let target = reflector.target();
    let args = ["ping", &target, "--count", "4000", "--interval", "50us", "--timeout", "50ms"];
    let done = run(&args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("losses may be the reflector's"), "{}", done.stdout);
    let end = reflector.stop().stdout;
    assert!(end.contains("(one source sent more than --max-rate)"), "{end}");
}
