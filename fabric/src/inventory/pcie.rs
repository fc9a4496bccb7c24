//! PCIe functions that carry traffic, and every link between them and the root port.

use super::reading::record;
use super::tree::Tree;
use super::{Nic, RdmaDevice, Reading, nic, pci_address};
use serde::Serialize;

const DIRECTORY: &str = "bus/pci/devices";
/// PCI vendor NVIDIA.
const NVIDIA: u32 = 0x10de;

/// What a PCI function is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Class 02: network controller.
    Nic,
    /// NVIDIA, class 0300 (VGA) or 0302 (3D).
    Gpu,
}

record! {
    /// One network controller or GPU on the PCI bus.
    PciDevice {
        /// Domain, bus, device, function.
        plain address: String,
        /// Which of the two it is.
        plain role: Role,
        /// Interfaces and RDMA devices on it.
        plain names: Vec<String>,
        /// Vendor and device number, `15b3:1021`.
        read id: String,
        /// Its kernel driver.
        read driver: String,
        /// The NUMA node it is attached to.
        read numa_node: u32,
        /// Its IOMMU group.
        read iommu_group: String,
        /// The links from the function up to the root port, nearest first.
        read links: Vec<Link>,
        /// A sentence for each link that runs below what both its ends can, or is narrower than the function.
        plain problems: Vec<String>,
    }
}

record! {
    /// One PCIe link: the port or function below, and the port above it.
    Link {
        /// Address of the lower end.
        plain lower: String,
        /// Address of the upper end.
        plain upper: String,
        /// Speed now, per lane.
        read current_speed_gts: f64,
        /// Lanes now.
        read current_width: u32,
        /// The most both ends can, per lane.
        read best_speed_gts: f64,
        /// The most lanes both ends have.
        read best_width: u32,
    }
}

pub(super) fn collect(sysfs: &Tree, nics: &[Nic], rdma: &[RdmaDevice]) -> Reading<Vec<PciDevice>> {
    sysfs.names(DIRECTORY).map(|addresses| {
        addresses
            .into_iter()
            .filter_map(|address| Some((role(sysfs, &address)?, address)))
            .map(|(role, address)| device(sysfs, role, names_on(&address, nics, rdma), address))
            .collect()
    })
}

/// What a function is to us; one whose class or vendor cannot be told is left out by name.
fn role(sysfs: &Tree, address: &str) -> Option<Role> {
    let number = |name: &str| match hexadecimal(sysfs, &format!("{DIRECTORY}/{address}/{name}")) {
        Reading::Known(number) => Some(number),
        Reading::Unsupported(why) | Reading::Failed(why) => {
            sysfs.leave_out(why);
            None
        }
    };
    match number("class")? >> 8 {
        0x0200..=0x02ff => Some(Role::Nic),
        0x0300 | 0x0302 if number("vendor")? == NVIDIA => Some(Role::Gpu),
        _ => None,
    }
}

fn names_on(address: &str, nics: &[Nic], rdma: &[RdmaDevice]) -> Vec<String> {
    let on = |at: &Reading<String>| at.known().is_some_and(|at| at == address);
    let nics = nics.iter().filter(|nic| on(&nic.pci_address)).map(|nic| nic.name.clone());
    let rdma =
        rdma.iter().filter(|device| on(&device.pci_address)).map(|device| device.name.clone());
    nics.chain(rdma).collect()
}

fn device(sysfs: &Tree, role: Role, names: Vec<String>, address: String) -> PciDevice {
    let path = format!("{DIRECTORY}/{address}");
    let vendor = hexadecimal(sysfs, &format!("{path}/vendor"));
    let links = links(sysfs, &path);
    let own_best = own_best(sysfs, &path);
    let problems =
        links.known().map_or_else(Vec::new, |links| problems(&address, role, links, own_best));
    PciDevice {
        role,
        names,
        id: vendor.and_then(|vendor| {
            hexadecimal(sysfs, &format!("{path}/device"))
                .map(|device| format!("{vendor:04x}:{device:04x}"))
        }),
        driver: sysfs.link_name(&format!("{path}/driver")),
        numa_node: nic::numa_node(sysfs, &path),
        iommu_group: sysfs.link_name(&format!("{path}/iommu_group")),
        links,
        problems,
        address,
    }
}

fn hexadecimal(sysfs: &Tree, path: &str) -> Reading<u32> {
    sysfs.text(path).and_then(|text| {
        match text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(number) => Reading::Known(number),
            None => sysfs.strange(path, &text, "a hexadecimal number"),
        }
    })
}

/// A switch is two bridges, its upstream and a downstream port; the hop between them is inside the chip.
/// So of the functions on the way up every second pair is a link, beginning at the bottom.
fn links(sysfs: &Tree, device: &str) -> Reading<Vec<Link>> {
    sysfs.resolve(device).and_then(|real| {
        let parts: Vec<&str> = real.split('/').collect();
        let ends: Vec<usize> =
            (0..parts.len()).rev().filter(|i| pci_address(parts[*i]).known().is_some()).collect();
        let links: Vec<Link> = ends
            .chunks_exact(2)
            .map(|pair| link(sysfs, &parts[..=pair[0]].join("/"), &parts[..=pair[1]].join("/")))
            .collect();
        if links.is_empty() {
            Reading::Unsupported(
                "no port stands above it: on the root bus, or the hypervisor hides the hierarchy"
                    .to_owned(),
            )
        } else {
            Reading::Known(links)
        }
    })
}

