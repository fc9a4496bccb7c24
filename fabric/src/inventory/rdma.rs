//! RDMA devices and their ports (Documentation/ABI/stable/sysfs-class-infiniband).

use super::reading::record;
use super::tree::Tree;
use super::{Reading, nic, pci_address};

const DIRECTORY: &str = "class/infiniband";
/// What PMA-less ports (VFs, some RoCE drivers) answer for every counter.
const NO_PMA: &str = "N/A (no PMA)";
/// An unused GID.
const ZERO_GID: &str = "0000:0000:0000:0000:0000:0000:0000:0000";

record! {
    /// One RDMA device.
    RdmaDevice {
        /// Its name, `mlx5_0`.
        plain name: String,
        /// Its kernel driver; none for a software device (`rdma_rxe`).
        read driver: String,
        /// The PCI function it is.
        read pci_address: String,
        /// The NUMA node it is attached to.
        read numa_node: u32,
        /// Node GUID.
        read node_guid: String,
        /// Firmware version.
        read firmware: String,
        /// The maker's part name, `MT4129`.
        read hca_type: String,
        /// The maker's board (PSID).
        read board_id: String,
        /// Its ports.
        read ports: Vec<RdmaPort>,
    }
}

record! {
    /// One port of an RDMA device.
    RdmaPort {
        /// Its number, from 1.
        plain port: u32,
        /// Logical state, `ACTIVE`.
        read state: String,
        /// Physical state, `LinkUp`.
        read physical_state: String,
        /// Rate as the kernel words it, `400 Gb/sec (4X NDR)`.
        read rate: String,
        /// `InfiniBand` or `Ethernet` (RoCE).
        read link_layer: String,
        /// The network interface of its first GID, or the only one of its device.
        read netdev: String,
        /// The GIDs in use; all-zero ones are skipped.
        plain gids: Vec<Gid>,
        /// How many standard and driver counters can be read.
        read counters: u32,
    }
}

record! {
    /// One entry of a port's GID table.
    Gid {
        /// Its index.
        plain index: u32,
        /// The GID.
        plain gid: String,
        /// `IB/RoCE v1` or `RoCE v2`.
        read kind: String,
        /// The network interface whose address it is.
        read netdev: String,
    }
}

pub(super) fn collect(sysfs: &Tree) -> Reading<Vec<RdmaDevice>> {
    sysfs.names(DIRECTORY).map(|names| names.into_iter().map(|name| device(sysfs, name)).collect())
}

fn device(sysfs: &Tree, name: String) -> RdmaDevice {
    let path = format!("{DIRECTORY}/{name}");
    let file = |attribute: &str| format!("{path}/{attribute}");
    RdmaDevice {
        driver: sysfs.link_name(&file("device/driver")),
        pci_address: sysfs.resolve(&file("device")).and_then(|real| pci_address(&real)),
        numa_node: nic::numa_node(sysfs, &file("device")),
        node_guid: sysfs.word(&file("node_guid")),
        firmware: sysfs.word(&file("fw_ver")),
        hca_type: sysfs.word(&file("hca_type")),
        board_id: sysfs.word(&file("board_id")),
        ports: sysfs.names(&file("ports")).map(|ports| {
            let numbers = sysfs.numbered(&file("ports"), &ports, "");
            numbers.into_iter().map(|number| port(sysfs, &path, number)).collect()
        }),
        name,
    }
}

fn port(sysfs: &Tree, device: &str, port: u32) -> RdmaPort {
    let path = format!("{device}/ports/{port}");
    let file = |attribute: &str| format!("{path}/{attribute}");
    let gids = gids(sysfs, &path);
    RdmaPort {
        port,
        state: after_number(sysfs, &file("state")),
        physical_state: after_number(sysfs, &file("phys_state")),
        rate: sysfs.word(&file("rate")),
        link_layer: sysfs.word(&file("link_layer")),
        netdev: netdev(sysfs, device, &gids),
        gids,
        counters: counters(sysfs, &path),
    }
}

/// `4: ACTIVE` becomes `ACTIVE`.
fn after_number(sysfs: &Tree, path: &str) -> Reading<String> {
    sysfs.word(path).and_then(|text| match text.split_once(':') {
        Some((number, state)) if number.trim().parse::<u32>().is_ok() => {
            Reading::Known(state.trim().to_owned())
        }
        _ => sysfs.strange(path, &text, "\"N: STATE\""),
    })
}

/// Entries in use. Reading an index that is not mapped into this container gives EINVAL: not in use.
fn gids(sysfs: &Tree, port: &str) -> Vec<Gid> {
    let directory = format!("{port}/gids");
    let names = sysfs.names_or_none(&directory);
    let indices = sysfs.numbered(&directory, &names, "");
    indices.into_iter().filter_map(|index| gid(sysfs, port, index)).collect()
}

fn gid(sysfs: &Tree, port: &str, index: u32) -> Option<Gid> {
    let gid = match sysfs.word(&format!("{port}/gids/{index}")) {
        Reading::Known(gid) if gid != ZERO_GID => gid,
        Reading::Failed(why) => {
            sysfs.leave_out(why);
            return None;
        }
        Reading::Known(_) | Reading::Unsupported(_) => return None,
    };
    Some(Gid {
        index,
        gid,
        kind: sysfs.word(&format!("{port}/gid_attrs/types/{index}")),
        netdev: sysfs.word(&format!("{port}/gid_attrs/ndevs/{index}")),
    })
}

fn netdev(sysfs: &Tree, device: &str, gids: &[Gid]) -> Reading<String> {
    if let Some(named) = gids.iter().find_map(|gid| gid.netdev.known()) {
        return Reading::Known(named.clone());
    }
    sysfs.names(&format!("{device}/device/net")).and_then(|names| match names.as_slice() {
        [only] => Reading::Known(only.clone()),
        [] => Reading::Unsupported("the device has no network interface".to_owned()),
        several => Reading::Unsupported(format!(
            "the device has {} network interfaces and no GID names one",
            several.len()
        )),
    })
}

fn counters(sysfs: &Tree, port: &str) -> Reading<u32> {
    let mut readable = 0;
    let mut refused = None;
    for group in ["counters", "hw_counters"] {
        for name in sysfs.names_or_none(&format!("{port}/{group}")) {
            // `lifespan` is a setting: how long a driver caches the others.
            match sysfs.word(&format!("{port}/{group}/{name}")) {
                _ if name == "lifespan" => {}
                Reading::Known(text) if text.parse::<u64>().is_ok() => readable += 1,
                Reading::Known(text) if text.starts_with(NO_PMA) => {
                    refused = Some(Reading::Unsupported(NO_PMA.to_owned()));
                }
                Reading::Known(text) => {
                    refused =
                        Some(sysfs.strange(&format!("{port}/{group}/{name}"), &text, "a count"));
                }
                absent => refused = Some(absent.map(|_| 0)),
            }
        }
    }
    match refused {
        _ if readable > 0 => Reading::Known(readable),
        Some(why) => why,
        None => Reading::Unsupported(format!("{} has no counters", sysfs.name(port))),
    }
}
