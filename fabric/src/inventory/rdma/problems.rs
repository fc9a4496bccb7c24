//! What is wrong with each RDMA device, as far as sysfs tells: a sentence each, with what to do. The library and what it may
//! open are asked by whoever opens it.

use std::io::ErrorKind;

use railgauge_core::rdma::gid::{GidKind, LinkLayer};
use railgauge_core::rdma::mtu::PathMtu;

use super::{NO_PMA, RdmaDevice, RdmaPort, Reading};

/// Looks at each device and at those of its kind beside it. `open` tries a character device by its name (`uverbs0`).
pub(super) fn judge(devices: &mut [RdmaDevice], open: impl Fn(&str) -> std::io::Result<()>) {
    let fastest: Vec<Vec<Option<f64>>> = devices
        .iter()
        .map(|own| ports(own).map(|port| fastest_peer(devices, own, port)).collect())
        .collect();
    for (device, fastest) in devices.iter_mut().zip(fastest) {
        let mut sentences = Vec::new();
        sentences.extend(verbs_device(device, &open));
        for (port, fastest) in ports(device).zip(fastest) {
            let name = format!("{}/{}", device.name, port.port);
            sentences.extend(state(&name, port));
            sentences.extend(gids(&name, port));
            sentences.extend(slower(&name, port, fastest));
            sentences.extend(mtu(&name, port));
            sentences.extend(counters(&name, port));
        }
        device.problems = sentences;
    }
}

fn ports(device: &RdmaDevice) -> impl Iterator<Item = &RdmaPort> {
    device.ports.known().into_iter().flatten()
}

fn is_active(port: &RdmaPort) -> bool {
    port.state.known().is_some_and(|state| state == "ACTIVE")
}

fn link_layer(port: &RdmaPort) -> Option<LinkLayer> {
    LinkLayer::from_sysfs(port.link_layer.known()?)
}

/// Without its character device a device cannot be used from user space.
fn verbs_device(device: &RdmaDevice, open: impl Fn(&str) -> std::io::Result<()>) -> Option<String> {
    let name = &device.name;
    let verbs = match &device.verbs_device {
        Reading::Known(verbs) => verbs,
        Reading::Unsupported(_) | Reading::Failed(_) => {
            return Some(format!(
                "{name} has no uverbs device, so no program can use it; `modprobe ib_uverbs`"
            ));
        }
    };
    let node = format!("/dev/infiniband/{verbs}");
    let error = open(verbs).err()?;
    Some(match error.kind() {
        ErrorKind::NotFound => format!(
            "{name} has no {node} here; run udev, or give the container the device (`--device {node}`)"
        ),
        ErrorKind::PermissionDenied => format!(
            "{node} of {name} may not be opened by this process; allow it by udev rule, group or DeviceAllow="
        ),
        _ => format!("{node} of {name} does not open ({error})"),
    })
}

fn state(name: &str, port: &RdmaPort) -> Option<String> {
    let state = port.state.known().filter(|state| *state != "ACTIVE")?;
    let physical = port.physical_state.known().map_or("", String::as_str);
    let ethernet = link_layer(port) == Some(LinkLayer::Ethernet);
    let netdev = port.netdev.known().map_or("its network interface", String::as_str);
    let way = match (state.as_str(), physical) {
        ("INIT" | "ARMED", _) => {
            "the link is there and no subnet manager has set it up; `sminfo`".to_owned()
        }
        (_, "Polling") => {
            "no partner answers on the cable; check cable, transceiver and the switch's port"
                .to_owned()
        }
        (_, "Disabled") if ethernet => format!("`ip link set {netdev} up`"),
        (_, "Disabled") => "it was switched off; `ibportstate` switches it on".to_owned(),
        (_, "LinkErrorRecovery" | "PortConfigurationTraining") => {
            "the link does not come to rest; check cable and transceiver".to_owned()
        }
        _ if ethernet => format!("check the cable, and `ip link show {netdev}`"),
        _ => "check cable and subnet manager".to_owned(),
    };
    Some(format!("port {name} is {state} ({}); {way}", port.physical_state))
}

fn gids(name: &str, port: &RdmaPort) -> Option<String> {
    if !is_active(port) {
        return None;
    }
    let layer = link_layer(port)?;
    if port.gids.is_empty() {
        let way = match layer {
            LinkLayer::Ethernet => {
                "give its network interface an address, or look in the namespace that owns it"
            }
            LinkLayer::InfiniBand => "`ibaddr` shows what the subnet manager gave it",
        };
        return Some(format!("port {name} has no GID, so nothing can be addressed to it; {way}"));
    }
    let is_v2 = |kind: &String| GidKind::from_sysfs(kind, layer) == Some(GidKind::RoceV2);
    let known = port.gids.iter().filter_map(|gid| gid.kind.known());
    // An entry whose kind is hidden may be one.
    let all_known = port.gids.iter().all(|gid| gid.kind.known().is_some());
    let none = layer == LinkLayer::Ethernet && all_known && !known.into_iter().any(is_v2);
    none.then(|| format!(
        "port {name} has no RoCE v2 GID: its packets pass no router and jobs do not use it; set the default RoCE mode \
         (`cma_roce_mode`), or use a NIC that has version 2"
    ))
}

