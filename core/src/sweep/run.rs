//! A sweep under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::{
    Announcement, Answer, Failure, Measurement, NotMeasured, Outcome, SweepSettings, rounds,
};
use crate::path::{Endpoint, NodeName};
use crate::time::Monotonic;

/// Measure this now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number, which is the measurement's.
    pub number: u64,
    /// Which round, from 1.
    pub round: u32,
    /// Who is to probe.
    pub src: Endpoint,
    /// Who is probed.
    pub dst: Endpoint,
    /// After so long the agent shall abandon it: nobody waits any more.
    pub limit: Duration,
}

/// What the driver has to do or to tell, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send to the agent of `src.node`.
    Order(Order),
    /// Tell the agent of `node` to abandon an order.
    Withdraw {
        /// Which order.
        number: u64,
        /// The node that has it.
        node: NodeName,
    },
    /// The first pair of a round, from 1, has begun.
    RoundStarted(u32),
    /// A measurement has its outcome.
    Done(u64),
    /// All have. The last action.
    Finished,
}

/// A sweep: what has happened comes in, [actions](SweepRun::next_action) come out.
///
/// A measurement takes about 80 octets, so all pairs of 1,000 nodes with 8 rails, 8 million, take some 640 MB. Sweeps of that size are cut
/// with `max_rounds`.
#[derive(Debug)]
pub struct SweepRun {
    settings: SweepSettings,
    endpoints: Vec<Endpoint>,
    nodes: Vec<Node>,
    pairs: Vec<Pair>,
    records: Vec<Record>,
    unmeasurable: Vec<(usize, usize)>,
    announcement: Announcement,
    /// Orders without an answer, with the time at which they are given up.
    waiting: BTreeMap<usize, Monotonic>,
    rounds_started: BTreeSet<u32>,
    done: usize,
    state: State,
    actions: VecDeque<Action>,
}

/// A driver is late by milliseconds; by so much only if it could not run.
const OVERSLEPT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running { until: Monotonic },
    Finished,
}

#[derive(Debug)]
struct Node {
    name: NodeName,
    /// Its pairs, in order of rounds.
    pairs: Vec<usize>,
    /// How many of those it is through with.
    through: usize,
    gone: bool,
    held_out: bool,
}

#[derive(Debug)]
struct Pair {
    round: u32,
    nodes: [usize; 2],
    /// Its measurements in each direction, in order of directions.
    directions: [Range<usize>; 2],
    /// Directions that have begun.
    begun: usize,
    /// Orders without an answer.
    open: usize,
}

#[derive(Debug)]
struct Record {
    pair: usize,
    src: usize,
    dst: usize,
    outcome: Option<Outcome>,
}

