use super::*;
use crate::settings::Span;

fn who(role: Role) -> Identity {
    Identity::new("prod.example", role, "gpu-07").unwrap()
}

#[test]
fn an_identity_reads_as_it_is_written() {
    for role in Role::ALL {
        let text = who(role).to_string();
        assert_eq!(text, format!("spiffe://prod.example/railgauge/{role}/gpu-07"));
        assert_eq!(text.parse(), Ok(who(role)));
    }
}

#[test]
fn what_is_no_identity_says_what_one_is() {
    for (text, says) in [
        ("", "is no identity of ours"),
        ("https://prod.example/railgauge/agent/a", "is no identity of ours"),
        ("spiffe://prod.example/railgauge/agent", "is no identity of ours"),
        ("spiffe://prod.example/railgauge/agent/a/b", "is no identity of ours"),
        ("spiffe://prod.example/other/agent/a", "is no identity of ours"),
        ("spiffe:///railgauge/agent/a", "is no trust domain"),
        ("spiffe://Prod.example/railgauge/agent/a", "is no trust domain"),
        ("spiffe://prod.example:1/railgauge/agent/a", "is no trust domain"),
        ("spiffe://prod.example/railgauge/root/a", "is no role"),
        ("spiffe://prod.example/railgauge/Agent/a", "is no role"),
        ("spiffe://prod.example/railgauge/agent/", "is no name"),
        ("spiffe://prod.example/railgauge/agent/..", "is no name"),
        ("spiffe://prod.example/railgauge/agent/a%2f", "is no name"),
        ("spiffe://prod.example/railgauge/agent/a?b", "is no name"),
    ] {
        let error = text.parse::<Identity>().unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn each_role_may_what_the_table_says_and_no_more() {
    use Role::{Admin, Agent, Coordinator, Operator, Viewer};
    let table: [(Need, &[Role]); 7] = [
        (Need::Anyone, &Role::ALL),
        (Need::Known, &Role::ALL),
        (Need::Agent, &[Agent]),
        (Need::Viewer, &[Viewer, Operator, Admin]),
        (Need::Operator, &[Operator, Admin]),
        (Need::Admin, &[Admin]),
        (Need::Nobody, &[]),
    ];
    for (need, allowed) in table {
        for role in [Coordinator, Agent, Viewer, Operator, Admin] {
            assert_eq!(
                decide(need, Some(&who(role))).is_ok(),
                allowed.contains(&role),
                "{need:?} {role}"
            );
        }
        assert_eq!(decide(need, None).is_ok(), need == Need::Anyone, "{need:?} without identity");
    }
}

#[test]
fn what_the_policy_does_not_name_is_for_nobody() {
    for path in
        ["", "/", "/railgauge.v1.Operator/", "/railgauge.v1.Operator/listnodes", "/x/ListNodes"]
    {
        assert_eq!(rpc_need(path), Need::Nobody, "{path}");
    }
    assert_eq!(rpc_need("/railgauge.v1.Operator/StartSweep"), Need::Operator);
    for path in ["/healthz/", "/healthz/../metrics", "//healthz", "/metrics", "/no-such-page"] {
        assert_eq!(page_need(path), Need::Viewer, "{path}");
    }
}

#[test]
fn a_sweep_beyond_a_cap_is_told_which() {
    let what = Disturbance {
        nodes: 16,
        limit: Span::from_secs(120),
        octets: 1_250_000_000,
        expected: Span::from_secs(10),
    };
    assert!(Caps::default().allow(&what).is_ok());
    let exactly =
        Caps { nodes: Some(16), limit: Some(Span::from_secs(120)), gbit_per_second: Some(1.0) };
    assert!(exactly.allow(&what).is_ok());
    for (caps, says) in [
        (Caps { nodes: Some(15), ..exactly }, "sweep_max_nodes allows 15"),
        (Caps { limit: Some(Span::from_secs(119)), ..exactly }, "sweep_max_duration allows"),
        (Caps { gbit_per_second: Some(0.999), ..exactly }, "sends 1.000 Gbit/s"),
    ] {
        let error = caps.allow(&what).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
