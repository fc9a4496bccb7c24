use std::fs;
use std::os::unix::fs::PermissionsExt;

use railgauge_proto::v1::coordinator_message::Message as To;
use railgauge_proto::v1::operator_client::OperatorClient;
use tonic::Code;

use super::*;
use crate::hello::tests::example;
use crate::server::{self, Running, StartError};
use crate::session::Limits;
use crate::session::tests::{Agent, channel, config, coordinator, nodes, within};
use crate::sweeps;

/// Reads, and so confirms, whatever comes.
fn read_on(mut agent: Agent) {
    tokio::spawn(async move { while agent.next().await.is_ok() {} });
}

async fn started(dir: &Path, more: &str) -> Running {
    server::start(config(dir, more), Limits::default()).await.unwrap()
}

/// The next keys that are some.
async fn keys(agent: &mut Agent) -> v1::ProbeKeys {
    let some = |message| match message {
        To::ProbeKeys(keys) if !keys.keys.is_empty() => Some(keys),
        _ => None,
    };
    agent.until(some).await
}

/// A plan with a target.
async fn targets(agent: &mut Agent) -> Vec<v1::Target> {
    loop {
        let plan = agent.plan().await;
        if !plan.targets.is_empty() {
            return plan.targets;
        }
    }
}

fn epochs(told: &v1::ProbeKeys) -> Vec<u64> {
    told.keys.iter().map(|given| given.key.as_ref().unwrap().epoch).collect()
}

async fn rotate(
    running: &Running,
    withdraw: bool,
) -> Result<v1::RotateProbeKeysResponse, tonic::Status> {
    let mut client = OperatorClient::new(channel(running.grpc).await);
    let request = v1::RotateProbeKeysRequest { withdraw };
    client.rotate_probe_keys(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn keys_are_given_confirmed_planned_and_rotated() {
    let c = coordinator().await;
    let mut a = Agent::joined(c.running.grpc, "a", 1).await;
    let mut b = Agent::joined(c.running.grpc, "b", 2).await;
    let (of_a, of_b) = (keys(&mut a).await, keys(&mut b).await);
    assert_ne!(of_a.keys[0].key, of_b.keys[0].key);
    assert_eq!(targets(&mut a).await[0].probe_key, of_b.keys[0].key);
    assert_eq!(targets(&mut b).await[0].probe_key, of_a.keys[0].key);
    let first = epochs(&of_a)[0];
    assert_eq!(c.running.fleet.keys.epoch(), first);
    // Both go on confirming whatever they are told.
    let seen = [a, b].map(|mut agent| {
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Ok(message) = agent.next().await {
                match message {
                    To::ProbeKeys(told) => seen.push(epochs(&told)),
                    To::Plan(plan) => {
                        seen.push(
                            plan.targets
                                .iter()
                                .map(|t| t.probe_key.as_ref().unwrap().epoch)
                                .collect(),
                        );
                    }
                    _ => {}
                }
            }
            seen
        })
    });
    let done = within(rotate(&c.running, false)).await.unwrap();
    assert!(done.old_keys_withdrawn && done.waits_for.is_empty(), "{done:?}");
    assert!(done.epoch > first && done.nodes_confirmed == 2 && done.nodes_without_keys.is_empty());
    c.running.stop().await;
    for seen in seen {
        // Both are answered, then plans change, then one is.
        let new = done.epoch;
        assert_eq!(within(seen).await.unwrap(), [vec![first, new], vec![new], vec![new]]);
    }
}

#[tokio::test]
async fn an_agent_that_knows_of_no_keys_is_probed_and_probes_without() {
    let dir = tempfile::tempdir().unwrap();
    // The last version that may meet an agent without them.
    let limits = Limits { protocol: v1::Protocol { major: 1, minor: 1 }, ..Limits::default() };
    let running = server::start(config(dir.path(), ""), limits).await.unwrap();
    let mut a = Agent::joined(running.grpc, "a", 1).await;
    let mut old = example("old", 2);
    old.protocol.as_mut().unwrap().minor = 0;
    let mut old = Agent::hello(running.grpc, old).await;
    assert_eq!(targets(&mut a).await[0].probe_key, None);
    assert_eq!(targets(&mut old).await[0].probe_key, None);
    let listed = nodes(running.grpc).await;
    let notes = |n: usize| listed[n].notes.concat();
    assert!(!notes(0).contains("keys"), "{}", notes(0));
    assert!(notes(1).contains("too old for keys"), "{}", notes(1));
    // One that insists is not probed by it.
    let mut strict = example("strict", 3);
    strict.refuses_unauthenticated = true;
    let mut strict = Agent::hello(running.grpc, strict).await;
    let told = keys(&mut strict).await;
    let of = |targets: &[v1::Target]| -> Vec<String> {
        targets.iter().map(|t| t.path.clone().unwrap().dst.unwrap().node).collect()
    };
    let seen = loop {
        let seen = targets(&mut a).await;
        if seen.len() == 2 {
            break seen;
        }
    };
    assert_eq!(
        (of(&seen), &seen[1].probe_key),
        (vec!["old".into(), "strict".into()], &told.keys[0].key)
    );
    assert_eq!(of(&targets(&mut strict).await), ["a", "old"]);
    [a, old, strict].into_iter().for_each(read_on);
    let report = within(rotate(&running, false)).await.unwrap();
    assert_eq!((report.nodes_without_keys, report.nodes_confirmed), (vec!["old".to_owned()], 2));
    assert!(report.old_keys_withdrawn, "{:?}", report.waits_for);
    running.stop().await;
}