fn link(sysfs: &Tree, lower: &str, upper: &str) -> Link {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let either = |name: &str, end: &str| format!("{end}/{name}");
    let best_speed = |end| speed(sysfs, &either("max_link_speed", end));
    let best_width = |end| width(sysfs, &either("max_link_width", end));
    Link {
        lower: last(lower),
        upper: last(upper),
        current_speed_gts: speed(sysfs, &either("current_link_speed", lower))
            .or_else(|| speed(sysfs, &either("current_link_speed", upper))),
        current_width: width(sysfs, &either("current_link_width", lower))
            .or_else(|| width(sysfs, &either("current_link_width", upper))),
        best_speed_gts: best_speed(lower).and_then(|low| best_speed(upper).map(|up| low.min(up))),
        best_width: best_width(lower).and_then(|low| best_width(upper).map(|up| low.min(up))),
    }
}

/// `32.0 GT/s PCIe`, older kernels `8 GT/s`; `Unknown` where the link is down or a virtual function's.
fn speed(sysfs: &Tree, path: &str) -> Reading<f64> {
    sysfs.text(path).and_then(|text| {
        if text.starts_with("Unknown") {
            return Reading::Unsupported(format!("{} says {text:?}", sysfs.name(path)));
        }
        let number = text.split_once(" GT/s").and_then(|(number, _)| number.parse::<f64>().ok());
        match number {
            // PCIe 1 is 2.5, PCIe 7 is 128.
            Some(speed) if speed > 0.0 && speed < 10_000.0 => Reading::Known(speed),
            _ => sysfs.strange(path, &text, "a speed in GT/s"),
        }
    })
}

/// 1 to 32 lanes; 0 and 255 (all ones, a device off the bus) mean unknown.
fn width(sysfs: &Tree, path: &str) -> Reading<u32> {
    sysfs.number(path).and_then(|width: u32| match width {
        1..=32 => Reading::Known(width),
        _ => Reading::Unsupported(format!("{} is {width}: no link is known", sysfs.name(path))),
    })
}

/// What the function alone could do.
fn own_best(sysfs: &Tree, device: &str) -> Option<f64> {
    let speed = *speed(sysfs, &format!("{device}/max_link_speed")).known()?;
    let width = *width(sysfs, &format!("{device}/max_link_width")).known()?;
    Some(gbps(speed, width))
}

/// Usable Gbit/s of a link: 8b/10b line code up to 5 GT/s, 128b/130b (or FLIT, at most as dear) above.
fn gbps(speed_gts: f64, width: u32) -> f64 {
    let code = if speed_gts <= 5.0 { 0.8 } else { 128.0 / 130.0 };
    speed_gts * f64::from(width) * code
}

fn problems(address: &str, role: Role, links: &[Link], own_best: Option<f64>) -> Vec<String> {
    let mut sentences: Vec<String> =
        links.iter().filter_map(|link| below_best(address, role, link)).collect();
    sentences.extend(own_best.and_then(|own| narrower(address, links, own)));
    sentences
}

fn below_best(address: &str, role: Role, link: &Link) -> Option<String> {
    let (speed, width) = (*link.current_speed_gts.known()?, *link.current_width.known()?);
    let (best_speed, best_width) = (*link.best_speed_gts.known()?, *link.best_width.known()?);
    if speed >= best_speed && width >= best_width {
        return None;
    }
    let (lower, upper) = (&link.lower, &link.upper);
    let advice = match role {
        Role::Gpu if width >= best_width => {
            "an idle GPU lowers its speed, so look again under load; if it stays, reseat or check BIOS and risers"
        }
        _ => "reseat the card, check risers and the BIOS's slot setting, read `lspci -vv` LnkSta",
    };
    Some(format!(
        "the link {lower} to {upper} on the path of {address} runs at {speed} GT/s x{width}, both ends can {best_speed} GT/s x{best_width}; {advice}"
    ))
}

/// The link that by its best is narrower than the function: a slot or switch that limits it.
fn narrower(address: &str, links: &[Link], own: f64) -> Option<String> {
    let best = |link: &Link| Some(gbps(*link.best_speed_gts.known()?, *link.best_width.known()?));
    let (slowest, link) = links
        .iter()
        .filter_map(|link| Some((best(link)?, link)))
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    // The function's own number and the link's are the same product where nothing limits it.
    (slowest < own * 0.999).then(|| format!(
        "{address} can {own:.0} Gbit/s and the link {} to {} at best {slowest:.0} Gbit/s; move the card to a faster slot or expect that limit",
        link.lower, link.upper
    ))
}
