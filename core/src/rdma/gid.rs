//! Which address of a port probes use: by rule and never by index, because indexes move when addresses change.
//!
//! On Ethernet: RoCE v2; there an IPv4-mapped GID, then a global or unique local IPv6 one, then a link-local one; then the
//! one that shares most leading bits with the peer's; then the lowest index. perftest scores the same things; NCCL
//! (`ncclIbGetGidIndex`) has the same order for its default settings. RoCE v1 does not pass routers and is another network
//! than the one jobs use: it is taken only where its address or interface is asked for by name. On `InfiniBand`: the one of the
//! peer's subnet, then the lowest index.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

mod choice;

pub use choice::{Chosen, NoGid, PassedOver, Peer, Which, Why, Wish, choose};

/// A global identifier: 16 octets in network byte order (IB spec section 4.1.1). On RoCE it is an IP address
/// (Annex A17).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gid([u8; 16]);

/// Text that is no GID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no GID: an IPv4 or IPv6 address, or eight groups of four hexadecimal digits")]
pub struct GidError(String);

impl Gid {
    /// The one of an unused table entry (IB spec section 4.1.1: reserved).
    pub const ZERO: Self = Self([0; 16]);

    /// From 16 octets, network byte order.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Its octets, network byte order.
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    /// Whether its table entry is unused.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// What kind of address it is.
    pub fn scope(self) -> Scope {
        let address = Ipv6Addr::from(self.0);
        match address.segments()[0] {
            _ if address.to_ipv4_mapped().is_some() => Scope::Ipv4,
            first if first & 0xffc0 == 0xfe80 => Scope::LinkLocal,
            first if first & 0xff00 == 0xff00 => Scope::Multicast,
            _ if self.is_zero() || address.is_loopback() => Scope::Unusable,
            _ => Scope::Routable,
        }
    }

    /// As an IP address: IPv4 where it is mapped. Meant for RoCE; the GID of an `InfiniBand` port only looks like one.
    pub fn address(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.0)).to_canonical()
    }

    /// How many leading bits both have in common.
    pub fn common_prefix(self, other: Self) -> u32 {
        (u128::from_be_bytes(self.0) ^ u128::from_be_bytes(other.0)).leading_zeros()
    }

    /// Its upper half: the subnet of an `InfiniBand` port (IB spec section 4.1.1).
    pub fn subnet_prefix(self) -> u64 {
        u64::try_from(u128::from_be_bytes(self.0) >> 64).unwrap_or(0)
    }
}

impl From<IpAddr> for Gid {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl FromStr for Gid {
    type Err = GidError;

    /// As in sysfs (`fe80:0000:0000:0000:0202:c9ff:fe00:0001`), or any IP address.
    fn from_str(text: &str) -> Result<Self, GidError> {
        let no_gid = |_| GidError(text.chars().take(80).collect());
        text.trim().parse::<IpAddr>().map(Self::from).map_err(no_gid)
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv6Addr::from(self.0).fmt(f)
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gid({self})")
    }
}

/// What kind of address a GID is. Two ends reach each other only within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `::ffff:a.b.c.d`: on RoCE v2 its packets are IPv4.
    Ipv4,
    /// Unique local (fc00::/7), site-local or global: passes routers.
    Routable,
    /// fe80::/10: one link only; the default of every port, there even when the link is down.
    LinkLocal,
    /// ff00::/8: many ports and not one.
    Multicast,
    /// Zero or loopback.
    Unusable,
}

impl Scope {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Routable => "routable IPv6",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Unusable => "zero or loopback",
        }
    }
}

/// What travels under a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkLayer {
    /// `InfiniBand`.
    InfiniBand,
    /// Ethernet: RoCE.
    Ethernet,
}

impl LinkLayer {
    /// From sysfs's `link_layer`.
    pub fn from_sysfs(text: &str) -> Option<Self> {
        match text.trim() {
            "InfiniBand" => Some(Self::InfiniBand),
            "Ethernet" => Some(Self::Ethernet),
            _ => None,
        }
    }

