//! The flow label, the UDP port that comes of it, and how many flows see how many of the equal paths between two ends.
//!
//! Switches spread RoCE v2 over equal paths (ECMP) by a hash in which only the UDP source port is the sender's to choose
//! (IB spec Annex A17). Which path a port takes is not known: a hash is taken to throw it on one of `m` evenly and
//! independently. With adaptive routing or packet spraying no flow has a path of its own, and none of this holds.

/// Distinct source ports there are: 0xC000 to 0xFFFF (the dynamic range of RFC 6335).
pub const PORTS: u16 = 1 << 14;

/// To see all of 1,024 paths with a chance of 99.9 % takes 14,200 flows.
const MOST_PATHS: u32 = 1 << 10;

/// 20 bits of the GRH or IPv6 header (IB spec section 8.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowLabel(u32);

impl FlowLabel {
    /// Not set: providers then choose for themselves, mlx5 at random for each address handle.
    pub const UNSET: Self = Self(0);

    /// `None` where it has more than 20 bits.
    pub const fn new(label: u32) -> Option<Self> {
        if label < 1 << 20 { Some(Self(label)) } else { None }
    }

    /// The label of a path's flow `flow`: never 0, and the first [`PORTS`] flows have as many source ports. Neighbours are
    /// far apart, as hashes of some switches look at a few bits only. Flow n of one pair is flow n of any: a series over time
    /// keeps its path.
    ///
    /// `None` for a flow that would repeat a port.
    pub const fn of_flow(flow: u16) -> Option<Self> {
        if flow >= PORTS {
            return None;
        }
        // An odd factor permutes 14 bits: no two flows meet. 0x278d is 2^14 / golden ratio, made odd. Bit 14 set makes it no 0.
        let low = (flow as u32 * 0x278d + 0x2b5) & 0x3fff;
        Some(Self(1 << 14 | low))
    }

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The UDP source port that Linux makes of it (`rdma_flow_label_to_udp_sport`, include/rdma/ib_verbs.h).
    pub const fn udp_source_port(self) -> u16 {
        let folded = (self.0 & 0x3fff) ^ (self.0 >> 14);
        0xc000 | (folded & 0x3fff) as u16
    }
}

/// The label Linux takes for a connection whose label is not set, from the numbers of both queue pairs (`rdma_calc_flow_label`,
/// include/rdma/ib_verbs.h).
#[expect(clippy::cast_possible_truncation, reason = "cut to 20 bits on purpose")]
pub const fn of_queue_pairs(local: u32, remote: u32) -> FlowLabel {
    let product = local as u64 * remote as u64;
    let product = product ^ (product >> 20);
    let product = product ^ (product >> 40);
    FlowLabel(product as u32 & 0xf_ffff)
}

/// The share of `paths` equal paths that `flows` flows are expected to see: 1 - (1 - 1/m)^n. That is also the chance that
/// a given path is among them.
pub fn expected_share(flows: u32, paths: u32) -> f64 {
    match (flows, paths) {
        (_, 0) => 1.0,
        (0, _) => 0.0,
        (_, 1) => 1.0,
        _ => -(f64::from(flows) * (-1.0 / f64::from(paths)).ln_1p()).exp_m1(),
    }
}

/// The fewest flows of which each of `paths` equal paths is seen with a chance of at least `share` (0 to 1, excluded).
///
/// `None` when that takes more than [`PORTS`].
pub fn flows_for_share(share: f64, paths: u32) -> Option<u32> {
    first(|flows| expected_share(flows, paths) >= share)
}

/// The chance that `flows` flows see all of `paths` equal paths.
pub fn chance_of_all(flows: u32, paths: u32) -> f64 {
    let mut occupied = Occupied::new(paths);
    for _ in 0..flows {
        occupied.throw();
    }
    occupied.all()
}

/// The fewest flows that see all of `paths` equal paths with a chance of at least `chance` (0 to 1, excluded).
///
/// `None` when that takes more than [`PORTS`], or there are more than 1,024 paths, of which that is so for any chance
/// worth asking for.
pub fn flows_for_all(chance: f64, paths: u32) -> Option<u32> {
    if paths > MOST_PATHS {
        return None;
    }
    let mut occupied = Occupied::new(paths);
    for flows in 0..=u32::from(PORTS) {
        if occupied.all() >= chance {
            return Some(flows);
        }
        occupied.throw();
    }
    None
}

fn first(enough: impl Fn(u32) -> bool) -> Option<u32> {
    (0..=u32::from(PORTS)).find(|&flows| enough(flows))
}

/// How many paths are seen, as chances by number: the sum with alternating signs in textbooks loses all digits at some
/// hundred paths.
struct Occupied {
    chances: Vec<f64>,
}

