//! Single rules, asked directly.

use std::time::Duration;

use super::world::{MS, S, config};
use crate::session::{
    ConfigError, MAX_IN_FLIGHT, Outcome, Parts, PartsMissing, ProbeSession, SessionConfig, Unsent,
    Wake,
};
use crate::stamp::{ErrorEstimate, FollowUp, Reply, TlvTrouble};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

const T1: [u8; 8] = [1; 8];

fn at(nanos: u64) -> Monotonic {
    Monotonic::from_nanos(nanos)
}

/// A reply of a reflector without telemetry, 1 us after the request came.
fn reply(sender_seq: u32) -> Reply {
    Reply {
        reflector_seq: sender_seq,
        t2: Wall::from_unix_nanos(5_000),
        t3: Wall::from_unix_nanos(6_000),
        stamps_readable: true,
        reflector_error_estimate: ErrorEstimate::UNSYNCHRONIZED,
        sender_seq,
        sender_timestamp: T1,
        ssid: 0,
        sender_ttl: 255,
        follow_up: None,
        sources: None,
        trouble: TlvTrouble::default(),
    }
}

fn user(nanos: u64) -> (Wall, StampSource) {
    (Wall::from_unix_nanos(nanos), StampSource::User)
}

/// One probe every millisecond, lost after 10 ms, stamped in user space.
fn session(count: u64, first: u64) -> ProbeSession {
    let config = config(Duration::from_millis(1), count, Duration::from_millis(10));
    let config = SessionConfig { transmit_stamps: false, ..config };
    ProbeSession::numbered_from(config, at(0), first).unwrap()
}

/// Sends the probe that is due at `now`, and returns its number.
fn send(session: &mut ProbeSession, now: u64) -> u64 {
    let Wake::Send(probe) = session.poll(at(now)) else { panic!("nothing is due at {now}") };
    session.sent(probe, at(now), Wall::from_unix_nanos(S + now), T1);
    probe.number
}

fn settled(session: &mut ProbeSession, now: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    session.settle(at(now), |outcome| outcomes.push(outcome));
    outcomes
}

#[test]
fn replies_find_their_probes_across_the_wrap_of_the_sequence_number() {
    let first = (1 << 32) - 2;
    let mut session = session(4, first);
    let numbers: Vec<u64> = (0..4).map(|slot| send(&mut session, slot * MS)).collect();
    assert_eq!(numbers, [first, first + 1, 1 << 32, (1 << 32) + 1]);
    for seq in [0, u32::MAX - 1, 1, u32::MAX] {
        assert!(session.received(&reply(seq), at(4 * MS), user(S + 4 * MS)));
    }
    assert_eq!((session.account().received, session.account().reordered), (4, 2));
    assert_eq!(settled(&mut session, 4 * MS).len(), 4);
    assert_eq!(session.poll(at(4 * MS)), Wake::Done);
}

/// Slots that no probe may leave in are skipped, counted by their reason, and nothing is lost for it.
#[test]
fn what_is_withheld_is_skipped() {
    let mut session = session(10, 0);
    send(&mut session, 0);
    session.withhold(Some("no_key"));
    let Wake::Wait(until) = session.poll(at(3 * MS)) else { panic!("nothing may leave") };
    assert!(until <= at(4 * MS));
    let account = session.account();
    assert_eq!((account.skipped, account.errors_by_reason()["no_key"]), (3, 3));
    assert!(account.is_conserved() && account.lost == 0);
    session.withhold(None);
    assert!(matches!(session.poll(at(4 * MS)), Wake::Send(_)));
}

#[test]
fn a_sequence_number_never_sent_is_unmatched() {
    let mut session = session(4, 0);
    assert!(!session.received(&reply(0), at(0), user(S)));
    send(&mut session, 0);
    for seq in [1, 1 << 31, u32::MAX] {
        assert!(!session.received(&reply(seq), at(0), user(S)));
    }
    let foreign = Reply { sender_timestamp: [2; 8], ..reply(0) };
    assert!(!session.received(&foreign, at(0), user(S)));
    let errors = session.account().errors_by_reason();
    assert_eq!((errors["unmatched_reply"], errors["foreign_reply"]), (4, 1));
    assert_eq!(session.account().in_flight, 1);
}