impl SweepRun {
    /// Of the nodes that these endpoints belong to, in the order of their names.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>, settings: SweepSettings) -> Self {
        let endpoints: BTreeSet<Endpoint> = endpoints.into_iter().collect();
        let endpoints: Vec<Endpoint> = endpoints.into_iter().collect();
        let mut nodes: Vec<Node> = Vec::new();
        let mut ports: Vec<BTreeMap<u16, Vec<usize>>> = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            if nodes.last().is_none_or(|last| last.name != endpoint.node) {
                let name = endpoint.node.clone();
                nodes.push(Node { name, pairs: vec![], through: 0, gone: false, held_out: false });
                ports.push(BTreeMap::new());
            }
            if let Some(rails) = ports.last_mut() {
                rails.entry(endpoint.rail).or_default().push(index);
            }
        }
        let mut run = Self {
            settings,
            endpoints,
            nodes,
            pairs: vec![],
            records: vec![],
            unmeasurable: vec![],
            announcement: Announcement {
                nodes: ports.len(),
                rounds: 0,
                measurements: 0,
                unmeasurable: 0,
                expected_duration: Duration::ZERO,
                limit: Duration::ZERO,
                packets: 0,
                wire_bytes: 0,
            },
            waiting: BTreeMap::new(),
            rounds_started: BTreeSet::new(),
            done: 0,
            state: State::Waiting,
            actions: VecDeque::new(),
        };
        run.draw_up(&ports);
        run
    }

    fn draw_up(&mut self, ports: &[BTreeMap<u16, Vec<usize>>]) {
        let rounds = rounds(self.nodes.len());
        let most = self.settings.max_rounds.unwrap_or(usize::MAX).min(rounds.len());
        let mut busy_until = vec![Duration::ZERO; self.nodes.len()];
        for (round, pairs) in (1..).zip(&rounds[..most]) {
            for &(a, b) in pairs {
                let ends = in_common(&ports[a], &ports[b]);
                if ends.is_empty() {
                    self.unmeasurable.push((a, b));
                    continue;
                }
                let pair = self.pairs.len();
                let first = self.records.len();
                let second = first + ends.len();
                let there = ends.iter().copied();
                let back = ends.iter().map(|&(src, dst)| (dst, src));
                let record = |(src, dst)| Record { pair, src, dst, outcome: None };
                self.records.extend(there.chain(back).map(record));
                let directions = [first..second, second..second + ends.len()];
                self.pairs.push(Pair { round, nodes: [a, b], directions, begun: 0, open: 0 });
                self.nodes[a].pairs.push(pair);
                self.nodes[b].pairs.push(pair);
                let pair_time = self.settings.probing_time().saturating_mul(2);
                let end = busy_until[a].max(busy_until[b]).saturating_add(pair_time);
                (busy_until[a], busy_until[b]) = (end, end);
            }
        }
        let expected = busy_until.into_iter().max().unwrap_or_default();
        let settings = self.settings;
        let measurements = self.records.len() as u64;
        self.announcement = Announcement {
            nodes: self.nodes.len(),
            rounds: most,
            measurements: self.records.len(),
            unmeasurable: self.unmeasurable.len(),
            expected_duration: expected,
            limit: settings.whole_limit.unwrap_or_else(|| settings.usual_whole_limit(expected)),
            packets: measurements.saturating_mul(settings.packets()),
            wire_bytes: measurements.saturating_mul(settings.wire_bytes()),
        };
    }

    /// What it will take; the same before, during and after.
    pub fn announce(&self) -> Announcement {
        self.announcement
    }

    /// Pairs of nodes that share no rail, so that there is nothing to measure between them.
    pub fn unmeasurable(&self) -> impl Iterator<Item = (&NodeName, &NodeName)> {
        self.unmeasurable.iter().map(|&(a, b)| (&self.nodes[a].name, &self.nodes[b].name))
    }

    /// All measurements, in order of rounds.
    pub fn measurements(&self) -> impl ExactSizeIterator<Item = Measurement<'_>> + Clone {
        (0..self.records.len()).map(|index| self.view(index))
    }

    /// One of them.
    pub fn measurement(&self, number: u64) -> Option<Measurement<'_>> {
        let index = usize::try_from(number).ok().filter(|&index| index < self.records.len())?;
        Some(self.view(index))
    }

    fn view(&self, index: usize) -> Measurement<'_> {
        let record = &self.records[index];
        Measurement {
            number: index as u64,
            round: self.pairs[record.pair].round,
            src: &self.endpoints[record.src],
            dst: &self.endpoints[record.dst],
            outcome: record.outcome.as_ref(),
        }
    }

    /// How many measurements have their outcome.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether all have.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// What to do or to tell next; `None` until something happens. To be asked after every call that takes `now`.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to [`tick`](Self::tick) at the latest; `None` before the start and after the end.
    pub fn next_wake(&self) -> Option<Monotonic> {
        let State::Running { until } = self.state else { return None };
        Some(self.waiting.values().copied().fold(until, Monotonic::min))
    }

    /// Begins; the limit of the whole counts from here. Once.
    pub fn start(&mut self, now: Monotonic) {
        if self.state == State::Waiting {
            self.state = State::Running { until: now.saturating_add(self.announcement.limit) };
            self.begin_ready(0..self.pairs.len(), now);
            self.end_if_done();
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Monotonic) {
        let State::Running { until } = self.state else { return };
        self.forgive_own_absence(now);
        let expired = self.waiting.iter().filter(|&(_, deadline)| *deadline <= now);
        let expired: Vec<usize> = expired.map(|(&index, _)| index).collect();
        for &index in &expired {
            let node = self.src_node(index);
            self.nodes[node].held_out = true;
            self.withdraw(index);
            let node = self.nodes[node].name.clone();
            let within = self.settings.measurement_limit;
            self.decide(index, Outcome::Failed(Failure::NoAnswer { node, within }));
        }
        if until <= now {
            return self.end_all(&NotMeasured::TimeLimit);
        }
        self.go_on(&expired, now);
    }

    /// The stream of a node's agent has ended, and with it what the agent was measuring.
    pub fn node_gone(&mut self, name: &NodeName, now: Monotonic) {
        let Some(node) = self.node(name) else { return };
        // Before time passes: whatever becomes ready in this instant is not ordered from it any more.
        self.nodes[node].gone = true;
        self.tick(now);
        let concerned = |index: &usize| self.pairs[self.records[*index].pair].nodes.contains(&node);
        let lost: Vec<usize> = self.waiting.keys().copied().filter(concerned).collect();
        for &index in &lost {
            if self.src_node(index) != node {
                self.withdraw(index);
            }
            self.decide(index, Outcome::Failed(Failure::Left(name.clone())));
        }
        self.go_on(&lost, now);
    }

    /// A node that was gone is there again: what is left of its turns is measured, unless it is held out.
    pub fn node_back(&mut self, name: &NodeName, now: Monotonic) {
        self.tick(now);
        if let Some(node) = self.node(name) {
            self.nodes[node].gone = false;
        }
    }

    /// An agent's answer to an order. Only its first, given in time by the node that has the order, counts.
    pub fn result(
        &mut self,
        number: u64,
        from: &NodeName,
        result: Result<(), String>,
        now: Monotonic,
    ) -> Answer {
        self.tick(now);
        let index = usize::try_from(number).ok().filter(|&index| index < self.records.len());
        let Some(index) = index.filter(|&index| self.nodes[self.src_node(index)].name == *from)
        else {
            return Answer::Foreign;
        };
        if !self.waiting.contains_key(&index) {
            // Without an outcome it was never ordered, so this is no answer.
            let ended = self.records[index].outcome.is_some();
            return if ended { Answer::TooLate } else { Answer::Foreign };
        }
        let outcome = match result {
            Ok(()) => Outcome::Measured,
            Err(reason) => Outcome::Failed(Failure::Refused { node: from.clone(), reason }),
        };
        self.decide(index, outcome);
        self.go_on(&[index], now);
        Answer::Taken
    }

    /// Ends everything now.
    pub fn cancel(&mut self, now: Monotonic) {
        self.tick(now);
        if self.state != State::Finished {
            self.end_all(&NotMeasured::Cancelled);
        }
    }

    fn node(&self, name: &NodeName) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.name.cmp(name)).ok()
    }

    fn src_node(&self, index: usize) -> usize {
        let record = &self.records[index];
        let pair = &self.pairs[record.pair];
        pair.nodes[usize::from(pair.directions[1].contains(&index))]
    }

    /// A driver that comes long after the time it was told has slept itself (stopped, swapped out), and answers may lie
    /// unread before it. To call that no answer would accuse every prober at once: they get the time that was slept, and
    /// a second more to be read. The limit of the whole stays.
    fn forgive_own_absence(&mut self, now: Monotonic) {
        let Some(first) = self.waiting.values().min() else { return };
        let slept = now.saturating_since(*first);
        if slept >= OVERSLEPT {
            for deadline in self.waiting.values_mut() {
                *deadline = deadline.saturating_add(slept + OVERSLEPT);
            }
        }
    }

    fn withdraw(&mut self, index: usize) {
        let node = self.nodes[self.src_node(index)].name.clone();
        self.actions.push_back(Action::Withdraw { number: index as u64, node });
    }

    fn decide(&mut self, index: usize, outcome: Outcome) {
        if self.waiting.remove(&index).is_some() {
            self.pairs[self.records[index].pair].open -= 1;
        }
        self.records[index].outcome = Some(outcome);
        self.done += 1;
        self.actions.push_back(Action::Done(index as u64));
    }

    /// After orders have ended: the next direction, the next pairs, the end.
    fn go_on(&mut self, ended: &[usize], now: Monotonic) {
        let pairs: BTreeSet<usize> = ended.iter().map(|&index| self.records[index].pair).collect();
        self.begin_ready(pairs, now);
        self.end_if_done();
    }

    /// Looks at these pairs and at all that they make ready. A list, not a recursion: a node that is gone lets a whole
    /// chain of pairs pass at once.
    fn begin_ready(&mut self, pairs: impl IntoIterator<Item = usize>, now: Monotonic) {
        let mut look: VecDeque<usize> = pairs.into_iter().collect();
        while let Some(index) = look.pop_front() {
            let nodes = self.pairs[index].nodes;
            let next = |node: usize| self.nodes[node].pairs.get(self.nodes[node].through);
            if nodes.iter().any(|&node| next(node) != Some(&index)) {
                continue;
            }
            while self.pairs[index].open == 0 && self.pairs[index].begun < 2 {
                self.begin_direction(index, now);
            }
            if self.pairs[index].open == 0 {
                for node in nodes {
                    self.nodes[node].through += 1;
                    look.extend(self.nodes[node].pairs.get(self.nodes[node].through));
                }
            }
        }
    }

    fn begin_direction(&mut self, pair: usize, now: Monotonic) {
        let Pair { round, nodes, ref directions, begun, .. } = self.pairs[pair];
        let direction = directions[begun].clone();
        let (src, dst) = if begun == 0 { (nodes[0], nodes[1]) } else { (nodes[1], nodes[0]) };
        self.pairs[pair].begun += 1;
        if let Some(why) = self.obstacle(src, dst) {
            return direction
                .for_each(|index| self.decide(index, Outcome::NotMeasured(why.clone())));
        }
        if self.rounds_started.insert(round) {
            self.actions.push_back(Action::RoundStarted(round));
        }
        let limit = self.settings.measurement_limit;
        for index in direction {
            self.waiting.insert(index, now.saturating_add(limit));
            self.pairs[pair].open += 1;
            let Record { src, dst, .. } = self.records[index];
            let (src, dst) = (self.endpoints[src].clone(), self.endpoints[dst].clone());
            self.actions.push_back(Action::Order(Order {
                number: index as u64,
                round,
                src,
                dst,
                limit,
            }));
        }
    }

    fn obstacle(&self, src: usize, dst: usize) -> Option<NotMeasured> {
        let (src, dst) = (&self.nodes[src], &self.nodes[dst]);
        let gone = [src, dst].into_iter().find(|node| node.gone);
        gone.map(|node| NotMeasured::Gone(node.name.clone()))
            .or_else(|| src.held_out.then(|| NotMeasured::HeldOut(src.name.clone())))
    }

    fn end_all(&mut self, why: &NotMeasured) {
        for index in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.withdraw(index);
        }
        for index in 0..self.records.len() {
            if self.records[index].outcome.is_none() {
                self.decide(index, Outcome::NotMeasured(why.clone()));
            }
        }
        self.state = State::Finished;
        self.actions.push_back(Action::Finished);
    }

    fn end_if_done(&mut self) {
        if self.done == self.records.len() && matches!(self.state, State::Running { .. }) {
            self.state = State::Finished;
            self.actions.push_back(Action::Finished);
        }
    }
}

/// The ports with which two nodes meet: on each rail that both have, first with first, second with second.
fn in_common(a: &BTreeMap<u16, Vec<usize>>, b: &BTreeMap<u16, Vec<usize>>) -> Vec<(usize, usize)> {
    let both = a.iter().filter_map(|(rail, ports)| Some((ports, b.get(rail)?)));
    both.flat_map(|(a, b)| a.iter().copied().zip(b.iter().copied())).collect()
}

const _: () = assert!(size_of::<Record>() <= 80, "see SweepRun");
