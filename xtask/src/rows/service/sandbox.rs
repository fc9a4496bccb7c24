//! What the units allow and what they do not: `testbed/machine/sandbox.py` tried it, run by the service manager in each one's sandbox.

use super::crew::{AGENT, Crew};
use crate::Failure;
use crate::rows::Outcome;
use serde_json::Value;

/// Scores that must not be exceeded, in tenths as `--threshold` takes them (systemd-analyze security, 0 is closed, 10 open).
const SCORES: &[(&str, f64)] =
    &[("railgauge-agent.service", 2.5), ("railgauge-coordinator.service", 1.5)];

/// What each sandbox must let through to the driver, and what it must not.
struct Wanted {
    report: &'static str,
    open: &'static [&'static str],
    closed: &'static [&'static str],
    state: &'static str,
}

const DEVICES: [&str; 5] = [
    "/dev/infiniband/uverbs0",
    "/dev/infiniband/rdma_cm",
    "/dev/nvidia0",
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
];

const SANDBOXES: &[Wanted] = &[
    Wanted {
        report: "agent.sandbox",
        open: &DEVICES,
        closed: &["/dev/loop0", "/dev/mem", "/dev/fuse"],
        state: "/var/lib/railgauge-agent",
    },
    Wanted {
        report: "coordinator.sandbox",
        open: &["/dev/null"],
        closed: &DEVICES,
        state: "/var/lib/railgauge-coordinator",
    },
];

pub fn check(crew: &Crew<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    for wanted in SANDBOXES {
        let path = crew.machine.directory().join(wanted.report);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::because(format!("nothing was tried in a sandbox: {}", path.display()), error)
        })?;
        let report: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::because(format!("{} is no JSON", path.display()), error))?;
        outcome.misses.extend(judge(wanted, &report));
        outcome.raw.push(report);
    }
    locked_memory(crew, outcome)?;
    for (unit, most) in SCORES {
        let said = crew.machine.must(&["systemd-analyze", "security", "--no-pager", unit])?;
        let score = score(&said)
            .ok_or_else(|| Failure::new(format!("systemd-analyze gives {unit} no score")))?;
        outcome.figure(format!("exposure of {unit}"), score, "");
        outcome.expect(score <= *most, || format!("{unit} scores {score}, more than {most}"));
        let said = crew.machine.run(&["systemd-analyze", "verify", unit])?;
        let about_us = said.stderr.lines().find(|line| line.contains("railgauge"));
        outcome.expect(said.code == Some(0) && about_us.is_none(), || {
            format!("systemd-analyze verify {unit}: {}", about_us.unwrap_or(&said.stderr))
        });
    }
    Ok(())
}

fn score(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("Overall exposure level"))?;
    line.rsplit_once(": ")?.1.split_whitespace().next()?.parse().ok()
}

/// The words of the policy; any other answer came from behind it.
fn is_refused(answer: &Value) -> bool {
    matches!(answer.as_str(), Some("EPERM" | "EACCES" | "ENOENT" | "EROFS") | None)
}

fn judge(wanted: &Wanted, report: &Value) -> Vec<String> {
    let mut misses = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            misses.push(format!("{}: {what}", wanted.report));
        }
    };
    for device in wanted.open {
        let answer = &report["devices"][device];
        expect(!is_refused(answer), format!("{device} answers {answer}: the sandbox blocks it"));
    }
    for device in wanted.closed {
        let answer = &report["devices"][device];
        expect(
            is_refused(answer),
            format!("{device} answers {answer}: the sandbox does not block it"),
        );
    }
    let writes = report["writes"].as_object().cloned().unwrap_or_default();
    for (path, answer) in &writes {
        if path == wanted.state {
            expect(answer == "", format!("its own {path} answers {answer}"));
        } else {
            expect(is_refused(answer), format!("it can write to {path}"));
        }
    }
    expect(writes.contains_key(wanted.state), "it has no state directory".to_owned());
    let is_agent = wanted.report.starts_with("agent");
    let sockets = &report["sockets"];
    expect(sockets["udp"] == "", format!("a UDP socket answers {}", sockets["udp"]));
    expect(
        (sockets["netlink"] == "") == is_agent,
        format!("a netlink socket answers {}", sockets["netlink"]),
    );
    expect(sockets["raw"] != "" && sockets["packet"] != "", "raw sockets can be had".to_owned());
    expect(
        (report["affinity"] == "") == is_agent,
        format!("pinning answers {}", report["affinity"]),
    );
    expect(
        report["priority"] != "" && report["nice"] != "",
        "it can raise its priority".to_owned(),
    );
    expect(report["uid"].as_u64() > Some(0), "it runs as root".to_owned());
    misses
}

