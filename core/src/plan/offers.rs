//! Plans of ports that offer more than UDP.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{Plan, PlanSettings};
use crate::path::{Endpoint, Transport};

/// Targets of each port over each RDMA transport at most. A reliable connection is a queue pair, memory and a TCP connection at either
/// end, where a UDP path costs the responder nothing; what answers has room for 64 sessions, sweeps included.
pub const RDMA_TARGETS: u32 = 12;

/// Parts of the inbound cap that each transport has where there are several: half for UDP, a quarter for each RDMA transport.
const UDP_SHARE: u32 = 2;
const RDMA_SHARE: u32 = 4;

/// The transports that go over verbs.
const RDMA: [Transport; 2] = [Transport::RdmaUd, Transport::RdmaRc];

/// What a port answers beside UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offers {
    /// `rdma-ud`.
    pub datagrams: bool,
    /// `rdma-rc`.
    pub connections: bool,
}

impl Offers {
    /// Both of RDMA.
    pub const RDMA: Self = Self { datagrams: true, connections: true };

    /// Whether it answers this.
    pub const fn has(self, transport: Transport) -> bool {
        match transport {
            Transport::Udp => true,
            Transport::Tcp => false,
            Transport::RdmaUd => self.datagrams,
            Transport::RdmaRc => self.connections,
        }
    }

    /// Whether two ports have an RDMA transport in common.
    const fn meets(self, other: Self) -> bool {
        (self.datagrams && other.datagrams) || (self.connections && other.connections)
    }
}

impl Plan {
    /// The plan for endpoints that are up, each with what it offers.
    ///
    /// Ports that have an RDMA transport in common are probed over every one they have in common, datagrams for loss and for what host
    /// and wire each take, connections for what jobs meet; all others over UDP. A pair is not probed over both: the address of a port of an
    /// RDMA device may be on another wire (InfiniBand has the exchange on a management network), and what is wrong there would be
    /// held against the port.
    pub fn mixed(
        endpoints: impl IntoIterator<Item = (Endpoint, Offers)>,
        settings: &PlanSettings,
    ) -> Self {
        let offers: BTreeMap<Endpoint, Offers> = endpoints.into_iter().collect();
        if offers.values().all(|offers| *offers == Offers::default()) {
            return Self::new(offers.into_keys(), settings);
        }
        let shared = |share: u32| {
            let cap = settings.most_inbound_per_second.get() / share;
            NonZeroU32::new(cap).unwrap_or(NonZeroU32::MIN)
        };
        let udp = PlanSettings { most_inbound_per_second: shared(UDP_SHARE), ..*settings };
        let mut plan = Self::new(offers.keys().cloned(), &udp);
        plan.paths.retain(|planned| !offers[&planned.path.src].meets(offers[&planned.path.dst]));
        for transport in RDMA {
            let targets = settings.targets_per_port.get().min(RDMA_TARGETS);
            let settings = PlanSettings {
                most_inbound_per_second: shared(RDMA_SHARE),
                full_mesh_up_to: settings.full_mesh_up_to.min(RDMA_TARGETS + 1),
                targets_per_port: NonZeroU32::new(targets).unwrap_or(NonZeroU32::MIN),
                transport,
                ..*settings
            };
            let able = offers.iter().filter(|(_, offers)| offers.has(transport));
            let over = Self::new(able.map(|(endpoint, _)| endpoint.clone()), &settings);
            plan.paths.extend(over.paths);
            plan.notes.extend(over.notes);
        }
        plan.paths.sort_unstable();
        plan.notes.sort_unstable();
        plan
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::path::{NodeName, PortName};

    fn endpoint(node: usize, rail: u16) -> Endpoint {
        let node = NodeName::new(&format!("gpu-{node:04}")).unwrap();
        Endpoint { node, port: PortName::new(&format!("mlx5_{rail}/1")).unwrap(), rail }
    }

    fn fleet(able: usize, not: usize) -> Vec<(Endpoint, Offers)> {
        let offers = |node| if node < able { Offers::RDMA } else { Offers::default() };
        (0..able + not).map(|node| (endpoint(node, 0), offers(node))).collect()
    }

    #[test]
    fn who_can_is_probed_over_verbs_and_who_cannot_over_udp() {
        let plan = Plan::mixed(fleet(3, 2), &PlanSettings::default());
        let count = |transport| plan.paths.iter().filter(|p| p.path.transport == transport).count();
        assert_eq!([Transport::RdmaUd, Transport::RdmaRc].map(count), [6, 6]);
        // All 20 pairs but the 6 of those who can.
        assert_eq!(count(Transport::Udp), 14);
        let ends = |p: &crate::plan::PlannedPath| (p.path.src.clone(), p.path.dst.clone());
        let pairs: BTreeSet<_> = plan.paths.iter().map(ends).collect();
        assert_eq!(pairs.len(), 20, "nobody is left out");
    }

    #[test]
    fn a_fleet_without_devices_has_the_plan_it_always_had() {
        let (settings, fleet) = (PlanSettings::default(), fleet(0, 7));
        let before = Plan::new(fleet.iter().map(|(endpoint, _)| endpoint.clone()), &settings);
        assert_eq!(Plan::mixed(fleet, &settings), before);
    }

    #[test]
    fn only_what_both_offer_is_planned() {
        let half = |datagrams| Offers { datagrams, connections: !datagrams };
        let fleet = [true, false, true].into_iter().enumerate();
        let fleet = fleet.map(|(node, datagrams)| (endpoint(node, 0), half(datagrams)));
        let plan = Plan::mixed(fleet, &PlanSettings::default());
        let over = |transport| plan.paths.iter().filter(|p| p.path.transport == transport).count();
        assert_eq!(
            [Transport::RdmaUd, Transport::RdmaRc, Transport::Udp].map(over),
            [2, 0, 4],
            "nodes 0 and 2 have datagrams in common, 1 has nothing with either"
        );
    }

    /// Whatever the mixture, no port gets more than the cap, nor more sessions than what answers has room for.
    #[test]
    fn no_port_gets_more_than_the_cap() {
        for (able, not) in [(64, 0), (63, 1), (1, 64), (40, 40), (200, 100)] {
            let settings = PlanSettings::default();
            let plan = Plan::mixed(fleet(able, not), &settings);
            let (mut inbound, mut sessions) = (BTreeMap::new(), BTreeMap::new());
            for planned in &plan.paths {
                let rate = Duration::from_secs(1).as_secs_f64() / planned.interval.as_secs_f64();
                *inbound.entry(&planned.path.dst).or_insert(0.0) += rate;
                if planned.path.transport != Transport::Udp {
                    *sessions.entry(&planned.path.dst).or_insert(0) += 1;
                }
            }
            let most = inbound.values().copied().fold(0.0, f64::max);
            let cap = f64::from(settings.most_inbound_per_second.get());
            assert!(most <= cap * 1.000_001, "{able} and {not}: {most}/s");
            let sessions = sessions.values().copied().max().unwrap_or(0);
            assert!(sessions <= 2 * RDMA_TARGETS, "{able} and {not}: {sessions} sessions");
        }
    }
}
