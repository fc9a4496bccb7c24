//! Kernel settings and modules that change what a probe sees.

use super::Reading;
use super::reading::record;
use super::tree::Tree;
use serde::Serialize;
use std::collections::BTreeSet;

/// Modules an RDMA or GPU measurement stands on.
const MODULES: [&str; 14] = [
    "nvidia",
    "nvidia_uvm",
    "nvidia_peermem",
    "gdrdrv",
    "ib_core",
    "ib_uverbs",
    "rdma_cm",
    "rdma_rxe",
    "siw",
    "mlx5_core",
    "mlx5_ib",
    "irdma",
    "bnxt_re",
    "efa",
];

record! {
    /// One kernel module.
    Module {
        /// Its name.
        plain name: String,
        /// Loaded, or built in with parameters: `/sys/module/NAME` exists.
        plain loaded: bool,
        /// Its version, for modules outside the kernel tree.
        read version: String,
    }
}

record! {
    /// DMA translation.
    Iommu {
        /// IOMMU groups; 0 where no IOMMU is in use.
        read groups: usize,
        /// Domain types in use: `identity` is pass-through, `DMA` and `DMA-FQ` translate.
        read domain_types: Vec<String>,
        /// Whether PCIe access control services send peer-to-peer traffic through the root port.
        read acs_redirects: bool,
    }
}

record! {
    /// Memory settings.
    Memory {
        /// This process's soft limit of locked memory; RDMA registration counts against it.
        read memlock_soft: Limit,
        /// Its hard limit.
        read memlock_hard: Limit,
        /// Transparent huge pages: `always`, `madvise` or `never`.
        read transparent_huge_pages: String,
        /// Automatic NUMA balancing, which unmaps pages to watch who uses them; 0 is off.
        read numa_balancing: u32,
    }
}

/// A resource limit: bytes, or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Limit {
    /// So many bytes.
    Bytes(u64),
    /// No limit.
    Unlimited(Unlimited),
}

/// The word `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unlimited {
    /// No limit.
    Unlimited,
}

pub(super) fn modules(sysfs: &Tree) -> Reading<Vec<Module>> {
    sysfs.names("module").map(|present| {
        MODULES
            .iter()
            .map(|name| Module {
                name: (*name).to_owned(),
                loaded: present.iter().any(|one| one == name),
                version: sysfs.word(&format!("module/{name}/version")),
            })
            .collect()
    })
}

pub(super) fn iommu(sysfs: &Tree) -> Iommu {
    let directory = "kernel/iommu_groups";
    let groups = sysfs.names(directory);
    Iommu {
        domain_types: groups.clone().map(|groups| {
            let types = groups.iter().filter_map(|group| {
                sysfs.word(&format!("{directory}/{group}/type")).known().cloned()
            });
            types.collect::<BTreeSet<_>>().into_iter().collect()
        }),
        groups: groups.map(|groups| groups.len()),
        acs_redirects: Reading::Unsupported(
            "ACS control bits are in PCI configuration space, not in sysfs text; `lspci -vvv` (root) shows ACSCtl: \
             SrcValid+ on a bare-metal switch port sends GPU-NIC traffic through the root port"
                .to_owned(),
        ),
    }
}

pub(super) fn memory(sysfs: &Tree, procfs: &Tree) -> Memory {
    Memory {
        memlock_soft: memlock(procfs, 0),
        memlock_hard: memlock(procfs, 1),
        transparent_huge_pages: chosen(sysfs, "kernel/mm/transparent_hugepage/enabled"),
        numa_balancing: procfs.number("sys/kernel/numa_balancing"),
    }
}

/// `Max locked memory         8388608              8388608              bytes`.
fn memlock(procfs: &Tree, column: usize) -> Reading<Limit> {
    procfs.text("self/limits").and_then(|text| {
        let row = text.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        match row.and_then(|row| row.split_whitespace().nth(column)) {
            Some("unlimited") => Reading::Known(Limit::Unlimited(Unlimited::Unlimited)),
            Some(word) if word.parse::<u64>().is_ok() => {
                Reading::Known(Limit::Bytes(word.parse().unwrap_or(0)))
            }
            _ => procfs.strange("self/limits", row.unwrap_or(&text), "a row \"Max locked memory\""),
        }
    })
}

/// `always [madvise] never` becomes `madvise`.
fn chosen(sysfs: &Tree, path: &str) -> Reading<String> {
    sysfs.text(path).and_then(|text| {
        let word = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        match word {
            Some((word, _)) => Reading::Known(word.to_owned()),
            None => sysfs.strange(path, &text, "a choice in brackets"),
        }
    })
}
