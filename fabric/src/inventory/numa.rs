//! NUMA nodes: which CPUs and how much memory are near each other.

use super::reading::record;
use super::tree::Tree;
use super::{Reading, cpu};
use crate::inventory::cpu_list;

const DIRECTORY: &str = "devices/system/node";

record! {
    /// One NUMA node. GPUs with coherent memory (GH200, GB200) show as nodes without CPUs.
    NumaNode {
        /// Its number.
        plain node: u32,
        /// Its CPUs as a kernel list; empty for a node of memory alone.
        read cpus: String,
        /// Its memory.
        read memory_bytes: u64,
        /// Distances to the nodes in order of their numbers, 10 to itself (ACPI SLIT).
        read distances: Vec<u32>,
    }
}

pub(super) fn collect(sysfs: &Tree) -> Reading<Vec<NumaNode>> {
    sysfs.names(DIRECTORY).map(|names| {
        let nodes = sysfs.numbered(DIRECTORY, &names, "node");
        nodes.into_iter().map(|node| numa_node(sysfs, node)).collect()
    })
}

/// The CPUs of one node.
pub(super) fn cpus_of(sysfs: &Tree, node: u32) -> Reading<Vec<u32>> {
    cpu::cpu_list_of(sysfs, &format!("{DIRECTORY}/node{node}/cpulist"))
}

fn numa_node(sysfs: &Tree, node: u32) -> NumaNode {
    NumaNode {
        node,
        cpus: cpus_of(sysfs, node).map(|cpus| cpu_list::format(&cpus)),
        memory_bytes: memory(sysfs, &format!("{DIRECTORY}/node{node}/meminfo")),
        distances: distances(sysfs, &format!("{DIRECTORY}/node{node}/distance")),
    }
}

/// `Node 0 MemTotal:       528280152 kB`, where kB is 1,024 bytes.
fn memory(sysfs: &Tree, path: &str) -> Reading<u64> {
    sysfs.text(path).and_then(|text| {
        let total =
            text.lines().find_map(|line| line.split_once("MemTotal:")).map(|(_, rest)| rest);
        let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        match kib.and_then(|kib| kib.checked_mul(1024)) {
            Some(bytes) => Reading::Known(bytes),
            None => sysfs.strange(path, &text, "a line \"MemTotal: N kB\""),
        }
    })
}

fn distances(sysfs: &Tree, path: &str) -> Reading<Vec<u32>> {
    sysfs.text(path).and_then(|text| {
        match text.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>() {
            Ok(distances) => Reading::Known(distances),
            Err(_) => sysfs.strange(path, &text, "distances"),
        }
    })
}
