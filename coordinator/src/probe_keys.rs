//! Keys of the fleet's probes: made, kept on the disk, told to reflectors and probers, rotated. When what happens is decided by
//! [`Rotation`]; this is its driver.

mod file;
mod keeper;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use railgauge_core::path::NodeName;
use railgauge_core::probe_keys::{
    Generation, KeyFile, Probing, Remembered, Report, Rotation, RotationSettings, Secret,
};
use railgauge_core::time::Monotonic;
use railgauge_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Now;
use crate::config::Config;
use crate::hello::Hello;
use crate::registry::{Arrival, Health};
pub use file::{KeysError, write_probers};
pub use keeper::{Keeper, run};

/// How long a prober out of reach goes on with its keys where they are rotated on demand only, and at least.
const VALID_ON_DEMAND: Duration = Duration::from_secs(7 * 86_400);
const VALID_AT_LEAST: Duration = Duration::from_secs(86_400);

/// The time-outs of a fleet may be short; a reply still takes its way through two machines.
const LEAST_GRACE: Duration = Duration::from_millis(100);

/// How long reflectors, and then probers, may take before a rotation goes on without them.
const WAIT: Duration = Duration::from_secs(10);

/// What an agent may take beyond the limit of an order to end it.
const ORDER_ENDS: Duration = Duration::from_secs(5);

/// Why there is no rotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// They have none.
    #[error("probes of this fleet are not authenticated: set probe_authentication = true")]
    Off,
    /// It could not be kept.
    #[error("no new key can be made: {0}")]
    Unwritten(String),
    /// The coordinator stops.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// Somebody wants new keys.
#[derive(Debug)]
struct Ask {
    withdraw: bool,
    answer: oneshot::Sender<Result<Report, RotateError>>,
}

#[derive(Debug)]
struct State {
    is_on: bool,
    rotation: Rotation,
    secrets: BTreeMap<u64, Generation>,
    /// The first epoch that this coordinator remembers.
    first: u64,
    settings: RotationSettings,
    /// Nodes whose reflectors answer nothing that is not authenticated.
    refuse_plain: BTreeSet<NodeName>,
    /// Identities of the agents that may probe with keys, those of before the start too.
    identities: BTreeMap<NodeName, Vec<u8>>,
    /// Of which these are on the disk.
    written: BTreeMap<NodeName, Vec<u8>>,
}

/// The keys of a fleet.
#[derive(Debug)]
pub struct ProbeKeys {
    state: Mutex<State>,
    /// Rises when what reflectors are told changes.
    version: watch::Sender<u64>,
    asks: mpsc::UnboundedSender<Ask>,
}

/// How one node is to be probed.
#[derive(Clone, Debug)]
struct Known {
    is_able: bool,
    refuses_plain: bool,
    probing: Probing,
    key: Option<v1::ProbeKey>,
}

/// What a plan is made with.
#[derive(Clone, Debug, Default)]
pub struct KeysOfPlan {
    /// How long they are good without a renewal, nanoseconds; 0 without keys.
    pub valid_ns: u64,
    known: BTreeMap<NodeName, Known>,
}

/// How a path is to be probed.
#[derive(Clone, Debug, PartialEq)]
pub enum PathKey {
    /// So.
    Probe(Option<v1::ProbeKey>),
    /// Not yet: its responder has not confirmed any key, which takes a moment.
    NotYet,
    /// Not at all: one end knows of no keys, and the other answers nothing without.
    Never,
}

impl KeysOfPlan {
    /// How `src` is to probe `dst`.
    pub fn of(&self, src: &NodeName, dst: &NodeName) -> PathKey {
        // Without keys nobody is known.
        let Some(to) = self.known.get(dst) else { return PathKey::Probe(None) };
        let is_able = self.known.get(src).is_some_and(|from| from.is_able);
        match to.probing {
            _ if !is_able && to.refuses_plain => PathKey::Never,
            _ if !is_able => PathKey::Probe(None),
            Probing::Plain => PathKey::Probe(None),
            Probing::NotYet => PathKey::NotYet,
            Probing::Key(_) => PathKey::Probe(to.key.clone()),
        }
    }
}

