use std::io::Write;

use super::*;

fn from(text: &str) -> Result<Config, String> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load(Some(file.path()), &Layer::default()).map_err(|error| {
        let name = file.path().display().to_string();
        error.to_string().replace(&name, "coordinator.toml")
    })
}

#[test]
fn the_effective_configuration_is_a_file_that_says_the_same() {
    let text = "window = \"5s\"\nkeep_bytes = \"1GiB\"\nlisten = \"127.0.0.1:0\"\n";
    let config = from(text).unwrap();
    assert_eq!(config.window, Span::from_secs(5));
    assert_eq!(from(&config.to_toml()).unwrap(), config);
    assert!(config.to_toml().contains("keep_bytes = \"1GiB\"\n"), "{}", config.to_toml());
    assert!(config.to_toml().contains("listen = \"127.0.0.1:0\"\n"));
}

#[test]
fn flags_win_over_the_file() {
    let flags = Layer { window: Some(Span::from_secs(2)), ..Layer::default() };
    let under = Layer {
        window: Some(Span::from_secs(5)),
        lease: Some(Span::from_secs(9)),
        ..Layer::default()
    };
    let config = Config::of(&flags, &under);
    assert_eq!((config.window, config.lease), (Span::from_secs(2), Span::from_secs(9)));
}

#[test]
fn mistakes_are_sentences() {
    let cases = [
        (
            "windows = \"10s\"\n",
            "coordinator.toml:1: unknown key \"windows\"; did you mean \"window\"?",
        ),
        (
            "\nprobe_intervall = \"1ms\"\n",
            "coordinator.toml:2: unknown key \"probe_intervall\"; did you mean \"probe_interval\"?",
        ),
        (
            "lease = \"30\"\n",
            "coordinator.toml:1: lease: \"30\" is no duration: write a number and its unit (ns, us, ms, s, m, h or d), \
             as in \"10s\"",
        ),
        (
            "keep_bytes = 20\n",
            "coordinator.toml:1: keep_bytes: \"20\" is no size: write a number and its unit (B, KiB, MiB, GiB or TiB), \
             as in \"20GiB\"",
        ),
        (
            "window = \"7s\"\n",
            "window = 7s: a minute must be a whole number of windows, so that minutes can be merged from them",
        ),
        ("window = \"1ms\"\n", "window = 1ms: it must lie between 1s and 1m"),
        ("probe_size = \"1B\"\n", "probe_size = 1B: it must lie between 44B and 8972B"),
        (
            "http_listen = \"127.0.0.1:7460\"\n",
            "http_listen = 127.0.0.1:7460: listen has that address already",
        ),
        (
            "listen = \"localhost\"\n",
            "coordinator.toml:1: listen: \"localhost\" is no address with a port: write one as \"127.0.0.1:7460\", in digits",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(from(text).unwrap_err(), expected, "{text:?}");
    }
    let absent = load(Some(Path::new("/nowhere/a.toml")), &Layer::default()).unwrap_err();
    assert_eq!(absent.to_string(), "cannot read /nowhere/a.toml");
}

#[test]
fn plaintext_is_asked_for_and_stays_here() {
    assert!(from("").unwrap().check_exposure().is_ok(), "TLS may go anywhere");
    assert!(from("listen = \"0.0.0.0:7460\"\n").unwrap().check_exposure().is_ok());
    let open = from("insecure = true\nlisten = \"10.0.0.1:7460\"\n").unwrap();
    let error = open.check_exposure().unwrap_err().to_string();
    assert!(error.starts_with("listen = 10.0.0.1:7460: that is no loopback address"), "{error}");
    let page = from("insecure = true\nhttp_listen = \"[::]:7461\"\n").unwrap();
    let error = page.check_exposure().unwrap_err().to_string();
    assert!(error.contains("http_tls = true, or allow_plain_metrics = true"), "{error}");
    for (open, shown) in [
        ("http_listen = \"0.0.0.0:7461\"\nhttp_tls = true\n", Shown::ByPolicy),
        ("http_listen = \"0.0.0.0:7461\"\nallow_plain_metrics = true\n", Shown::MetricsOnly),
        ("allow_plain_metrics = true\n", Shown::Here),
        ("http_tls = true\n", Shown::ByPolicy),
    ] {
        let open = from(open).unwrap();
        assert!(open.check_exposure().is_ok());
        assert_eq!(open.shown(), shown);
    }
    let both = from("insecure = true\nhttp_tls = true\n").unwrap();
    assert!(both.check_exposure().unwrap_err().to_string().contains("take one of them out"));
    assert!(from("insecure = true\n").unwrap().check_exposure().is_ok());
}

#[test]
fn every_reloadable_key_is_one() {
    let config = from("").unwrap();
    let text = config.to_toml();
    for key in RELOADABLE {
        assert!(text.contains(&format!("\n{key} = ")), "{key}");
    }
    let other = from("window = \"5s\"\nkeep_raw = \"1h\"\n").unwrap();
    assert_eq!(config.differences(&other), ["window", "keep_raw"]);
}

#[test]
fn no_cap_is_no_bound() {
    assert_eq!(from("").unwrap().caps(), Caps::default());
    let text =
        "sweep_max_nodes = 16\nsweep_max_duration = \"5m\"\nsweep_max_gbit_per_second = 10\n";
    let caps = from(text).unwrap().caps();
    assert_eq!((caps.nodes, caps.gbit_per_second), (Some(16), Some(10.0)));
    assert_eq!(caps.limit, Some(Span::from_secs(300)));
}

#[test]
fn the_audit_log_is_beside_the_state_unless_told() {
    let config = from("state_dir = \"/s\"\n").unwrap();
    assert_eq!(config.audit_log(), Path::new("/s/audit.jsonl"));
    let config = from("state_dir = \"/s\"\naudit_log = \"/var/log/a\"\n").unwrap();
    assert_eq!(config.audit_log(), Path::new("/var/log/a"));
}
