//! `railgauge certs` as an operator types it, and what a certificate is asked for.

mod support;

use std::os::unix::fs::PermissionsExt;

use support::{faults, run, schema};

#[test]
fn an_authority_and_its_certificates_are_made_shown_and_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let json = |args: &[&str], code: i32| {
        let done = run(&[args, &["--output", "json"]].concat());
        assert_eq!(done.code, Some(code), "{args:?}: {}", done.stderr);
        let json = done.json();
        assert_eq!(faults(&schema("certs-v1.json"), &json), Vec::<String>::new(), "{args:?}");
        json
    };
    let pki = at("pki");
    let issue = ["certs", "issue", "agent", "gpu-07", "--dir", &pki];
    let none = json(&issue, 2);
    assert!(
        none["error"].as_str().unwrap().contains("make one with `railgauge certs init"),
        "{none}"
    );
    let init = ["certs", "init", "--dir", &pki, "--trust-domain", "prod.example"];
    assert_eq!(json(&init, 0)["identity"], "spiffe://prod.example");
    assert!(json(&init, 2)["error"].as_str().unwrap().contains("is there already"));
    let made = json(&issue, 0);
    assert_eq!(made["identity"], "spiffe://prod.example/railgauge/agent/gpu-07");
    let key = made["key"].as_str().unwrap();
    for secret in [key, &at("pki/ca.key")] {
        let mode = std::fs::metadata(secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let before = std::fs::read(key).unwrap();
    assert!(json(&issue, 2)["error"].as_str().unwrap().contains("--replace"));
    assert_eq!(std::fs::read(key).unwrap(), before);
    json(&[&issue[..], &["--replace"]].concat(), 0);
    assert_ne!(std::fs::read(key).unwrap(), before);
    let cert = made["certificate"].as_str().unwrap();
    let shown = json(&["certs", "show", cert, &at("pki/ca.pem")], 0);
    let whose = |n: usize| shown["certificates"][n]["whose"].as_str().unwrap().to_owned();
    assert_eq!(whose(0), "spiffe://prod.example/railgauge/agent/gpu-07");
    assert_eq!(whose(1), "authority of prod.example");
    assert!(
        json(&["certs", "show", &at("none.pem")], 2)["error"]
            .as_str()
            .unwrap()
            .contains("none.pem")
    );
    let table = run(&["certs", "show", cert]).stdout;
    assert!(table.contains("WHOSE") && table.contains("gpu-07"), "{table}");
}

/// A coordinator that is renewed by name alone is called what it was called before, or its agents would stay away when they next connect.
#[test]
fn a_renewed_certificate_keeps_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki").display().to_string();
    let issue = |more: &[&str]| {
        run(&[&["certs", "issue", "coordinator", "main", "--dir", &pki][..], more].concat())
    };
    assert_eq!(run(&["certs", "init", "--dir", &pki]).code, Some(0));
    let hosts = ["--host", "coord.example", "--host", "192.0.2.7", "--host", "2001:db8::7"];
    assert_eq!(issue(&hosts).code, Some(0));
    let said = "  reached as  coord.example, 192.0.2.7, 2001:db8::7\n";
    let renewed = issue(&["--replace"]).stdout;
    assert!(renewed.contains(said), "{renewed}");
    let shown = run(&["certs", "show", &format!("{pki}/coordinator-main.pem")]).stdout;
    assert!(shown.contains("coord.example, 192.0.2.7, 2001:db8::7"), "{shown}");
    let other = issue(&["--replace", "--host", "new.example"]).stdout;
    assert!(other.contains("  reached as  new.example\n"), "{other}");
    for wrong in ["a b", "https://coord.example:7460", "coord.example:7460", ""] {
        let refused = issue(&["--replace", "--host", wrong]);
        assert_eq!(refused.code, Some(2), "{wrong}: {}", refused.stdout);
        let says = "is neither a host name nor an address: write coord.example";
        assert!(refused.stderr.contains(says), "{wrong}: {}", refused.stderr);
    }
    // Nothing came of those.
    let shown = run(&["certs", "show", &format!("{pki}/coordinator-main.pem")]).stdout;
    assert!(shown.contains("new.example"), "{shown}");
}

#[test]
fn a_coordinator_with_tls_is_asked_with_a_certificate() {
    let url = ["--coordinator", "https://127.0.0.1:1"];
    for (args, says) in [
        (&["nodes"][..], "give --ca (or RAILGAUGE_CA)"),
        (&["nodes", "--ca", "/none"], "give --cert (or RAILGAUGE_CERT)"),
        (&["nodes", "--ca", "/none", "--cert", "/none"], "give --key (or RAILGAUGE_KEY)"),
        (&["nodes", "--ca", "/none", "--cert", "/none", "--key", "/none"], "cannot read /none"),
    ] {
        let done = run(&[args, &url].concat());
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{}", done.stderr);
    }
    let plain = ["nodes", "--coordinator", "http://127.0.0.1:1", "--ca", "/none"];
    let done = run(&plain);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("write https://, or leave them out"), "{}", done.stderr);
}