impl Occupied {
    fn new(paths: u32) -> Self {
        let mut chances = vec![0.0; usize::try_from(paths).unwrap_or(usize::MAX).saturating_add(1)];
        chances[0] = 1.0;
        Self { chances }
    }

    /// One more flow falls on a path that is seen already, or on a new one.
    #[expect(clippy::cast_precision_loss, reason = "numbers of paths are small")]
    fn throw(&mut self) {
        let paths = (self.chances.len() - 1) as f64;
        if paths == 0.0 {
            return;
        }
        for seen in (0..self.chances.len()).rev() {
            let from_fewer = match seen {
                0 => 0.0,
                _ => self.chances[seen - 1] * (paths - (seen - 1) as f64) / paths,
            };
            self.chances[seen] = self.chances[seen] * (seen as f64 / paths) + from_fewer;
        }
    }

    fn all(&self) -> f64 {
        self.chances.last().copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flows_have_ports_of_their_own() {
        let labels: Vec<FlowLabel> = (0..=u16::MAX).map_while(FlowLabel::of_flow).collect();
        let ports: BTreeSet<u16> = labels.iter().map(|label| label.udp_source_port()).collect();
        assert_eq!(ports.len(), usize::from(PORTS));
        assert!(labels.iter().all(|label| *label != FlowLabel::UNSET && label.get() < 1 << 20));
        assert_eq!(FlowLabel::of_flow(PORTS), None);
    }

    /// Against the kernel's function, evaluated by hand: both halves are folded.
    #[test]
    fn ports_are_the_kernels() {
        let port = |label| FlowLabel::new(label).map(FlowLabel::udp_source_port);
        assert_eq!(port(0), Some(0xc000));
        assert_eq!(port(1), Some(0xc001));
        assert_eq!(port(0x3fff), Some(0xffff));
        assert_eq!(port(0x4000), Some(0xc001));
        assert_eq!(port(0xf_ffff), Some(0xffff ^ 0x3f));
        assert_eq!(port(0x10_0000), None);
        // 17 * 18 = 306 has fewer than 20 bits: it is its own label.
        assert_eq!(of_queue_pairs(17, 18).get(), 306);
        // 2^20 folds to 1 in bit 0 and stays out of the 20 bits.
        assert_eq!(of_queue_pairs(1 << 10, 1 << 10).get(), 1);
    }

    /// Two paths: all are seen unless n flows fall on one, 1 - 2^(1-n).
    #[test]
    fn coverage_is_the_textbooks() {
        for flows in 1..20 {
            let two = 1.0 - 2f64.powi(1 - i32::try_from(flows).unwrap());
            assert!((chance_of_all(flows, 2) - two).abs() < 1e-12, "{flows}");
            assert!(
                (expected_share(flows, 4) - (1.0 - 0.75f64.powi(flows.cast_signed()))).abs()
                    < 1e-12
            );
        }
        // Inclusion and exclusion for m = 6, n = 10: dice show all faces with a chance of 0.2718…
        assert!((chance_of_all(10, 6) - 16_435_440.0 / 60_466_176.0).abs() < 1e-12);
        assert_eq!(flows_for_all(0.95, 2), Some(6));
        assert_eq!(flows_for_share(0.99, 1), Some(1));
        assert_eq!(flows_for_share(0.95, 4), Some(11));
        assert_eq!((chance_of_all(0, 0), chance_of_all(0, 1)), (1.0, 0.0));
        assert_eq!(flows_for_all(0.5, MOST_PATHS + 1), None);
    }

    proptest! {
        #[test]
        fn the_number_of_flows_is_enough_and_no_more(
            share in 0.01_f64..0.999, paths in 1_u32..300,
        ) {
            let flows = flows_for_share(share, paths).unwrap();
            prop_assert!(expected_share(flows, paths) >= share);
            prop_assert!(expected_share(flows - 1, paths) < share);
            let all = flows_for_all(share, paths).unwrap();
            prop_assert!(chance_of_all(all, paths) >= share && all >= paths);
            prop_assert!(chance_of_all(all - 1, paths) < share);
        }

        /// Balls thrown for real agree with the formula.
        #[test]
        fn coverage_is_what_throwing_gives(flows in 1_u32..60, paths in 1_u32..30, seed: u64) {
            use rand_pcg::rand_core::Rng;
            let mut random = rand_pcg::Pcg64Mcg::new(u128::from(seed) | 1);
            let (runs, mut seen) = (400, 0_usize);
            for _ in 0..runs {
                let hit: BTreeSet<u32> = (0..flows).map(|_| random.next_u32() % paths).collect();
                seen += hit.len();
            }
            let mean = seen as f64 / f64::from(runs) / f64::from(paths);
            // Five standard errors of the mean of 400 runs, each between 0 and 1.
            prop_assert!((mean - expected_share(flows, paths)).abs() < 5.0 * 0.5 / 20.0);
        }
    }
}
