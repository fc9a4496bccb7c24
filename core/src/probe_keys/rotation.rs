//! When plans go over to a new key, and when an old one is withdrawn: the coordinator's part of a rotation, without its clock, its
//! disk and its messages.
//!
//! 1. A new epoch begins; all reflectors are given its keys beside those they have, and confirm that they answer them.
//! 2. When all that are connected have, or after [`RotationSettings::wait`], plans name the newest key that each reflector has
//!    confirmed. So who is slow, or away, is probed on with the key that it has.
//! 3. An old key is withdrawn [`RotationSettings::grace`] after nobody can use it any more: no plan names it, every prober runs a
//!    later plan or has been out of reach for so long that its keys are no longer good ([`RotationSettings::validity`]), and
//!    no sweep that was given it goes on.
//!
//! Two rotations never overlap. A rotation that has run out of time is over though an old key still waits for somebody; that is
//! then withdrawn when its time comes. Over a restart of the coordinator it is remembered who may probe with keys; where that is
//! lost, the keys from before wait out their whole validity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::path::NodeName;
use crate::time::Monotonic;

/// Epochs kept at most; with more, the oldest is withdrawn whoever uses it.
const MOST: usize = 8;

/// A rotation waits so long for orders of sweeps; a quick one takes some 12 s.
const SWEEP: Duration = Duration::from_secs(60);

/// A node that has just come gets so long to confirm keys before plans are made without it.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationSettings {
    /// How long a prober that hears nothing of the coordinator goes on with its keys.
    pub validity: Duration,
    /// How long after the last use of a key probes and replies with it may be under way: twice the time-out.
    pub grace: Duration,
    /// How long reflectors may take to confirm, and probers to change their plan, before the rotation goes on without them.
    pub wait: Duration,
}

/// How a node is to be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// With its key of this epoch.
    Key(u64),
    /// Without a key: its agent knows of none.
    Plain,
    /// Not yet: it has not confirmed any.
    NotYet,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// [`Rotation::epochs`] have changed: tell all nodes, and the disk.
    KeysChanged,
    /// How nodes are to be probed has changed.
    Replan,
    /// The rotation is over.
    Done(Report),
}

/// What came of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The new epoch.
    pub epoch: u64,
    /// Nodes that have confirmed it.
    pub confirmed: usize,
    /// Why the keys before it are still answered; nothing when they are withdrawn.
    pub laggards: Vec<Laggard>,
}

/// Who keeps an old key in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Laggard {
    /// A reflector that has not confirmed the new one.
    Unconfirmed {
        /// Which node.
        node: NodeName,
        /// Whether it has a stream.
        connected: bool,
    },
    /// A prober that may still use it.
    Prober {
        /// Which node.
        node: NodeName,
        /// Whether it has a stream.
        connected: bool,
    },
    /// A sweep, or a machine whose name another has now.
    Lent {
        /// For so long at most.
        left: Duration,
    },
    /// Whoever the coordinator knew before its last start.
    Unknown {
        /// For so long at most.
        left: Duration,
    },
}

impl fmt::Display for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away = |connected: &bool| if *connected { "" } else { ", and is out of reach" };
        match self {
            Self::Unconfirmed { node, connected } => {
                write!(f, "{node} has not confirmed its new key{}", away(connected))
            }
            Self::Prober { node, connected } => {
                write!(f, "{node} may still probe with keys of before{}", away(connected))
            }
            Self::Lent { left } => {
                write!(f, "a sweep may use keys of before for another {} s", left.as_secs() + 1)
            }
            Self::Unknown { left } => write!(
                f,
                "nodes out of reach since before the coordinator's last start may probe with keys of before for another {} s",
                left.as_secs() + 1
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Announcing { since: Monotonic },
    Switching { since: Monotonic },
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    epoch: u64,
    /// It is from before this process, so that who uses it is not known until then.
    unknown_until: Option<Monotonic>,
    /// Nobody has used it since.
    free_since: Option<Monotonic>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Its agent knows of keys.
    able: bool,
    /// It is, or may be, in plans.
    live: bool,
    joined_at: Monotonic,
    /// Since when it has no stream.
    gone_at: Option<Monotonic>,
    /// The newest epoch that it has confirmed, and with it all older ones that are still kept.
    confirmed: Option<u64>,
    /// The epochs in plans that it may run, each with the last plan that names it.
    may_use: BTreeMap<u64, u64>,
}

/// What is known of the time before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The epochs whose keys may be in use.
    pub epochs: BTreeSet<u64>,
    /// The first one since the coordinator began, or lost its memory; nothing where that is so long ago that no key of before can be
    /// good.
    pub first: Option<u64>,
    /// Who may probe with them; nothing where that is not known.
    pub probers: Option<BTreeSet<NodeName>>,
}

