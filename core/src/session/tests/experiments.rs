//! Single faults, each with the effect that it must have and no other.

use std::time::Duration;

use super::world::{Finished, MS, S, US, World, config};
use crate::session::{Outcome, PartsMissing, Sample, SessionConfig};

/// 1,000 probes a second for two seconds.
fn thousand_a_second(timeout: u64) -> SessionConfig {
    config(Duration::from_millis(1), 2_000, Duration::from_nanos(timeout))
}

fn samples(end: &Finished) -> Vec<Sample> {
    let reply = |outcome: &Outcome| match outcome {
        Outcome::Reply(sample) => Some(*sample),
        Outcome::Lost { .. } => None,
    };
    end.outcomes.iter().filter_map(reply).collect()
}

fn unsplit(end: &Finished) -> Vec<u64> {
    let missing = |sample: &&Sample| sample.parts == Err(PartsMissing::FollowUp);
    samples(end).iter().filter(missing).map(|sample| sample.number).collect()
}

/// Largest distance of `values` from being spread evenly over 0 to `range` (Kolmogorov).
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn unevenness(mut values: Vec<u64>, range: u64) -> f64 {
    values.sort_unstable();
    let (n, range) = (values.len() as f64, range as f64);
    let off = |(i, &value): (usize, &u64)| (i as f64 / n - value as f64 / range).abs();
    values.iter().enumerate().map(off).fold(0.0, f64::max)
}

#[test]
fn on_a_calm_path_every_number_is_what_it_was_made_of() {
    let end = World::calm(thousand_a_second(S)).run();
    let samples = samples(&end);
    assert_eq!(samples.len(), 2_000);
    for sample in samples {
        let parts = sample.parts.unwrap();
        assert_eq!((parts.network_rtt, parts.responder_delay), (200 * US, 6 * US));
        assert!(parts.prober_delay < 5 * US, "{parts:?}");
        assert_eq!(sample.source.to_string(), "kernel/kernel/kernel/kernel");
    }
    assert_eq!((end.account.late_starts, end.account.follow_up_probes), (0, 1));
    assert!(end.account.errors_by_reason().is_empty());
    // The last reply's true t3 is fetched, not waited for.
    assert!(end.ended_at < 2_001 * MS, "{}", end.ended_at);
}

#[test]
fn a_reflector_stopped_500_ms_shows_as_500_samples_spread_evenly_from_500_ms_to_0() {
    let stall = 700 * MS..1_200 * MS;
    let end = World { reflector_stall: stall, ..World::calm(thousand_a_second(S)) }.run();
    let slow: Vec<u64> = samples(&end).iter().map(|s| s.app_rtt).filter(|&ns| ns > MS).collect();
    assert!((495..=505).contains(&slow.len()), "{}", slow.len());
    assert!(unevenness(slow, 500 * MS) < 0.01);
    assert_eq!((end.account.received, end.account.lost, end.account.late_replies), (2_000, 0, 0));
    assert_eq!(end.account.late_starts, 0);
    for sample in samples(&end) {
        assert_eq!(sample.parts.unwrap().network_rtt, 200 * US, "the wait is the responder's");
    }
}

#[test]
fn with_a_time_out_of_200_ms_the_long_waits_are_losses_and_none_is_missing() {
    let stall = 700 * MS..1_200 * MS;
    let end = World { reflector_stall: stall, ..World::calm(thousand_a_second(200 * MS)) }.run();
    let account = &end.account;
    assert_eq!((account.scheduled, account.sent), (2_000, 2_000));
    assert_eq!(account.received + account.lost, 2_000);
    assert!((298..=302).contains(&account.lost), "{account:?}");
    assert_eq!(account.late_replies, account.lost, "each came after all, and stays lost");
    assert!(samples(&end).iter().all(|sample| sample.app_rtt < 202 * MS));
}

