//! RDMA devices and their ports (Documentation/ABI/stable/sysfs-class-infiniband).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use railgauge_core::rdma::counters::{CounterReading, Group, Kind, kind};
use railgauge_core::rdma::mtu::PathMtu;

use super::reading::record;
use super::tree::Tree;
use super::{Reading, nic, pci_address};

mod problems;

const DIRECTORY: &str = "class/infiniband";
/// The character devices by which programs use them.
const VERBS: &str = "class/infiniband_verbs";
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
        /// The character device by which programs use it, `uverbs0`.
        read verbs_device: String,
        /// Its ports.
        read ports: Vec<RdmaPort>,
        /// What is wrong with it or its ports, and what to do.
        plain problems: Vec<String>,
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
        /// The largest payload of a packet; of Ethernet, by the MTU of its network interface.
        read path_mtu_bytes: u32,
        /// The GIDs in use; all-zero ones are skipped.
        plain gids: Vec<Gid>,
        /// How many standard and driver counters can be read.
        read counters: u32,
        /// How many of them are of its performance management agent.
        read agent_counters: u32,
        /// Those that have stopped at their largest value.
        plain saturated_counters: Vec<String>,
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

pub(super) fn collect(sysfs: &Tree, live: bool) -> Reading<Vec<RdmaDevice>> {
    sysfs.names(DIRECTORY).map(|names| {
        let mut devices: Vec<_> = names.into_iter().map(|name| device(sysfs, name)).collect();
        problems::judge(&mut devices, |verbs| if live { try_open(verbs) } else { Ok(()) });
        devices
    })
}

/// Whether this process may use a character device: opened and closed, nothing is asked of it.
fn try_open(verbs: &str) -> std::io::Result<()> {
    let path = std::path::Path::new("/dev/infiniband").join(verbs);
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).map(drop)
}

/// The entry of `class/infiniband_verbs` whose `ibdev` is the device.
fn verbs_device(sysfs: &Tree, device: &str) -> Reading<String> {
    let is_its = |entry: &String| {
        let ibdev = sysfs.word(&format!("{VERBS}/{entry}/ibdev"));
        entry.starts_with("uverbs") && ibdev.known().is_some_and(|name| name == device)
    };
    sysfs.names(VERBS).and_then(|entries| match entries.into_iter().find(is_its) {
        Some(entry) => Reading::Known(entry),
        None => Reading::Unsupported(format!("no entry of {} is {device}", sysfs.name(VERBS))),
    })
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
        verbs_device: verbs_device(sysfs, &name),
        problems: Vec::new(),
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
    let netdev = netdev(sysfs, device, &gids);
    let link_layer = sysfs.word(&file("link_layer"));
    let (agent, agent_refused) = counted(sysfs, &path, Group::Port);
    let (driver, driver_refused) = counted(sysfs, &path, Group::Driver);
    let refused = driver_refused.or_else(|| agent_refused.clone());
    RdmaPort {
        port,
        state: after_number(sysfs, &file("state")),
        physical_state: after_number(sysfs, &file("phys_state")),
        rate: sysfs.word(&file("rate")),
        path_mtu_bytes: path_mtu(sysfs, &link_layer, &netdev),
        link_layer,
        netdev,
        gids,
        counters: known_or_refused(sysfs, &path, agent + driver, refused),
        agent_counters: known_or_refused(sysfs, &path, agent, agent_refused),
        saturated_counters: saturated(sysfs, &path),
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

fn path_mtu(sysfs: &Tree, link_layer: &Reading<String>, netdev: &Reading<String>) -> Reading<u32> {
    link_layer.clone().and_then(|layer| match layer.as_str() {
        "Ethernet" => netdev.clone().and_then(|netdev| {
            let file = format!("class/net/{netdev}/mtu");
            sysfs.number(&file).and_then(|mtu: u32| match PathMtu::of_ethernet(mtu) {
                Some(path_mtu) => Reading::Known(path_mtu.octets()),
                None => Reading::Unsupported(format!("an MTU of {mtu} is too small for RDMA")),
            })
        }),
        _ => Reading::Unsupported(
            "sysfs does not show the MTU of an InfiniBand port; `ibv_devinfo` does".to_owned(),
        ),
    })
}

/// Counters that cannot rise any more: they say nothing, whatever happens.
fn saturated(sysfs: &Tree, port: &str) -> Vec<String> {
    let directory = format!("{port}/{}", Group::Port.directory());
    let stands = |name: &String| {
        let kind = kind(Group::Port, name);
        let text = sysfs.text(&format!("{directory}/{name}"));
        let count = text.known().and_then(|text| CounterReading::parse(text).known());
        matches!(kind, Kind::Stops { .. } | Kind::Data) && count == Some(kind.most())
    };
    sysfs
        .names(&directory)
        .known()
        .into_iter()
        .flatten()
        .filter(|name| stands(name))
        .cloned()
        .collect()
}

/// How many counters of one group can be read, and why another one cannot.
fn counted(sysfs: &Tree, port: &str, group: Group) -> (u32, Option<Reading<u32>>) {
    let directory = format!("{port}/{}", group.directory());
    let (mut readable, mut refused) = (0, None);
    for name in sysfs.names_or_none(&directory) {
        let path = format!("{directory}/{name}");
        // `lifespan` is a setting: how long a driver caches the others.
        match sysfs.word(&path) {
            _ if name == "lifespan" => {}
            Reading::Known(text) if text.parse::<u64>().is_ok() => readable += 1,
            Reading::Known(text) if text.starts_with(NO_PMA) => {
                refused = Some(Reading::Unsupported(NO_PMA.to_owned()));
            }
            Reading::Known(text) => refused = Some(sysfs.strange(&path, &text, "a count")),
            absent => refused = Some(absent.map(|_| 0)),
        }
    }
    (readable, refused)
}

fn known_or_refused(
    sysfs: &Tree,
    port: &str,
    readable: u32,
    refused: Option<Reading<u32>>,
) -> Reading<u32> {
    match refused {
        _ if readable > 0 => Reading::Known(readable),
        Some(why) => why,
        None => Reading::Unsupported(format!("{} has no counters", sysfs.name(port))),
    }
}
