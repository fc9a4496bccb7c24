//! Probes answered by the completion of an RDMA operation.

use std::time::Duration;

use super::world::{MS, S, US, config};
use crate::session::{Completion, Outcome, PartsMissing, ProbeSession, SessionConfig, Wake};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

const fn at(nanos: u64) -> Monotonic {
    Monotonic::from_nanos(nanos)
}

const fn user(nanos: u64) -> (Wall, StampSource) {
    (Wall::from_unix_nanos(nanos), StampSource::User)
}

fn session(interval: Duration, count: u64) -> ProbeSession {
    let config = config(interval, count, Duration::from_millis(10));
    ProbeSession::new(SessionConfig { transmit_stamps: false, ..config }, at(0)).unwrap()
}

fn post(session: &mut ProbeSession, now: u64) -> u64 {
    let Wake::Send(probe) = session.poll(at(now)) else { panic!("nothing is due at {now}") };
    session.sent(probe, at(now), Wall::from_unix_nanos(now), [0; 8]);
    probe.number
}

fn settled(session: &mut ProbeSession, now: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    session.settle(at(now), |outcome| outcomes.push(outcome));
    outcomes
}

/// One operation at a time: the slots that come due behind a slow one wait, and their wait is in their app RTT.
#[test]
fn slots_behind_a_slow_operation_count_their_wait() {
    let mut session = session(Duration::from_millis(1), 4);
    let mut now = 0;
    for (slot, took) in [(0, 2_500 * US), (MS, 10 * US), (2 * MS, 10 * US), (3 * MS, 10 * US)] {
        now = now.max(slot);
        let number = post(&mut session, now);
        let completion =
            Completion::OneSided { posted: user(now), completed: user(now + took - US) };
        now += took;
        assert!(session.completed(number, at(now), completion));
    }
    let outcomes = settled(&mut session, now);
    let seen: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let Outcome::Reply(sample) = outcome else { panic!("{outcome:?}") };
            let parts = sample.parts.unwrap();
            assert_eq!(sample.source.to_string(), "user/none/none/user");
            assert_eq!(parts.responder_delay, 0, "by construction");
            assert_eq!(sample.app_rtt, parts.network_rtt + parts.prober_delay);
            (sample.app_rtt / US, parts.network_rtt / US)
        })
        .collect();
    assert_eq!(seen, [(2_500, 2_499), (1_510, 9), (520, 9), (10, 9)]);
    assert_eq!(session.poll(at(now)), Wake::Done);
}

#[test]
fn a_ping_pong_without_stamps_has_an_app_rtt_and_no_error() {
    let mut session = session(Duration::from_millis(1), 1);
    let number = post(&mut session, 0);
    assert!(session.completed(number, at(70 * US), Completion::PingPong));
    assert!(!session.completed(number, at(80 * US), Completion::PingPong));
    let outcomes = settled(&mut session, 80 * US);
    let [Outcome::Reply(sample)] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((sample.app_rtt, sample.parts), (70 * US, Err(PartsMissing::ResponderStamps)));
    assert_eq!((session.account().received, session.account().duplicate), (1, 1));
    assert!(session.account().errors_by_reason().is_empty());
}

#[test]
fn a_failed_operation_is_lost_at_once_and_counted_by_its_reason() {
    let mut session = session(Duration::from_millis(1), 2);
    let first = post(&mut session, 0);
    session.failed(first, "retry_exceeded");
    session.failed(first, "flushed");
    let second = post(&mut session, MS);
    assert!(!session.completed(first, at(MS), Completion::PingPong));
    assert!(session.completed(second, at(2 * MS), Completion::PingPong));
    let account = session.account();
    assert_eq!((account.lost, account.received, account.late_replies), (1, 1, 1));
    assert!(account.is_conserved());
    assert!(matches!(settled(&mut session, 2 * MS)[..], [Outcome::Lost { .. }, Outcome::Reply(_)]));
    assert_eq!(session.account().errors_by_reason().get("retry_exceeded"), Some(&1));
}

/// In a closed loop nothing is ever late: each slot is when the driver asks for it.
#[test]
fn a_closed_loop_asks_for_the_next_when_the_last_is_done() {
    let mut session = session(Duration::ZERO, 3);
    let mut now = S;
    for _ in 0..3 {
        let number = post(&mut session, now);
        now += 5 * MS;
        assert!(session.completed(number, at(now), Completion::PingPong));
    }
    for outcome in settled(&mut session, now) {
        let Outcome::Reply(sample) = outcome else { panic!("{outcome:?}") };
        assert_eq!(sample.app_rtt, 5 * MS);
    }
    assert_eq!(session.account().late_starts, 0);
    assert_eq!(session.poll(at(now)), Wake::Done);
}

/// A closed loop asks for the next probe before the last is answered; when it is stopped, that one was never scheduled.
#[test]
fn what_is_withdrawn_was_never_scheduled() {
    let mut session = session(Duration::ZERO, 2);
    post(&mut session, 0);
    let Wake::Send(next) = session.poll(at(US)) else { panic!("one is left") };
    session.withdraw(&next);
    session.stop();
    assert!(session.account().is_conserved());
    assert_eq!((session.account().scheduled, session.account().in_flight), (1, 1));
}

#[test]
fn a_closed_loop_ends_after_its_count() {
    let mut session = session(Duration::ZERO, 1);
    let (number, now) = (post(&mut session, S), S + MS);
    assert!(session.completed(number, at(now), Completion::PingPong));
    settled(&mut session, now);
    assert_eq!(session.poll(at(now)), Wake::Done);
}
