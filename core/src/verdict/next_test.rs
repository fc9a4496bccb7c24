//! What to do next.

use super::facts::Facts;
use crate::finding::{Component, ComponentKind, FindingKind};

/// What [`crate::sweep`] says of a measurement that was cancelled.
const CANCELLED: &str = "cancelled";

/// What to check at the component, then the sweep that confirms or acquits it: with partners that its evidence shows to be good.
pub(super) fn of(
    facts: &Facts<'_>,
    kind: FindingKind,
    component: &Component,
    accused: &[usize],
    acquit: &[usize],
) -> String {
    let name = &component.name;
    let check = match (kind, component.kind) {
        (FindingKind::HostDelay, _) => format!(
            "on {name} look at CPU load, steal time and cgroup throttling (`nr_throttled` in cpu.stat), and for what stops the agent's process"
        ),
        (FindingKind::NetworkLatency, ComponentKind::Node) => {
            format!("look at the port, cable and switch port of {name}, and at what else uses them")
        }
        (FindingKind::NetworkLatency, _) => {
            format!("look at queues and counters of the ports and switches along {name}")
        }
        (FindingKind::Loss, _) => format!(
            "look at drop counters along {name}: NIC (`ethtool -S`), switch port, and UDP receive buffers (`nstat -az UdpRcvbufErrors`)"
        ),
        (FindingKind::Unreachable, ComponentKind::Node) => format!(
            "on {name} check that the machine is up, the link has carrier, `systemctl status railgauge-agent`, and that no firewall drops its probes"
        ),
        (FindingKind::Unreachable, _) => {
            format!("check routes, firewalls and switch ports along {name}")
        }
        (FindingKind::NoData, _) => return no_data(facts, component, accused),
    };
    let nodes = sweep_nodes(facts, accused, acquit);
    format!("{check}; then `railgauge sweep --nodes {nodes}`")
}

/// Of a sweep that was ended early nobody is to blame.
fn was_cancelled(facts: &Facts<'_>, accused: &[usize]) -> bool {
    let cancelled = |n: &usize| facts.paths[*n].input.missing.as_deref() == Some(CANCELLED);
    let all = |node: &usize| {
        let own = &facts.touching[*node];
        !own.is_empty() && own.iter().all(cancelled) && !facts.absent.contains_key(node)
    };
    !accused.is_empty() && accused.iter().all(all)
}

fn no_data(facts: &Facts<'_>, component: &Component, accused: &[usize]) -> String {
    let present = facts.nodes.len() - facts.absent.len();
    match component.kind {
        ComponentKind::Node if was_cancelled(facts, accused) => {
            "nothing is known against it, the sweep was cancelled: sweep again".to_owned()
        }
        ComponentKind::Fleet if present >= 3 => {
            "sweep again, and let all rounds run: paths between three nodes or more are needed"
                .to_owned()
        }
        ComponentKind::Node => format!(
            "on {} check `systemctl status railgauge-agent` and that it reaches the coordinator; then sweep again",
            component.name
        ),
        ComponentKind::Fleet => "measure three nodes or more; then sweep again".to_owned(),
        _ => format!("`railgauge sweep --nodes {}`", sweep_nodes(facts, accused, &[])),
    }
}

/// The accused and up to two nodes that were acquitted.
fn sweep_nodes(facts: &Facts<'_>, accused: &[usize], acquit: &[usize]) -> String {
    let mut nodes: Vec<usize> = accused.iter().copied().take(4).collect();
    let good = acquit.iter().flat_map(|n| [facts.paths[*n].src, facts.paths[*n].dst]);
    let most = nodes.len() + 2;
    for node in good {
        if nodes.len() < most && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    let names: Vec<&str> = nodes.iter().map(|&n| facts.nodes[n].as_str()).collect();
    names.join(",")
}
