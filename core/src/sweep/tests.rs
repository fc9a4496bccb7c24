//! Sweeps under simulated time.

mod invariants;
mod world;

use std::time::Duration;

use world::{A, Behaviour, Event, LIMIT, T, World, at, end, fleet, name, settings};

use super::{Action, Answer, Failure, NotMeasured, Outcome, SweepRun, SweepSettings};

/// Rounds of 16 nodes, each pair in both directions.
const HEALTHY: u64 = 15 * 2 * T;

#[test]
fn sixteen_healthy_nodes_take_rounds_times_pair_time() {
    let world = World::new(fleet(16, 2)).run();
    assert_eq!(world.ended_at, HEALTHY);
    assert_eq!(u128::from(world.ended_at), world.run.announce().expected_duration.as_nanos());
    assert_eq!(world.rounds_started, (1..=15).collect::<Vec<_>>());
    assert!(world.run.measurements().all(|m| m.outcome == Some(&Outcome::Measured)));
    assert_eq!(world.run.done(), 16 * 15 * 2);
}

#[test]
fn an_odd_number_takes_one_round_each() {
    let world = World::new(fleet(7, 1)).run();
    assert_eq!(world.ended_at, 7 * 2 * T);
}

#[test]
fn a_dead_node_costs_its_own_pairs_only() {
    for dead in 0..16 {
        for when in (0..30).map(|n| n * T / 2) {
            let mut world = World::new(fleet(16, 1));
            world.behave(dead, Behaviour::DiesAt(when));
            let world = world.run();
            assert_eq!(world.ended_at, HEALTHY, "node {dead} dead at {when}");
            let lost = world.run.measurements().filter(|m| m.outcome != Some(&Outcome::Measured));
            let dead = name(dead);
            assert!(lost.clone().all(|m| m.src.node == dead || m.dst.node == dead));
            // Each T before its death it was in one measurement; one that ends in that instant may go either way.
            let before = usize::try_from(when / T).unwrap();
            assert!((30 - before..=31 - before).contains(&lost.count()));
        }
    }
}

#[test]
fn a_stuck_node_costs_its_limit_once() {
    for stuck in 0..16 {
        let mut world = World::new(fleet(16, 1));
        world.behave(stuck, Behaviour::Stuck);
        let world = world.run();
        assert!(world.ended_at <= HEALTHY + (LIMIT - T), "{stuck}: {}", world.ended_at);
        let stuck = name(stuck);
        let mut unanswered = 0;
        for m in world.run.measurements() {
            match m.outcome.unwrap() {
                Outcome::Measured => assert!(m.src.node != stuck),
                Outcome::Failed(failure) => {
                    unanswered += 1;
                    let sentence = format!("no answer from {stuck} within 5s");
                    assert_eq!(failure.to_string(), sentence);
                }
                Outcome::NotMeasured(why) => {
                    assert!(m.src.node == stuck && *why == NotMeasured::HeldOut(stuck.clone()));
                }
            }
        }
        assert_eq!(unanswered, 1);
    }
}

#[test]
fn a_stopped_node_costs_its_limit_once_and_one_time_out() {
    for stopped in 0..16 {
        let mut world = World::new(fleet(16, 1));
        world.behave(stopped, Behaviour::Stopped);
        let world = world.run();
        let bound = HEALTHY + (LIMIT - T) + (A - T) + 14 * A.saturating_sub(2 * T);
        assert!(world.ended_at <= bound, "{stopped}: {}", world.ended_at);
        let measured = world.run.measurements().filter(|m| m.outcome == Some(&Outcome::Measured));
        // Everybody else has tried to reach it.
        assert_eq!(measured.count(), 16 * 15 - 15);
    }
}

#[test]
fn rounds_are_no_barrier() {
    let mut world = World::new(fleet(16, 1));
    world.behave(0, Behaviour::Stuck);
    world.run_until(3 * T);
    // Of the first round seven pairs are through. In the second, only the two pairs wait that need a node of the eighth.
    assert_eq!(world.run.done(), 7 * 2 + 6);
}

#[test]
fn a_node_that_comes_back_is_measured_in_its_remaining_turns() {
    let mut world = World::new(fleet(16, 1));
    world.event(5 * T / 2, Event::Gone(name(3)));
    world.event(9 * T / 2, Event::Back(name(3)));
    let world = world.run();
    assert_eq!(world.ended_at, HEALTHY);
    let mut lost: Vec<_> = world
        .run
        .measurements()
        .filter(|m| m.outcome != Some(&Outcome::Measured))
        .map(|m| (m.round, m.outcome.unwrap().clone()))
        .collect();
    lost.sort_by_key(|&(round, _)| round);
    let (left, away) = (Failure::Left(name(3)), NotMeasured::Gone(name(3)));
    // One was under way, its way back and both of the third round fell into its absence.
    assert_eq!(lost[0], (2, Outcome::Failed(left)));
    let away = Outcome::NotMeasured(away);
    assert_eq!(lost[1..], [(2, away.clone()), (3, away.clone()), (3, away)]);
}

#[test]
fn a_refusal_is_told_and_holds_nobody_out() {
    let mut world = World::new(fleet(4, 1));
    world.behave(1, Behaviour::Refuses);
    let world = world.run();
    let refused: Vec<_> = world
        .run
        .measurements()
        .filter(|m| matches!(m.outcome, Some(Outcome::Failed(_))))
        .collect();
    assert_eq!(refused.len(), 3);
    let Some(Outcome::Failed(failure)) = refused[0].outcome else { panic!() };
    assert_eq!(failure.to_string(), "gpu-01 could not measure: no such port");
    assert!(matches!(failure, Failure::Refused { .. }));
}

