//! Who probes whom all the time: the continuous plan (design D7).
//!
//! - **A rail with few ports** is a full mesh: every port probes every other of another node.
//! - **A larger rail** is sampled. Its ports stand in a ring, and each probes those so many places further on (a circulant
//!   graph). So every port has exactly as many targets as probers, and no port and no rail is left out. Half of the
//!   distances stay, for series that last and can be compared with themselves; the other half change with the rotation number. While
//!   the rail's membership stays, [`Note::Sampled`] says after how many rotations every ordered pair has had its turn.
//! - **Several rails**: each port also probes at most one port of another rail, and is probed by at most one. Which
//!   rail and which port rotate too: with m rails, and L ports in the largest, all ordered pairs have had their turn
//!   after (m - 1) x L rotations.
//! - **The inbound cap**: where the paths that end at one port would bring more probes/s than allowed, all paths into its rail are probed
//!   less often ([`Note::Slowed`]). A window's interval is part of what it is, so the interval depends on the number of ports
//!   only, and a rotation never changes it.
//!
//! - **Over verbs** ([`Plan::mixed`]): ports that offer an RDMA transport probe each other by that, and not by UDP.
//!
//! The order of a ring comes from a hash of the node's name, the same one on all rails. So ring neighbours are not rack
//! neighbours, a node meets the same nodes on all its rails, and one that joins or leaves changes few of the lasting paths.
//! The same input gives the same plan, in whatever order it comes. What leaves a port is not capped here: an agent keeps its own budget.

mod hash;
mod offers;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::path::{Endpoint, Memory, NodeName, Path, Transport};
use hash::Hasher;
pub use offers::{Offers, RDMA_TARGETS};
use ring::Offsets;

/// What a plan keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// Time between two probes of a path, where the cap allows it. Less than 1 us is taken as 1 us.
    pub interval: Duration,
    /// Ports of a rail up to which it is a full mesh.
    pub full_mesh_up_to: u32,
    /// Targets of each port within a larger rail.
    pub targets_per_port: NonZeroU32,
    /// Probes per second that may arrive at one port.
    pub most_inbound_per_second: NonZeroU32,
    /// Rises by one each time the sample is to change.
    pub rotation: u64,
    /// Chooses the order of rings and the phases: constant for a cluster, other for another.
    pub seed: u64,
    /// Differentiated services code point of the probes.
    pub dscp: u8,
    /// What carries them.
    pub transport: Transport,
}

impl Default for PlanSettings {
    /// Ten probes a second and path. Up to 64 ports a full mesh costs a port 630 probes/s out and as many in, which
    /// is what an agent is built for; 32 targets above that are half of it. The cap leaves room for one rail more.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            full_mesh_up_to: 64,
            targets_per_port: NonZeroU32::new(32).unwrap_or(NonZeroU32::MIN),
            most_inbound_per_second: NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN),
            rotation: 0,
            seed: 0,
            dscp: 0,
            transport: Transport::Udp,
        }
    }
}

/// A path with its times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedPath {
    /// Who probes whom.
    pub path: Path,
    /// Time between two probes.
    pub interval: Duration,
    /// When, after a multiple of the interval: less than the interval, by a hash of the path, so that probes neither leave nor
    /// arrive together.
    pub phase: Duration,
}

/// What an operator should know of a rail's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// All ports of the rail are of one node: nothing to probe within it.
    OneNode {
        /// Which rail.
        rail: u16,
        /// Over what.
        transport: Transport,
    },
    /// Too many ports for a full mesh.
    Sampled {
        /// Which rail.
        rail: u16,
        /// Over what.
        transport: Transport,
        /// How many ports it has.
        ports: usize,
        /// How many of them each probes; fewer where it would be the node itself.
        targets: usize,
        /// How many of those stay.
        lasting: usize,
        /// After so many rotations every ordered pair has had its turn.
        rotations: usize,
    },
    /// Probed less often than asked, because of the inbound cap.
    Slowed {
        /// The rail at which the paths end.
        rail: u16,
        /// Over what.
        transport: Transport,
        /// What was asked.
        asked: Duration,
        /// What the cap allows.
        interval: Duration,
        /// The cap, in probes/s at one port.
        cap: u32,
    },
}

/// `rail 3`, and over what where that is not UDP.
struct Rail(u16, Transport);

impl fmt::Display for Rail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Transport::Udp => write!(f, "rail {}", self.0),
            other => write!(f, "rail {} over {}", self.0, other.as_str()),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OneNode { rail, transport } => {
                let rail = Rail(rail, transport);
                write!(f, "{rail} has ports of one node only: nothing to probe within it")
            }
            Self::Sampled { rail, transport, ports, targets, lasting, rotations } => {
                let rail = Rail(rail, transport);
                write!(
                    f,
                    "{rail} has {ports} ports, too many for a full mesh: each probes {targets} others, {lasting} of them \
                     always; all pairs have had their turn after {rotations} rotations"
                )
            }
            Self::Slowed { rail, transport, asked, interval, cap } => {
                let rail = Rail(rail, transport);
                write!(
                    f,
                    "{rail}: a path is probed every {interval:?} instead of every {asked:?}, so that no port receives more than \
                     {cap} probes/s"
                )
            }
        }
    }
}