/// The rate of the fastest active port of the same make, this one left out.
fn fastest_peer(devices: &[RdmaDevice], own: &RdmaDevice, port: &RdmaPort) -> Option<f64> {
    let make = |device: &RdmaDevice| {
        Some((device.hca_type.known()?.clone(), device.board_id.known().cloned()))
    };
    let own_make = make(own)?;
    let alike = devices.iter().filter(|device| make(device).as_ref() == Some(&own_make));
    let peers = alike.flat_map(|device| ports(device).map(move |peer| (device, peer)));
    let others = peers.filter(|(device, peer)| {
        (device.name != own.name || peer.port != port.port)
            && is_active(peer)
            && peer.link_layer == port.link_layer
    });
    others.filter_map(|(_, peer)| gbit(peer)).reduce(f64::max)
}

/// `400 Gb/sec (4X NDR)` is 400.
fn gbit(port: &RdmaPort) -> Option<f64> {
    let (number, rest) = port.rate.known()?.split_once(' ')?;
    if !rest.starts_with("Gb/sec") {
        return None;
    }
    number.parse().ok().filter(|rate: &f64| rate.is_finite())
}

fn slower(name: &str, port: &RdmaPort, fastest: Option<f64>) -> Option<String> {
    let (own, fastest) = (gbit(port)?, fastest?);
    (is_active(port) && own < fastest).then(|| format!(
        "port {name} runs at {} and others of its make at {fastest} Gb/sec; check cable and transceiver, the switch's port, \
         and what it was set to",
        port.rate
    ))
}

fn mtu(name: &str, port: &RdmaPort) -> Option<String> {
    let most = PathMtu::B4096.octets();
    let own = *port.path_mtu_bytes.known()?;
    (is_active(port) && own < most).then(|| format!(
        "port {name} carries {own} bytes in a packet where {most} are possible; `ip link set {} mtu 9000`, as on every \
         other port and switch of its network",
        port.netdev
    ))
}

fn counters(name: &str, port: &RdmaPort) -> Vec<String> {
    let mut sentences = Vec::new();
    if port.agent_counters.reason().is_some_and(|reason| reason.contains(NO_PMA)) {
        sentences.push(format!(
            "port {name} does not count errors and discards (no PMA: a virtual function?); read them at the physical \
             function or the switch"
        ));
    }
    if !port.saturated_counters.is_empty() {
        sentences.push(format!(
            "counters of port {name} have stopped at their largest value and show nothing new: {}; `perfquery -R` (root) \
             sets them back",
            port.saturated_counters.join(", ")
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What opening the character device answers decides what to do about it.
    #[test]
    fn a_device_that_does_not_open_says_which_way_out() {
        let unknown = || Reading::Unsupported("not asked".to_owned());
        let mut device = RdmaDevice {
            name: "mlx5_0".to_owned(),
            driver: unknown(),
            pci_address: unknown(),
            numa_node: Reading::Unsupported("not asked".to_owned()),
            node_guid: unknown(),
            firmware: unknown(),
            hca_type: unknown(),
            board_id: unknown(),
            verbs_device: Reading::Known("uverbs3".to_owned()),
            ports: Reading::Known(Vec::new()),
            problems: vec!["of the last look".to_owned()],
        };
        let mut said = |error: Option<ErrorKind>| {
            judge(std::slice::from_mut(&mut device), |verbs| {
                assert_eq!(verbs, "uverbs3");
                error.map_or(Ok(()), |kind| Err(kind.into()))
            });
            device.problems.clone()
        };
        assert_eq!(said(None), Vec::<String>::new());
        for (kind, text) in [
            (ErrorKind::NotFound, "has no /dev/infiniband/uverbs3 here; run udev, or give the"),
            (ErrorKind::PermissionDenied, "uverbs3 of mlx5_0 may not be opened by this process"),
            (ErrorKind::Other, "/dev/infiniband/uverbs3 of mlx5_0 does not open (other error)"),
        ] {
            let [only] = &said(Some(kind))[..] else { panic!("{kind}") };
            assert!(only.contains(text), "{only}");
        }
    }
}