#[test]
fn a_probe_is_lost_when_the_sockets_were_read_dry_after_its_time_out() {
    let mut session = session(1, 0);
    send(&mut session, 0);
    session.read_dry(at(10 * MS - 1));
    assert_eq!(session.poll(at(500 * MS)), Wake::Wait(at(10 * MS)));
    assert_eq!(session.account().lost, 0);
    session.read_dry(at(10 * MS));
    session.poll(at(500 * MS));
    assert_eq!((session.account().lost, session.account().in_flight), (1, 0));
    assert!(!session.received(&reply(0), at(500 * MS), user(S + 500 * MS)));
    assert_eq!((session.account().lost, session.account().late_replies), (1, 1));
    assert!(matches!(settled(&mut session, 500 * MS)[..], [Outcome::Lost { number: 0, .. }]));
    assert_eq!(session.poll(at(500 * MS)), Wake::Done);
}

/// Of a reply that is read late the kernel's stamp says whether it came late.
#[test]
fn a_reply_read_late_is_judged_by_its_arrival() {
    for (arrived, in_time) in [(10 * MS - 1, true), (10 * MS, false)] {
        let mut session = session(1, 0);
        send(&mut session, 0);
        let t4 = (Wall::from_unix_nanos(S + arrived), StampSource::Kernel);
        assert_eq!(session.received(&reply(0), at(30 * MS), t4), in_time);
        let account = session.account();
        assert_eq!((account.received, account.lost), (u64::from(in_time), u64::from(!in_time)));
        assert_eq!(account.late_replies, account.lost);
    }
}

/// The wall clock steps an hour ahead while a probe is out: its reply is read in time, so it came in time.
#[test]
fn a_clock_step_makes_no_reply_late() {
    let mut session = session(1, 0);
    send(&mut session, 0);
    let t4 = (Wall::from_unix_nanos(3_600 * S), StampSource::Kernel);
    assert!(session.received(&reply(0), at(MS), t4));
    assert!(matches!(settled(&mut session, MS)[..], [Outcome::Reply(_)]));
    assert_eq!(session.account().invalid_stamps, 1);
}

#[test]
fn a_refused_probe_is_a_send_error_and_nothing_else() {
    let mut session = session(2, 0);
    let number = send(&mut session, 0);
    session.refused(number, "no_buffer_space");
    session.refused(number, "no_buffer_space");
    assert!(!session.received(&reply(0), at(MS), user(S + MS)));
    let account = session.account();
    assert_eq!((account.send_errors, account.sent, account.in_flight), (1, 0, 0));
    assert!(account.is_conserved());
    assert_eq!(settled(&mut session, MS), []);
}

#[test]
fn after_the_end_nothing_counts() {
    let mut session = session(5, 0);
    send(&mut session, 0);
    send(&mut session, MS);
    assert!(session.received(&reply(1), at(2 * MS), user(S + 2 * MS)));
    session.stop();
    assert_eq!(session.poll(at(2 * MS)), Wake::Done);
    let outcomes = settled(&mut session, 2 * MS);
    assert!(matches!(outcomes[..], [Outcome::Reply(sample)] if sample.number == 1));
    assert!(!session.received(&reply(0), at(3 * MS), user(S + 3 * MS)));
    let account = session.account();
    assert_eq!((account.sent, account.received, account.in_flight), (2, 1, 1));
    assert_eq!(settled(&mut session, 3 * MS), []);
}

#[test]
fn a_finished_last_probe_ends_the_run_at_once() {
    let mut session = session(1, 0);
    let number = send(&mut session, 0);
    session.refused(number, "no_buffer_space");
    assert_eq!(session.poll(at(10)), Wake::Wait(at(10)), "there is something to settle");
    settled(&mut session, 10);
    assert_eq!(session.poll(at(10)), Wake::Done);
}

/// One probe answered by `first`, which `second`, the answer to another, may follow up: how it was split.
fn split_of(first: Reply, second: Option<Reply>) -> Result<Parts, PartsMissing> {
    let mut session = session(2, 0);
    for (slot, answer) in (0..).zip([Some(first), second]) {
        send(&mut session, slot * MS);
        if let Some(answer) = answer {
            assert!(session.received(&answer, at(slot * MS + 9_000), user(S + slot * MS + 8_000)));
        }
    }
    let Some(Outcome::Reply(sample)) = settled(&mut session, 20 * MS).into_iter().next() else {
        panic!("no reply")
    };
    sample.parts
}

