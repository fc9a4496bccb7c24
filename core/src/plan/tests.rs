use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::{Note, Plan, PlanSettings, PlannedPath};
use crate::path::{Endpoint, NodeName, PortName, Transport};

fn endpoint(node: usize, rail: u16) -> Endpoint {
    let node = NodeName::new(&format!("gpu-{node:04}")).unwrap();
    Endpoint { node, port: PortName::new(&format!("mlx5_{rail}/1")).unwrap(), rail }
}

fn fleet(nodes: usize, rails: u16) -> Vec<Endpoint> {
    (0..nodes).flat_map(|node| (0..rails).map(move |rail| endpoint(node, rail))).collect()
}

fn some(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn small() -> PlanSettings {
    PlanSettings { full_mesh_up_to: 6, targets_per_port: some(4), ..PlanSettings::default() }
}

fn within(planned: &PlannedPath) -> bool {
    planned.path.src.rail == planned.path.dst.rail
}

fn degrees<'p>(
    paths: impl Iterator<Item = &'p PlannedPath>,
) -> (BTreeMap<&'p Endpoint, usize>, BTreeMap<&'p Endpoint, usize>) {
    let (mut out, mut inbound) = (BTreeMap::new(), BTreeMap::new());
    for planned in paths {
        *out.entry(&planned.path.src).or_default() += 1;
        *inbound.entry(&planned.path.dst).or_default() += 1;
    }
    (out, inbound)
}

#[test]
fn a_small_rail_is_a_full_mesh() {
    let plan = Plan::new(fleet(64, 1), &PlanSettings::default());
    assert_eq!(plan.paths.len(), 64 * 63);
    assert_eq!(plan.notes, []);
    assert!(plan.paths.iter().all(|planned| planned.interval == Duration::from_millis(100)));
    assert_eq!(plan.of(&NodeName::new("gpu-0007").unwrap()).len(), 63);
    assert_eq!(plan.of(&NodeName::new("cpu-1").unwrap()), []);
}

#[test]
fn one_port_more_is_sampled() {
    let plan = Plan::new(fleet(65, 1), &PlanSettings::default());
    assert_eq!(plan.paths.len(), 65 * 32);
    assert_eq!(
        plan.notes,
        [Note::Sampled {
            rail: 0,
            transport: Transport::Udp,
            ports: 65,
            targets: 32,
            lasting: 16,
            rotations: 3
        }]
    );
}

#[test]
fn nothing_to_probe() {
    let settings = PlanSettings::default();
    assert_eq!(Plan::new([], &settings), Plan::default());
    for rails in [1, 3] {
        let plan = Plan::new(fleet(1, rails), &settings);
        assert_eq!(plan.paths, []);
        assert_eq!(plan.notes.len(), usize::from(rails));
        assert!(matches!(plan.notes[0], Note::OneNode { rail: 0, .. }));
    }
}

#[test]
fn two_ports_of_one_node_on_one_rail_do_not_probe_each_other() {
    let mut endpoints = fleet(3, 1);
    endpoints.push(Endpoint { port: PortName::new("eth9").unwrap(), ..endpoints[0].clone() });
    let plan = Plan::new(endpoints, &PlanSettings::default());
    assert_eq!(plan.paths.len(), 4 * 3 - 2);
    assert!(plan.paths.iter().all(|planned| planned.path.src.node != planned.path.dst.node));
}

#[test]
fn the_cap_slows_a_rail_and_says_so() {
    let settings = PlanSettings { most_inbound_per_second: some(300), ..PlanSettings::default() };
    let plan = Plan::new(fleet(61, 1), &settings);
    assert!(plan.paths.iter().all(|planned| planned.interval == Duration::from_millis(200)));
    assert_eq!(
        plan.notes[0].to_string(),
        "rail 0: a path is probed every 200ms instead of every 100ms, so that no port receives more than 300 probes/s"
    );
}