fn settings(config: &Config) -> RotationSettings {
    let period = config.probe_key_rotation.duration();
    let validity =
        if period.is_zero() { VALID_ON_DEMAND } else { (2 * period).max(VALID_AT_LEAST) };
    let grace = (2 * config.probe_timeout.duration()).max(LEAST_GRACE);
    RotationSettings { validity, grace, wait: WAIT }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl ProbeKeys {
    fn new(state: State) -> (Self, mpsc::UnboundedReceiver<Ask>) {
        let (asks, asked) = mpsc::unbounded_channel();
        (Self { state: Mutex::new(state), version: watch::channel(0).0, asks }, asked)
    }

    /// None, and never any.
    pub fn off() -> Self {
        let settings =
            RotationSettings { validity: VALID_ON_DEMAND, grace: LEAST_GRACE, wait: WAIT };
        let rotation = Rotation::new(Remembered::default(), settings, Monotonic::default());
        Self::new(State::new(false, rotation, KeyFile::default(), settings)).0
    }

    /// Those of the file in `state_dir`, or, where probes are to be authenticated and there are none, new ones.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others can read it. One that is damaged is said, and new keys begin.
    pub fn open(state_dir: &Path, config: &Config, now: Now) -> Result<(Self, Keeper), KeysError> {
        let path = state_dir.join(file::NAME);
        let mut kept = file::read(&path)?;
        let (settings, is_on) = (settings(config), config.probe_authentication);
        // An epoch is at least the time in seconds when it began.
        let age = (now.wall.as_unix_nanos() / 1_000_000_000).saturating_sub(kept.first);
        let first = (age < 2 * settings.validity.as_secs()).then_some(kept.first);
        let epochs = kept.generations.iter().map(|generation| generation.epoch).collect();
        let identities = file::read_probers(state_dir);
        let probers = identities.as_ref().map(|known| known.keys().cloned().collect());
        let remembered = Remembered { epochs, first, probers };
        let mut rotation = Rotation::new(remembered, settings, now.monotonic);
        if is_on && kept.generations.is_empty() {
            let made = file::make(0, now.wall)?;
            rotation.begin(made.epoch, false, now.monotonic);
            kept = KeyFile { first: made.epoch, generations: vec![made] };
            file::write(&path, &kept)?;
        }
        let mut state = State::new(is_on, rotation, kept, settings);
        state.identities = identities.unwrap_or_default();
        let (keys, asked) = Self::new(state);
        Ok((keys, Keeper::new(path, asked, now)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The rotation has no state between two of its calls, so what a panic left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether probes are authenticated.
    pub fn is_on(&self) -> bool {
        self.state().is_on
    }

    /// The newest epoch; 0 without keys.
    pub fn epoch(&self) -> u64 {
        let state = self.state();
        if state.is_on { state.rotation.newest() } else { 0 }
    }

    /// A node has a stream.
    pub fn joined(&self, hello: &Hello, arrival: Arrival, now: Monotonic) {
        let mut state = self.state();
        let before = state.identities.insert(hello.node.clone(), hello.identity.clone());
        let same = match arrival {
            Arrival::Reconnected => (true, true),
            Arrival::Restarted | Arrival::Rebooted => (true, false),
            // Since a start of ours nobody has been heard; its process may be older.
            Arrival::New if before.as_ref() == Some(&hello.identity) => (true, true),
            Arrival::New | Arrival::TakenOver => (false, false),
        };
        if hello.refuses_unauthenticated {
            state.refuse_plain.insert(hello.node.clone());
        } else {
            state.refuse_plain.remove(&hello.node);
        }
        state.rotation.joined(&hello.node, hello.knows_keys, same, now);
    }

    /// Its stream has ended.
    pub fn gone(&self, node: &NodeName, now: Monotonic) {
        self.state().rotation.gone(node, now);
    }

    /// A heartbeat came on its stream.
    pub fn heard(&self, node: &NodeName, health: &Health) {
        let mut state = self.state();
        state.rotation.confirmed(node, health.probe_key_epoch);
        if health.probing_ended {
            state.rotation.stopped(node);
        } else if health.plan_epoch > 0 {
            state.rotation.runs(node, health.plan_epoch);
        }
    }

    /// What a plan of these nodes is made with.
    pub fn for_plan(&self, members: &BTreeSet<NodeName>) -> KeysOfPlan {
        let mut state = self.state();
        state.rotation.members(members);
        if !state.is_on {
            return KeysOfPlan::default();
        }
        let known = members.iter().map(|name| (name.clone(), state.known(name))).collect();
        KeysOfPlan { valid_ns: nanos(state.settings.validity), known }
    }

    /// Who may probe with keys when a plan for these is given out, where that is not on the disk yet: it has to be before.
    pub fn unwritten_probers<'a>(
        &self,
        planned: impl Iterator<Item = &'a NodeName>,
        now: Monotonic,
    ) -> Option<BTreeMap<NodeName, Vec<u8>>> {
        let state = self.state();
        if !state.is_on {
            return None;
        }
        let planned: Vec<&NodeName> = planned.collect();
        let probers = state.rotation.probers(planned.into_iter(), now)?;
        let identity = |name: NodeName| {
            let identity = state.identities.get(&name).cloned().unwrap_or_default();
            (name, identity)
        };
        let probers: BTreeMap<_, _> = probers.into_iter().map(identity).collect();
        (probers != state.written).then_some(probers)
    }

    /// They are on the disk.
    pub fn probers_are_written(&self, probers: BTreeMap<NodeName, Vec<u8>>) {
        let mut state = self.state();
        // Whom nobody remembers, nobody has to know.
        let state = &mut *state;
        state.identities.retain(|name, _| probers.contains_key(name) || state.rotation.knows(name));
        state.written = probers;
    }

    /// A plan is about to be given out. `false`: a key in it has been withdrawn, and it must not be.
    pub fn published(&self, plan: u64, targets: &BTreeMap<NodeName, Vec<v1::Target>>) -> bool {
        let epochs = |targets: &Vec<v1::Target>| {
            let keys = targets.iter().filter_map(|target| target.probe_key.as_ref());
            keys.map(|key| key.epoch).collect::<BTreeSet<u64>>()
        };
        let uses = targets.iter().map(|(node, targets)| (node.clone(), epochs(targets))).collect();
        self.state().rotation.published(plan, &uses)
    }

    /// Whether a node that has just come is about to confirm its keys, so that a plan had better wait.
    pub fn awaits_first_word(&self, now: Monotonic) -> bool {
        let state = self.state();
        state.is_on && state.rotation.awaits_first_word(now)
    }

    /// The key for an order of a sweep that is over at `limit` from now.
    pub fn for_order(
        &self,
        (src, dst): (&NodeName, &NodeName),
        limit: Duration,
        now: Monotonic,
    ) -> Option<v1::ProbeKey> {
        let mut state = self.state();
        if !state.is_on || !state.rotation.is_able(src) {
            return None;
        }
        let Known { probing, key, .. } = state.known(dst);
        if let Probing::Key(epoch) = probing {
            let until = now.saturating_add(limit).saturating_add(ORDER_ENDS);
            let grace = state.settings.grace;
            state.rotation.lend(epoch, until.saturating_add(grace));
        }
        key
    }

    /// Tells when [`told`](Self::told) may have changed.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What the reflector of `node` is to answer; nothing where it knows of no keys. Without authentication it is given none, and keeps
    /// what it has for its time: plans with keys may be under way.
    pub fn told(&self, node: &NodeName, now: Monotonic) -> Option<v1::ProbeKeys> {
        let state = self.state();
        if !state.rotation.is_able(node) {
            return None;
        }
        if !state.is_on {
            return Some(v1::ProbeKeys { keys: Vec::new(), forget_from_epoch: u64::MAX });
        }
        // Longer than any prober goes on: it may have heard from us later than the reflector.
        let valid_ns = nanos(state.settings.validity + state.settings.validity / 2);
        let key = |epoch: u64| {
            let key = state.key(epoch, node);
            v1::AcceptedProbeKey { key, valid_ns }
        };
        let keys = state.rotation.epochs().map(key).collect();
        Some(v1::ProbeKeys { keys, forget_from_epoch: state.rotation.forget_from(now) })
    }

    /// What an operator should know of a node.
    pub fn note(&self, node: &NodeName) -> Option<String> {
        let state = self.state();
        if !state.is_on {
            return None;
        }
        let note = match state.rotation.probing(node) {
            Probing::Plain => {
                "its agent is too old for keys: it probes, and is probed, without authentication"
            }
            Probing::NotYet => "it has not confirmed a key yet, and is not probed",
            Probing::Key(_) => return None,
        };
        Some(note.to_owned())
    }

    /// Nodes whose agents know of no keys.
    pub fn without_keys(&self, nodes: impl Iterator<Item = NodeName>) -> Vec<NodeName> {
        let state = self.state();
        nodes.filter(|node| state.rotation.probing(node) == Probing::Plain).collect()
    }

    /// New keys for all. Answers when the old ones are withdrawn, or when it is clear that somebody has to be waited for; with
    /// `withdraw` they go then all the same.
    ///
    /// # Errors
    /// When there is no rotation.
    pub async fn rotate(&self, withdraw: bool) -> Result<Report, RotateError> {
        if !self.is_on() {
            return Err(RotateError::Off);
        }
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask { withdraw, answer }).map_err(|_| RotateError::Stopping)?;
        answered.await.unwrap_or(Err(RotateError::Stopping))
    }
}

impl State {
    fn new(is_on: bool, rotation: Rotation, kept: KeyFile, settings: RotationSettings) -> Self {
        let first = kept.first;
        let secrets = kept.generations.into_iter().map(|each| (each.epoch, each)).collect();
        Self {
            is_on,
            rotation,
            secrets,
            first,
            settings,
            refuse_plain: BTreeSet::new(),
            identities: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    fn file(&self) -> KeyFile {
        KeyFile { first: self.first, generations: self.secrets.values().cloned().collect() }
    }

    fn key(&self, epoch: u64, node: &NodeName) -> Option<v1::ProbeKey> {
        let secret: &Secret = &self.secrets.get(&epoch)?.secret;
        Some(v1::ProbeKey::of(epoch, &secret.of_node(epoch, node)))
    }

    fn known(&self, node: &NodeName) -> Known {
        let probing = self.rotation.probing(node);
        let key = match probing {
            Probing::Key(epoch) => self.key(epoch, node),
            Probing::Plain | Probing::NotYet => None,
        };
        let is_able = self.rotation.is_able(node);
        Known { is_able, refuses_plain: self.refuse_plain.contains(node), probing, key }
    }
}
