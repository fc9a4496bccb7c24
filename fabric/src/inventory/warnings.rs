//! What an operator should know before believing a tail measured here. Each sentence says what is set and
//! what to do; none claims an effect, which only a measurement shows.

use super::pcie::Role;
use super::system::Limit;
use super::{Inventory, NumaNode, Reading};
use std::collections::BTreeSet;

/// Idle states that take longer to leave than this are named: above the time-out of a busy-poller's
/// late-start threshold (50 us), a wake-up alone makes a late start.
const DEEP_IDLE_US: u64 = 50;
/// Registering memory for probes and a few queue pairs fits in this; the default of most systems does not.
const MEMLOCK_WANTED: u64 = 64 << 20;

pub(super) fn collect(inventory: &Inventory) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(clock(inventory));
    sentences.extend(hypervisor(inventory));
    sentences.extend(governors(inventory));
    sentences.extend(deep_idle(inventory));
    sentences.extend(memory(inventory));
    for device in known_list(&inventory.pci_devices) {
        sentences.extend(device.problems.iter().cloned());
    }
    sentences.extend(numa_unknown(inventory));
    sentences.extend(gpu_without_near_rdma(inventory));
    for device in known_list(&inventory.rdma_devices) {
        sentences.extend(device.problems.iter().cloned());
    }
    sentences.extend(peer_memory(inventory));
    // Functions behind one switch share its uplink, and its sentence.
    let mut seen = BTreeSet::new();
    sentences.retain(|sentence| seen.insert(sentence.clone()));
    sentences
}

fn known_list<T>(reading: &Reading<Vec<T>>) -> &[T] {
    reading.known().map_or(&[], Vec::as_slice)
}

fn clock(inventory: &Inventory) -> Option<String> {
    let current = inventory.clock.current.known()?;
    let available = known_list(&inventory.clock.available);
    match current.as_str() {
        "arch_sys_counter" => None,
        "tsc" if inventory.clock.tsc_reliable.known() == Some(&false) => Some(
            "clocksource tsc on a CPU without constant_tsc and nonstop_tsc; check `dmesg | grep -i tsc`".to_owned(),
        ),
        "tsc" => None,
        other if available.iter().any(|name| name == "tsc") => Some(format!(
            "clocksource {other}, though tsc is available; boot with clocksource=tsc, or write tsc to /sys/devices/system/clocksource/clocksource0/current_clocksource"
        )),
        other => Some(format!(
            "clocksource {other} and tsc is not offered; see `dmesg | grep -i tsc` for why the kernel refused it"
        )),
    }
}

fn hypervisor(inventory: &Inventory) -> Option<String> {
    let kind = inventory.host.virtualisation.known()?;
    (kind != "none").then(|| format!(
        "a virtual machine ({kind}): the host may stop any CPU at any time; watch steal in /proc/stat and compare with bare metal before accusing the network"
    ))
}

fn governors(inventory: &Inventory) -> Vec<String> {
    let slow = |governor: &&super::Governor| {
        matches!(governor.governor.as_str(), "powersave" | "conservative" | "ondemand")
    };
    known_list(&inventory.cpus.governors).iter().filter(slow).map(|group| format!(
        "governor {} ({}) on CPUs {}; `cpupower frequency-set -g performance` holds the clock up",
        group.governor, group.driver, group.cpus
    )).collect()
}

fn deep_idle(inventory: &Inventory) -> Option<String> {
    let deepest = known_list(&inventory.cpus.idle_states)
        .iter()
        .filter(|state| state.disabled.known() != Some(&true))
        .filter_map(|state| Some((*state.exit_latency_us.known()?, &state.name)))
        .max()?;
    (deepest.0 > DEEP_IDLE_US).then(|| format!(
        "idle state {} takes {} us to leave by its driver's table; measure with --busy-poll, or disable it under cpuidle",
        deepest.1, deepest.0
    ))
}

fn memory(inventory: &Inventory) -> Vec<String> {
    let mut sentences = Vec::new();
    let nodes = known_list(&inventory.numa_nodes).iter().filter(|node| has_cpus(node)).count();
    if nodes > 1 && inventory.memory.numa_balancing.known().is_some_and(|mode| *mode != 0) {
        sentences.push("numa_balancing is on with several NUMA nodes; `sysctl kernel.numa_balancing=0` while measuring".to_owned());
    }
    let rdma = !known_list(&inventory.rdma_devices).is_empty();
    if let (true, Some(Limit::Bytes(bytes))) = (rdma, inventory.memory.memlock_soft.known())
        && *bytes < MEMLOCK_WANTED
    {
        sentences.push(format!(
            "locked memory is limited to {bytes} bytes and RDMA registration counts against it; `ulimit -l unlimited` or LimitMEMLOCK=infinity"
        ));
    }
    sentences
}

fn has_cpus(node: &NumaNode) -> bool {
    node.cpus.known().is_some_and(|cpus| !cpus.is_empty())
}

fn numa_unknown(inventory: &Inventory) -> Vec<String> {
    let nodes = known_list(&inventory.numa_nodes).iter().filter(|node| has_cpus(node)).count();
    if nodes < 2 {
        return Vec::new();
    }
    known_list(&inventory.pci_devices).iter().filter(|device| device.numa_node.known().is_none())
        .map(|device| format!(
            "the NUMA node of {} is not known on a machine with {nodes}; give --cpu to pin the probe by hand",
            device.address
        )).collect()
}

/// GPU traffic to a NIC on another node crosses the sockets.
fn gpu_without_near_rdma(inventory: &Inventory) -> Vec<String> {
    let near: BTreeSet<u32> = known_list(&inventory.rdma_devices)
        .iter()
        .filter_map(|device| device.numa_node.known().copied())
        .collect();
    if near.is_empty() {
        return Vec::new();
    }
    known_list(&inventory.pci_devices).iter().filter(|device| device.role == Role::Gpu)
        .filter_map(|device| Some((device.numa_node.known()?, &device.address)))
        .filter(|(node, _)| !near.contains(node))
        .map(|(node, address)| format!(
            "GPU {address} is on NUMA node {node} and every RDMA device on another; check the card's slot, or `nvidia-smi topo -m`"
        )).collect()
}

fn peer_memory(inventory: &Inventory) -> Option<String> {
    let gpus = known_list(&inventory.pci_devices).iter().any(|device| device.role == Role::Gpu);
    let rdma = !known_list(&inventory.rdma_devices).is_empty();
    let loaded = known_list(&inventory.modules)
        .iter()
        .any(|module| module.name == "nvidia_peermem" && module.loaded);
    (gpus && rdma && !loaded && inventory.modules.known().is_some()).then(||
        "nvidia_peermem is not loaded: RDMA to GPU memory needs dma-buf (open GPU kernel modules), or `modprobe nvidia_peermem`".to_owned()
    )
}
