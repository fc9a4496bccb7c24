mod world;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::{Monotonic, Wall};
use world::World;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn at(ms: u64) -> Monotonic {
    Monotonic::from_nanos(ms * 1_000_000)
}

/// The same from Python's hmac and hashlib.
#[test]
fn a_nodes_key_is_what_the_record_of_the_decision_says() {
    let secret = Secret::new([0x0b; 32]);
    let key = secret.of_node(0x0102_0304, &name("node-1"));
    assert_eq!(
        sealed::hex(&key),
        "630579b3c5572bb0692fb7f7daa386cba829a26ca8e390a4b0bde9ef790664cd"
    );
    assert_ne!(key, secret.of_node(0x0102_0304, &name("node-2")));
    assert_ne!(key, secret.of_node(0x0102_0305, &name("node-1")));
    assert_eq!(format!("{key:?} {:?}", key.key()), "Secret(..) Key(..)");
}

/// A secret made into a key here signs as the same octets read from a key file do.
#[test]
fn a_key_is_the_same_whichever_way_it_came() {
    let secret = Secret::new([0xa5; 32]);
    let (ours, theirs) = (secret.key(), crate::stamp::Key::from_octets(&[0xa5; 32]).unwrap());
    assert_eq!(ours.digest([b"a", b"b"]), theirs.digest([b"ab", b""]));
}

