//! From members to plans. The one place that decides who probes whom: a full mesh along rails, until the planner of `core` is
//! put here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::path::{Memory, NodeName, Path, Transport};
use railgauge_proto::{convert, v1};
use tokio::sync::watch;

use crate::clock;
use crate::config::Config;
use crate::epoch::Epochs;
use crate::fleet::Fleet;
use crate::hello::AgentEndpoint;

/// Members that come together, as after a start of the coordinator, get one plan: it is made when no further one has come for
/// so long,
const QUIET: Duration = Duration::from_millis(300);
/// or when the first has waited so long.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// When the epoch could not be written, it is tried again after so long; agents go on with the plan they have.
const RETRY: Duration = Duration::from_secs(5);

/// The plans in force, of all nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plans {
    /// Of all of them.
    pub epoch: u64,
    /// How long they are good without renewal, nanoseconds.
    pub lease_ns: u64,
    /// What each node probes.
    pub targets: BTreeMap<NodeName, Vec<v1::Target>>,
}

impl Plans {
    /// The plan of `node`, where it has one.
    pub fn of(&self, node: &NodeName) -> Option<v1::Plan> {
        let targets = self.targets.get(node)?.clone();
        Some(v1::Plan { epoch: self.epoch, lease_ns: self.lease_ns, targets })
    }
}

/// Who probes whom: each node's targets. A node without any is there with none.
pub fn plan(members: &[AgentEndpoint], config: &Config) -> BTreeMap<NodeName, Vec<v1::Target>> {
    let mut targets: BTreeMap<NodeName, Vec<v1::Target>> =
        members.iter().map(|member| (member.endpoint.node.clone(), Vec::new())).collect();
    let interval_ns = config.probe_interval.as_nanos();
    for (n, src) in members.iter().enumerate() {
        let others = members.iter().enumerate().filter(|(_, dst)| {
            dst.endpoint.node != src.endpoint.node && dst.endpoint.rail == src.endpoint.rail
        });
        for (m, dst) in others {
            // Spread over the interval, so that neither a sender's nor a receiver's probes come together.
            let slot = (n + m * members.len()) as u64 % (members.len() * members.len()) as u64;
            let phase_ns = interval_ns / (members.len() * members.len()) as u64 * slot;
            let path = Path {
                src: src.endpoint.clone(),
                dst: dst.endpoint.clone(),
                transport: Transport::Udp,
                memory: Memory::Host,
                flow: 0,
                dscp: 0,
            };
            targets.entry(src.endpoint.node.clone()).or_default().push(v1::Target {
                path: Some(convert::path_message(&path)),
                address: dst.address.ip().to_string(),
                port: dst.address.port().into(),
                interval_ns,
                phase_ns,
                timeout_ns: config.probe_timeout.as_nanos(),
                size_bytes: u32::try_from(config.probe_size.as_bytes()).unwrap_or(44),
            });
        }
    }
    targets
}

/// Makes a new plan whenever members or configuration change, until nobody listens to plans any more.
pub async fn run(
    fleet: Arc<Fleet>,
    mut config: watch::Receiver<Arc<Config>>,
    mut epochs: Epochs,
    plans: watch::Sender<Arc<Plans>>,
) {
    loop {
        tokio::select! {
            () = fleet.changed() => settle(&fleet).await,
            changed = config.changed() => if changed.is_err() { return },
            () = plans.closed() => return,
        }
        let now_config = Arc::clone(&config.borrow_and_update());
        let targets = plan(&fleet.members(), &now_config);
        let lease_ns = now_config.lease.as_nanos();
        let before = Arc::clone(&plans.borrow());
        if before.targets == targets && before.lease_ns == lease_ns {
            continue;
        }
        let advanced = tokio::task::spawn_blocking(move || {
            let epoch = epochs.advance(clock::now().wall);
            (epochs, epoch)
        });
        let Ok((returned, epoch)) = advanced.await else { return };
        epochs = returned;
        match epoch {
            Ok(epoch) => drop(plans.send(Arc::new(Plans { epoch, lease_ns, targets }))),
            Err(error) => {
                tracing::error!("no new plan: {}", crate::sentence(&error));
                tokio::time::sleep(RETRY).await;
                fleet.touch();
            }
        }
    }
}

/// Waits until changes have come to rest, or long enough.
async fn settle(fleet: &Fleet) {
    let quiet = async { while tokio::time::timeout(QUIET, fleet.changed()).await.is_ok() {} };
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
        let plan = plan(&members, &config);
        assert_eq!(plan.values().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
        let mut phases: Vec<_> = plan.values().flatten().map(|t| t.phase_ns).collect();
        phases.sort_unstable();
        phases.dedup();
        assert_eq!(phases.len(), 6);
        assert!(phases.iter().all(|phase| *phase < 100_000_000));
    }
}