/// The keys of a fleet over time.
#[derive(Clone, Debug)]
pub struct Rotation {
    settings: RotationSettings,
    /// Rising.
    kept: Vec<Kept>,
    /// The newest that plans may name.
    serving: u64,
    phase: Phase,
    /// Old keys go when the rotation is over, whoever uses them.
    force: bool,
    nodes: BTreeMap<NodeName, Node>,
    lent: BTreeMap<u64, Monotonic>,
    /// The last plan.
    plan: u64,
    /// There may be keys of epochs before this that the coordinator knows nothing of, until then.
    forgotten: Option<(u64, Monotonic)>,
    actions: Vec<Action>,
}

impl Rotation {
    /// With what is remembered over a restart.
    pub fn new(remembered: Remembered, settings: RotationSettings, now: Monotonic) -> Self {
        let Remembered { epochs, first, probers } = remembered;
        let until = now.saturating_add(settings.validity);
        let unknown_until = probers.is_none().then_some(until);
        let of = |epoch| Kept { epoch, unknown_until, free_since: None };
        let kept: Vec<Kept> = epochs.into_iter().map(of).collect();
        let first = if kept.is_empty() { Some(u64::MAX) } else { first };
        // Each may run a plan of before with any of them, and may not come back.
        let may_use: BTreeMap<u64, u64> = kept.iter().map(|kept| (kept.epoch, 0)).collect();
        let prober = |name| {
            let (gone_at, may_use) = (Some(now), may_use.clone());
            (name, Node { gone_at, may_use, ..Node::default() })
        };
        let nodes = probers.into_iter().flatten().map(prober).collect();
        Self {
            settings,
            serving: kept.last().map_or(0, |kept| kept.epoch),
            forgotten: first.map(|first| (first, until)),
            kept,
            phase: Phase::Idle,
            force: false,
            nodes,
            lent: BTreeMap::new(),
            plan: 0,
            actions: Vec::new(),
        }
    }

    /// Other times from now on.
    pub const fn set(&mut self, settings: RotationSettings) {
        self.settings = settings;
    }

    /// The rotation that is under way ends with old keys withdrawn, whoever uses them.
    pub const fn force(&mut self) {
        self.force = true;
    }

    /// Whether a rotation is under way; another has to wait for its end.
    pub fn is_under_way(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// The epochs whose keys reflectors answer, rising.
    pub fn epochs(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|kept| kept.epoch)
    }

    /// The newest epoch, 0 without any.
    pub fn newest(&self) -> u64 {
        self.kept.last().map_or(0, |kept| kept.epoch)
    }

    /// Reflectors forget keys from this epoch on that they are not given. Older ones are from before the coordinator lost its memory.
    pub fn forget_from(&self, now: Monotonic) -> u64 {
        self.forgotten.filter(|(_, until)| now < *until).map_or(0, |(first, _)| first)
    }

    /// An epoch begins, whose secret is on the disk. It must be newer than all before, and no rotation under way. With `force` old
    /// keys are withdrawn at the end even from those who cannot be told: their probes are lost.
    pub fn begin(&mut self, epoch: u64, force: bool, now: Monotonic) {
        debug_assert!(epoch > self.newest() && !self.is_under_way(), "one after the other");
        if self.kept.len() >= MOST {
            self.kept.remove(0);
        }
        self.kept.push(Kept { epoch, unknown_until: None, free_since: None });
        if let Some((first, _)) = &mut self.forgotten {
            *first = epoch.min(*first);
        }
        if self.kept.len() == 1 {
            // Nobody is probed with any other.
            self.serving = epoch;
        } else {
            (self.phase, self.force) = (Phase::Announcing { since: now }, force);
        }
        self.push(Action::KeysChanged);
    }

    /// A node has a stream, on which it will be told its keys before anything else. `able`: its agent knows of keys. `same_state`: it is
    /// the machine that had this name before, with what it had on its disk; `same_process`: and its process may not have ended.
    pub fn joined(
        &mut self,
        name: &NodeName,
        able: bool,
        (same_state, same_process): (bool, bool),
        now: Monotonic,
    ) {
        let (plan, until) = (self.plan, now.saturating_add(self.settings.validity));
        let node = self.nodes.entry(name.clone()).or_default();
        if !same_state {
            // The other machine may be out there, probing.
            for epoch in std::mem::take(&mut node.may_use).into_keys() {
                self.lent.entry(epoch).and_modify(|at| *at = until.max(*at)).or_insert(until);
            }
        } else if !same_process {
            // It probes nothing but what it will be told now.
            node.may_use.retain(|_, last| *last == plan);
        }
        if !same_state || !able {
            node.confirmed = None;
        }
        (node.able, node.live, node.joined_at, node.gone_at) = (able, true, now, None);
    }