#[test]
fn files_are_read_as_written_and_damage_is_found() {
    let of = |epoch: u8| Generation {
        epoch: epoch.into(),
        made_unix_s: 9,
        secret: Secret::new([epoch; 32]),
    };
    let file = KeyFile { first: 2, generations: vec![of(3), of(4)] };
    let text = file.write();
    assert_eq!(KeyFile::read(text.as_bytes()).unwrap(), file);
    let none = KeyFile::default();
    assert_eq!(KeyFile::read(none.write().as_bytes()).unwrap(), none);
    for cut in 0..text.len() - 1 {
        assert_eq!(KeyFile::read(&text.as_bytes()[..cut]), Err(Damaged), "{cut}");
    }
    for bit in 0..8 * (text.len() - 1) {
        let mut octets = text.clone().into_bytes();
        octets[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(KeyFile::read(&octets), Err(Damaged), "bit {bit}");
    }
}

fn given(epoch: u64, valid_ms: u64) -> GivenKey {
    GivenKey { epoch, secret: Secret::new([1; 32]), valid: Duration::from_millis(valid_ms) }
}

fn epochs(keys: &AcceptedKeys) -> Vec<u64> {
    keys.epochs().collect()
}

#[test]
fn what_is_given_is_all_but_what_the_coordinator_has_forgotten() {
    let mut keys = AcceptedKeys::default();
    keys.take(vec![given(3, 100), given(4, 100)], 0, at(0));
    assert_eq!((epochs(&keys), keys.newest_given()), (vec![4, 3], 4));
    keys.take(vec![given(5, 100), given(4, 100)], 0, at(0));
    assert_eq!(epochs(&keys), [5, 4]);
    // A coordinator that has lost its memory: what was before it stays for its time.
    keys.take(vec![given(9, 100)], 9, at(50));
    assert_eq!((epochs(&keys), keys.newest_given()), (vec![9, 5, 4], 9));
    assert!(!keys.expire(at(99)) && keys.expire(at(100)));
    assert_eq!(epochs(&keys), [9]);
    keys.renew(at(149));
    assert!(!keys.expire(at(248)) && keys.expire(at(249)));
    for epoch in 1..100 {
        keys.take(vec![given(epoch, 100)], epoch, at(300));
        assert!(keys.epochs().count() <= 16);
        assert_eq!(keys.newest_given(), epoch);
    }
}

#[test]
fn times_go_on_over_a_restart_and_no_clock_makes_them_longer() {
    let mut keys = AcceptedKeys::default();
    keys.take(vec![given(3, 1_000), given(4, 9_000)], 0, at(0));
    let wall = |ms: u64| Wall::from_unix_nanos(ms * 1_000_000);
    let text = keys.write(at(500), wall(70_000)).into_bytes();
    // Another boot: another origin of the monotonic clock.
    let mut again = AcceptedKeys::read(&text, at(7), wall(70_400)).unwrap();
    assert_eq!((epochs(&again), again.newest_given()), (vec![4, 3], 0));
    assert!(!again.expire(at(106)) && again.expire(at(107)));
    assert_eq!(epochs(&AcceptedKeys::read(&text, at(7), wall(78_500)).unwrap()), [0; 0]);
    let mut set_back = AcceptedKeys::read(&text, at(7), wall(0)).unwrap();
    assert!(set_back.expire(at(1_007)));
    assert_eq!(epochs(&set_back), [4]);
    assert!(AcceptedKeys::read(&text[1..], at(0), wall(0)).is_err());
}

fn settings() -> RotationSettings {
    RotationSettings {
        validity: Duration::from_secs(60),
        grace: Duration::from_millis(400),
        wait: Duration::from_secs(2),
    }
}

/// A coordinator with its first key, and these nodes, all of which have confirmed it.
fn begun(nodes: &[&str]) -> Rotation {
    let mut rotation = Rotation::new(Remembered::default(), settings(), at(0));
    rotation.begin(1, false, at(0));
    for node in nodes {
        rotation.joined(&name(node), true, (false, false), at(0));
        assert_eq!(rotation.probing(&name(node)), Probing::NotYet);
        rotation.confirmed(&name(node), 1);
    }
    assert_eq!(
        rotation.tick(at(0)),
        [Action::KeysChanged, Action::Replan][..1 + usize::from(!nodes.is_empty())]
    );
    rotation
}

fn publish(rotation: &mut Rotation, plan: u64, probers: &[&str], epochs: &[u64]) -> bool {
    let uses = probers.iter().map(|n| (name(n), epochs.iter().copied().collect())).collect();
    rotation.published(plan, &uses)
}

fn done(actions: &[Action]) -> Option<Report> {
    let report =
        |action: &Action| if let Action::Done(r) = action { Some(r.clone()) } else { None };
    actions.iter().find_map(report)
}

#[test]
fn a_rotation_goes_announce_switch_withdraw() {
    let (a, b) = (name("a"), name("b"));
    let mut rotation = begun(&["a", "b"]);
    assert!(publish(&mut rotation, 10, &["a", "b"], &[1]));
    rotation.begin(2, false, at(1_000));
    assert_eq!(rotation.tick(at(1_000)), [Action::KeysChanged]);
    rotation.confirmed(&a, 2);
    assert_eq!(rotation.tick(at(1_100)), []);
    assert_eq!(rotation.probing(&a), Probing::Key(1), "not before all can");
    rotation.confirmed(&b, 2);
    assert_eq!(rotation.tick(at(1_200)), [Action::Replan]);
    assert_eq!((rotation.probing(&a), rotation.probing(&b)), (Probing::Key(2), Probing::Key(2)));
    assert!(publish(&mut rotation, 11, &["a", "b"], &[2]));
    rotation.runs(&a, 11);
    assert_eq!(rotation.tick(at(1_250)), []);
    rotation.runs(&b, 11);
    assert_eq!(rotation.tick(at(1_300)), []);
    assert_eq!(rotation.tick(at(1_699)), []);
    let actions = rotation.tick(at(1_700));
    assert_eq!(actions[0], Action::KeysChanged);
    let report = done(&actions).unwrap();
    assert_eq!((report.epoch, report.confirmed, report.laggards), (2, 2, vec![]));
    assert_eq!(rotation.epochs().collect::<Vec<_>>(), [2]);
    assert!(!publish(&mut rotation, 12, &["a"], &[1]), "that key is gone");
}

#[test]
fn who_does_not_confirm_is_probed_with_the_old_key_and_named() {
    let (a, b) = (name("a"), name("b"));
    let mut rotation = begun(&["a", "b"]);
    publish(&mut rotation, 10, &["a", "b"], &[1]);
    rotation.begin(2, false, at(1_000));
    rotation.confirmed(&a, 2);
    rotation.tick(at(2_999));
    assert_eq!(rotation.probing(&a), Probing::Key(1));
    assert_eq!(rotation.tick(at(3_000)), [Action::Replan]);
    assert_eq!((rotation.probing(&a), rotation.probing(&b)), (Probing::Key(2), Probing::Key(1)));
    publish(&mut rotation, 11, &["a"], &[1]);
    publish(&mut rotation, 11, &["b"], &[2]);
    rotation.runs(&a, 11);
    rotation.runs(&b, 11);
    assert_eq!(done(&rotation.tick(at(5_399))), None);
    let report = done(&rotation.tick(at(5_400))).unwrap();
    let said: Vec<String> = report.laggards.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["a may still probe with keys of before", "b has not confirmed its new key"]);
    // It does at last, and the old key goes by itself.
    rotation.confirmed(&b, 2);
    assert_eq!(rotation.tick(at(6_000)), [Action::Replan]);
    publish(&mut rotation, 12, &["a", "b"], &[2]);
    rotation.runs(&a, 12);
    rotation.runs(&b, 12);
    rotation.tick(at(6_100));
    assert_eq!(rotation.tick(at(6_500)), [Action::KeysChanged]);
}

