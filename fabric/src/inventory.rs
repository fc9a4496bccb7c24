//! What this node is, read from sysfs and procfs under a given root.
//!
//! Every field is known or says why not ([`Reading`]); in JSON an absent field is `null` with
//! `<field>_reason`. Reads are bounded and never wait, apart from a driver that hangs in its own `show`
//! function: then the file is at fault, and `strace` names it.

mod clock;
mod cpu;
pub mod cpu_list;
mod host;
mod nic;
mod numa;
mod pcie;
mod rdma;
mod reading;
mod system;
mod transports;
pub(crate) mod tree;
mod warnings;

pub use clock::Clock;
pub use cpu::{Cpus, Governor, IdleState};
pub use host::Host;
pub use nic::Nic;
pub use numa::NumaNode;
pub use pcie::{Link, PciDevice, Role};
pub use rdma::{Gid, RdmaDevice, RdmaPort};
pub use reading::Reading;
pub use system::{Iommu, Limit, Memory, Module, Unlimited};
pub use transports::TransportAbility;
pub use tree::Roots;

use reading::record;
use tree::Tree;

/// Name and version of the JSON form; `docs/schema/inventory-v1.json` describes it.
pub const SCHEMA: &str = "railgauge/inventory/v1";

record! {
    /// Everything one look at a node found.
    Inventory {
        /// [`SCHEMA`].
        plain schema: &'static str,
        /// True for the running machine, false for a recorded tree.
        plain live: bool,
        /// The machine and its kernel.
        plain host: Host,
        /// Its processors.
        plain cpus: Cpus,
        /// Its NUMA nodes.
        read numa_nodes: Vec<NumaNode>,
        /// What the kernel reads the time from.
        plain clock: Clock,
        /// Its network interfaces.
        read nics: Vec<Nic>,
        /// Its RDMA devices.
        read rdma_devices: Vec<RdmaDevice>,
        /// Network controllers and GPUs on the PCI bus, with their links up to the root port.
        read pci_devices: Vec<PciDevice>,
        /// NVLink connections; never in sysfs.
        read nvlinks: Vec<String>,
        /// Kernel modules that matter, loaded or not.
        read modules: Vec<Module>,
        /// DMA translation.
        plain iommu: Iommu,
        /// Memory settings and limits.
        plain memory: Memory,
        /// Each transport of the design: measurable here, and if not, why.
        plain transports: Vec<TransportAbility>,
        /// What to know, and do, before believing a tail measured here.
        plain warnings: Vec<String>,
        /// Entries that no field above could show, each with the reason.
        plain left_out: Vec<String>,
    }
}

/// Looks at the node whose files are under `roots`. Never fails: what cannot be read says so in its field.
pub fn collect(roots: &Roots) -> Inventory {
    let (sysfs, procfs) = (Tree::sysfs(roots), Tree::procfs(roots));
    let cpus = cpu::collect(&sysfs, &procfs);
    let nics = nic::collect(&sysfs, roots.is_live());
    let rdma_devices = rdma::collect(&sysfs);
    let pci_devices = pcie::collect(
        &sysfs,
        nics.known().map_or(&[], Vec::as_slice),
        rdma_devices.known().map_or(&[], Vec::as_slice),
    );
    let mut inventory = Inventory {
        schema: SCHEMA,
        live: roots.is_live(),
        host: host::collect(&sysfs, &procfs),
        clock: clock::collect(&sysfs, &cpus),
        cpus,
        numa_nodes: numa::collect(&sysfs),
        transports: transports::judge(&nics, &rdma_devices, &pci_devices),
        nics,
        rdma_devices,
        pci_devices,
        nvlinks: Reading::Unsupported(
            "NVLink is not in sysfs; `nvidia-smi nvlink -s` shows it where the driver is loaded"
                .to_owned(),
        ),
        modules: system::modules(&sysfs),
        iommu: system::iommu(&sysfs),
        memory: system::memory(&sysfs, &procfs),
        warnings: Vec::new(),
        left_out: Vec::new(),
    };
    inventory.warnings = warnings::collect(&inventory);
    inventory.left_out = [sysfs.left_out(), procfs.left_out()].concat();
    inventory
}

/// A device's NUMA node could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DeviceNodeError {
    /// Neither a network interface nor an RDMA device.
    #[error(
        "no network interface or RDMA device is called {device:?}; `railgauge inventory` lists them"
    )]
    NoDevice {
        /// The name as given.
        device: String,
    },
    /// It exists and its node is not known.
    #[error("the NUMA node of {device} is not known ({reason}); pin with --cpu")]
    Unknown {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
}

/// The NUMA node of a network interface or RDMA device, by name.
pub fn numa_node_of_device(roots: &Roots, device: &str) -> Result<u32, DeviceNodeError> {
    let sysfs = Tree::sysfs(roots);
    let plain_name =
        !device.is_empty() && !device.contains(['/', '\0']) && device != "." && device != "..";
    let path = ["class/net", "class/infiniband"]
        .map(|class| format!("{class}/{device}"))
        .into_iter()
        .find(|path| plain_name && sysfs.exists(path))
        .ok_or_else(|| DeviceNodeError::NoDevice { device: device.to_owned() })?;
    match nic::numa_node(&sysfs, &format!("{path}/device")) {
        Reading::Known(node) => Ok(node),
        Reading::Unsupported(reason) | Reading::Failed(reason) => {
            Err(DeviceNodeError::Unknown { device: device.to_owned(), reason })
        }
    }
}

/// The CPUs of a NUMA node could not be told.
#[derive(Debug, thiserror::Error)]
#[error("the CPUs of NUMA node {node} are not known ({reason}); pin with --cpu")]
pub struct NodeCpusError {
    /// The node.
    pub node: u32,
    /// Why.
    pub reason: String,
}

/// The CPUs of a NUMA node, rising; empty for a node of memory alone.
pub fn cpus_of_numa_node(roots: &Roots, node: u32) -> Result<Vec<u32>, NodeCpusError> {
    match numa::cpus_of(&Tree::sysfs(roots), node) {
        Reading::Known(cpus) => Ok(cpus),
        Reading::Unsupported(reason) | Reading::Failed(reason) => {
            Err(NodeCpusError { node, reason })
        }
    }
}

/// The clock source in use: `tsc`, `kvm-clock`, `hpet`, `arch_sys_counter`, ….
pub fn current_clocksource(roots: &Roots) -> Reading<String> {
    clock::current(&Tree::sysfs(roots))
}

/// The frequency governor of one CPU; `None` where the machine shows none.
pub fn governor_of_cpu(roots: &Roots, cpu: u32) -> Option<String> {
    cpu::governor_of(&Tree::sysfs(roots), cpu).known().cloned()
}

/// The last PCI address in a device's real path: `0000:d9:00.0`.
fn pci_address(path: &str) -> Reading<String> {
    match path.rsplit('/').find(|part| is_pci_address(part)) {
        Some(address) => Reading::Known(address.to_owned()),
        None => Reading::Unsupported("not a PCI device".to_owned()),
    }
}

/// `DDDD:BB:DD.F`; domains of NVMe controllers and GB200 are longer than four digits or not zero.
fn is_pci_address(text: &str) -> bool {
    let hexadecimal = |part: &str, least: usize, most: usize| {
        (least..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mut parts = text.splitn(3, ':');
    let (Some(domain), Some(bus), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    rest.split_once('.').is_some_and(|(device, function)| {
        hexadecimal(domain, 4, 8)
            && hexadecimal(bus, 2, 2)
            && hexadecimal(device, 2, 2)
            && hexadecimal(function, 1, 1)
    })
}
