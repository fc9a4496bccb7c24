//! From members to plans, by the rules of `core`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::path::{Endpoint, NodeName, Transport};
use railgauge_core::plan::{Plan, PlanSettings, PlannedPath};
use railgauge_core::rdma::reliability::Profile;
use railgauge_proto::{convert, v1};
use tokio::sync::watch;

use crate::clock;
use crate::config::Config;
use crate::epoch::Epochs;
use crate::fleet::Fleet;
use crate::hello::AgentEndpoint;
use crate::probe_keys::{KeysOfPlan, PathKey, write_probers};

/// Members that come together, as after a start of the coordinator, get one plan: it is made when no further one has come for
/// so long,
const QUIET: Duration = Duration::from_millis(300);
/// or when the first has waited so long.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// When the epoch could not be written, it is tried again after so long; agents go on with the plan they have.
const RETRY: Duration = Duration::from_secs(5);

/// A large rail's sample changes this often.
const ROTATION_NS: u64 = 10 * 60 * 1_000_000_000;
/// It is looked this often whether it is time.
const ROTATE: Duration = Duration::from_secs(15);

/// What a probe over a connection reads of its peer's memory: a word, so that the time is that of the path and not of the data.
pub const READ_BYTES: u32 = 8;

/// The plans in force, of all nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plans {
    /// Of all of them.
    pub epoch: u64,
    /// How long they are good without renewal, nanoseconds.
    pub lease_ns: u64,
    /// How long their keys are, nanoseconds.
    pub keys_valid_ns: u64,
    /// What each node probes.
    pub targets: BTreeMap<NodeName, Vec<v1::Target>>,
}

impl Plans {
    /// The plan of `node`, where it has one.
    pub fn of(&self, node: &NodeName) -> Option<v1::Plan> {
        let targets = self.targets.get(node)?.clone();
        let (epoch, lease_ns) = (self.epoch, self.lease_ns);
        Some(v1::Plan { epoch, lease_ns, targets, probe_keys_valid_ns: self.keys_valid_ns })
    }
}

/// Who probes whom: each node's targets. A node without any is there with none. Beside them, what the operator should know.
pub fn plan(
    members: &[AgentEndpoint],
    config: &Config,
    rotation: u64,
    keys: &KeysOfPlan,
) -> (BTreeMap<NodeName, Vec<v1::Target>>, Vec<String>) {
    let by_endpoint: BTreeMap<&Endpoint, &AgentEndpoint> =
        members.iter().map(|member| (&member.endpoint, member)).collect();
    let mut targets: BTreeMap<NodeName, Vec<v1::Target>> =
        members.iter().map(|member| (member.endpoint.node.clone(), Vec::new())).collect();
    let settings = PlanSettings {
        interval: config.probe_interval.duration(),
        full_mesh_up_to: config.full_mesh_up_to,
        targets_per_port: NonZeroU32::new(config.targets_per_port).unwrap_or(NonZeroU32::MIN),
        most_inbound_per_second: NonZeroU32::new(config.inbound_per_second)
            .unwrap_or(NonZeroU32::MIN),
        rotation,
        ..PlanSettings::default()
    };
    let plan = Plan::mixed(
        members.iter().map(|member| (member.endpoint.clone(), member.offers())),
        &settings,
    );
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut never: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for PlannedPath { path, interval, phase } in &plan.paths {
        let dst = by_endpoint.get(&path.dst);
        let Some(address) = dst.and_then(|dst| dst.reached_by(path.transport)) else { continue };
        let probe_key = match keys.of(&path.src.node, &path.dst.node) {
            PathKey::Probe(key) => key,
            PathKey::NotYet => continue,
            PathKey::Never => {
                *never.entry(&path.dst.node).or_default() += 1;
                continue;
            }
        };
        targets.entry(path.src.node.clone()).or_default().push(v1::Target {
            path: Some(convert::path_message(path)),
            address: address.ip().to_string(),
            port: address.port().into(),
            interval_ns: nanos(*interval),
            phase_ns: nanos(*phase),
            timeout_ns: nanos(timeout_over(path.transport, config.probe_timeout.duration())),
            size_bytes: size_bytes(path.transport, config),
            probe_key,
        });
    }
    let mut notes: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
    notes.extend(never.iter().map(|(node, paths)| {
        format!(
            "{node} answers nothing that is not authenticated: {paths} paths to it are left out, whose probers are too old for keys"
        )
    }));
    (targets, notes)
}

/// Longer than all that a queue pair does about loss, where there is one: a probe that is lost is never also late.
pub fn timeout_over(transport: Transport, wished: Duration) -> Duration {
    let own = Profile::Continuous.reliability();
    match transport {
        Transport::RdmaRc => own.probe_timeout(own.rnr_timer, wished).unwrap_or(wished),
        Transport::Udp | Transport::Tcp | Transport::RdmaUd => wished,
    }
}

/// Octets of a probe.
fn size_bytes(transport: Transport, config: &Config) -> u32 {
    match transport {
        Transport::RdmaRc => READ_BYTES,
        Transport::Udp | Transport::Tcp | Transport::RdmaUd => {
            u32::try_from(config.probe_size.as_bytes()).unwrap_or(44)
        }
    }
}