#[test]
fn phases_fill_the_interval_and_never_change() {
    let plan = Plan::new(fleet(40, 2), &PlanSettings::default());
    let mut tenths = [0_usize; 10];
    for planned in &plan.paths {
        tenths[usize::try_from(planned.phase.as_millis()).unwrap() / 10] += 1;
    }
    let mean = plan.paths.len() / 10;
    // Five standard deviations of a count with this mean (317) are less than a third of it.
    assert!(tenths.iter().all(|&n| n.abs_diff(mean) < mean / 3), "{tenths:?}");
    // Written down once: another value means that every agent's phases move on an upgrade.
    assert_eq!(plan.paths[0].path.to_string(), "gpu-0000/mlx5_0/1 > gpu-0001/mlx5_0/1 udp");
    assert_eq!(plan.paths[0].phase, Duration::from_nanos(33_060_530));
}

#[test]
fn a_node_that_joins_changes_few_of_the_lasting_paths() {
    let settings = PlanSettings { seed: 3, ..PlanSettings::default() };
    let paths = |nodes| -> BTreeSet<_> {
        let plan = Plan::new(fleet(nodes, 1), &settings);
        plan.paths.into_iter().map(|planned| planned.path).collect()
    };
    let (before, after) = (paths(300), paths(301));
    // A lasting distance d is broken for the d paths that pass over the new place: 1 + 2 + ... + 16 in all.
    assert!(before.intersection(&after).count() >= 300 * 16 - 136);
}

#[derive(Clone, Debug)]
struct World {
    endpoints: Vec<Endpoint>,
    settings: PlanSettings,
}

fn world() -> impl Strategy<Value = World> {
    let endpoints = (1_usize..14, 1_u16..4).prop_flat_map(|(nodes, rails)| {
        proptest::sample::subsequence(fleet(nodes, rails), 1..=nodes * usize::from(rails))
            .prop_shuffle()
    });
    let settings = (0_u32..9, 1_u32..8, 1_u32..200, any::<u64>(), any::<u64>());
    (endpoints, settings).prop_map(|(endpoints, (mesh, targets, cap, rotation, seed))| World {
        endpoints,
        settings: PlanSettings {
            full_mesh_up_to: mesh,
            targets_per_port: some(targets),
            most_inbound_per_second: some(cap),
            rotation,
            seed,
            ..PlanSettings::default()
        },
    })
}