    /// From `ibv_port_attr.link_layer`: 1 `InfiniBand`, 2 Ethernet; 0, unspecified, is `InfiniBand` as in libibverbs' users
    /// (it was the only one before the field existed).
    pub const fn from_verbs(code: u8) -> Option<Self> {
        match code {
            0 | 1 => Some(Self::InfiniBand),
            2 => Some(Self::Ethernet),
            _ => None,
        }
    }

    /// The kernel's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InfiniBand => "InfiniBand",
            Self::Ethernet => "Ethernet",
        }
    }
}

/// Which packets a GID table entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GidKind {
    /// `InfiniBand`'s own.
    Ib,
    /// Ethernet type 0x8915 (IB spec Annex A16).
    RoceV1,
    /// UDP port 4791 (Annex A17).
    RoceV2,
}

impl GidKind {
    /// From `ibv_gid_entry.gid_type`: 0, 1, 2.
    pub const fn from_verbs(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Ib),
            1 => Some(Self::RoceV1),
            2 => Some(Self::RoceV2),
            _ => None,
        }
    }

    /// From sysfs's `gid_attrs/types/<i>`, which has one word for `InfiniBand` and RoCE v1.
    pub fn from_sysfs(text: &str, link_layer: LinkLayer) -> Option<Self> {
        match (text.trim(), link_layer) {
            ("RoCE v2", _) => Some(Self::RoceV2),
            ("IB/RoCE v1", LinkLayer::InfiniBand) => Some(Self::Ib),
            ("IB/RoCE v1", LinkLayer::Ethernet) => Some(Self::RoceV1),
            _ => None,
        }
    }

    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ib => "IB",
            Self::RoceV1 => "RoCE v1",
            Self::RoceV2 => "RoCE v2",
        }
    }
}

/// One entry of a port's GID table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GidEntry {
    /// Its place now. Good for making a queue pair or address handle at once, never for keeping.
    pub index: u32,
    /// The GID.
    pub gid: Gid,
    /// Its packets.
    pub kind: GidKind,
    /// The network interface whose address it is, where known.
    pub netdev: Option<Box<str>>,
}

/// `3 ::ffff:10.0.0.1 RoCE v2 eth0`.
impl fmt::Display for GidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.index, self.gid, self.kind.as_str())?;
        self.netdev.as_ref().map_or(Ok(()), |netdev| write!(f, " {netdev}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let gid: Gid = "0000:0000:0000:0000:0000:ffff:0a00:0107\n".parse().unwrap();
        assert_eq!(gid.to_string(), "::ffff:10.0.1.7");
        assert_eq!((gid.scope(), gid.address()), (Scope::Ipv4, "10.0.1.7".parse().unwrap()));
        assert_eq!("10.0.1.7".parse(), Ok(gid));
        let error = "mlx5_0".parse::<Gid>().unwrap_err().to_string();
        assert!(error.starts_with("\"mlx5_0\" is no GID"), "{error}");
        assert_eq!(GidKind::from_sysfs("IB/RoCE v1\n", LinkLayer::Ethernet), Some(GidKind::RoceV1));
        assert_eq!(GidKind::from_sysfs("IB/RoCE v1", LinkLayer::InfiniBand), Some(GidKind::Ib));
        assert_eq!(GidKind::from_sysfs("RoCE v3", LinkLayer::Ethernet), None);
    }

    #[test]
    fn scopes_are_those_of_the_addresses() {
        for (text, scope) in [
            ("::ffff:0.0.0.0", Scope::Ipv4),
            ("fe80::202:c9ff:fe00:1", Scope::LinkLocal),
            ("febf::1", Scope::LinkLocal),
            ("fec0::1", Scope::Routable),
            ("fd00::1", Scope::Routable),
            ("2001:db8::1", Scope::Routable),
            ("ff12::1", Scope::Multicast),
            ("::", Scope::Unusable),
            ("::1", Scope::Unusable),
        ] {
            assert_eq!(text.parse::<Gid>().unwrap().scope(), scope, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_octets_are_the_same(octets: [u8; 16]) {
            let gid = Gid::from_octets(octets);
            prop_assert_eq!(gid.to_string().parse::<Gid>().unwrap(), gid);
            prop_assert_eq!(Gid::from(gid.address()), gid);
            prop_assert_eq!(gid.octets(), octets);
        }
    }
}