#[test]
fn the_whole_limit_ends_everything() {
    let limited =
        SweepSettings { whole_limit: Some(Duration::from_nanos(11 * T / 2)), ..settings() };
    let world = World::with(fleet(16, 1), limited).run();
    assert_eq!(world.ended_at, 11 * T / 2);
    let late = Outcome::NotMeasured(NotMeasured::TimeLimit);
    let cut = world.run.measurements().filter(|m| m.outcome == Some(&late)).count();
    assert_eq!(cut, 240 - 5 * 8);
    assert_eq!(world.withdrawn, 8);
}

#[test]
fn cancelling_ends_everything_at_once() {
    let mut world = World::new(fleet(16, 1));
    world.run_until(3 * T / 2);
    world.run.cancel(at(3 * T / 2));
    world.drain();
    assert!(world.run.is_finished() && world.run.next_wake().is_none());
    assert_eq!(world.withdrawn, 8);
    let cancelled = Outcome::NotMeasured(NotMeasured::Cancelled);
    assert_eq!(world.run.measurements().filter(|m| m.outcome == Some(&cancelled)).count(), 240 - 8);
    world.run.cancel(at(2 * T));
    assert_eq!(world.run.next_action(), None);
}

#[test]
fn answers_that_are_none() {
    let mut run = SweepRun::new(fleet(4, 1), settings());
    let orders = |run: &mut SweepRun| {
        std::iter::from_fn(|| run.next_action())
            .filter_map(|action| if let Action::Order(order) = action { Some(order) } else { None })
            .collect::<Vec<_>>()
    };
    run.start(at(0));
    let ordered = orders(&mut run);
    assert_eq!(ordered.len(), 2);
    let (number, src) = (ordered[0].number, ordered[0].src.node.clone());
    let thief = &ordered[1].src.node;
    assert_eq!(run.result(number, thief, Ok(()), at(1)), Answer::Foreign);
    assert_eq!(run.result(u64::MAX, &src, Ok(()), at(1)), Answer::Foreign);
    assert_eq!(run.result(number, &src, Ok(()), at(1)), Answer::Taken);
    assert_eq!(run.result(number, &src, Ok(()), at(1)), Answer::TooLate);
    let never_ordered =
        run.measurements().find(|m| m.src.node == src && m.round > 1).unwrap().number;
    assert_eq!(run.result(never_ordered, &src, Ok(()), at(1)), Answer::Foreign);
    // At its deadline it is late, whoever comes first.
    let (number, src) = (ordered[1].number, ordered[1].src.node.clone());
    assert_eq!(run.result(number, &src, Ok(()), at(LIMIT)), Answer::TooLate);
    assert_eq!(run.next_wake(), Some(at(LIMIT + 1)));
}

#[test]
fn a_driver_that_slept_accuses_nobody() {
    let mut run = SweepRun::new(fleet(2, 1), settings());
    run.start(at(0));
    let late = LIMIT + 3 * T;
    run.tick(at(late));
    assert_eq!(run.done(), 0);
    assert_eq!(run.next_wake(), Some(at(late + T)));
    assert_eq!(run.result(0, &name(0), Ok(()), at(late)), Answer::Taken);
    // Of its own limit nothing is forgiven.
    run.tick(at(end(&settings(), run.announce())));
    assert!(run.is_finished());
}

#[test]
fn rails_in_common_are_measured_at_once_and_without_one_nothing_is() {
    let mut endpoints = fleet(3, 2);
    endpoints.retain(|endpoint| {
        // gpu-00 has rail 0 only, gpu-01 rail 1 only, gpu-02 both.
        endpoint.node == name(2) || (endpoint.node == name(0)) == (endpoint.rail == 0)
    });
    let world = World::new(endpoints).run();
    let unmeasurable: Vec<_> = world.run.unmeasurable().collect();
    assert_eq!(unmeasurable, [(&name(0), &name(1))]);
    let announced = world.run.announce();
    assert_eq!((announced.nodes, announced.rounds, announced.measurements), (3, 3, 4));
    assert_eq!(announced.unmeasurable, 1);
    assert_eq!(world.ended_at, 4 * T);
    assert_eq!(announced.expected_duration, Duration::from_nanos(4 * T));
}

#[test]
fn nothing_to_measure_ends_at_once() {
    for nodes in [0, 1] {
        let world = World::new(fleet(nodes, 2)).run();
        assert_eq!(world.ended_at, 0);
        assert_eq!(world.run.measurements().len(), 0);
    }
    let none = SweepSettings { max_rounds: Some(0), ..settings() };
    assert!(World::with(fleet(4, 1), none).run().run.is_finished());
}

#[test]
fn the_announcement_adds_up() {
    let first = SweepSettings { max_rounds: Some(4), ..settings() };
    let announced = SweepRun::new(fleet(16, 2), first).announce();
    assert_eq!(announced.measurements, 4 * 8 * 2 * 2);
    assert_eq!(announced.expected_duration.as_nanos(), u128::from(4 * 2 * T));
    assert_eq!(announced.packets, 128 * 2 * 1_000);
    assert_eq!(announced.wire_bytes, 128 * 2 * 1_000 * 118);
    assert_eq!(u128::from(end(&first, announced)), announced.limit.as_nanos());
}