#[test]
fn a_prober_out_of_reach_keeps_a_key_alive_until_its_own_is_over() {
    let (a, b) = (name("a"), name("b"));
    let mut rotation = begun(&["a", "b"]);
    publish(&mut rotation, 10, &["a", "b"], &[1]);
    rotation.gone(&a, at(1_000));
    rotation.members(&[b.clone()].into());
    publish(&mut rotation, 11, &["b"], &[]);
    rotation.runs(&b, 11);
    rotation.begin(2, false, at(2_000));
    rotation.confirmed(&b, 2);
    rotation.tick(at(2_000));
    let report = done(&rotation.tick(at(4_400))).unwrap();
    assert_eq!(report.laggards, [Laggard::Prober { node: a.clone(), connected: false }]);
    assert!(!rotation.is_under_way());
    rotation.tick(at(61_399));
    assert_eq!(rotation.epochs().count(), 2);
    rotation.tick(at(61_400));
    rotation.tick(at(61_800));
    assert_eq!(rotation.epochs().collect::<Vec<_>>(), [2]);
    // Where the key has leaked nobody is waited for.
    let mut rotation = begun(&["a", "b"]);
    publish(&mut rotation, 10, &["a", "b"], &[1]);
    rotation.gone(&a, at(1_000));
    rotation.begin(2, true, at(2_000));
    rotation.confirmed(&b, 2);
    rotation.tick(at(2_000));
    assert!(done(&rotation.tick(at(4_400))).is_some());
    assert_eq!(
        (rotation.epochs().collect::<Vec<_>>(), rotation.probing(&a)),
        (vec![2], Probing::NotYet)
    );
}

#[test]
fn keys_from_before_a_restart_and_those_of_sweeps_wait_out_their_time() {
    let (a, now) = (name("a"), at(1_000));
    let mut rotation =
        Rotation::new(Remembered { epochs: [1].into(), ..Remembered::default() }, settings(), now);
    rotation.joined(&a, true, (false, false), now);
    rotation.confirmed(&a, 1);
    rotation.begin(2, false, now);
    rotation.confirmed(&a, 2);
    rotation.tick(now);
    let report = done(&rotation.tick(at(3_400))).unwrap();
    assert!(matches!(report.laggards[..], [Laggard::Unknown { .. }]), "{report:?}");
    rotation.tick(at(61_000));
    rotation.tick(at(61_400));
    assert_eq!(rotation.epochs().collect::<Vec<_>>(), [2]);
    assert_eq!(rotation.forget_from(now), 0);

    let mut rotation = begun(&["a"]);
    assert_eq!(rotation.forget_from(now), 1);
    rotation.lend(1, at(9_000));
    rotation.begin(2, false, now);
    rotation.confirmed(&a, 2);
    rotation.tick(now);
    assert_eq!(done(&rotation.tick(at(8_999))), None, "a sweep is waited for");
    rotation.tick(at(9_000));
    let report = done(&rotation.tick(at(9_400))).unwrap();
    assert_eq!((report.laggards, rotation.epochs().collect::<Vec<_>>()), (vec![], vec![2]));
    // Not if it takes too long.
    rotation.lend(2, at(200_000));
    rotation.begin(3, false, at(10_000));
    rotation.confirmed(&a, 3);
    rotation.tick(at(10_000));
    let report = done(&rotation.tick(at(12_400))).unwrap();
    assert!(matches!(report.laggards[..], [Laggard::Lent { .. }]), "{report:?}");
}

