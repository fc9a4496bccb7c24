//! The upper lines of the table: machine, processors, memory, clock.

use super::list;
use railgauge_agent::inventory::{Inventory, Limit, NumaNode, Reading};
use std::fmt::Display;

const GIB: f64 = (1u64 << 30) as f64;

/// Label and text of each line.
pub(super) fn lines(inventory: &Inventory) -> Vec<(&'static str, String)> {
    let (host, clock, memory) = (&inventory.host, &inventory.clock, &inventory.memory);
    let mut lines = vec![(
        "HOST",
        format!(
            "{}  kernel {}  machine {} {}  virtualisation {}",
            host.hostname, host.kernel, host.vendor, host.product, host.virtualisation
        ),
    )];
    lines.extend(cpu_lines(inventory));
    lines.extend(numa_lines(&inventory.numa_nodes));
    lines.push((
        "CLOCK",
        format!(
            "{} of {}; TSC reliable: {}; NTP: {}",
            clock.current,
            joined(&clock.available),
            yes_no(&clock.tsc_reliable),
            yes_no(&clock.ntp_synchronised)
        ),
    ));
    lines.push((
        "MEMORY",
        format!(
            "memlock {}  transparent huge pages {}  numa_balancing {}  IOMMU groups {}",
            memlock(&memory.memlock_soft),
            memory.transparent_huge_pages,
            memory.numa_balancing,
            inventory.iommu.groups
        ),
    ));
    lines.push(("MODULES", modules(inventory)));
    lines
}

fn cpu_lines(inventory: &Inventory) -> Vec<(&'static str, String)> {
    let cpus = &inventory.cpus;
    let shape = format!(
        "{}: {} socket(s), {} cores, {} threads; SMT {}; isolated {}; nohz_full {}",
        cpus.model,
        cpus.sockets,
        cpus.cores,
        cpus.threads,
        yes_no(&cpus.smt_active),
        or_none(&cpus.isolated),
        or_none(&cpus.nohz_full)
    );
    let mut lines = vec![("CPU", shape)];
    for group in list(&cpus.governors) {
        lines.push((
            "",
            format!("governor {} ({}) on {}", group.governor, group.driver, group.cpus),
        ));
    }
    let idle: Vec<String> = list(&cpus.idle_states)
        .iter()
        .map(|state| {
            let off = if state.disabled.known() == Some(&true) { " off" } else { "" };
            format!("{} {} us{off}", state.name, state.exit_latency_us)
        })
        .collect();
    if !idle.is_empty() {
        lines.push(("", format!("idle states, time to leave: {}", idle.join(", "))));
    }
    lines
}

/// A line for each node with CPUs, and one for all others: a GB200 tray has 32 of them.
fn numa_lines(nodes: &Reading<Vec<NumaNode>>) -> Vec<(&'static str, String)> {
    if nodes.known().is_none() {
        return vec![("NUMA", nodes.reason().unwrap_or_default())];
    }
    let has_cpus = |node: &&NumaNode| node.cpus.known().is_none_or(|cpus| !cpus.is_empty());
    let (with, without): (Vec<&NumaNode>, Vec<&NumaNode>) = list(nodes).iter().partition(has_cpus);
    let mut texts: Vec<String> = with
        .iter()
        .map(|node| format!("node {}: CPUs {}, {}", node.node, node.cpus, gib(&node.memory_bytes)))
        .collect();
    if !without.is_empty() {
        let total: u64 = without.iter().filter_map(|node| node.memory_bytes.known()).sum();
        let total = gib(&Reading::Known(total));
        texts.push(format!("{} node(s) without CPUs, {total} together", without.len()));
    }
    let labels = std::iter::once("NUMA").chain(std::iter::repeat(""));
    labels.zip(texts).collect()
}

fn modules(inventory: &Inventory) -> String {
    if inventory.modules.known().is_none() {
        return inventory.modules.reason().unwrap_or_default();
    }
    let loaded = list(&inventory.modules).iter().filter(|module| module.loaded);
    let names: Vec<String> = loaded
        .map(|module| match module.version.known() {
            Some(version) => format!("{} {version}", module.name),
            None => module.name.clone(),
        })
        .collect();
    if names.is_empty() { "no GPU or RDMA module".to_owned() } else { names.join(", ") }
}

fn memlock(limit: &Reading<Limit>) -> String {
    match limit.known() {
        Some(Limit::Bytes(bytes)) => format!("{bytes} bytes"),
        Some(Limit::Unlimited(_)) => "unlimited".to_owned(),
        None => "-".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory to a tenth of a GiB needs no 53 bits")]
fn gib(bytes: &Reading<u64>) -> String {
    bytes
        .known()
        .map_or_else(|| "- GiB".to_owned(), |bytes| format!("{:.1} GiB", *bytes as f64 / GIB))
}

fn yes_no(reading: &Reading<bool>) -> &'static str {
    match reading.known() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

fn or_none(reading: &Reading<String>) -> String {
    match reading.known() {
        Some(text) if text.is_empty() => "none".to_owned(),
        _ => reading.to_string(),
    }
}

fn joined<T: Display>(reading: &Reading<Vec<T>>) -> String {
    match reading.known() {
        Some(items) => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        None => "-".to_owned(),
    }
}
