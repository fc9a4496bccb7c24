//! A coordinator, four nodes and the streams between them, in simulated time, with everything that may happen to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::*;

const NODES: usize = 4;
const STEP: u64 = 10;
const VALIDITY: u64 = 10_000;
const LEASE: u64 = 1_000;
/// Probes and messages take no longer; twice the time-out is more than two ways.
const LONGEST_FLIGHT: u64 = 150;
const GRACE: u64 = 400;
const HEARTBEAT: u64 = 200;
const RENEWAL: u64 = 300;

/// Who is probed with the key of which epoch; without one where it is none.
type Targets = BTreeMap<usize, Option<u64>>;

#[derive(Clone, Debug)]
enum ToNode {
    Keys { epochs: Vec<u64>, forget_from: u64 },
    Plan { epoch: u64, targets: Targets },
    Renewal,
}

#[derive(Clone, Copy, Debug)]
struct Heartbeat {
    confirmed: u64,
    plan: u64,
}

/// Both directions of one stream: what is under way arrives in order.
#[derive(Debug, Default)]
struct Stream {
    down: VecDeque<(u64, ToNode)>,
    up: VecDeque<(u64, Heartbeat)>,
    plan_sent: u64,
}

#[derive(Debug, Default)]
struct Agent {
    /// Down until then.
    up_at: u64,
    /// It has come up, and read its file.
    is_up: bool,
    dials_at: u64,
    process: u64,
    accepted: AcceptedKeys,
    disk: Vec<u8>,
    /// What the disk will hold, and when.
    writes: Option<(u64, Vec<u8>)>,
    given: u64,
    confirmed: u64,
    plan: u64,
    lanes: Targets,
    keys_until: u64,
    says_at: u64,
}

#[derive(Debug)]
struct Member {
    process: u64,
    /// Without a stream since.
    gone_at: Option<u64>,
    heard_at: u64,
}

#[derive(Debug)]
struct Coordinator {
    rotation: Rotation,
    members: BTreeMap<usize, Member>,
    touched_at: Option<u64>,
    renews_at: u64,
    plans: BTreeMap<usize, Targets>,
    /// A plan that was made and is on its way to be given out: its epoch on the disk first.
    making: Option<(u64, BTreeMap<usize, Targets>)>,
}

pub struct World {
    random: Pcg64Mcg,
    now: u64,
    coordinator: Option<Coordinator>,
    starts_at: u64,
    disk: Vec<u64>,
    first: u64,
    /// Who may probe with keys, on the disk too; lost now and then.
    probers: Option<BTreeSet<NodeName>>,
    last_epoch: u64,
    last_plan: u64,
    has_lost_its_memory: bool,
    streams: BTreeMap<usize, Stream>,
    agents: Vec<Agent>,
    /// Who is to be asked, with which key, when.
    flying: VecDeque<(u64, usize, usize, u64)>,
    pub unanswered: Vec<String>,
    pub probes: u64,
    pub rotations: u64,
}

fn settings() -> RotationSettings {
    RotationSettings {
        validity: Duration::from_millis(VALIDITY),
        grace: Duration::from_millis(GRACE),
        wait: Duration::from_millis(1_000),
    }
}

