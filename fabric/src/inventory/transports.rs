//! For each transport: can this node measure it with this version, and if not, what would help.

use super::pcie::{PciDevice, Role};
use super::{Nic, RdmaDevice, Reading};
use serde::Serialize;

/// One transport's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransportAbility {
    /// `udp`, `tcp`, `rdma-ud`, `rdma-rc`, `nvlink` or `pcie`.
    pub transport: &'static str,
    /// Whether `railgauge ping --transport` works here.
    pub measurable: bool,
    /// With what, or why not and the way out.
    pub reason: String,
}

pub(super) fn judge(
    nics: &Reading<Vec<Nic>>,
    rdma: &Reading<Vec<RdmaDevice>>,
    pci: &Reading<Vec<PciDevice>>,
) -> Vec<TransportAbility> {
    let ip = ip(nics);
    let no = |transport, reason| TransportAbility { transport, measurable: false, reason };
    vec![
        TransportAbility { transport: "udp", ..ip.clone() },
        TransportAbility { transport: "tcp", ..ip },
        no("rdma-ud", rdma_reason(rdma)),
        no("rdma-rc", rdma_reason(rdma)),
        no("nvlink", gpu_reason(pci)),
        no("pcie", gpu_reason(pci)),
    ]
}

fn ip(nics: &Reading<Vec<Nic>>) -> TransportAbility {
    let verdict = |measurable, reason| TransportAbility { transport: "udp", measurable, reason };
    let Some(nics) = nics.known() else {
        return verdict(false, absent("network interfaces", nics));
    };
    let usable: Vec<&str> =
        nics.iter().filter(|nic| is_usable(nic)).map(|nic| nic.name.as_str()).collect();
    match usable.as_slice() {
        [] => {
            verdict(false, "no interface is up; bring one up with `ip link set NAME up`".to_owned())
        }
        ["lo"] => verdict(true, "over loopback alone: no other interface is up".to_owned()),
        names => verdict(true, format!("over {}", shortened(names))),
    }
}

/// Drivers without link detection (loopback, tun) say `unknown` while they work.
fn is_usable(nic: &Nic) -> bool {
    nic.operstate.known().is_some_and(|state| state == "up")
        || (nic.operstate.known().is_some_and(|state| state == "unknown")
            && nic.carrier.known() == Some(&true))
}

fn rdma_reason(rdma: &Reading<Vec<RdmaDevice>>) -> String {
    match rdma {
        Reading::Known(devices) if !devices.is_empty() => {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            format!("not in this version; the devices are here: {}", shortened(&names))
        }
        Reading::Failed(_) => absent("RDMA devices", rdma),
        Reading::Known(_) | Reading::Unsupported(_) => {
            "no device under /sys/class/infiniband; load the NIC's driver (mlx5_ib) or rdma_rxe. And this version \
             cannot measure it yet"
                .to_owned()
        }
    }
}

fn gpu_reason(pci: &Reading<Vec<PciDevice>>) -> String {
    let Some(devices) = pci.known() else {
        return absent("PCI devices", pci);
    };
    match devices.iter().filter(|device| device.role == Role::Gpu).count() {
        0 => "no NVIDIA GPU on the PCI bus. And this version cannot measure it yet".to_owned(),
        count => format!("not in this version; {count} NVIDIA GPU(s) are here"),
    }
}

fn absent<T>(what: &str, reading: &Reading<T>) -> String {
    format!("{what} could not be listed ({})", reading.reason().unwrap_or_default())
}

/// The first few of many names.
fn shortened(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    match names.get(SHOWN..) {
        Some(rest) if !rest.is_empty() => {
            format!("{} and {} more", names[..SHOWN].join(", "), rest.len())
        }
        _ => names.join(", "),
    }
}
