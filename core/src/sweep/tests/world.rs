//! Agents that carry out orders, or do not, and a driver that keeps an eye on who measures with whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::path::{Endpoint, NodeName, PortName};
use crate::sweep::{Action, Announcement, Answer, Order, Outcome, SweepRun, SweepSettings};
use crate::time::Monotonic;

/// A healthy measurement: 950 probes and 50 to warm up, 1 ms apart.
pub(super) const T: u64 = 1_000_000_000;
/// One towards a node that answers no probe: the time-out of the last one comes on top.
pub(super) const A: u64 = T + 1_000_000_000;
pub(super) const LIMIT: u64 = 5_000_000_000;

pub(super) fn settings() -> SweepSettings {
    SweepSettings {
        count: 950,
        warmup: 50,
        interval: Duration::from_millis(1),
        size_bytes: 72,
        measurement_limit: Duration::from_nanos(LIMIT),
        whole_limit: None,
        max_rounds: None,
    }
}

pub(super) fn end(settings: &SweepSettings, announced: Announcement) -> u64 {
    let end = announced.expected_duration * 2 + settings.measurement_limit * 10;
    u64::try_from(end.as_nanos()).unwrap()
}

pub(super) fn at(nanos: u64) -> Monotonic {
    Monotonic::from_nanos(nanos)
}

pub(super) fn name(node: usize) -> NodeName {
    NodeName::new(&format!("gpu-{node:02}")).unwrap()
}

pub(super) fn fleet(nodes: usize, rails: u16) -> Vec<Endpoint> {
    let endpoint = |node, rail| Endpoint {
        node: name(node),
        port: PortName::new(&format!("mlx5_{rail}/1")).unwrap(),
        rail,
    };
    (0..nodes).flat_map(|node| (0..rails).map(move |rail| endpoint(node, rail))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Healthy,
    /// Its agent never reports, its responder lives.
    Stuck,
    /// As by SIGSTOP: never reports, answers no probe, its stream stays open.
    Stopped,
    /// Healthy until then; its stream ends in that instant.
    DiesAt(u64),
    /// Reports at once that it cannot.
    Refuses,
    /// Reports so long after it should have.
    Late(u64),
    /// Reports so many times.
    Repeats(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Result { number: u64, from: NodeName, result: Result<(), String> },
    Gone(NodeName),
    Back(NodeName),
    Cancel,
}

pub(super) struct World {
    pub run: SweepRun,
    behaviours: BTreeMap<NodeName, Behaviour>,
    events: BTreeMap<(u64, usize), Event>,
    now: u64,
    /// Orders under way as the world sees it: until reported, withdrawn, or their agent's stream has ended.
    under_way: BTreeMap<u64, Order>,
    outcomes: BTreeMap<u64, Outcome>,
    /// Whose orders may just have been given up, too.
    last_gone: Option<NodeName>,
    pub answers: BTreeSet<u64>,
    pub rounds_started: Vec<u32>,
    pub withdrawn: usize,
    pub ended_at: u64,
    started: bool,
}

/// What makes it this world.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.run.announce();
        write!(f, "{ports:?} {:?} {:?}", self.behaviours, self.events)
    }
}

