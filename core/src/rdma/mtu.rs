//! Path MTU: the most payload one packet carries.

use std::fmt;

/// Octets of the global route header that lies before every received UD datagram (IB spec section 8.3, and
/// `IBV_WC_GRH` of `ibv_poll_cq(3)`). On RoCE v2 over IPv4 the IP header is in the last 20 of them and the first 20 hold
/// nothing (Annex A17).
pub const GRH_OCTETS: u32 = 40;

/// What a RoCE packet adds to its payload at most: GRH 40 (or IP), UDP 8, BTH 12, XRC 4, atomic 28, ICRC 4. The kernel takes these
/// from the interface's MTU, whatever the operation (`iboe_get_mtu`, include/rdma/ib_addr.h).
const ROCE_OVERHEAD: u32 = 40 + 8 + 12 + 4 + 28 + 4;

/// The payload of one packet (IB spec section 14.2.5.6, `MTUCap`, whose codes verbs use, too).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMtu {
    /// 256 octets.
    B256,
    /// 512 octets.
    B512,
    /// 1024 octets: Ethernet at its usual 1500.
    B1024,
    /// 2048 octets.
    B2048,
    /// 4096 octets: what jobs use.
    B4096,
}

impl PathMtu {
    /// All, rising.
    pub const ALL: [Self; 5] = [Self::B256, Self::B512, Self::B1024, Self::B2048, Self::B4096];

    /// From `enum ibv_mtu`: 1 to 5.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|mtu| u32::from(mtu.code()) == code)
    }

    /// As `enum ibv_mtu`.
    pub const fn code(self) -> u8 {
        match self {
            Self::B256 => 1,
            Self::B512 => 2,
            Self::B1024 => 3,
            Self::B2048 => 4,
            Self::B4096 => 5,
        }
    }

    /// In octets.
    pub const fn octets(self) -> u32 {
        128 << self.code()
    }

    /// From its octets.
    pub fn from_octets(octets: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|mtu| mtu.octets() == octets)
    }

    /// The largest that fits an Ethernet interface whose MTU is `ethernet` octets: 1500 gives 1024, 4200 and more 4096.
    pub fn of_ethernet(ethernet: u32) -> Option<Self> {
        let room = ethernet.checked_sub(ROCE_OVERHEAD)?;
        Self::ALL.into_iter().rev().find(|mtu| mtu.octets() <= room)
    }

    /// What both ends of a path can carry. Switches between them are not asked: on `InfiniBand` the subnet manager knows
    /// (a path record), on Ethernet packets that are too large vanish, which a probe at path MTU shows as loss.
    #[must_use]
    pub fn between(self, other: Self) -> Self {
        self.min(other)
    }

    /// The largest payload of a UD datagram, in octets: UD cannot be cut into packets. The GRH does not count.
    pub const fn datagram_room(self) -> u32 {
        self.octets()
    }

    /// What a receive buffer must have for any datagram of the path, in octets.
    pub const fn receive_buffer(self) -> u32 {
        GRH_OCTETS + self.octets()
    }
}

/// `4096`.
impl fmt::Display for PathMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_verbs() {
        let octets: Vec<u32> =
            (0..7).map(|code| PathMtu::from_code(code).map_or(0, PathMtu::octets)).collect();
        assert_eq!(octets, [0, 256, 512, 1024, 2048, 4096, 0]);
        for mtu in PathMtu::ALL {
            assert_eq!(PathMtu::from_octets(mtu.octets()), Some(mtu));
        }
        assert_eq!(PathMtu::from_octets(1500), None);
    }

    /// The kernel's own results: 1500 gives 1024, and a few octets around 4096 decide.
    #[test]
    fn ethernet_gives_what_the_kernel_gives() {
        let of = |ethernet| PathMtu::of_ethernet(ethernet).map(PathMtu::octets);
        assert_eq!(
            [of(95), of(351), of(352), of(1500), of(4191), of(4192), of(9000)],
            [None, None, Some(256), Some(1024), Some(2048), Some(4096), Some(4096)]
        );
    }

    #[test]
    fn a_path_is_as_wide_as_its_narrower_end() {
        assert_eq!(PathMtu::B4096.between(PathMtu::B1024), PathMtu::B1024);
        assert_eq!(PathMtu::B1024.datagram_room(), 1024);
        assert_eq!(PathMtu::B1024.receive_buffer(), 1064);
    }
}