/// Who probes whom, and what to know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of [`Path`]: all those of one prober stand together.
    pub paths: Vec<PlannedPath>,
    /// In the order of rails within each kind.
    pub notes: Vec<Note>,
}

impl Plan {
    /// The plan for the endpoints that are up; one named twice counts once.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>, settings: &PlanSettings) -> Self {
        let mut rails: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in endpoints.into_iter().collect::<BTreeSet<_>>() {
            rails.entry(endpoint.rail).or_default().push(endpoint);
        }
        let rails: Vec<Vec<Endpoint>> = rails
            .into_values()
            .map(|mut ring| {
                ring.sort_by_cached_key(|endpoint| ring_place(endpoint, settings.seed));
                ring
            })
            .collect();
        let mut plan = Self::default();
        for (index, ring) in rails.iter().enumerate() {
            plan.add_rail(ring, rails.len() > 1, settings);
            plan.add_cross_rail(&rails, index, settings);
        }
        plan.paths.sort_unstable();
        plan.notes.sort_unstable();
        plan
    }

    /// What `node` has to probe.
    pub fn of(&self, node: &NodeName) -> &[PlannedPath] {
        let start = self.paths.partition_point(|planned| planned.path.src.node < *node);
        let end = self.paths.partition_point(|planned| planned.path.src.node <= *node);
        &self.paths[start..end]
    }

    fn add_rail(&mut self, ring: &[Endpoint], cross_rail: bool, settings: &PlanSettings) {
        let (rail, transport) = (ring[0].rail, settings.transport);
        let offsets = Offsets::new(ring.len(), settings);
        let (interval, asked) =
            (interval_into(ring.len(), cross_rail, settings), settings.interval);
        if ring.iter().all(|endpoint| endpoint.node == ring[0].node) {
            self.notes.push(Note::OneNode { rail, transport });
        } else if let Some(rotations) = offsets.rotations() {
            let (ports, targets, lasting) = (ring.len(), offsets.targets(), offsets.lasting());
            let note = Note::Sampled { rail, transport, ports, targets, lasting, rotations };
            self.notes.push(note);
        }
        if interval > asked.max(LEAST_INTERVAL) {
            let cap = settings.most_inbound_per_second.get();
            self.notes.push(Note::Slowed { rail, transport, asked, interval, cap });
        }
        for offset in offsets.of_rotation(settings.rotation) {
            for (place, src) in ring.iter().enumerate() {
                let dst = &ring[(place + offset) % ring.len()];
                self.add(src, dst, interval, settings);
            }
        }
    }

    /// From the ports of one rail to those of another: at most one from each, at most one to each.
    fn add_cross_rail(&mut self, rails: &[Vec<Endpoint>], from: usize, settings: &PlanSettings) {
        if rails.len() < 2 {
            return;
        }
        let others = rails.len() as u64 - 1;
        // One step for all rails, so that no two go to the same.
        let step = 1 + as_index(settings.rotation % others);
        let (ring, to) = (&rails[from], &rails[(from + step) % rails.len()]);
        let interval = interval_into(to.len(), true, settings);
        for (src, dst) in ring::across(ring.len(), to.len(), settings.rotation / others, |a, b| {
            ring[a].node == to[b].node
        }) {
            self.add(&ring[src], &to[dst], interval, settings);
        }
    }

    fn add(&mut self, src: &Endpoint, dst: &Endpoint, interval: Duration, settings: &PlanSettings) {
        if src.node == dst.node {
            return;
        }
        let path = Path {
            src: src.clone(),
            dst: dst.clone(),
            transport: settings.transport,
            memory: Memory::Host,
            flow: 0,
            dscp: settings.dscp,
        };
        let phase = phase(&path, interval, settings.seed);
        self.paths.push(PlannedPath { path, interval, phase });
    }
}

/// Below this an interval would be a mistake of units, and 0 no rate at all.
const LEAST_INTERVAL: Duration = Duration::from_micros(1);

/// How often each path into a rail of so many ports is probed. It is reckoned with the probers that a port may have at most in
/// any rotation, so that it stays the same in all of them.
fn interval_into(ports: usize, cross_rail: bool, settings: &PlanSettings) -> Duration {
    let probers = Offsets::new(ports, settings).targets() + usize::from(cross_rail);
    let cap = u128::from(settings.most_inbound_per_second.get());
    let needed = (probers as u128 * 1_000_000_000).div_ceil(cap);
    let needed = Duration::from_nanos(u64::try_from(needed).unwrap_or(u64::MAX));
    settings.interval.max(LEAST_INTERVAL).max(needed)
}

/// Nodes in an order that says nothing of their names; ports of one node together.
fn ring_place(endpoint: &Endpoint, seed: u64) -> (u64, Endpoint) {
    (Hasher::new(seed).text(endpoint.node.as_str()).finish(), endpoint.clone())
}

fn phase(path: &Path, interval: Duration, seed: u64) -> Duration {
    let end = |hasher: Hasher, end: &Endpoint| {
        hasher.text(end.node.as_str()).text(end.port.as_str()).number(end.rail.into())
    };
    let hasher = end(end(Hasher::new(seed), &path.src), &path.dst);
    let hash = hasher.text(path.transport.as_str()).number(path.flow.into()).finish();
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(hash % interval)
}

/// For what is less than the length of a list.
fn as_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
