//! What holds in every world, whatever happens there.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{Finished, MS, S, US, World, config};
use crate::session::{Outcome, PartsMissing, SessionConfig};

fn number(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Reply(sample) => sample.number,
        Outcome::Lost { number, .. } => *number,
    }
}

/// What holds even when replies lie and clocks step.
fn account_holds(world: &World, end: &Finished) {
    let (account, config) = (&end.account, &world.config);
    assert!(account.is_conserved(), "{account:?}");
    let numbers: Vec<u64> = end.outcomes.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "not in send order, or twice");
    assert_eq!(numbers.len() as u64, account.received + account.lost);
    let replies = end.outcomes.iter().filter(|o| matches!(o, Outcome::Reply(_))).count();
    assert_eq!(replies as u64, account.received);
    let stopped = end.ended_at >= world.stop_at;
    if !stopped {
        assert_eq!(account.scheduled, config.count);
        assert_eq!(account.warmup_discarded, config.warmup);
        assert_eq!(account.in_flight, 0);
    }
    assert!(!account.errors_by_reason().contains_key("too_many_unfinished"));
    let mut invalid = 0;
    for outcome in &end.outcomes {
        let Outcome::Reply(sample) = outcome else { continue };
        match sample.parts {
            Ok(p) => {
                assert_eq!(sample.app_rtt, p.network_rtt + p.prober_delay + p.responder_delay);
            }
            Err(missing) => invalid += u64::from(matches!(missing, PartsMissing::Invalid(_))),
        }
    }
    assert_eq!(account.invalid_stamps, invalid);
}

/// With honest replies: what the session says of each probe is what truly happened to it.
fn truth_is_told(world: &World, end: &Finished) {
    for outcome in &end.outcomes {
        let truth = &end.truth[&number(outcome)];
        assert!(!truth.refused);
        let first = truth.replies.iter().min_by_key(|reply| reply.arrived);
        let in_time = first.filter(|reply| {
            u128::from(reply.arrived - truth.sent_at) < world.config.timeout.as_nanos()
        });
        match (outcome, in_time) {
            (Outcome::Lost { .. }, None) => {}
            (Outcome::Reply(sample), Some(reply)) => {
                let t1 = if world.config.transmit_stamps { truth.left } else { truth.sent_at };
                assert!(sample.slot.as_nanos() + sample.app_rtt >= reply.arrived);
                if let Ok(parts) = sample.parts {
                    assert_eq!(parts.network_rtt, reply.t2 - t1 + reply.arrived - reply.t3);
                    assert_eq!(parts.responder_delay, reply.t3 - reply.t2);
                }
            }
            _ => panic!("{outcome:?} but {truth:?}"),
        }
    }
    assert_eq!(end.account.invalid_stamps, 0);
    let refused = end.truth.values().filter(|truth| truth.refused).count() as u64;
    assert!(end.account.send_errors <= refused);
}

prop_compose! {
    fn configs()(
        interval in prop_oneof![20 * US..2 * MS, 10 * MS..2 * S],
        count in 1..400_u64,
        warmup in 0..60_u64,
        timeout in prop_oneof![100 * US..5 * MS, 50 * MS..2 * S],
        flows in prop_oneof![Just(1), Just(2), Just(64)],
        transmit_stamps in prop::bool::weighted(0.9),
    ) -> SessionConfig {
        let config = config(Duration::from_nanos(interval), count, Duration::from_nanos(timeout));
        SessionConfig { warmup, flows, transmit_stamps, ..config }
    }
}

prop_compose! {
    fn stall()(at in 0..300 * MS, length in prop_oneof![Just(0), 1..5 * MS, 1..3 * S])
        -> std::ops::Range<u64>
    {
        at..at + length
    }
}

fn sometimes(most: u64) -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 1 => 0..most]
}

prop_compose! {
    /// Worlds in which much goes wrong, but nobody lies and no clock steps.
    fn worlds()(
        config in configs(),
        seed: u64,
        wraps: bool,
        delay in US..3 * MS,
        (jitter, stamp_delay) in (sometimes(3 * MS), sometimes(3 * MS)),
        (loss, duplication, refusal) in (sometimes(300), sometimes(300), sometimes(200)),
        stamp_loss in sometimes(200),
        (reflector_stall, prober_stall) in (stall(), stall()),
        reflector_behind in prop_oneof![3 => Just(0_usize), 1 => 0..20_usize],
        stop_at in prop_oneof![4 => Just(u64::MAX), 1 => 0..500 * MS],
    ) -> World {
        World {
            seed,
            first_number: if wraps { (1 << 32) - 100 } else { 0 },
            delay, jitter, stamp_delay, loss, duplication, refusal, stamp_loss,
            reflector_stall, prober_stall, reflector_behind, stop_at,
            ..World::calm(config)
        }
    }
}

prop_compose! {
    /// The same with liars on the path and clocks that step.
    fn bad_worlds()(
        world in worlds(),
        hostile in sometimes(1000),
        steps in prop::array::uniform2((0..300 * MS, -3_600_000_000_000..3_600_000_000_000_i64)),
    ) -> World {
        let [prober_step, reflector_step] = steps;
        World { hostile, prober_step, reflector_step, ..world }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_probe_is_accounted_for_and_the_truth_is_told(world in worlds()) {
        let end = world.run();
        account_holds(&world, &end);
        truth_is_told(&world, &end);
    }

    #[test]
    fn lies_and_clock_steps_unbalance_nothing(world in bad_worlds()) {
        let end = world.run();
        account_holds(&world, &end);
    }

    /// A clock that steps by more than any time-out loses no probe that was answered.
    #[test]
    fn clock_steps_are_no_losses(world in bad_worlds()) {
        prop_assume!(world.has_clock_steps());
        let never = u64::MAX..u64::MAX;
        let world = World { hostile: 0, loss: 0, prober_stall: never, ..world };
        let end = world.run();
        let calm = World { prober_step: (0, 0), reflector_step: (0, 0), ..world.clone() }.run();
        account_holds(&world, &end);
        prop_assert_eq!(end.account.lost, calm.account.lost);
        prop_assert_eq!(end.account.received, calm.account.received);
    }
}
