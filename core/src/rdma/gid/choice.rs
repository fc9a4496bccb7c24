//! The rule, and why each entry that was not taken was not.

use std::cmp::Reverse;
use std::fmt;

use super::{Gid, GidEntry, GidKind, LinkLayer, Scope};

/// What the choice has to respect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Which entries are asked for.
    pub which: Which,
    /// The other end's, where it has chosen first: both must be of one kind and scope.
    pub peer: Option<Peer>,
}

/// Which entries an operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Whatever the rule says.
    #[default]
    ByRule,
    /// This address. RoCE v1 too, where it is that alone.
    Address(Gid),
    /// Those of this network interface, by rule. RoCE v1 too, where it has nothing else.
    Netdev(Box<str>),
}

/// What the other end has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its GID.
    pub gid: Gid,
    /// Its kind.
    pub kind: GidKind,
}

/// The outcome: an entry, and what became of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The one to use. Its index is true only as long as the table is.
    pub entry: GidEntry,
    /// The others, in the order of the table. Unused ones are left out: tables have 256 of them.
    pub passed_over: Vec<PassedOver>,
}

/// An entry that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The entry.
    pub entry: GidEntry,
    /// Why.
    pub why: Why,
}

/// `3 fe80::1 RoCE v2 eth0: link-local comes after IPv4`.
impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.entry, self.why)
    }
}

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Loopback or multicast.
    #[error("no address of a port ({})", .0.as_str())]
    NoUnicast(Scope),
    /// An `InfiniBand` entry on Ethernet, or the reverse.
    #[error("{} on {}", .kind.as_str(), .link_layer.as_str())]
    Foreign {
        /// Its kind.
        kind: GidKind,
        /// The port's.
        link_layer: LinkLayer,
    },
    /// RoCE v1 that nobody asked for by name.
    #[error("RoCE v1 does not pass routers; ask for its address or interface to use it")]
    RoceV1,
    /// Another address is asked for.
    #[error("{0} is asked for")]
    NotTheAddress(Gid),
    /// Another interface is asked for.
    #[error("network interface {0} is asked for")]
    NotTheNetdev(Box<str>),
    /// The peer's is of another kind or scope.
    #[error("the peer uses {} {}", .0.kind.as_str(), .0.gid.scope().as_str())]
    NotThePeers(Peer),
    /// Could be used, but the rule puts another one first.
    #[error("{0}")]
    Later(&'static str),
}

/// No entry can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no GID can be used: {}", in_words(.0))]
pub struct NoGid(
    /// The entries in use, each with what is against it.
    pub Vec<PassedOver>,
);

fn in_words(passed_over: &[PassedOver]) -> String {
    const SHOWN: usize = 8;
    if passed_over.is_empty() {
        return "the port's table is empty (no link, no address, or a container that does not see it)"
            .to_owned();
    }
    let mut text: Vec<String> = passed_over.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more) = passed_over.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push(format!("and {more} more"));
    }
    text.join("; ")
}

/// Chooses from a port's table.
///
/// # Errors
/// When nothing in it can be used, with what is against each entry.
pub fn choose(table: &[GidEntry], link_layer: LinkLayer, wish: &Wish) -> Result<Chosen, NoGid> {
    let used: Vec<&GidEntry> = table.iter().filter(|entry| !entry.gid.is_zero()).collect();
    let against: Vec<Option<Why>> =
        used.iter().map(|entry| objection(entry, link_layer, wish)).collect();
    let free =
        || used.iter().zip(&against).filter(|(_, why)| why.is_none()).map(|(entry, _)| *entry);
    let taken = free().min_by_key(|entry| order(entry, wish)).cloned();
    let passed_over = |taken: Option<&GidEntry>| {
        let pairs = used.iter().zip(&against).filter(|(entry, _)| Some(**entry) != taken);
        let why = |entry: &GidEntry, why: &Option<Why>| {
            why.clone().unwrap_or_else(|| Why::Later(taken.map_or("", |taken| later(entry, taken))))
        };
        pairs.map(|(entry, w)| PassedOver { entry: (*entry).clone(), why: why(entry, w) }).collect()
    };
    match taken {
        Some(entry) => Ok(Chosen { passed_over: passed_over(Some(&entry)), entry }),
        None => Err(NoGid(passed_over(None))),
    }
}

/// What forbids an entry, whatever else the table holds.
fn objection(entry: &GidEntry, link_layer: LinkLayer, wish: &Wish) -> Option<Why> {
    let GidEntry { gid, kind, netdev, .. } = entry;
    let scope = gid.scope();
    if matches!(scope, Scope::Multicast | Scope::Unusable) {
        return Some(Why::NoUnicast(scope));
    }
    if (*kind == GidKind::Ib) != (link_layer == LinkLayer::InfiniBand) {
        return Some(Why::Foreign { kind: *kind, link_layer });
    }
    match &wish.which {
        Which::Address(wanted) if wanted != gid => return Some(Why::NotTheAddress(*wanted)),
        Which::Netdev(wanted) if netdev.as_ref() != Some(wanted) => {
            return Some(Why::NotTheNetdev(wanted.clone()));
        }
        Which::ByRule if *kind == GidKind::RoceV1 => return Some(Why::RoceV1),
        Which::ByRule | Which::Address(_) | Which::Netdev(_) => {}
    }
    let peer = wish.peer?;
    // An InfiniBand port with the default prefix reaches one with a subnet's: both may be in its table.
    let fits = *kind == peer.kind && (*kind == GidKind::Ib || scope == peer.gid.scope());
    (!fits).then_some(Why::NotThePeers(peer))
}