fn node(n: usize) -> NodeName {
    name(&format!("n{n}"))
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Pcg64Mcg::seed_from_u64(seed),
            now: 1_000,
            coordinator: None,
            starts_at: 0,
            disk: Vec::new(),
            first: 0,
            probers: Some(BTreeSet::new()),
            last_epoch: 0,
            last_plan: 0,
            has_lost_its_memory: false,
            streams: BTreeMap::new(),
            agents: std::iter::repeat_with(Agent::default).take(NODES).collect(),
            flying: VecDeque::new(),
            unanswered: Vec::new(),
            probes: 0,
            rotations: 0,
        };
        world.start_coordinator();
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    fn start_coordinator(&mut self) {
        let is_young = |first: &u64| self.now < first + 2 * VALIDITY;
        let first = Some(self.first).filter(is_young);
        let epochs = self.disk.iter().copied().collect();
        let probers = self.probers.clone();
        let remembered = Remembered { epochs, first, probers };
        let mut rotation = Rotation::new(remembered, settings(), at(self.now));
        if self.disk.is_empty() {
            rotation.begin(self.new_epoch(), false, at(self.now));
        }
        self.coordinator = Some(Coordinator {
            rotation,
            members: BTreeMap::new(),
            touched_at: None,
            renews_at: 0,
            plans: BTreeMap::new(),
            making: None,
        });
    }

    /// On the disk before anybody hears of it.
    fn new_epoch(&mut self) -> u64 {
        self.last_epoch = self.now.max(self.last_epoch + 1);
        if self.disk.is_empty() {
            self.first = self.last_epoch;
        }
        self.disk.push(self.last_epoch);
        self.last_epoch
    }

    /// Anything may happen at any time.
    pub fn run_wild(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            if self.below(40) == 0 {
                self.disturb();
            }
            self.step();
        }
    }

    fn disturb(&mut self) {
        let n = usize::try_from(self.below(NODES as u64)).unwrap();
        let long = if self.below(8) == 0 { 2 * VALIDITY } else { 1_500 };
        let down = self.below(long);
        match self.below(16) {
            0..=5 => self.rotate(),
            6..=8 => {
                self.cut(n);
                self.agents[n].dials_at = self.now + down;
            }
            9..=11 => {
                self.cut(n);
                let agent = &mut self.agents[n];
                (agent.up_at, agent.is_up) = (self.now + down / 4, false);
                agent.dials_at = agent.up_at;
                agent.process += 1;
                (agent.lanes, agent.plan) = (Targets::new(), 0);
                agent.writes = None;
                agent.accepted = AcceptedKeys::default();
            }
            12 if self.coordinator.is_some() => {
                self.coordinator = None;
                self.starts_at = self.now + down;
                (0..NODES).for_each(|n| self.cut(n));
            }
            13 if self.coordinator.is_none() && !self.has_lost_its_memory => {
                // Once: a second time within the validity it would forget the time between.
                self.has_lost_its_memory = true;
                self.disk.clear();
                self.probers = None;
            }
            14 if self.coordinator.is_none() => {
                self.probers = None;
            }
            _ => {}
        }
    }

    fn rotate(&mut self) {
        let Some(coordinator) = &self.coordinator else { return };
        if coordinator.rotation.is_under_way() {
            return;
        }
        let epoch = self.new_epoch();
        self.rotations += 1;
        // Killed between disk and memory, now and then.
        if self.below(20) == 0 {
            self.coordinator = None;
            self.starts_at = self.now;
            return (0..NODES).for_each(|n| self.cut(n));
        }
        let now = at(self.now);
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.rotation.begin(epoch, false, now);
        }
    }

    /// The stream is gone, and with it all that was under way.
    fn cut(&mut self, n: usize) {
        if self.streams.remove(&n).is_none() {
            return;
        }
        self.agents[n].dials_at = self.now + 50;
        if let Some(coordinator) = &mut self.coordinator
            && let Some(member) = coordinator.members.get_mut(&n)
        {
            member.gone_at = Some(self.now);
            coordinator.rotation.gone(&node(n), at(self.now));
            coordinator.touched_at.get_or_insert(self.now);
        }
    }

    /// Nothing happens any more but that all find together again, and keys that nobody can use are over; then a last rotation.
    pub fn calm(&mut self) {
        for agent in &mut self.agents {
            agent.up_at = agent.up_at.min(self.now + 1_000);
            agent.dials_at = agent.dials_at.min(self.now + 1_000);
        }
        self.starts_at = self.starts_at.min(self.now + 500);
        let end = self.now + 2 * VALIDITY;
        while self.now < end {
            self.step();
        }
        self.rotate();
        if self.coordinator.is_none() {
            return self.calm();
        }
        let end = self.now + 6_000;
        while self.now < end {
            self.step();
        }
    }

    pub fn epochs_everywhere(&self) -> Vec<usize> {
        let coordinator = self.coordinator.as_ref().map_or(0, |c| c.rotation.epochs().count());
        let agents = self.agents.iter().map(|agent| agent.accepted.epochs().count());
        std::iter::once(coordinator).chain(agents).collect()
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.coordinator.is_none() && self.now >= self.starts_at {
            self.start_coordinator();
        }
        (0..NODES).for_each(|n| self.step_agent(n));
        self.step_coordinator();
        while self.flying.front().is_some_and(|(lands, ..)| *lands <= self.now) {
            let Some((_, from, to, epoch)) = self.flying.pop_front() else { return };
            let agent = &self.agents[to];
            if agent.is_up && !agent.accepted.epochs().any(|held| held == epoch) {
                let held: Vec<u64> = agent.accepted.epochs().collect();
                let now = self.now;
                self.complain(format!("{now}: n{from} asks n{to} with {epoch}, not of {held:?}"));
            }
        }
    }

    fn complain(&mut self, what: String) {
        if self.unanswered.len() < 3 {
            self.unanswered.push(what);
        }
    }

    fn arrives(&mut self) -> u64 {
        self.now + self.below(LONGEST_FLIGHT / 2)
    }

    fn step_agent(&mut self, n: usize) {
        let now = self.now;
        if self.agents[n].up_at > now {
            return;
        }
        self.starts_again(n);
        let agent = &mut self.agents[n];
        agent.accepted.expire(at(now));
        if agent.writes.as_ref().is_some_and(|(done, _)| *done <= now) {
            agent.disk = agent.writes.take().unwrap().1;
            agent.confirmed = agent.given;
            agent.says_at = now;
        }
        if !self.streams.contains_key(&n)
            && self.agents[n].dials_at <= now
            && self.coordinator.is_some()
        {
            self.dial(n);
        }
        while let Some(message) = self.next_for(n) {
            self.take(n, message);
        }
        if self.agents[n].says_at <= now {
            let lands = self.arrives();
            let agent = &mut self.agents[n];
            agent.says_at = now + HEARTBEAT;
            let heartbeat = Heartbeat { confirmed: agent.confirmed, plan: agent.plan };
            if let Some(stream) = self.streams.get_mut(&n) {
                let lands = stream.up.back().map_or(lands, |(last, _)| lands.max(*last));
                stream.up.push_back((lands, heartbeat));
            }
        }
        self.probe(n);
    }

    /// A process that has just come up reads its file.
    fn starts_again(&mut self, n: usize) {
        let (now, wall) = (at(self.now), Wall::from_unix_nanos(self.now * 1_000_000));
        let agent = &mut self.agents[n];
        agent.is_up = true;
        if agent.accepted.epochs().next().is_none() && !agent.disk.is_empty() {
            agent.accepted = AcceptedKeys::read(&agent.disk, now, wall).unwrap();
        }
    }

    fn dial(&mut self, n: usize) {
        let now = self.now;
        let (agent, mut stream) = (&mut self.agents[n], Stream::default());
        (agent.given, agent.confirmed, agent.plan) = (0, 0, 0);
        agent.writes = None;
        let Some(coordinator) = &mut self.coordinator else { return };
        let before = coordinator.members.get(&n);
        let same_process = before.is_some_and(|member| member.process == agent.process);
        let is_known = self.probers.as_ref().is_some_and(|known| known.contains(&node(n)));
        let same = match before {
            Some(_) => (true, same_process),
            None => (is_known, is_known),
        };
        coordinator.rotation.joined(&node(n), true, same, at(now));
        coordinator.touched_at.get_or_insert(now);
        coordinator
            .members
            .insert(n, Member { process: agent.process, gone_at: None, heard_at: now });
        stream.down.push_back((now, coordinator.keys(now)));
        self.streams.insert(n, stream);
    }

    fn next_for(&mut self, n: usize) -> Option<ToNode> {
        let stream = self.streams.get_mut(&n)?;
        let lands = stream.down.front()?.0;
        if lands <= self.now { stream.down.pop_front().map(|(_, message)| message) } else { None }
    }

    fn take(&mut self, n: usize, message: ToNode) {
        let (now, wall) = (self.now, Wall::from_unix_nanos(self.now * 1_000_000));
        let written = now + self.below(50);
        let agent = &mut self.agents[n];
        match message {
            ToNode::Keys { epochs, forget_from } => {
                let given = epochs.iter().map(|epoch| given(*epoch, VALIDITY * 3 / 2)).collect();
                agent.accepted.take(given, forget_from, at(now));
                agent.given = agent.accepted.newest_given();
                let text = agent.accepted.write(at(now), wall).into_bytes();
                agent.writes = Some((written, text));
            }
            ToNode::Plan { epoch, targets } => {
                (agent.plan, agent.lanes, agent.says_at) = (epoch, targets, now);
                agent.keys_until = now + VALIDITY;
            }
            ToNode::Renewal => {
                agent.keys_until = now + VALIDITY;
                if agent.accepted.renew(at(now)) && agent.writes.is_none() {
                    let text = agent.accepted.write(at(now), wall).into_bytes();
                    agent.writes = Some((written, text));
                }
            }
        }
    }

    fn probe(&mut self, n: usize) {
        if self.now >= self.agents[n].keys_until {
            return;
        }
        let lands = self.now + LONGEST_FLIGHT;
        let lanes = self.agents[n].lanes.clone();
        for (to, epoch) in lanes.into_iter().filter_map(|(to, epoch)| Some((to, epoch?))) {
            self.probes += 1;
            // At once, and as late as can be.
            let peer = &self.agents[to];
            if peer.is_up && !peer.accepted.epochs().any(|held| held == epoch) {
                let now = self.now;
                self.complain(format!("{now}: n{n} asks n{to} with {epoch} at once"));
            }
            self.flying.push_back((lands, n, to, epoch));
        }
    }

    fn step_coordinator(&mut self) {
        let now = self.now;
        let mut heard = Vec::new();
        for (n, stream) in &mut self.streams {
            while stream.up.front().is_some_and(|(lands, _)| *lands <= now) {
                heard.extend(stream.up.pop_front().map(|(_, heartbeat)| (*n, heartbeat)));
            }
        }
        let Some(coordinator) = &mut self.coordinator else { return };
        for (n, Heartbeat { confirmed, plan }) in heard {
            coordinator.rotation.confirmed(&node(n), confirmed);
            if plan > 0 {
                coordinator.rotation.runs(&node(n), plan);
            }
            if let Some(member) = coordinator.members.get_mut(&n) {
                member.heard_at = now;
            }
        }
        let before = coordinator.members.len();
        coordinator.members.retain(|_, m| m.gone_at.is_none_or(|at| now < at + LEASE));
        if coordinator.members.len() != before {
            coordinator.touched_at.get_or_insert(now);
        }
        let mut changed = false;
        for action in coordinator.rotation.tick(at(now)) {
            match action {
                Action::KeysChanged => changed = true,
                Action::Replan => drop(coordinator.touched_at.get_or_insert(now)),
                Action::Done(_) => {}
            }
        }
        if changed {
            let epochs: Vec<u64> = coordinator.rotation.epochs().collect();
            self.disk.retain(|epoch| epochs.contains(epoch));
        }
        let keys = changed.then(|| coordinator.keys(now));
        let renews = coordinator.renews_at <= now;
        if renews {
            coordinator.renews_at = now + RENEWAL;
        }
        self.plan();
        let plans = self.coordinator.as_ref().map(|c| c.plans.clone()).unwrap_or_default();
        for n in 0..NODES {
            let lands = self.arrives();
            let Some(stream) = self.streams.get_mut(&n) else { continue };
            let mut messages: Vec<ToNode> = keys.iter().cloned().collect();
            if stream.plan_sent < self.last_plan
                && let Some(targets) = plans.get(&n)
            {
                stream.plan_sent = self.last_plan;
                messages.push(ToNode::Plan { epoch: self.last_plan, targets: targets.clone() });
            } else if renews && stream.plan_sent > 0 {
                messages.push(ToNode::Renewal);
            }
            for message in messages {
                let lands = stream.down.back().map_or(lands, |(last, _)| lands.max(*last));
                stream.down.push_back((lands, message));
            }
        }
    }

    /// Makes a plan when changes have come to rest, and gives it out a while later.
    fn plan(&mut self) {
        let (now, slow) = (self.now, self.below(6) > 0);
        let Some(coordinator) = &mut self.coordinator else { return };
        if let Some((plan, targets)) = coordinator.making.take_if(|_| !slow) {
            let epochs = |targets: &Targets| targets.values().flatten().copied().collect();
            let uses = targets.iter().map(|(n, targets)| (node(*n), epochs(targets))).collect();
            // On the disk before anybody has the plan.
            let planned: Vec<NodeName> = targets.keys().map(|n| node(*n)).collect();
            if let Some(probers) = coordinator.rotation.probers(planned.iter(), at(now)) {
                self.probers = Some(probers);
            }
            if coordinator.rotation.published(plan, &uses) {
                (self.last_plan, coordinator.plans) = (plan, targets);
            } else {
                coordinator.touched_at = Some(now);
            }
            return;
        }
        let waits = coordinator.rotation.awaits_first_word(at(now));
        let due = coordinator.touched_at.filter(|at| now >= at + if waits { 2_000 } else { 100 });
        if coordinator.making.is_some() || due.is_none() {
            return;
        }
        coordinator.touched_at = None;
        let members: Vec<usize> = coordinator.members.keys().copied().collect();
        let live: BTreeSet<NodeName> = members.iter().map(|n| node(*n)).collect();
        coordinator.rotation.members(&live);
        let probed = |n: usize| match coordinator.rotation.probing(&node(n)) {
            Probing::Key(epoch) => Some((n, Some(epoch))),
            Probing::Plain => Some((n, None)),
            Probing::NotYet => None,
        };
        let of =
            |n: usize| members.iter().filter(|to| **to != n).filter_map(|to| probed(*to)).collect();
        let targets: BTreeMap<usize, Targets> = members.iter().map(|n| (*n, of(*n))).collect();
        if targets != coordinator.plans {
            coordinator.making = Some((self.last_plan + 1, targets));
        }
    }
}

impl Coordinator {
    fn keys(&self, now: u64) -> ToNode {
        let epochs = self.rotation.epochs().collect();
        ToNode::Keys { epochs, forget_from: self.rotation.forget_from(at(now)) }
    }
}
