//! What only a network of one's own can show: links that go down, MTUs, routes, privileges. Each test runs a script in new
//! namespaces (user, network, mount, process), with no root needed; where the kernel refuses them, the test fails.
//!
//! `here` 10.9.0.1, fe80::9:1 -- veth -- `there` 10.9.0.2, fe80::9:2, on which a reflector listens on port 862.

mod support;

use std::process::{Command, Stdio};

use serde_json::Value;
use support::*;

/// Makes the two ends. `there` prefixes a command that runs at the other end; `reflect NAME ARGUMENTS` starts a reflector
/// there and waits until it listens, which the first line of its stderr says.
const NETWORK: &str = r#"
set -eu
mount -t tmpfs none /run
mkdir -p /run/netns
ip link set lo up
ip netns add there
there() { ip netns exec there "$@"; }
ip link add here type veth peer name there netns there
ip address add 10.9.0.1/24 dev here
ip link set here up
there ip address add 10.9.0.2/24 dev there
there ip link set lo up
there ip link set there up
ip address add fe80::9:1/64 dev here nodad
there ip address add fe80::9:2/64 dev there nodad
reflect() {
    mkfifo "/run/$1"
    name=$1
    shift
    ip netns exec there "$RAILGAUGE" reflect "$@" > /dev/null 2> "/run/$name" &
    reflector=$!
    read -r announced < "/run/$name"
}
"#;

