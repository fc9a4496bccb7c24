//! Whether a NIC's stamps can be used on a socket (design D2): only where they are switched on already, for every packet, and
//! all come from one clock.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;

use crate::ethtool;

/// A network interface, as far as stamps go.
#[derive(Debug, Default)]
struct Interface {
    addresses: Vec<IpAddr>,
    /// Whether its NIC stamps every packet, both ways.
    stamps: bool,
    /// The number of that NIC's clock.
    clock: Option<u32>,
}

/// Whether a socket with the address `local` gets stamps of one NIC clock, and of no other.
pub(super) fn stamps(local: IpAddr) -> bool {
    if local.is_unspecified() || local.is_loopback() {
        return false;
    }
    all_from_one_clock(local, &interfaces())
}

/// A packet may leave by another interface than its reply comes in by, and stamps do not name their clock. So the interface
/// that has the address must stamp, and none of this machine may stamp with another clock.
fn all_from_one_clock(local: IpAddr, interfaces: &[Interface]) -> bool {
    let mut owners = interfaces.iter().filter(|interface| interface.addresses.contains(&local));
    let (Some(owner), None) = (owners.next(), owners.next()) else { return false };
    let mut stamping = interfaces.iter().filter(|interface| interface.stamps);
    owner.stamps && owner.clock.is_some() && stamping.all(|other| other.clock == owner.clock)
}

/// Those of this network namespace; none where they cannot be listed.
fn interfaces() -> Vec<Interface> {
    let addresses: Vec<(String, IpAddr)> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|entry| Some((entry.interface_name, ip_of(&entry.address?)?)))
        .collect();
    let Ok(names) = if_nameindex() else { return Vec::new() };
    let names = names.iter().filter_map(|interface| interface.name().to_str().ok());
    names.map(|name| interface(name, &addresses)).collect()
}

fn interface(name: &str, addresses: &[(String, IpAddr)]) -> Interface {
    let its_own = addresses.iter().filter(|(owner, _)| owner == name);
    let stamps = ethtool::stamps_every_packet(name);
    let clock = if stamps { ethtool::timestamping(name).ok() } else { None };
    Interface {
        addresses: its_own.map(|&(_, address)| address).collect(),
        stamps,
        clock: clock.and_then(|info| info.phc_index),
    }
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: &str = "192.0.2.1";

    fn has(address: &str, stamps: bool, clock: Option<u32>) -> Interface {
        Interface { addresses: vec![address.parse().unwrap()], stamps, clock }
    }

    fn chosen(interfaces: &[Interface]) -> bool {
        all_from_one_clock(NEAR.parse().unwrap(), interfaces)
    }

    #[test]
    fn a_nic_that_stamps_is_used_when_its_clock_is_the_only_one() {
        let quiet = || has("198.51.100.1", false, None);
        assert!(chosen(&[quiet(), has(NEAR, true, Some(0))]));
        assert!(chosen(&[has("198.51.100.1", true, Some(0)), has(NEAR, true, Some(0))]));
        assert!(!chosen(&[has("198.51.100.1", true, Some(1)), has(NEAR, true, Some(0))]));
        assert!(!chosen(&[has("198.51.100.1", true, None), has(NEAR, true, Some(0))]));
    }

    #[test]
    fn without_stamps_a_clock_or_an_owner_there_is_no_choice() {
        assert!(!chosen(&[has(NEAR, false, None)]));
        assert!(!chosen(&[has(NEAR, true, None)]));
        assert!(!chosen(&[has("198.51.100.1", true, Some(0))]));
        assert!(!chosen(&[has(NEAR, true, Some(0)), has(NEAR, true, Some(0))]));
        assert!(!chosen(&[]));
    }

    #[test]
    fn the_addresses_of_this_machine_have_an_interface() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let owners = interfaces().into_iter().filter(|i| i.addresses.contains(&loopback));
        assert_eq!(owners.map(|owner| owner.stamps).collect::<Vec<_>>(), [false]);
    }
}