#[test]
fn a_prober_stopped_500_ms_has_it_in_app_rtt_and_late_starts_and_not_in_network_rtt() {
    let stall = 700 * MS + 50 * US..1_200 * MS;
    let end = World { prober_stall: stall, ..World::calm(thousand_a_second(S)) }.run();
    let slow: Vec<u64> =
        samples(&end).iter().map(|s| s.app_rtt).filter(|&ns| ns > 1_500 * US).collect();
    assert!((495..=505).contains(&slow.len()), "{}", slow.len());
    assert!(unevenness(slow, 500 * MS) < 0.02);
    let account = &end.account;
    assert!((495..=500).contains(&account.late_starts), "{account:?}");
    assert_eq!((account.received, account.skipped), (2_000, 0));
    for sample in samples(&end) {
        assert_eq!(sample.parts.unwrap().network_rtt, 200 * US);
    }
}

#[test]
fn slots_older_than_the_time_out_are_skipped_and_counted() {
    let stall = 700 * MS..1_200 * MS;
    let end = World { prober_stall: stall, ..World::calm(thousand_a_second(200 * MS)) }.run();
    let account = &end.account;
    assert!((298..=301).contains(&account.skipped), "{account:?}");
    assert_eq!((account.received, account.lost), (2_000 - account.skipped, 0));
}

/// The prober stands still for longer than the time-out, and at once asks what to do: the replies that lie in its socket came
/// in time.
#[test]
fn a_prober_that_stood_still_loses_no_reply_that_came_in_time() {
    let config = config(Duration::from_micros(50), 2_000, Duration::from_millis(2));
    for begin in (10 * MS..10 * MS + 50 * US).step_by(500) {
        let stall = begin..begin + 20 * MS;
        let end = World { delay: 400 * US, prober_stall: stall, ..World::calm(config) }.run();
        assert_eq!((end.account.lost, end.account.late_replies), (0, 0), "stall at {begin}");
    }
}

#[test]
fn a_lost_reply_leaves_unsplit_exactly_the_sample_whose_true_t3_it_carried() {
    let lost_replies = vec![500, 900, 901];
    let end = World { lost_replies, ..World::calm(thousand_a_second(100 * MS)) }.run();
    assert_eq!(end.account.lost, 3);
    assert_eq!(unsplit(&end), [499, 899]);
    assert_eq!(end.account.errors_by_reason()["follow_up_missing"], 2);
}

/// True t3s come 20 replies late: those of the last 20 are fetched by follow-up probes, one each.
#[test]
fn a_reflector_several_replies_behind_is_asked_until_it_has_told_all() {
    let world = World { reflector_behind: 20, ..World::calm(thousand_a_second(S)) };
    let end = world.run();
    assert!(unsplit(&end).is_empty());
    assert_eq!(end.account.follow_up_probes, 21);
}

/// The first follow-up probe is lost: the next one leaves before its time-out would end the wait for the true t3.
#[test]
fn a_lost_follow_up_probe_is_repeated_in_time() {
    let lost_replies = vec![2_000, 2_001];
    let end = World { lost_replies, ..World::calm(thousand_a_second(S)) }.run();
    // The reflector told it in the first lost reply; that reply's own true t3 is nobody's loss.
    assert_eq!(unsplit(&end), [1_999]);
    // One at once, and four in vain after the last true t3 that came.
    assert_eq!(end.account.follow_up_probes, 5);
    let lost_requests = World { loss: 400, seed: 3, ..World::calm(thousand_a_second(S)) };
    let end = lost_requests.run();
    assert!((2..=8).contains(&end.account.follow_up_probes), "{:?}", end.account);
}

#[test]
fn duplicates_and_reordering_are_counted_as_such() {
    let twice = World { duplication: 1_000, ..World::calm(thousand_a_second(S)) }.run();
    // Each request twice, each reply to them twice: three more than one. The last may come after the end.
    let duplicate = twice.account.duplicate;
    assert!((5_995..=6_000).contains(&duplicate), "{duplicate}");
    assert_eq!((twice.account.received, twice.account.reordered), (2_000, 0));

    let jumbled = World { jitter: 4 * MS, ..World::calm(thousand_a_second(S)) };
    let end = jumbled.run();
    let arrivals: Vec<u64> =
        end.truth.values().flat_map(|t| &t.replies).map(|r| r.arrived).collect();
    let overtaken = |&i: &usize| arrivals[i + 1..2_000].iter().any(|&a| a < arrivals[i]);
    let overtaken = (0..2_000).filter(overtaken).count();
    assert!(overtaken > 100, "{overtaken}");
    assert_eq!(end.account.reordered, overtaken as u64);
    assert!(unsplit(&end).is_empty(), "follow-ups find their probes in any order");
}

