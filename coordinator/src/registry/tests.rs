use proptest::prelude::*;
use railgauge_core::time::Monotonic;

use super::*;
use crate::hello::{self, tests::example};

const LEASE: u64 = 30;

fn at(second: u64) -> Now {
    Now {
        monotonic: Monotonic::from_nanos((1_000 + second) * 1_000_000_000),
        wall: Wall::from_unix_nanos((1_700_000_000 + second) * 1_000_000_000),
    }
}

fn registry() -> Registry {
    Registry::new(Duration::from_secs(LEASE))
}

fn hello(name: &str, last: u8) -> Hello {
    let mut hello = hello::check(example(name, last)).unwrap();
    hello.sent_at = at(0).wall;
    hello
}

fn named(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn joined(registry: &mut Registry, hello: Hello, session: u64, second: u64) -> Joined {
    registry.join(hello, SessionId(session), at(second)).unwrap()
}

fn state(registry: &Registry, name: &str) -> State {
    registry.node(&named(name)).unwrap().state
}

#[test]
fn a_broken_stream_is_forgiven_until_the_lease_runs_out() {
    let mut registry = registry();
    assert_eq!(joined(&mut registry, hello("a", 1), 1, 0).arrival, Arrival::New);
    assert!(registry.closed(&named("a"), SessionId(1), false));
    assert_eq!(state(&registry, "a"), State::Reconnecting);
    assert!(registry.tick(at(LEASE)).is_empty());
    assert_eq!(registry.members().len(), 1);
    assert_eq!(registry.tick(at(LEASE + 1)), [(named("a"), None)]);
    assert_eq!((state(&registry, "a"), registry.members().len()), (State::Lost, 0));
    let back = joined(&mut registry, hello("a", 1), 2, LEASE + 2);
    assert_eq!(back, Joined { arrival: Arrival::Reconnected, replaced: None });
    assert_eq!(registry.members().len(), 1);
}

#[test]
fn a_goodbye_frees_the_name_at_once() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    registry.closed(&named("a"), SessionId(1), true);
    assert_eq!((state(&registry, "a"), registry.members().len()), (State::Left, 0));
    assert_eq!(joined(&mut registry, hello("a", 2), 2, 1).arrival, Arrival::TakenOver);
}

#[test]
fn a_second_machine_is_refused_until_the_lease_has_run_out() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    let error = registry.join(hello("a", 2), SessionId(2), at(LEASE)).unwrap_err();
    assert!(error.to_string().contains("heard 30 s ago"), "{error}");
    let notes = registry.node(&named("a")).unwrap().notes();
    assert_eq!(notes, ["another machine asked for its name and was refused"]);
    let taken = joined(&mut registry, hello("a", 2), 2, LEASE + 1);
    // The silent stream was still open, and must be ended.
    let replaced = Some(SessionId(1));
    assert_eq!(taken, Joined { arrival: Arrival::TakenOver, replaced });
    assert!(!registry.heard(&named("a"), SessionId(1), None, at(LEASE + 2)));
    assert!(
        !registry.closed(&named("a"), SessionId(1), true),
        "the old stream's end changes nothing"
    );
    assert_eq!(state(&registry, "a"), State::Connected);
}

#[test]
fn restart_reboot_and_reconnection_are_told_apart() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    let again = joined(&mut registry, hello("a", 1), 2, 1);
    assert_eq!((again.arrival, again.replaced), (Arrival::Reconnected, Some(SessionId(1))));
    let mut other = hello("a", 1);
    other.instance = 2;
    assert_eq!(joined(&mut registry, other.clone(), 3, 2).arrival, Arrival::Restarted);
    registry.closed(&named("a"), SessionId(3), false);
    other.boot_id = "boot-2".into();
    assert_eq!(joined(&mut registry, other, 4, 3).arrival, Arrival::Rebooted);
    let node = registry.node(&named("a")).unwrap();
    assert_eq!((node.restarts, node.reboots), (1, 1));
}

#[test]
fn a_copied_state_directory_is_refused_while_the_first_is_heard() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    let mut copy = hello("a", 1);
    copy.boot_id = "boot-2".into();
    let error = registry.join(copy.clone(), SessionId(2), at(1)).unwrap_err().to_string();
    assert!(error.contains("state directory of a has been copied"), "{error}");
    // After a crash of the machine nothing is heard, though its stream may still look open.
    assert_eq!(joined(&mut registry, copy, 3, LEASE / 3).arrival, Arrival::Rebooted);
}