impl World {
    pub(super) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self::with(endpoints, settings())
    }

    pub(super) fn with(endpoints: Vec<Endpoint>, settings: SweepSettings) -> Self {
        Self {
            run: SweepRun::new(endpoints, settings),
            behaviours: BTreeMap::new(),
            events: BTreeMap::new(),
            now: 0,
            under_way: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            last_gone: None,
            answers: BTreeSet::new(),
            rounds_started: vec![],
            withdrawn: 0,
            ended_at: 0,
            started: false,
        }
    }

    pub(super) fn behave(&mut self, node: usize, behaviour: Behaviour) {
        if let Behaviour::DiesAt(when) = behaviour {
            self.event(when, Event::Gone(name(node)));
        }
        self.behaviours.insert(name(node), behaviour);
    }

    pub(super) fn event(&mut self, when: u64, event: Event) {
        let number = self.events.len() + self.outcomes.len() + self.under_way.len();
        let free = (number..).find(|&n| !self.events.contains_key(&(when, n))).unwrap();
        self.events.insert((when, free), event);
    }

    fn behaviour(&self, node: &NodeName) -> Behaviour {
        self.behaviours.get(node).copied().unwrap_or(Behaviour::Healthy)
    }

    fn carry_out(&mut self, order: &Order) {
        let takes = match self.behaviour(&order.dst.node) {
            Behaviour::Stopped => A,
            Behaviour::DiesAt(then) if then < self.now + T => A,
            _ => T,
        };
        let (number, from) = (order.number, order.src.node.clone());
        let answer = |result| Event::Result { number, from: from.clone(), result };
        match self.behaviour(&order.src.node) {
            Behaviour::Healthy => self.event(self.now + takes, answer(Ok(()))),
            Behaviour::Late(by) => self.event(self.now + takes + by, answer(Ok(()))),
            Behaviour::Repeats(times) => {
                for again in 0..times {
                    self.event(self.now + takes + again * T / 3, answer(Ok(())));
                }
            }
            Behaviour::Refuses => self.event(self.now, answer(Err("no such port".into()))),
            Behaviour::DiesAt(then) if self.now + takes <= then => {
                self.event(self.now + takes, answer(Ok(())));
            }
            Behaviour::Stuck | Behaviour::Stopped | Behaviour::DiesAt(_) => {}
        }
    }

    /// Takes all actions and checks each.
    pub(super) fn drain(&mut self) {
        while let Some(action) = self.run.next_action() {
            match action {
                Action::Order(order) => self.ordered(order),
                Action::Withdraw { number, node } => {
                    self.withdrawn += 1;
                    match self.under_way.remove(&number) {
                        Some(order) => assert_eq!(order.src.node, node),
                        None => assert!(self.last_gone == Some(node), "nothing to withdraw"),
                    }
                }
                Action::RoundStarted(round) => {
                    assert!(!self.rounds_started.contains(&round));
                    self.rounds_started.push(round);
                }
                Action::Done(number) => {
                    let outcome = self.run.measurement(number).unwrap().outcome.unwrap().clone();
                    assert!(self.outcomes.insert(number, outcome).is_none(), "two outcomes");
                    if self.outcomes[&number] == Outcome::Measured {
                        assert!(self.answers.contains(&number), "measured by nobody");
                    }
                }
                Action::Finished => self.finished(),
            }
        }
        assert_eq!(self.run.done(), self.outcomes.len());
    }

    /// Nobody is in two pairs, or in both directions of one, at once.
    fn ordered(&mut self, order: Order) {
        let ends = |order: &Order| [order.src.node.clone(), order.dst.node.clone()];
        for other in self.under_way.values() {
            if ends(other) == ends(&order) {
                assert!(other.src != order.src && other.dst != order.dst, "one port twice");
            } else {
                let both = ends(other).into_iter().any(|end| ends(&order).contains(&end));
                assert!(!both, "{order:?} while {other:?}");
            }
        }
        let view = self.run.measurement(order.number).unwrap();
        assert_eq!((view.src, view.dst, view.round), (&order.src, &order.dst, order.round));
        assert!(self.rounds_started.contains(&order.round));
        self.carry_out(&order);
        assert!(self.under_way.insert(order.number, order).is_none(), "ordered twice");
    }

    fn finished(&mut self) {
        self.ended_at = self.now;
        assert!(self.run.is_finished() && self.under_way.is_empty());
        assert!(self.run.measurements().all(|m| m.outcome == Some(&self.outcomes[&m.number])));
        assert_eq!(self.run.next_wake(), None);
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Result { number, from, result } => {
                let rightful =
                    self.under_way.get(&number).is_some_and(|order| order.src.node == from);
                if rightful {
                    self.answers.insert(number);
                }
                let taken = self.run.result(number, &from, result, now) == Answer::Taken;
                if taken {
                    assert!(rightful);
                    self.under_way.remove(&number);
                }
            }
            Event::Gone(node) => {
                self.under_way.retain(|_, order| order.src.node != node);
                self.run.node_gone(&node, now);
                self.last_gone = Some(node);
            }
            Event::Back(node) => self.run.node_back(&node, now),
            Event::Cancel => self.run.cancel(now),
        }
    }

    /// Until the end, which has to come before the limit, or until `until`.
    pub(super) fn run_until(&mut self, until: u64) {
        if !self.started {
            self.started = true;
            while self.events.first_key_value().is_some_and(|(&(when, _), _)| when == 0) {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            }
            self.run.start(at(0));
            self.drain();
        }
        loop {
            let event = self.events.first_key_value().map(|(&(when, _), _)| when);
            let wake = self.run.next_wake().map(Monotonic::as_nanos);
            let Some(next) = event.into_iter().chain(wake).min().filter(|&next| next <= until)
            else {
                break;
            };
            assert!(next >= self.now);
            self.now = next;
            if event == Some(next) {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            } else {
                self.run.tick(at(self.now));
                assert!(self.run.next_wake().is_none_or(|wake| wake.as_nanos() > self.now));
            }
            self.drain();
        }
    }

    pub(super) fn run(mut self) -> Self {
        self.run_until(u64::MAX);
        assert!(self.run.is_finished(), "no event is left, and it waits for one");
        self
    }
}