#[test]
fn a_departure_that_is_never_stamped_is_in_app_rtt_alone() {
    let end = World { stamp_loss: 100, ..World::calm(thousand_a_second(100 * MS)) }.run();
    let unstamped =
        samples(&end).iter().filter(|s| s.parts == Err(PartsMissing::TransmitStamp)).count();
    assert!((150..250).contains(&unstamped), "{unstamped}");
    assert_eq!(end.account.errors_by_reason()["transmit_stamp_missing"], unstamped as u64);
    assert_eq!(end.account.received, 2_000);
}

#[test]
fn a_clock_step_spoils_only_the_samples_it_falls_into_and_they_are_counted() {
    for step in [-3_600 * 1_000_000_000, -MS.cast_signed(), MS.cast_signed(), 3_600 * 1_000_000_000]
    {
        // 50 us after a probe left, 100 us before it arrives.
        let at = 700 * MS + 50 * US;
        let prober = World { prober_step: (at, step), ..World::calm(thousand_a_second(S)) }.run();
        assert_eq!((prober.account.invalid_stamps, prober.account.received), (1, 2_000), "{step}");
        assert_eq!(prober.account.late_replies, 0);
        // Between t2 and t3, which are 6 us apart.
        let at = 700 * MS + 104 * US;
        let world = World { reflector_step: (at, step), ..World::calm(thousand_a_second(S)) };
        let reflector = world.run();
        assert_eq!((reflector.account.invalid_stamps, reflector.account.received), (1, 2_000));
    }
}

#[test]
fn an_hour_between_probes_and_a_minute_of_patience() {
    let hourly = config(Duration::from_secs(3_600), 3, Duration::from_secs(60));
    let warmed = SessionConfig { warmup: 7_000, ..hourly };
    let end = World { loss: 1_000, ..World::calm(warmed) }.run();
    assert_eq!((end.account.lost, end.account.warmup_discarded), (3, 7_000));
    assert!(!end.account.errors_by_reason().contains_key("too_many_unfinished"));
    assert_eq!(end.ended_at / S, 70 + 2 * 3_600 + 60);
}

/// The next probe of the flow, whose reply would bring the true t3, leaves when the time-out is long over.
#[test]
fn slow_schedules_and_many_flows_are_split_too() {
    let second = Duration::from_secs(1);
    let hourly = config(Duration::from_secs(3_600), 5, second);
    let many = config(Duration::from_millis(50), 200, second);
    for config in [hourly, SessionConfig { flows: 64, ..many }] {
        let end = World::calm(config).run();
        let account = &end.account;
        assert!(samples(&end).iter().all(|sample| sample.parts.is_ok()), "{account:?}");
        assert_eq!((account.received, account.follow_up_probes), (config.count, config.count));
    }
}

#[test]
fn one_probe_is_a_run() {
    for (flows, warmup) in [(1, 0), (64, 0), (64, 50)] {
        let one = config(Duration::from_millis(1), 1, Duration::from_secs(1));
        let end = World::calm(SessionConfig { flows, warmup, ..one }).run();
        assert_eq!((end.account.received, end.outcomes.len()), (1, 1));
        assert!(samples(&end)[0].parts.is_ok());
        assert!(end.ended_at < (2 + warmup) * MS, "{}", end.ended_at);
    }
}

#[test]
fn flows_take_turns() {
    let config = SessionConfig { flows: 64, ..thousand_a_second(S) };
    let end = World::calm(config).run();
    for (index, sample) in samples(&end).iter().enumerate() {
        assert_eq!(usize::from(sample.flow), index % 64);
    }
    assert_eq!((end.account.follow_up_probes, unsplit(&end).len()), (64, 0));
}