#[test]
fn no_address_is_planned_twice() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    let mut thief = hello("b", 2);
    thief.endpoints[0].address = hello("a", 1).endpoints[0].address;
    let error = registry.join(thief, SessionId(2), at(0)).unwrap_err().to_string();
    assert_eq!(error, "the address 127.0.0.1:862 of b is already that of a");
}

#[test]
fn a_renamed_machine_gives_up_its_old_name() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    registry.closed(&named("a"), SessionId(1), false);
    joined(&mut registry, hello("b", 1), 2, 1);
    assert_eq!((state(&registry, "a"), registry.members().len()), (State::Left, 1));
}

#[test]
fn skew_is_what_the_quickest_message_shows() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    for second in 1..=8 {
        let late = if second == 4 { 5_000_000_000 } else { 4_000_000_000 };
        let sent = Wall::from_unix_nanos(at(second).wall.as_unix_nanos() + late);
        assert!(registry.heard(&named("a"), SessionId(1), Some(sent), at(second)));
    }
    let node = registry.node(&named("a")).unwrap();
    assert_eq!(node.clock_skew_ns(), 5_000_000_000);
    assert_eq!(node.notes(), ["its clock is 5 s ahead of the coordinator's"]);
}

#[test]
fn the_long_gone_are_forgotten() {
    let mut registry = registry();
    joined(&mut registry, hello("a", 1), 1, 0);
    registry.closed(&named("a"), SessionId(1), true);
    registry.tick(at(86_399));
    assert_eq!(registry.nodes().count(), 1);
    registry.tick(at(86_400));
    assert_eq!(registry.nodes().count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Join { name: u8, identity: u8, address: u8, boot: u8 },
    Heard { name: u8, session: u64 },
    Closed { name: u8, session: u64, goodbye: bool },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..3, 1u8..4, 1u8..4, 0u8..2).prop_map(|(name, identity, address, boot)| Step::Join {
            name,
            identity,
            address,
            boot
        }),
        (0u8..3, 0u64..20).prop_map(|(name, session)| Step::Heard { name, session }),
        (0u8..3, 0u64..20, any::<bool>()).prop_map(|(name, session, goodbye)| Step::Closed {
            name,
            session,
            goodbye
        }),
        (0u64..40).prop_map(Step::Wait),
    ]
}

fn join_step(step: &Step) -> Option<Hello> {
    let Step::Join { name, identity, address, boot } = *step else { return None };
    let mut hello = hello(["a", "b", "c"][usize::from(name)], address);
    hello.identity = vec![identity; 16];
    hello.boot_id = format!("boot-{boot}");
    Some(hello)
}

proptest! {
    /// Whatever comes in whatever order: a name is never taken from a machine whose lease runs, no address is planned twice,
    /// no stream belongs to two nodes, and a node has a stream exactly when it is connected.
    #[test]
    fn whatever_comes(steps in prop::collection::vec(step(), 1..60)) {
        let (mut registry, mut second, mut next) = (registry(), 0, 0);
        for step in steps {
            let before = registry.clone();
            match &step {
                Step::Wait(seconds) => {
                    second += seconds;
                    registry.tick(at(second));
                }
                Step::Heard { name, session } => {
                    let name = named(["a", "b", "c"][usize::from(*name)]);
                    registry.heard(&name, SessionId(*session), None, at(second));
                }
                Step::Closed { name, session, goodbye } => {
                    let name = named(["a", "b", "c"][usize::from(*name)]);
                    registry.closed(&name, SessionId(*session), *goodbye);
                }
                Step::Join { .. } => {
                    let hello = join_step(&step).unwrap();
                    if registry.join(hello, SessionId(next), at(second)).is_ok() {
                        next += 1;
                    }
                }
            }
            for (name, node) in registry.nodes() {
                prop_assert_eq!(node.session.is_some(), node.state == State::Connected);
                let was = before.node(name).filter(|was| was.is_live());
                if let Some(was) = was
                    && was.hello.identity != node.hello.identity
                {
                    let silent = at(second).monotonic.saturating_since(was.last_heard.monotonic);
                    prop_assert!(silent > Duration::from_secs(LEASE));
                }
            }
            let mut addresses: Vec<_> = registry.members().iter().map(|m| m.address).collect();
            let mut sessions: Vec<_> = registry.nodes().filter_map(|(_, n)| n.session).collect();
            let (planned, open) = (addresses.len(), sessions.len());
            addresses.sort();
            addresses.dedup();
            sessions.sort();
            sessions.dedup();
            prop_assert_eq!((addresses.len(), sessions.len()), (planned, open));
        }
    }
}
