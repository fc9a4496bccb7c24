//! Network interfaces.

use super::reading::record;
use super::tree::Tree;
use super::{Reading, cpu, pci_address};
use crate::ethtool::{self, Timestamping};

record! {
    /// One network interface.
    Nic {
        /// Its name.
        plain name: String,
        /// `ethernet`, `infiniband`, `loopback`, `bond`, `bridge`, `vlan`, or the kernel's DEVTYPE.
        read kind: String,
        /// Whether a device stands behind it; false for bond, bridge, vlan, loopback, veth.
        plain has_device: bool,
        /// Its kernel driver.
        read driver: String,
        /// The PCI function it is, or sits on (virtio).
        read pci_address: String,
        /// The NUMA node it is attached to.
        read numa_node: u32,
        /// Link speed in Mbit/s.
        read speed_mbps: u64,
        /// Largest packet.
        read mtu_bytes: u32,
        /// RFC 2863 operational state in the kernel's words.
        read operstate: String,
        /// Whether the link is there.
        read carrier: bool,
        /// The bond or bridge it belongs to.
        read upper: String,
        /// PTP hardware clocks of its device, `ptp0`.
        read ptp_clocks: Vec<String>,
        /// The stamps its driver takes; asked by system call, hence only on the running machine.
        read timestamping: Timestamping,
    }
}

pub(super) fn collect(sysfs: &Tree, live: bool) -> Reading<Vec<Nic>> {
    sysfs.names("class/net").map(|names| {
        // `bonding_masters` is a file among the interfaces.
        names
            .into_iter()
            .filter(|name| name != "bonding_masters")
            .map(|name| nic(sysfs, name, live))
            .collect()
    })
}

fn nic(sysfs: &Tree, name: String, live: bool) -> Nic {
    let path = format!("class/net/{name}");
    let file = |attribute: &str| format!("{path}/{attribute}");
    let real = sysfs.resolve(&file("device"));
    Nic {
        kind: kind(sysfs, &path),
        has_device: real.known().is_some(),
        driver: sysfs.link_name(&file("device/driver")),
        pci_address: real.and_then(|real| pci_address(&real)),
        numa_node: numa_node(sysfs, &file("device")),
        speed_mbps: speed(sysfs, &file("speed")),
        mtu_bytes: sysfs.number(&file("mtu")),
        operstate: sysfs.word(&file("operstate")),
        carrier: cpu::switch(sysfs, &file("carrier")),
        upper: sysfs.link_name(&file("master")),
        ptp_clocks: sysfs.names(&file("device/ptp")),
        timestamping: timestamping(&name, live),
        name,
    }
}

/// The NUMA node of the device at a path, or of the nearest device above it that names one: a virtio
/// device has none of its own.
pub(super) fn numa_node(sysfs: &Tree, device: &str) -> Reading<u32> {
    sysfs.resolve(device).and_then(|mut path| {
        loop {
            let file = format!("{path}/numa_node");
            if sysfs.exists(&file) {
                return numa_number(sysfs, &file);
            }
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent.to_owned(),
                None => {
                    return Reading::Unsupported(format!(
                        "{} has no numa_node",
                        sysfs.name(device)
                    ));
                }
            }
        }
    })
}

fn numa_number(sysfs: &Tree, file: &str) -> Reading<u32> {
    sysfs.text(file).and_then(|text| match text.parse::<i64>() {
        Ok(-1) => Reading::Unsupported(format!(
            "{} is -1: the firmware does not say which node",
            sysfs.name(file)
        )),
        Ok(node) if u32::try_from(node).is_ok() => Reading::Known(u32::try_from(node).unwrap_or(0)),
        _ => sysfs.strange(file, &text, "a NUMA node"),
    })
}

/// DEVTYPE where the driver gives one, else the ARPHRD type of linux/if_arp.h.
fn kind(sysfs: &Tree, path: &str) -> Reading<String> {
    let uevent = sysfs.text(&format!("{path}/uevent"));
    let devtype = uevent.known().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).map(str::to_owned)
    });
    if let Some(devtype) = devtype {
        return Reading::Known(devtype);
    }
    sysfs.number::<u32>(&format!("{path}/type")).map(|number| match number {
        1 => "ethernet".to_owned(),
        32 => "infiniband".to_owned(),
        772 => "loopback".to_owned(),
        other => format!("ARPHRD {other}"),
    })
}

/// -1 and 4294967295 both mean unknown: SPEED_UNKNOWN as signed, and as printed by old kernels.
fn speed(sysfs: &Tree, path: &str) -> Reading<u64> {
    sysfs.text(path).and_then(|text| match text.parse::<i64>() {
        Ok(-1 | 4_294_967_295) => Reading::Unsupported(format!(
            "{} is {text}: the driver does not know the speed",
            sysfs.name(path)
        )),
        Ok(0) => Reading::Unsupported(format!("{} is 0: no link", sysfs.name(path))),
        Ok(speed) if speed > 0 => Reading::Known(speed.unsigned_abs()),
        _ => sysfs.strange(path, &text, "a speed in Mbit/s"),
    })
}

fn timestamping(name: &str, live: bool) -> Reading<Timestamping> {
    if !live {
        return Reading::Unsupported(
            "asked of the driver by system call, which a recorded tree cannot answer; run without --sysfs-root"
                .to_owned(),
        );
    }
    match ethtool::timestamping(name) {
        Ok(stamps) => Reading::Known(stamps),
        Err(error) => Reading::Failed(error.to_string()),
    }
}