/// Runs `script` after [`NETWORK`]; all its processes end with it.
fn in_namespaces(script: &str) -> Done {
    let run = |flags: &str| {
        let mut command = Command::new("unshare");
        command.args([flags, "--kill-child", "sh", "-c", &format!("{NETWORK}{script}")]);
        command.env("RAILGAUGE", env!("CARGO_BIN_EXE_railgauge"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("`unshare` of util-linux"))
    };
    let unprivileged = run("-Urnmpf");
    if !unprivileged.stderr.starts_with("unshare: ") {
        return unprivileged;
    }
    let as_root = run("-nmpf");
    assert!(
        !as_root.stderr.starts_with("unshare: "),
        "this test needs namespaces: allow user namespaces, or run it as root: {}",
        as_root.stderr
    );
    as_root
}

/// The object that the script printed, checked.
fn result(done: &Done, code: i32) -> Value {
    assert_eq!(done.code, Some(code), "{}\n{}", done.stdout, done.stderr);
    let json = done.json();
    let faults = faults(&schema("ping-v1.json"), &json);
    assert!(faults.is_empty(), "{faults:#?}\n{json:#}");
    json
}

fn notes(json: &Value) -> String {
    json["validity"].to_string()
}

/// A ping of 1.5 s, during which `change` happens once the other end has had 150 packets, 50 of them of the warm-up.
fn changed_mid_run(reflect: &str, change: &str, transport: &str) -> Value {
    let done = in_namespaces(&format!(
        r#"
        reflect a {reflect}
        "$RAILGAUGE" ping 10.9.0.2 --transport {transport} --duration 1500ms --timeout 100ms --output json &
        ping=$!
        there sh -c 'until [ $(cat /sys/class/net/there/statistics/rx_packets) -ge 150 ]; do sleep 0.02; done'
        {change}
        wait $ping
        "#
    ));
    let json = result(&done, 0);
    assert!(json["app_rtt"]["count"].as_u64().unwrap() > 20, "{json:#}");
    json
}

const UDP: &str = "--listen 10.9.0.2:862";
const TCP: &str = "--transport tcp --listen 10.9.0.2:7463";

#[test]
fn an_interface_that_goes_down_leaves_what_was_measured_and_a_note() {
    let json = changed_mid_run(UDP, "ip link set here down", "udp");
    assert!(json["send_errors"].as_u64().unwrap() > 20, "{json:#}");
    let notes = notes(&json);
    assert!(notes.contains("of the probes could not be sent: they are in no series"), "{notes}");
    assert!(notes.contains("10.9.0.2 cannot be reached: check `ip route get"), "{notes}");
}

#[test]
fn an_address_that_is_taken_away_is_noted() {
    let json = changed_mid_run(UDP, "ip address del 10.9.0.1/24 dev here", "udp");
    assert!(notes(&json).contains("of the probes could not be sent"), "{json:#}");
}

#[test]
fn what_this_host_forbids_is_told_from_what_the_path_loses() {
    let json = changed_mid_run(UDP, "ip route add prohibit 10.9.0.2", "udp");
    assert!(json["errors"]["not_permitted"].as_u64().unwrap() > 20, "{json:#}");
    assert!(
        notes(&json).contains("this host does not let packets to 10.9.0.2:862 out"),
        "{json:#}"
    );
}

#[test]
fn a_link_that_loses_its_carrier_is_noted() {
    let json = changed_mid_run(UDP, "there ip link set there down", "udp");
    let notes = notes(&json);
    assert!(notes.contains("its queue full or its link down: check `ip -s link`"), "{notes}");
}

#[test]
fn a_reflector_that_dies_is_told_from_a_path_that_loses() {
    let json = changed_mid_run(UDP, "kill -9 $reflector", "udp");
    assert!(json["lost"].as_u64().unwrap() > 20, "{json:#}");
    assert!(notes(&json).contains("nobody listens on that port"), "{json:#}");
}

#[test]
fn a_connection_that_is_lost_is_noted() {
    let json = changed_mid_run(TCP, "kill -9 $reflector", "tcp");
    assert!(notes(&json).contains("the connection to 10.9.0.2:7463 was lost"), "{json:#}");
}

#[test]
fn a_connection_over_a_dead_link_loses_probes() {
    let json = changed_mid_run(TCP, "ip link set here down", "tcp");
    assert!(json["lost"].as_u64().unwrap() > 20, "{json:#}");
}

#[test]
fn packets_larger_than_the_interface_name_the_size_that_fits() {
    let done = in_namespaces(
        r#"
        reflect a --listen 10.9.0.2:862
        ip link set here mtu 1000
        "$RAILGAUGE" ping 10.9.0.2 --size 972 --count 5 > /dev/null
        "$RAILGAUGE" ping 10.9.0.2 --size 973 --count 5 --output json
        "#,
    );
    let json = result(&done, 3);
    let expected = "no reply: packets of 973 octets do not fit the path to 10.9.0.2 (MTU 1000): use --size 972 or less";
    assert_eq!(json["error"], expected);
    assert!(json["errors"]["packet_too_big"].as_u64().unwrap() > 0);
}

#[test]
fn packets_larger_than_the_path_are_refused_by_its_router() {
    let done = in_namespaces(
        r#"
        ip netns add far
        there ip link add far type veth peer name back netns far
        there ip address add 10.9.1.1/24 dev far
        there ip link set far mtu 1200 up
        there sysctl -qw net.ipv4.ip_forward=1
        ip -n far address add 10.9.1.2/24 dev back
        ip -n far link set back up
        ip -n far route add default via 10.9.1.1
        ip route add 10.9.1.0/24 via 10.9.0.2
        "$RAILGAUGE" ping 10.9.1.2 --size 1400 --count 20 --timeout 100ms --output json
        "#,
    );
    let json = result(&done, 3);
    let expected = "no reply: packets of 1400 octets do not fit the path to 10.9.1.2 (MTU 1200): use --size 1172 or less";
    assert_eq!(json["error"], expected);
}

#[test]
fn no_route_names_the_command_that_shows_it() {
    let done = in_namespaces(r#""$RAILGAUGE" ping 198.51.100.1:7463 --count 5 --output json"#);
    let json = result(&done, 3);
    let error = json["error"].as_str().unwrap();
    let expected = "no route to 198.51.100.1:7463: check the address, `ip route get 198.51.100.1`";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn routes_that_refuse_and_broadcast_addresses_are_no_route() {
    let done = in_namespaces(
        r#"
        ip route add prohibit 198.51.100.1
        ip route add unreachable 198.51.100.2
        ip route add blackhole 198.51.100.3
        for target in 198.51.100.1 198.51.100.2 198.51.100.3 10.9.0.255; do
            code=0
            "$RAILGAUGE" ping $target --count 5 || code=$?
            echo "$target $code"
        done
        "#,
    );
    let wanted = "198.51.100.1 3\n198.51.100.2 3\n198.51.100.3 3\n10.9.0.255 3\n";
    assert_eq!(done.stdout, wanted, "{}", done.stderr);
    assert_eq!(done.stderr.matches("railgauge ping: no route to ").count(), 4, "{}", done.stderr);
}

#[test]
fn a_host_that_is_not_there_is_unreachable() {
    // The kernel asks for the neighbour three times, a second apart, unless told otherwise.
    let done = in_namespaces(
        r#"
        ip ntable change name arp_cache dev here retrans 50 > /dev/null
        "$RAILGAUGE" ping 10.9.0.77 --count 600 --warmup 0 --timeout 100ms --output json
        "#,
    );
    let json = result(&done, 3);
    let error = json["error"].as_str().unwrap();
    assert!(error.starts_with("no reply: 10.9.0.77 cannot be reached: check"), "{error}");
}

#[test]
fn a_reflector_without_the_privilege_takes_the_other_port_and_says_so() {
    let done = in_namespaces(
        r#"
        sysctl -qw net.ipv4.ip_unprivileged_port_start=1024
        without() { setpriv --bounding-set -net_bind_service --inh-caps -net_bind_service "$@"; }
        code=0
        without "$RAILGAUGE" reflect --listen 127.0.0.1:862 || code=$?
        echo "code $code"
        mkfifo /run/out
        without "$RAILGAUGE" reflect 2> /run/out &
        read -r announced < /run/out
        echo "$announced"
        "$RAILGAUGE" ping 127.0.0.1:7463 --count 10
        "#,
    );
    assert_eq!(done.code, Some(0), "{}\n{}", done.stdout, done.stderr);
    let refused = "railgauge reflect: not allowed to bind 127.0.0.1:862: choose a port of 1024 or above, or grant CAP_NET_BIND_SERVICE";
    assert!(done.stderr.contains(refused), "{}", done.stderr);
    assert!(done.stdout.starts_with("code 3\nlistening on 0.0.0.0:7463 "), "{}", done.stdout);
    let ping = done.stdout.lines().nth(1).unwrap().rsplit_once("railgauge ping ").unwrap().1;
    assert!(ping.ends_with(":7463"), "{ping}");
}

#[test]
fn every_transport_listens_on_both_families_unless_told_where() {
    for transport in ["udp", "tcp"] {
        let done = in_namespaces(&format!(
            r#"
            reflect a --transport {transport}
            for target in 10.9.0.2 fe80::9:2%here; do
                "$RAILGAUGE" ping $target --transport {transport} --count 5 --timeout 20s | grep '^sent 5 = received 5 '
            done
            "#
        ));
        assert_eq!(done.code, Some(0), "{transport}: {}\n{}", done.stdout, done.stderr);
        assert_eq!(done.stdout.lines().count(), 2, "{transport}: {}", done.stdout);
    }
}

#[test]
fn a_host_without_ipv6_is_answered_by_ipv4() {
    for transport in ["udp", "tcp"] {
        let done = in_namespaces(&format!(
            r#"
            there sysctl -qw net.ipv6.conf.all.disable_ipv6=1
            reflect a --transport {transport}
            "$RAILGAUGE" ping 10.9.0.2 --transport {transport} --count 5 --timeout 20s
            "#
        ));
        assert_eq!(done.code, Some(0), "{transport}: {}\n{}", done.stdout, done.stderr);
    }
}

#[test]
fn a_target_of_link_scope_is_measured() {
    let done = in_namespaces(
        r#"
        reflect a --listen '[::]:862'
        "$RAILGAUGE" ping '[fe80::9:2%here]:862' --count 20 --timeout 20s --output json
        "#,
    );
    let json = result(&done, 0);
    assert_eq!(json["received"], 20);
}