#[tokio::test]
async fn without_authentication_there_are_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(dir.path(), "probe_authentication = false\n").await;
    let mut a = Agent::joined(running.grpc, "a", 1).await;
    let mut b = Agent::joined(running.grpc, "b", 2).await;
    assert_eq!(targets(&mut a).await[0].probe_key, None);
    assert_eq!(targets(&mut b).await[0].probe_key, None);
    let error = rotate(&running, false).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("set probe_authentication = true"), "{error}");
    assert!(!dir.path().join(file::NAME).exists());
    // Turned on while it runs: keys come, and plans with them.
    running.reload(config(dir.path(), ""));
    let told = keys(&mut b).await;
    let probe_key = loop {
        if let Some(key) = targets(&mut a).await[0].probe_key.clone() {
            break Some(key);
        }
    };
    assert_eq!(probe_key, told.keys[0].key);
    running.stop().await;
}

#[tokio::test]
async fn keys_outlive_the_process_and_epochs_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(file::NAME);
    let running = started(dir.path(), "").await;
    let first = running.fleet.keys.epoch();
    running.stop().await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let running = started(dir.path(), "").await;
    assert_eq!(running.fleet.keys.epoch(), first);
    let mut a = Agent::joined(running.grpc, "a", 1).await;
    assert_eq!((epochs(&keys(&mut a).await), running.fleet.keys.epoch()), (vec![first], first));
    running.stop().await;

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = server::start(config(dir.path(), ""), Limits::default()).await.unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, StartError::Keys(KeysError::Open { .. })), "{said}");
    assert!(said.contains("can be read by others (mode 0644): `chmod 600 /"), "{said}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let mut octets = fs::read(&file).unwrap();
    octets[50] ^= 1;
    fs::write(&file, octets).unwrap();
    // Epochs are the time in seconds where they can be.
    within(async {
        while crate::clock::now().wall.as_unix_nanos() / 1_000_000_000 <= first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let running = started(dir.path(), "").await;
    let second = running.fleet.keys.epoch();
    assert!(second > first);
    let mut a = Agent::joined(running.grpc, "a", 1).await;
    let told = keys(&mut a).await;
    assert_eq!((epochs(&told), told.forget_from_epoch), (vec![second], second), "{told:?}");
    running.stop().await;
}

/// Who comes back after a restart and runs a plan of now is no reason to wait: the rotation ends with the old keys withdrawn.
#[tokio::test]
async fn a_rotation_after_a_restart_waits_for_nobody_who_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let holders = dir.path().join("probe_key_holders");
    for restart in 0..2 {
        let running = started(dir.path(), "").await;
        let mut a = Agent::joined(running.grpc, "a", 1).await;
        read_on(Agent::joined(running.grpc, "b", 2).await);
        while targets(&mut a).await[0].probe_key.is_none() {}
        if restart == 1 {
            read_on(a);
            let report = within(rotate(&running, false)).await.unwrap();
            assert!(report.old_keys_withdrawn, "{:?}", report.waits_for);
        }
        running.stop().await;
        let text = fs::read_to_string(&holders).unwrap();
        assert!(text.contains("\na 0101") && text.contains("\nb 0202"), "{text}");
    }
    // Where that is lost, whoever had keys may be out there.
    fs::remove_file(&holders).unwrap();
    let running = started(dir.path(), "").await;
    assert_eq!(
        running.fleet.keys.unwritten_probers([].into_iter(), crate::clock::now().monotonic),
        None
    );
    running.stop().await;
}

/// What is announced of a sweep, and ordered, is what is sent.
#[test]
fn a_sweeps_packets_are_as_long_as_they_are_announced() {
    use railgauge_core::stamp::request_len;
    assert_eq!(request_len(true, 44), sweeps::AUTHENTICATED_BYTES as usize);
    let authenticated = request_len(false, sweeps::AUTHENTICATED_BYTES as usize);
    assert_eq!(authenticated, sweeps::AUTHENTICATED_BYTES as usize);
}