    /// Keys are given to all from now on, and were not before.
    pub fn turned_on(&mut self, now: Monotonic) {
        self.nodes.values_mut().for_each(|node| node.joined_at = now);
    }

    /// Its stream has ended.
    pub fn gone(&mut self, name: &NodeName, now: Monotonic) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.gone_at.get_or_insert(now);
        }
    }

    /// Exactly these may be in plans.
    pub fn members(&mut self, live: &BTreeSet<NodeName>) {
        for (name, node) in &mut self.nodes {
            node.live = live.contains(name);
        }
    }

    /// The reflector of a node answers the keys that it was given up to this epoch.
    pub fn confirmed(&mut self, name: &NodeName, epoch: u64) {
        if !self.epochs().any(|kept| kept == epoch) {
            return;
        }
        let before = self.probing(name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.confirmed = node.confirmed.max(Some(epoch));
        if self.probing(name) != before {
            self.push(Action::Replan);
        }
    }

    /// A node runs this plan, and none before it.
    pub fn runs(&mut self, name: &NodeName, plan: u64) {
        let known = plan <= self.plan;
        if let Some(node) = self.nodes.get_mut(name).filter(|_| known) {
            node.may_use.retain(|_, last| *last >= plan);
        }
    }

    /// A node sends no probe any more.
    pub fn stopped(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.may_use.clear();
        }
    }

    /// A sweep's order was given a key of this epoch, which it does not use after `until`.
    pub fn lend(&mut self, epoch: u64, until: Monotonic) {
        let at = self.lent.entry(epoch).or_insert(until);
        *at = until.max(*at);
    }

    /// How a node is to be probed.
    pub fn probing(&self, name: &NodeName) -> Probing {
        self.nodes.get(name).map_or(Probing::NotYet, |node| self.probing_of(node))
    }

    fn probing_of(&self, node: &Node) -> Probing {
        if !node.able {
            return Probing::Plain;
        }
        let most = node.confirmed.map(|confirmed| confirmed.min(self.serving));
        let newest = self.epochs().filter(|epoch| Some(*epoch) <= most).last();
        newest.map_or(Probing::NotYet, Probing::Key)
    }

    /// Whether anything is known of a node.
    pub fn knows(&self, name: &NodeName) -> bool {
        self.nodes.contains_key(name)
    }

    /// Whether a node's agent knows of keys, so that it may be given those of others.
    pub fn is_able(&self, name: &NodeName) -> bool {
        self.nodes.get(name).is_some_and(|node| node.able)
    }

    /// Whether a node that has just come has not confirmed any key yet and may any moment.
    pub fn awaits_first_word(&self, now: Monotonic) -> bool {
        let is_new = |node: &Node| now.saturating_since(node.joined_at) < FIRST_WORD;
        !self.kept.is_empty()
            && self.nodes.values().any(|node| {
                node.gone_at.is_none() && is_new(node) && self.probing_of(node) == Probing::NotYet
            })
    }

    /// A plan is about to be given out, in which each node is to use keys of these epochs. `false`: one of them has been withdrawn
    /// meanwhile, and the plan must not be given out.
    pub fn published(&mut self, plan: u64, uses: &BTreeMap<NodeName, BTreeSet<u64>>) -> bool {
        let is_kept = |epoch: &u64| self.kept.iter().any(|kept| kept.epoch == *epoch);
        if !uses.values().flatten().all(is_kept) {
            return false;
        }
        self.plan = plan;
        for (name, epochs) in uses {
            let node = self.nodes.entry(name.clone()).or_default();
            node.may_use.extend(epochs.iter().map(|epoch| (*epoch, plan)));
        }
        true
    }

    /// Who may probe with keys, when a plan with targets for these is given out; nothing while that cannot be known.
    pub fn probers<'a>(
        &'a self,
        planned: impl Iterator<Item = &'a NodeName>,
        now: Monotonic,
    ) -> Option<BTreeSet<NodeName>> {
        let is_unknown = |kept: &Kept| kept.unknown_until.is_some_and(|until| now < until);
        if self.kept.iter().any(is_unknown) {
            return None;
        }
        let users = self.nodes.iter().filter(|(_, node)| !node.may_use.is_empty());
        Some(users.map(|(name, _)| name).chain(planned).cloned().collect())
    }

    /// Time passes. What is to be done, in this order.
    pub fn tick(&mut self, now: Monotonic) -> Vec<Action> {
        self.forget_the_gone(now);
        if let Phase::Announcing { since } = self.phase {
            let newest = Some(self.newest());
            let waits =
                |node: &Node| node.able && node.gone_at.is_none() && node.confirmed < newest;
            let over = now >= since.saturating_add(self.settings.wait);
            if over || !self.nodes.values().any(waits) {
                self.serving = self.newest();
                self.phase = Phase::Switching { since: now };
                self.push(Action::Replan);
            }
        }
        self.withdraw(now);
        if let Phase::Switching { since } = self.phase {
            let bound = self.settings.wait.saturating_add(self.settings.grace);
            let is_over = now >= since.saturating_add(bound) && !self.ends_by_itself(now);
            if self.kept.len() <= 1 || is_over {
                self.end(now);
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// Whether nobody keeps old keys in use but what is under way, and sweeps.
    fn ends_by_itself(&self, now: Monotonic) -> bool {
        let soon = |laggard: &Laggard| matches!(laggard, Laggard::Lent { left } if *left <= SWEEP);
        self.laggards(now).iter().all(soon)
    }

    fn end(&mut self, now: Monotonic) {
        let newest = self.newest();
        let laggards = self.laggards(now);
        if self.force && self.kept.len() > 1 {
            self.kept.retain(|kept| kept.epoch == newest);
            self.forgotten = None;
            self.push(Action::KeysChanged);
            self.push(Action::Replan);
        }
        let confirmed = self.nodes.values().filter(|node| node.confirmed == Some(newest)).count();
        self.phase = Phase::Idle;
        self.push(Action::Done(Report { epoch: newest, confirmed, laggards }));
    }

    /// A prober out of reach for the validity of its keys, and the time that probes are under way, has stopped.
    fn forget_the_gone(&mut self, now: Monotonic) {
        let bound = self.settings.validity.saturating_add(self.settings.grace);
        self.lent.retain(|_, until| now < *until);
        self.nodes.retain(|_, node| {
            if node.gone_at.is_some_and(|at| now >= at.saturating_add(bound)) {
                node.may_use.clear();
            }
            node.live || node.gone_at.is_none() || !node.may_use.is_empty()
        });
    }

    fn withdraw(&mut self, now: Monotonic) {
        if matches!(self.phase, Phase::Announcing { .. }) {
            return;
        }
        let mut used: BTreeSet<u64> = self.lent.keys().copied().collect();
        for node in self.nodes.values() {
            used.extend(node.may_use.keys());
            if let Probing::Key(epoch) = self.probing_of(node)
                && node.live
            {
                used.insert(epoch);
            }
        }
        let (newest, grace) = (self.newest(), self.settings.grace);
        let before = self.kept.len();
        self.kept.retain_mut(|kept| {
            let unknown = kept.unknown_until.is_some_and(|until| now < until);
            if kept.epoch == newest || unknown || used.contains(&kept.epoch) {
                kept.free_since = None;
                return true;
            }
            let since = *kept.free_since.get_or_insert(now);
            now < since.saturating_add(grace)
        });
        if self.kept.len() != before {
            self.push(Action::KeysChanged);
        }
    }

    /// Why old keys are still answered.
    pub fn laggards(&self, now: Monotonic) -> Vec<Laggard> {
        let newest = self.newest();
        let old = |epoch: &u64| *epoch < newest && self.epochs().any(|kept| kept == *epoch);
        let mut laggards = Vec::new();
        for (name, node) in &self.nodes {
            let (node_name, connected) = (name.clone(), node.gone_at.is_none());
            match self.probing_of(node) {
                Probing::Key(epoch) if node.live && old(&epoch) => {
                    laggards.push(Laggard::Unconfirmed { node: node_name, connected });
                }
                _ if node.may_use.keys().any(old) => {
                    laggards.push(Laggard::Prober { node: node_name, connected });
                }
                _ => {}
            }
        }
        let left = |until: &Monotonic| until.saturating_since(now);
        let lent = self.lent.iter().filter(|(epoch, _)| old(epoch)).map(|(_, until)| left(until));
        laggards.extend(lent.max().map(|left| Laggard::Lent { left }));
        let unknown = self.kept.iter().filter(|kept| old(&kept.epoch));
        let unknown = unknown.filter_map(|kept| kept.unknown_until).map(|until| left(&until));
        let unknown = unknown.filter(|left| *left > Duration::ZERO).max();
        laggards.extend(unknown.map(|left| Laggard::Unknown { left }));
        laggards
    }

    fn push(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }
}