#[test]
fn stamps_that_cannot_be_are_in_no_split() {
    let invalid = |reason| Err(PartsMissing::Invalid(reason));
    let good = Parts { network_rtt: 7_000, prober_delay: 1_000, responder_delay: 1_000 };
    assert_eq!(split_of(reply(0), None), Ok(good));
    assert_eq!(
        split_of(Reply { stamps_readable: false, ..reply(0) }, None),
        invalid("stamp_out_of_range")
    );
    // Written at 6,000 by the reflector's clock.
    let follow_up = |source, t3| {
        let promising = |seq| Reply { sources: Some((source, source)), ..reply(seq) };
        let t3 = Wall::from_unix_nanos(t3);
        let told = FollowUp { reflector_seq: 0, t3, method: 2 };
        split_of(promising(0), Some(Reply { follow_up: Some(told), ..promising(1) }))
    };
    let (kernel, nic) = (StampSource::Kernel, StampSource::Hardware);
    assert_eq!(follow_up(kernel, 6_000), Ok(good));
    assert_eq!(follow_up(kernel, 5_999), invalid("true_t3_before_t3"));
    // A NIC's clock counts from an epoch of its own.
    let parts = follow_up(nic, 5_500).unwrap();
    assert_eq!((parts.network_rtt, parts.responder_delay), (7_500, 500));
}

#[test]
fn a_burst_is_settled_a_batch_at_a_time() {
    let mut session = session(100, 0);
    for _ in 0..11 {
        let number = send(&mut session, 10 * MS);
        session.refused(number, "no_buffer_space");
    }
    for slot in 11..100 {
        let number = send(&mut session, slot * MS);
        session.refused(number, "no_buffer_space");
    }
    let turns = std::iter::repeat_with(|| session.settle(at(100 * MS), |_| ()));
    assert_eq!(turns.take_while(|&more| more).count(), 3);
    assert_eq!(session.poll(at(100 * MS)), Wake::Done);
}

#[test]
fn what_cannot_be_held_in_memory_is_refused_and_what_can_is_not() {
    let fast = |count| config(Duration::from_nanos(1), count, Duration::from_secs(1));
    let refused = ProbeSession::new(fast(u64::MAX), at(0)).unwrap_err();
    assert_eq!(refused, ConfigError::TooManyInFlight(3_000_000_001 + 16 + 1024));
    // However fast: a thousand probes are a thousand probes.
    assert!(ProbeSession::new(fast(1_000), at(0)).is_ok());
    let nearly = config(Duration::from_nanos(1), MAX_IN_FLIGHT as u64, Duration::from_secs(1));
    assert!(ProbeSession::new(nearly, at(0)).is_err());
    // A closed loop has one under way, however many there will be.
    let closed = config(Duration::ZERO, u64::MAX, Duration::from_secs(1));
    assert!(ProbeSession::new(closed, at(0)).is_ok());
}

#[test]
fn a_run_that_begins_later_has_no_slots_behind_it() {
    let mut session = session(3, 0);
    session.begin_at(at(5 * MS));
    assert_eq!(session.poll(at(4 * MS)), Wake::Wait(at(5 * MS)));
    assert!(matches!(session.poll(at(5 * MS)), Wake::Send(probe) if probe.slot == at(5 * MS)));
    assert_eq!((session.account().scheduled, session.account().skipped), (1, 0));
}

/// An account by window needs the slot of every probe that never left.
#[test]
fn slots_without_a_probe_are_handed_over_once() {
    let mut session = session(100, 0);
    session.keep_unsent();
    send(&mut session, 0);
    // Stood still: the time-out is 10 ms, so the slots from 1 to 19 are too old at 30 ms.
    let Wake::Send(probe) = session.poll(at(30 * MS)) else { panic!("nothing to send") };
    session.sent(probe, at(30 * MS), Wall::from_unix_nanos(S), [0; 8]);
    session.refused(probe.number, "not_permitted");
    let mut unsent = Vec::new();
    session.drain_unsent(|slot, why| unsent.push((slot.as_nanos() / MS, why)));
    assert_eq!(unsent.last(), Some(&(20, Unsent::Refused)));
    let skipped: Vec<u64> = unsent[..unsent.len() - 1].iter().map(|slot| slot.0).collect();
    assert_eq!(skipped, (1..20).collect::<Vec<_>>());
    session.drain_unsent(|_, _| panic!("twice"));
    assert_eq!(session.account().skipped + session.account().send_errors, 20);
}

#[test]
fn a_run_that_is_finished_waits_for_what_is_under_way() {
    let mut session = session(100, 0);
    send(&mut session, 0);
    assert_eq!(session.settled_before(), Some(at(0)));
    session.finish();
    assert!(matches!(session.poll(at(5 * MS)), Wake::Wait(_)));
    assert!(session.received(&reply(0), at(6 * MS), user(S + 6 * MS)));
    assert_eq!(settled(&mut session, 6 * MS).len(), 1);
    assert_eq!((session.poll(at(7 * MS)), session.settled_before()), (Wake::Done, None));
    assert_eq!(session.account().scheduled, 1);
}