/// The limit of the agent is infinite, or what the first process itself may give where the host holds back the right to raise it.
fn locked_memory(crew: &Crew<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    let asked = crew.machine.property(AGENT, "LimitMEMLOCK")?;
    outcome.expect(asked == "infinity", || format!("the unit asks for {asked} of locked memory"));
    let pid = crew.machine.property(AGENT, "MainPID")?;
    let own = limit(&crew.machine.must(&["cat", &format!("/proc/{pid}/limits")])?);
    let first = limit(&crew.machine.must(&["cat", "/proc/1/limits"])?);
    // Bit 24 is CAP_SYS_RESOURCE.
    let status = crew.machine.must(&["cat", "/proc/1/status"])?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let may_raise = effective & (1 << 24) != 0;
    let wanted = if may_raise { Some("unlimited".to_owned()) } else { first };
    outcome.expect(own == wanted, || format!("the agent may lock {own:?}, not {wanted:?}"));
    let shown = own.and_then(|own| own.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
    let whose = if may_raise { "" } else { ", this host's hard limit" };
    outcome.figure(
        format!("locked memory of the agent{whose}"),
        if shown.is_finite() { shown } else { -1.0 },
        "octets, -1 is no limit",
    );
    Ok(())
}

/// The hard limit.
fn limit(limits: &str) -> Option<String> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Value {
        json!({
            "devices": {
                "/dev/infiniband/uverbs0": "ENXIO", "/dev/infiniband/rdma_cm": "ENODEV", "/dev/nvidia0": "ENXIO",
                "/dev/nvidiactl": "ENXIO", "/dev/nvidia-uvm": "ENXIO", "/dev/loop0": "EPERM", "/dev/mem": "EPERM", "/dev/fuse": "EPERM",
            },
            "writes": {"/etc": "EROFS", "/var/lib/railgauge-agent": ""},
            "sockets": {"udp": "", "netlink": "", "raw": "EPERM", "packet": "EAFNOSUPPORT"},
            "affinity": "", "priority": "EPERM", "nice": "EPERM", "uid": 990,
        })
    }

    #[test]
    fn each_hole_and_each_wall_too_many_is_named() {
        assert_eq!(judge(&SANDBOXES[0], &report()), Vec::<String>::new());
        for (at, value, said) in [
            ("/devices/~1dev~1nvidia0", json!("EPERM"), "/dev/nvidia0"),
            ("/devices/~1dev~1loop0", json!(""), "/dev/loop0"),
            ("/writes/~1etc", json!(""), "write to /etc"),
            ("/writes/~1var~1lib~1railgauge-agent", json!("EROFS"), "its own"),
            ("/affinity", json!("EPERM"), "pinning"),
            ("/uid", json!(0), "root"),
        ] {
            let mut report = report();
            *report.pointer_mut(at).unwrap() = value;
            let misses = judge(&SANDBOXES[0], &report);
            assert!(misses.len() == 1 && misses[0].contains(said), "{at}: {misses:?}");
        }
    }

    #[test]
    fn a_score_is_read() {
        assert_eq!(score("x\n→ Overall exposure level for a.service: 1.7 OK 🙂\n"), Some(1.7));
        assert_eq!(
            limit("Max locked memory         8388608              8388608              bytes"),
            Some("8388608".into())
        );
    }
}