/// The lower, the sooner.
fn order(entry: &GidEntry, wish: &Wish) -> (bool, Scope, Reverse<u32>, u32) {
    let GidEntry { index, gid, kind, .. } = entry;
    let peer = wish.peer.map(|peer| peer.gid);
    let (scope, shared) = match kind {
        GidKind::Ib => {
            let same_subnet = peer.is_some_and(|peer| peer.subnet_prefix() == gid.subnet_prefix());
            (Scope::Routable, u32::from(same_subnet))
        }
        GidKind::RoceV1 | GidKind::RoceV2 => {
            (gid.scope(), peer.map_or(0, |peer| peer.common_prefix(*gid)))
        }
    };
    (*kind == GidKind::RoceV1, scope, Reverse(shared), *index)
}

/// Why `taken` comes before `entry`.
fn later(entry: &GidEntry, taken: &GidEntry) -> &'static str {
    if entry.kind != taken.kind {
        return "RoCE v2 comes before RoCE v1";
    }
    match (entry.gid.scope(), taken.gid.scope()) {
        _ if entry.kind == GidKind::Ib => {
            "another entry is of the peer's subnet or has a lower index"
        }
        (Scope::LinkLocal, Scope::Ipv4) => "link-local comes after IPv4",
        (Scope::LinkLocal, Scope::Routable) => "link-local comes after routable IPv6",
        (Scope::Routable, Scope::Ipv4) => "IPv6 comes after IPv4",
        _ => "another entry is nearer to the peer's address or has a lower index",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(index: u32, gid: &str, kind: GidKind, netdev: &str) -> GidEntry {
        GidEntry { index, gid: gid.parse().unwrap(), kind, netdev: Some(netdev.into()) }
    }

    /// A port with a VLAN, as mlx5 fills its table: each address twice, v1 before v2.
    fn table() -> Vec<GidEntry> {
        use GidKind::{RoceV1, RoceV2};
        vec![
            entry(0, "fe80::1", RoceV1, "eth2"),
            entry(1, "fe80::1", RoceV2, "eth2"),
            entry(2, "fd00::1", RoceV1, "eth2"),
            entry(3, "fd00::1", RoceV2, "eth2"),
            entry(4, "::", RoceV2, "eth2"),
            entry(5, "10.0.0.1", RoceV1, "eth2"),
            entry(6, "10.0.0.1", RoceV2, "eth2"),
            entry(7, "10.9.0.1", RoceV1, "eth2.9"),
            entry(8, "10.9.0.1", RoceV2, "eth2.9"),
        ]
    }

    fn chosen(table: &[GidEntry], wish: &Wish) -> Result<u32, NoGid> {
        choose(table, LinkLayer::Ethernet, wish).map(|chosen| chosen.entry.index)
    }

    fn like(gid: &str, kind: GidKind) -> Wish {
        Wish { peer: Some(Peer { gid: gid.parse().unwrap(), kind }), ..Wish::default() }
    }

    #[test]
    fn by_rule_ipv4_then_routable_then_link_local() {
        let mut table = table();
        assert_eq!(chosen(&table, &Wish::default()), Ok(6));
        table.truncate(5);
        assert_eq!(chosen(&table, &Wish::default()), Ok(3));
        table.truncate(2);
        assert_eq!(chosen(&table, &Wish::default()), Ok(1));
        table.truncate(1);
        let error = chosen(&table, &Wish::default()).unwrap_err().to_string();
        assert!(error.contains("0 fe80::1 RoCE v1 eth2: RoCE v1 does not pass routers"), "{error}");
    }

    #[test]
    fn the_peers_address_decides_family_and_subnet() {
        let table = table();
        assert_eq!(chosen(&table, &like("10.9.0.77", GidKind::RoceV2)), Ok(8));
        assert_eq!(chosen(&table, &like("10.0.0.77", GidKind::RoceV2)), Ok(6));
        assert_eq!(chosen(&table, &like("2001:db8::1", GidKind::RoceV2)), Ok(3));
        assert_eq!(chosen(&table, &like("fe80::2", GidKind::RoceV2)), Ok(1));
        let error = chosen(&table[..4], &like("10.0.0.2", GidKind::RoceV2)).unwrap_err();
        assert!(error.to_string().contains("the peer uses RoCE v2 IPv4"), "{error}");
    }

    #[test]
    fn an_operator_overrides_by_address_or_interface_and_gets_v1_only_so() {
        let table = table();
        let by = |which| Wish { which, peer: None };
        assert_eq!(chosen(&table, &by(Which::Netdev("eth2.9".into()))), Ok(8));
        assert_eq!(chosen(&table, &by(Which::Address("fd00::1".parse().unwrap()))), Ok(3));
        assert_eq!(chosen(&table[..1], &by(Which::Netdev("eth2".into()))), Ok(0));
        let error = chosen(&table, &by(Which::Address("10.0.0.9".parse().unwrap()))).unwrap_err();
        assert!(error.to_string().contains("::ffff:10.0.0.9 is asked for"), "{error}");
        assert!(!error.to_string().contains("more"), "{error}");
    }

    #[test]
    fn each_entry_that_was_not_taken_says_why() {
        let chosen = choose(&table(), LinkLayer::Ethernet, &Wish::default()).unwrap();
        let why: Vec<String> = chosen.passed_over.iter().map(ToString::to_string).collect();
        assert_eq!(why.len(), 7, "unused entries are left out: {why:?}");
        assert_eq!(why[1], "1 fe80::1 RoCE v2 eth2: link-local comes after IPv4");
        assert_eq!(why[3], "3 fd00::1 RoCE v2 eth2: IPv6 comes after IPv4");
        let empty = choose(&[], LinkLayer::Ethernet, &Wish::default()).unwrap_err();
        assert!(empty.to_string().contains("table is empty"));
    }

    #[test]
    fn on_infiniband_the_peers_subnet_then_the_lowest_index() {
        let table = [
            entry(0, "fe80::1", GidKind::Ib, ""),
            entry(1, "fd12::1", GidKind::Ib, ""),
            entry(2, "fd12::2", GidKind::RoceV2, ""),
        ];
        let choose = |wish: &Wish| choose(&table, LinkLayer::InfiniBand, wish).unwrap();
        assert_eq!(choose(&Wish::default()).entry.index, 0);
        assert_eq!(choose(&like("fd12::9", GidKind::Ib)).entry.index, 1);
        assert_eq!(choose(&like("fe80::9", GidKind::Ib)).entry.index, 0);
        let foreign = &choose(&Wish::default()).passed_over[1];
        assert_eq!(foreign.why.to_string(), "RoCE v2 on InfiniBand");
    }

    fn any_entry() -> impl Strategy<Value = GidEntry> {
        let gid = prop_oneof![
            Just("::"),
            Just("fe80::1"),
            Just("fe80::2"),
            Just("fd00::1"),
            Just("10.0.0.1"),
            Just("10.0.1.1"),
            Just("ff02::1"),
            Just("::1"),
            Just("2001:db8::1"),
        ];
        let kind = prop_oneof![Just(GidKind::Ib), Just(GidKind::RoceV1), Just(GidKind::RoceV2)];
        (0..64_u32, gid, kind, prop_oneof![Just("a"), Just("b")])
            .prop_map(|(index, gid, kind, netdev)| entry(index, gid, kind, netdev))
    }

    proptest! {
        #[test]
        fn indexes_that_move_change_nothing_but_the_index(
            table in prop::collection::vec(any_entry(), 0..20), by in 1..100_u32,
        ) {
            let moved: Vec<GidEntry> = table.iter().cloned()
                .map(|entry| GidEntry { index: entry.index + by, ..entry }).collect();
            let (a, b) = (chosen(&table, &Wish::default()), chosen(&moved, &Wish::default()));
            prop_assert_eq!(a.ok().map(|index| index + by), b.ok());
        }

        #[test]
        fn every_used_entry_is_taken_or_says_why(
            table in prop::collection::vec(any_entry(), 0..20),
        ) {
            let used = table.iter().filter(|entry| !entry.gid.is_zero());
            match choose(&table, LinkLayer::Ethernet, &Wish::default()) {
                Ok(chosen) => {
                    prop_assert_eq!(chosen.entry.kind, GidKind::RoceV2);
                    let others = used.filter(|entry| **entry != chosen.entry).count();
                    prop_assert_eq!(chosen.passed_over.len(), others);
                }
                Err(NoGid(passed_over)) => {
                    prop_assert_eq!(passed_over.len(), used.count());
                    prop_assert!(passed_over.iter().all(|p| !matches!(p.why, Why::Later(_))));
                }
            }
        }

        /// Both sides end with addresses that reach each other, whoever begins.
        #[test]
        fn the_answer_always_fits_the_offer(
            ours in prop::collection::vec(any_entry(), 0..20),
            theirs in prop::collection::vec(any_entry(), 0..20),
        ) {
            if let Ok(first) = choose(&ours, LinkLayer::Ethernet, &Wish::default()) {
                let (gid, kind) = (first.entry.gid, first.entry.kind);
                let wish = Wish { peer: Some(Peer { gid, kind }), ..Wish::default() };
                if let Ok(second) = choose(&theirs, LinkLayer::Ethernet, &wish) {
                    prop_assert_eq!(second.entry.gid.scope(), gid.scope());
                    prop_assert_eq!(second.entry.kind, kind);
                }
            }
        }
    }
}