proptest! {
    #[test]
    fn every_port_has_as_many_targets_as_probers(world in world()) {
        let plan = Plan::new(world.endpoints.clone(), &world.settings);
        let settings = world.settings;
        let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
        for endpoint in &world.endpoints {
            *ports.entry(endpoint.rail).or_default() += 1;
        }
        let (out, inbound) = degrees(plan.paths.iter().filter(|p| within(p)));
        let (out_cross, inbound_cross) = degrees(plan.paths.iter().filter(|p| !within(p)));
        for endpoint in &world.endpoints {
            let n = ports[&endpoint.rail];
            let targets = settings.targets_per_port.get() as usize;
            let full = n <= settings.full_mesh_up_to as usize;
            let k = if full { n - 1 } else { targets.min(n - 1) };
            prop_assert_eq!(out.get(endpoint).copied().unwrap_or(0), k);
            prop_assert_eq!(inbound.get(endpoint).copied().unwrap_or(0), k);
            prop_assert!(out_cross.get(endpoint).copied().unwrap_or(0) <= 1);
            prop_assert!(inbound_cross.get(endpoint).copied().unwrap_or(0) <= 1);
        }
    }

    #[test]
    fn no_port_receives_more_than_the_cap(world in world()) {
        let plan = Plan::new(world.endpoints, &world.settings);
        let mut inbound: BTreeMap<&Endpoint, (usize, Duration)> = BTreeMap::new();
        for planned in &plan.paths {
            let (paths, interval) = inbound.entry(&planned.path.dst).or_insert((0, planned.interval));
            *paths += 1;
            prop_assert_eq!(*interval, planned.interval);
            prop_assert!(planned.interval >= world.settings.interval);
            prop_assert!(planned.phase < planned.interval);
        }
        for (paths, interval) in inbound.into_values() {
            // paths / interval <= cap, in whole numbers.
            let cap = u128::from(world.settings.most_inbound_per_second.get());
            prop_assert!(paths as u128 * 1_000_000_000 <= cap * interval.as_nanos());
        }
    }

    #[test]
    fn paths_are_distinct_and_never_within_a_node(world in world()) {
        let plan = Plan::new(world.endpoints, &world.settings);
        prop_assert!(plan.paths.is_sorted_by(|a, b| a.path < b.path));
        prop_assert!(plan.paths.iter().all(|p| p.path.src.node != p.path.dst.node));
    }

    #[test]
    fn order_and_repetition_of_the_input_do_not_matter(world in world()) {
        let mut other = world.endpoints.clone();
        other.sort();
        other.extend(world.endpoints.first().cloned());
        prop_assert_eq!(
            Plan::new(world.endpoints, &world.settings),
            Plan::new(other, &world.settings)
        );
    }

    #[test]
    fn all_pairs_have_their_turn_and_half_of_the_targets_last(
        nodes in 7_usize..24, targets in 1_u32..6, first in 0_u64..1_000_000,
    ) {
        let settings = PlanSettings { targets_per_port: some(targets), ..small() };
        let at = |rotation| Plan::new(fleet(nodes, 1), &PlanSettings { rotation, ..settings });
        let Some(&Note::Sampled { rotations, lasting, .. }) = at(first).notes.first() else {
            prop_assert!(nodes - 1 <= targets as usize);
            return Ok(());
        };
        let k = targets as usize;
        prop_assert_eq!(rotations, (nodes - 1 - k / 2).div_ceil(k - k / 2));
        let mut seen = BTreeSet::new();
        let mut always: Option<BTreeSet<_>> = None;
        for rotation in first..first + rotations as u64 {
            let paths: BTreeSet<_> = at(rotation).paths.into_iter().map(|p| p.path).collect();
            let lasts = always.take().unwrap_or_else(|| paths.clone());
            always = Some(lasts.intersection(&paths).cloned().collect());
            seen.extend(paths);
        }
        prop_assert_eq!(seen.len(), nodes * (nodes - 1));
        prop_assert_eq!(lasting, k / 2);
        prop_assert!(always.unwrap().len() >= nodes * lasting);
    }

    #[test]
    fn cross_rail_pairs_have_their_turn(world in world(), first in 0_u64..1_000_000) {
        let rails: BTreeSet<u16> = world.endpoints.iter().map(|e| e.rail).collect();
        let largest = rails.iter().map(|&rail| {
            world.endpoints.iter().filter(|e| e.rail == rail).count() as u64
        });
        let rotations = (rails.len() as u64 - 1) * largest.max().unwrap_or(0);
        let mut seen = BTreeSet::new();
        for rotation in first..first + rotations {
            let plan = Plan::new(
                world.endpoints.clone(),
                &PlanSettings { rotation, ..world.settings },
            );
            seen.extend(plan.paths.into_iter().filter(|p| !within(p)).map(|p| p.path));
        }
        let pairs = world.endpoints.iter().flat_map(|src| {
            world.endpoints.iter().filter(|dst| src.rail != dst.rail && src.node != dst.node)
        });
        prop_assert_eq!(seen.len(), pairs.count());
    }

    #[test]
    fn a_rotation_never_changes_an_interval(world in world()) {
        let intervals = |rotation| -> BTreeMap<_, _> {
            let settings = PlanSettings { rotation, ..world.settings };
            let plan = Plan::new(world.endpoints.clone(), &settings);
            plan.paths.into_iter().map(|p| (p.path, (p.interval, p.phase))).collect()
        };
        let (one, other) = (intervals(0), intervals(1));
        for (path, times) in one {
            prop_assert!(other.get(&path).is_none_or(|there| *there == times));
        }
    }
}

#[test]
fn with_equal_rails_every_rotation_crosses_from_every_port() {
    for rotation in 0..12 {
        let settings = PlanSettings { rotation, ..small() };
        let plan = Plan::new(fleet(5, 3), &settings);
        assert_eq!(plan.paths.iter().filter(|p| !within(p)).count(), 15, "rotation {rotation}");
    }
}