/// Who is remembered and comes back, and runs a plan of now, is no reason to wait; who does not come back, is one until his keys are
/// over.
#[test]
fn probers_are_remembered_over_a_restart() {
    let (a, b, now) = (name("a"), name("b"), at(1_000));
    let probers = Some([a.clone(), b.clone()].into());
    let remembered = Remembered { epochs: [1].into(), first: None, probers };
    let mut rotation = Rotation::new(remembered, settings(), now);
    assert_eq!(rotation.probers([].into_iter(), now).unwrap().len(), 2);
    rotation.joined(&a, true, (true, true), now);
    rotation.confirmed(&a, 1);
    publish(&mut rotation, 10, &["a"], &[1]);
    rotation.begin(2, false, now);
    rotation.confirmed(&a, 2);
    rotation.tick(now);
    publish(&mut rotation, 11, &["a"], &[2]);
    rotation.runs(&a, 11);
    let report = done(&rotation.tick(at(3_400))).unwrap();
    assert_eq!(report.laggards, [Laggard::Prober { node: b.clone(), connected: false }]);
    rotation.joined(&b, true, (true, true), at(4_000));
    rotation.confirmed(&b, 2);
    publish(&mut rotation, 12, &["a", "b"], &[2]);
    rotation.runs(&b, 12);
    rotation.tick(at(4_100));
    rotation.tick(at(4_500));
    assert_eq!(rotation.epochs().collect::<Vec<_>>(), [2]);

    let identities = [(a, vec![1, 0xff]), (b, vec![])].into();
    let text = write_probers(&identities);
    assert_eq!(read_probers(text.as_bytes()).unwrap(), identities);
    assert_eq!(read_probers(&text.as_bytes()[1..]), Err(Damaged));
}

#[test]
fn who_is_too_old_is_probed_without_and_who_goes_back_too() {
    let old = name("old");
    let mut rotation = begun(&[]);
    rotation.joined(&old, false, (false, false), at(0));
    assert_eq!(rotation.probing(&old), Probing::Plain);
    assert!(!rotation.awaits_first_word(at(1)) && !rotation.is_able(&old));
    rotation.joined(&old, true, (true, false), at(10));
    assert!(rotation.awaits_first_word(at(11)) && !rotation.awaits_first_word(at(2_010)));
    rotation.confirmed(&old, 1);
    assert_eq!(rotation.probing(&old), Probing::Key(1));
    rotation.joined(&old, false, (true, false), at(20));
    assert_eq!(rotation.probing(&old), Probing::Plain);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Streams are cut, agents and the coordinator killed, messages late, rotations asked for whenever: no probe meets a reflector
    /// that does not answer its key. When all is quiet again, one rotation more ends with one key.
    #[test]
    fn no_probe_meets_a_reflector_without_its_key(seed: u64) {
        let mut world = World::new(seed);
        world.run_wild(60_000);
        prop_assert_eq!(&world.unanswered, &Vec::<String>::new());
        world.calm();
        prop_assert_eq!(&world.unanswered, &Vec::<String>::new());
        prop_assert!(world.probes > 0 && world.rotations > 0);
        prop_assert_eq!(world.epochs_everywhere(), vec![1; 5]);
    }
}