/// Makes a new plan whenever members or configuration change, until nobody listens to plans any more.
pub async fn run(
    fleet: Arc<Fleet>,
    mut config: watch::Receiver<Arc<Config>>,
    mut epochs: Epochs,
    plans: watch::Sender<Arc<Plans>>,
) {
    let (mut rotate, mut noted) = (tokio::time::interval(ROTATE), Vec::new());
    loop {
        tokio::select! {
            () = fleet.changed() => settle(&fleet).await,
            // Which paths a large rail samples depends on the time, so that a restart goes on where it was.
            _ = rotate.tick() => {}
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
                settle(&fleet).await;
            }
            () = plans.closed() => return,
        }
        let now_config = Arc::clone(&config.borrow_and_update());
        let rotation = clock::now().wall.as_unix_nanos() / ROTATION_NS;
        let members = fleet.members();
        let names: BTreeSet<NodeName> =
            members.iter().map(|member| member.endpoint.node.clone()).collect();
        let keys = fleet.keys.for_plan(&names);
        let (targets, notes) = plan(&members, &now_config, rotation, &keys);
        if notes != noted {
            notes.iter().for_each(|note| tracing::info!("the plan: {note}"));
            noted = notes;
        }
        let lease_ns = now_config.lease.as_nanos();
        let before = Arc::clone(&plans.borrow());
        let keys_valid_ns = keys.valid_ns;
        if before.targets == targets
            && (before.lease_ns, before.keys_valid_ns) == (lease_ns, keys_valid_ns)
        {
            continue;
        }
        let probers = fleet.keys.unwritten_probers(targets.keys(), clock::now().monotonic);
        let dir = now_config.state_dir.clone();
        let advanced = tokio::task::spawn_blocking(move || {
            let written = probers.as_ref().map_or(Ok(()), |probers| write_probers(&dir, probers));
            let epoch = written.map_err(|error| crate::sentence(&error)).and_then(|()| {
                epochs.advance(clock::now().wall).map_err(|error| crate::sentence(&error))
            });
            (epochs, probers, epoch)
        });
        let Ok((returned, probers, epoch)) = advanced.await else { return };
        epochs = returned;
        if let Some(probers) = probers.filter(|_| epoch.is_ok()) {
            fleet.keys.probers_are_written(probers);
        }
        match epoch {
            Ok(epoch) if fleet.keys.published(epoch, &targets) => {
                fleet.set_planless(None);
                let new = Plans { epoch, lease_ns, keys_valid_ns, targets };
                drop(plans.send(Arc::new(new)));
            }
            // A key was withdrawn while it was made: at once another.
            Ok(_) => fleet.touch(),
            Err(why) => {
                tracing::error!("no new plan: {why}");
                fleet.set_planless(Some(why));
                tokio::time::sleep(RETRY).await;
                fleet.touch();
            }
        }
    }
}

/// Waits until changes have come to rest, or long enough.
async fn settle(fleet: &Fleet) {
    let quiet = async {
        // A node that has just come confirms its keys within milliseconds, and is in no plan before that.
        while tokio::time::timeout(QUIET, fleet.changed()).await.is_ok()
            || fleet.keys.awaits_first_word(clock::now().monotonic)
        {}
    };
    // Running out of time is as good as quiet.
    drop(tokio::time::timeout(MOST_WAIT, quiet).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;
    use crate::hello::{self, tests::example};

    #[test]
    fn everyone_probes_everyone_else() {
        let config = Config::of(&Layer::default(), &Layer::default());
        let hellos = [("a", 1), ("b", 2), ("c", 3)].map(|(name, last)| example(name, last));
        let members: Vec<_> =
            hellos.into_iter().flat_map(|h| hello::check(h).unwrap().endpoints).collect();
        let (plan, _) = plan(&members, &config, 0, &KeysOfPlan::default());
        assert_eq!(plan.values().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        let mut phases: Vec<_> = plan.values().flatten().map(|t| t.phase_ns).collect();
        phases.sort_unstable();
        phases.dedup();
        assert_eq!(phases.len(), 6);
        assert!(phases.iter().all(|phase| *phase < 100_000_000));
    }

    #[test]
    fn who_offers_verbs_is_probed_there_with_a_time_out_beyond_all_retries() {
        let config = Config::of(&Layer::default(), &Layer::default());
        let hellos = [("a", 1), ("b", 2), ("c", 3)].map(|(name, last)| example(name, last));
        let members: Vec<_> = hellos
            .into_iter()
            .flat_map(|mut hello| {
                if hello.node != "c" {
                    let address = hello.endpoints[0].address.clone();
                    let rdma =
                        v1::RdmaOffer { address, port: 7463, datagrams: true, connections: true };
                    hello.endpoints[0].rdma = Some(rdma);
                }
                hello::check(hello).unwrap().endpoints
            })
            .collect();
        let (plan, _) = plan(&members, &config, 0, &KeysOfPlan::default());
        let of_a = &plan[&NodeName::new("a").unwrap()];
        let transport = |target: &v1::Target| target.path.as_ref().unwrap().transport();
        let over = |which| of_a.iter().find(|target| transport(target) == which).unwrap();
        assert_eq!(of_a.len(), 3);
        let rc = over(v1::Transport::RdmaRc);
        assert_eq!((rc.address.as_str(), rc.port, rc.size_bytes), ("127.0.0.2", 7463, 8));
        let (_, latest) = Profile::Continuous.reliability().gives_up().unwrap();
        assert!(u128::from(rc.timeout_ns) > latest.as_nanos());
        assert_eq!(over(v1::Transport::RdmaUd).port, 7463);
        assert_eq!(over(v1::Transport::Udp).address, "127.0.0.3");
    }
}
