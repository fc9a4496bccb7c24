//! What holds in every world, whatever happens there. [`World`] checks at each action that nobody is in two pairs at once
//! and at the end that every measurement has exactly one outcome.

use proptest::prelude::*;

use super::world::{A, Behaviour, Event, LIMIT, T, World, fleet, name, settings};
use crate::sweep::{Outcome, SweepSettings};

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        6 => Just(Behaviour::Healthy),
        1 => Just(Behaviour::Stuck),
        1 => Just(Behaviour::Stopped),
        1 => Just(Behaviour::Refuses),
        1 => (0..2 * LIMIT).prop_map(Behaviour::Late),
        1 => (2..5_u64).prop_map(Behaviour::Repeats),
    ]
}

fn event(nodes: usize) -> impl Strategy<Value = (u64, Event)> {
    let node = (0..nodes).prop_map(name);
    let what = prop_oneof![
        3 => node.clone().prop_map(Event::Gone),
        3 => node.clone().prop_map(Event::Back),
        1 => (0..200_u64, node, any::<bool>()).prop_map(|(number, from, fine)| Event::Result {
            number,
            from,
            result: if fine { Ok(()) } else { Err("so it says".into()) },
        }),
    ];
    // Often in the same instant as other things.
    let when = prop_oneof![(0..40_u64).prop_map(|n| n * T), 0..40 * T];
    (when, what)
}

fn stormy() -> impl Strategy<Value = World> {
    (2_usize..10, 1_u16..3)
        .prop_flat_map(|(nodes, rails)| {
            let all = fleet(nodes, rails);
            let most = all.len();
            (
                proptest::sample::subsequence(all, most / 2..=most),
                proptest::collection::vec(behaviour(), nodes),
                proptest::collection::vec(event(nodes), 0..12),
                proptest::option::weighted(0.2, 0..40 * T),
                proptest::option::weighted(0.2, 0..40 * T),
                proptest::option::weighted(0.3, 0..nodes),
            )
        })
        .prop_map(|(endpoints, behaviours, events, cancel, limit, max_rounds)| {
            let whole_limit = limit.map(std::time::Duration::from_nanos);
            let settings = SweepSettings { whole_limit, max_rounds, ..settings() };
            let mut world = World::with(endpoints, settings);
            for (node, behaviour) in behaviours.into_iter().enumerate() {
                world.behave(node, behaviour);
            }
            for (when, event) in events {
                world.event(when, event);
            }
            if let Some(when) = cancel {
                world.event(when, Event::Cancel);
            }
            world
        })
        .no_shrink()
}

proptest! {
    #[test]
    fn in_any_weather_every_measurement_gets_one_outcome(world in stormy()) {
        let limit = world.run.announce().limit;
        let world = world.run();
        prop_assert!(u128::from(world.ended_at) <= limit.as_nanos());
    }

    #[test]
    fn healthy_sweeps_take_what_was_announced(nodes in 0_usize..20, rails in 1_u16..4) {
        let world = World::new(fleet(nodes, rails)).run();
        let expected = world.run.announce().expected_duration;
        prop_assert_eq!(u128::from(world.ended_at), expected.as_nanos());
        let rounds = nodes.saturating_sub(1) + if nodes > 1 { nodes % 2 } else { 0 };
        prop_assert_eq!(world.ended_at, rounds as u64 * 2 * T);
        prop_assert!(world.run.measurements().all(|m| m.outcome == Some(&Outcome::Measured)));
    }

    /// The bound that the module states, for several at once: each adds its own.
    #[test]
    fn stuck_nodes_add_no_more_than_stated(
        nodes in 2_usize..17, bad in proptest::collection::btree_map(0_usize..17, any::<bool>(), 0..4),
    ) {
        let mut world = World::new(fleet(nodes, 1));
        let mut stuck = 0;
        for (node, stopped) in bad {
            if node < nodes {
                stuck += 1;
                world.behave(node, if stopped { Behaviour::Stopped } else { Behaviour::Stuck });
            }
        }
        let rounds = (nodes - 1 + nodes % 2) as u64;
        let each = (LIMIT - T) + (A - T) + (rounds - 1) * A.saturating_sub(2 * T);
        let world = world.run();
        prop_assert!(world.ended_at <= rounds * 2 * T + stuck * each);
    }
}
