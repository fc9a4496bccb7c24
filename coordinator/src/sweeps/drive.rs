//! Drives the state machine of a sweep with time, orders and results.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use railgauge_core::access::Disturbance;
use railgauge_core::path::{Endpoint, Memory, NodeName, Path, Transport};
use railgauge_core::settings::Span;
use railgauge_core::sweep::{Action, Announcement, Answer, Order, SweepRun, SweepSettings};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_proto::{convert, v1};
use tokio::task::JoinSet;
use tonic::Status;

use super::again::Again;
use super::document;
use super::suite::{self, Asked};
use super::{Finished, Run};
use crate::clock;
use crate::fleet::{Gone, OrderResult};
use crate::registry::State;

/// How often it is looked who is still there.
const LOOK: Duration = Duration::from_millis(250);

/// Measurements of one sweep at most, those of 256 nodes with one port: results stay in memory until it is judged, 10 KiB each.
const MOST: usize = 65_536;

/// A sweep that has ended: everything its document is made from.
#[derive(Debug)]
pub struct Ended {
    /// Its name.
    pub id: String,
    /// What was asked.
    pub request: v1::StartSweepRequest,
    /// What that meant.
    pub asked: Asked,
    /// The state machine at the end.
    pub run: SweepRun,
    /// What the probers sent, by measurement.
    pub results: BTreeMap<u64, OrderResult>,
    /// When it began and ended.
    pub times: (Wall, Wall),
    /// Rounds that began.
    pub rounds: u32,
    /// It was cancelled.
    pub cancelled: bool,
    /// What was measured again.
    pub second: Option<Second>,
}

/// The measurements of those who stood out, with good partners.
#[derive(Debug)]
pub struct Second {
    /// Who they are.
    pub again: Again,
    /// The state machine at the end.
    pub run: SweepRun,
    /// What the probers sent, by measurement.
    pub results: BTreeMap<u64, OrderResult>,
}

type Come = (u64, NodeName, Result<OrderResult, Gone>);

struct Driver<'r> {
    run: &'r Run,
    machine: SweepRun,
    announced: Announcement,
    settings: SweepSettings,
    transport: Transport,
    nodes: Vec<NodeName>,
    addresses: BTreeMap<Endpoint, SocketAddr>,
    /// What was done before this part of the sweep: rounds and measurements. Orders are numbered on from there.
    before: (u32, usize),
    waiting: JoinSet<Come>,
    results: BTreeMap<u64, OrderResult>,
    away: BTreeSet<NodeName>,
    rounds: u32,
}

/// Announces it, and unless that is all, runs it to its end.
pub async fn drive(run: &mut Run, asked: Asked) -> Finished {
    let began = clock::now().wall;
    let transport = asked.transport;
    let endpoints = asked.nodes.iter().flat_map(|node| &node.hello.endpoints);
    let addresses: BTreeMap<Endpoint, SocketAddr> = endpoints
        .filter_map(|each| Some((each.endpoint.clone(), each.reached_by(transport)?)))
        .collect();
    let machine = SweepRun::new(addresses.keys().cloned(), asked.settings);
    let announced = machine.announce();
    // What may not run is not announced: who only wants to know, or leaves after the announcement, would take it for begun.
    if announced.measurements > MOST {
        run.refuse(Status::invalid_argument(format!(
            "{} measurements are more than the {MOST} of one sweep: choose nodes, or fewer rounds",
            announced.measurements
        )));
        return Finished::default();
    }
    if let Err(error) = run.caps.allow(&disturbance(&announced)) {
        run.refuse(Status::failed_precondition(error.to_string()));
        return Finished::default();
    }
    run.tell(v1::sweep_event::Event::Announced(announcement(&run.id, &announced, &asked)));
    if run.request.dry_run {
        return Finished::default();
    }
    let mut cancelled = run.cancelled.clone();
    let names = asked.nodes.iter().map(|node| node.hello.node.clone()).collect();
    let mut driver =
        Driver::new(run, machine, (asked.settings, transport), names, addresses.clone());
    driver.run_out(&mut cancelled).await;
    let Driver { machine, results, rounds, announced, .. } = driver;
    let mut ended = Ended {
        id: run.id.clone(),
        request: run.request.clone(),
        asked,
        run: machine,
        results,
        times: (began, clock::now().wall),
        rounds,
        cancelled: *cancelled.borrow(),
        second: None,
    };
    if !ended.cancelled {
        // Judging thousands of paths takes a while.
        let judged =
            tokio::task::spawn_blocking(move || (document::stands_out(&ended), ended)).await;
        let Ok((again, same)) = judged else { return Finished::default() };
        ended = same;
        if let Some(again) = again {
            let before = (ended.rounds, announced.measurements);
            ended.second =
                Some(measure_again(run, &ended, again, &addresses, before, &mut cancelled).await);
            ended.times.1 = clock::now().wall;
            ended.cancelled = *cancelled.borrow();
        }
    }
    let made = tokio::task::spawn_blocking(move || document::make(&ended)).await;
    made.unwrap_or_default()
}

async fn measure_again(
    run: &Run,
    ended: &Ended,
    again: Again,
    addresses: &BTreeMap<Endpoint, SocketAddr>,
    before: (u32, usize),
    cancelled: &mut tokio::sync::watch::Receiver<bool>,
) -> Second {
    let names: Vec<NodeName> = again.suspects.iter().chain(&again.partners).cloned().collect();
    let wanted = |endpoint: &Endpoint| names.contains(&endpoint.node);
    let endpoints = addresses.keys().filter(|endpoint| wanted(endpoint)).cloned();
    let settings = SweepSettings { max_rounds: None, ..ended.asked.settings };
    let machine = SweepRun::new(endpoints, settings);
    let mut driver =
        Driver::new(run, machine, (settings, ended.asked.transport), names, addresses.clone());
    driver.before = before;
    driver.run_out(cancelled).await;
    Second { again, run: driver.machine, results: driver.results }
}

fn announcement(id: &str, a: &Announcement, asked: &Asked) -> v1::SweepAnnounced {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    v1::SweepAnnounced {
        id: id.to_owned(),
        nodes: count(a.nodes),
        rounds: count(a.rounds),
        measurements: count(a.measurements),
        expected_duration_ns: nanos(a.expected_duration),
        limit_ns: nanos(a.limit),
        expected_packets: a.packets,
        expected_bytes: a.wire_bytes,
        excluded: asked.absent.iter().map(|(node, why)| format!("{node}: {why}")).collect(),
    }
}

fn disturbance(announced: &Announcement) -> Disturbance {
    Disturbance {
        nodes: u32::try_from(announced.nodes).unwrap_or(u32::MAX),
        limit: Span::new(announced.limit),
        octets: announced.wire_bytes,
        expected: Span::new(announced.expected_duration),
    }
}

impl<'r> Driver<'r> {
    fn new(
        run: &'r Run,
        machine: SweepRun,
        (settings, transport): (SweepSettings, Transport),
        nodes: Vec<NodeName>,
        addresses: BTreeMap<Endpoint, SocketAddr>,
    ) -> Self {
        Self {
            run,
            announced: machine.announce(),
            machine,
            settings,
            transport,
            nodes,
            addresses,
            before: (0, 0),
            waiting: JoinSet::new(),
            results: BTreeMap::new(),
            away: BTreeSet::new(),
            rounds: 0,
        }
    }

    /// What agents know measurement `number` by: no two of a sweep are alike.
    fn order_number(&self, number: u64) -> u64 {
        number + self.before.1 as u64
    }

    async fn run_out(&mut self, cancelled: &mut tokio::sync::watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK);
        self.machine.start(clock::now().monotonic);
        let mut told_to_end = false;
        loop {
            if self.act() {
                return;
            }
            let wake = self.machine.next_wake();
            tokio::select! {
                Some(Ok(come)) = self.waiting.join_next() => self.take(come),
                _ = look.tick() => self.look_who_is_there(),
                () = until(wake) => self.machine.tick(clock::now().monotonic),
                changed = cancelled.changed(), if !told_to_end => {
                    if changed.is_err() || *cancelled.borrow() {
                        told_to_end = true;
                        self.machine.cancel(clock::now().monotonic);
                    }
                }
            }
        }
    }

    /// Does what the machine asks for; returns whether it has finished.
    fn act(&mut self) -> bool {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Order(order) => self.order(&order),
                Action::Withdraw { number, node } => {
                    let number = self.order_number(number);
                    self.run.fleet.cancel(&node, &self.run.id, Some(number));
                }
                Action::RoundStarted(round) => {
                    self.rounds = self.rounds.max(round);
                    let rounds = u32::try_from(self.announced.rounds).unwrap_or(u32::MAX);
                    let (round, rounds) = (self.before.0 + round, self.before.0 + rounds);
                    let started = v1::SweepRoundStarted { round, rounds };
                    self.run.tell(v1::sweep_event::Event::RoundStarted(started));
                }
                Action::Done(number) => self.tell_done(number),
                Action::Finished => return true,
            }
        }
        self.machine.is_finished()
    }

    fn order(&mut self, order: &Order) {
        let now = clock::now().monotonic;
        let prober = order.src.node.clone();
        let Some(address) = self.addresses.get(&order.dst) else { return };
        match self.run.fleet.order(&prober, self.message(order, *address)) {
            Ok(awaiting) => {
                let number = order.number;
                self.waiting.spawn(async move { (number, prober, awaiting.result().await) });
            }
            Err(Gone(node)) => self.gone(node, now),
        }
    }

    /// Until it is seen to be there at the next look.
    fn gone(&mut self, node: NodeName, now: Monotonic) {
        self.machine.node_gone(&node, now);
        self.away.insert(node);
    }

    fn message(&self, order: &Order, address: SocketAddr) -> v1::SweepOrder {
        let settings = &self.settings;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let ends = (&order.src.node, &order.dst.node);
        let now = clock::now().monotonic;
        let probe_key = self.run.fleet.keys.for_order(ends, order.limit, now);
        v1::SweepOrder {
            sweep_id: self.run.id.clone(),
            order: self.order_number(order.number),
            target: Some(v1::Target {
                path: Some(convert::path_message(&path(&order.src, &order.dst, self.transport))),
                address: address.ip().to_string(),
                port: address.port().into(),
                interval_ns: nanos(settings.interval),
                phase_ns: 0,
                timeout_ns: nanos(suite::timeout(self.transport)),
                size_bytes: settings.size_bytes,
                probe_key,
            }),
            count: settings.count,
            warmup: u32::try_from(settings.warmup).unwrap_or(u32::MAX),
            limit_ns: nanos(order.limit),
        }
    }

    fn take(&mut self, (number, prober, result): Come) {
        let now = clock::now().monotonic;
        match result {
            Err(Gone(node)) => self.gone(node, now),
            Ok(result) => {
                let ends = self.machine.measurement(number).map(|m| (m.src, m.dst));
                let is_of = |path: &Path| {
                    ends == Some((&path.src, &path.dst)) && path.transport == self.transport
                };
                let outcome = match &result.windows {
                    Some(batch) if !batch.paths.iter().all(is_of) => {
                        Err("its windows are of another path".to_owned())
                    }
                    Some(_) => Ok(()),
                    None if result.error.is_empty() => Err("it sent no window".to_owned()),
                    None => Err(result.error.clone()),
                };
                let is_good = outcome.is_ok();
                let answer = self.machine.result(number, &prober, outcome, now);
                if answer == Answer::Taken && is_good {
                    self.results.insert(number, result);
                }
            }
        }
    }

    fn look_who_is_there(&mut self) {
        let now = clock::now().monotonic;
        let nodes = self.run.fleet.nodes();
        for name in &self.nodes {
            let there =
                nodes.iter().any(|node| node.hello.node == *name && node.state == State::Connected);
            if !there && self.away.insert(name.clone()) {
                self.machine.node_gone(name, now);
            } else if there && self.away.remove(name) {
                self.machine.node_back(name, now);
            }
        }
    }

    fn tell_done(&self, number: u64) {
        let Some(measurement) = self.machine.measurement(number) else { return };
        let result = self.results.get(&number);
        let summary = result.and_then(|r| document::glance(r, suite::timeout(self.transport)));
        let error = match measurement.outcome {
            None => String::new(),
            Some(outcome) => document::why_not(outcome).unwrap_or_default(),
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let done = v1::SweepPairDone {
            src: measurement.src.to_string(),
            dst: measurement.dst.to_string(),
            round: self.before.0 + measurement.round,
            done: count(self.before.1 + self.machine.done()),
            measurements: count(self.before.1 + self.announced.measurements),
            sent: summary.as_ref().map_or(0, |s| s.sent),
            lost: summary.as_ref().map_or(0, |s| s.lost),
            network_rtt_p50_ns: summary.as_ref().and_then(|s| s.p50_ns),
            network_rtt_p99_ns: summary.as_ref().and_then(|s| s.p99_ns),
            error,
        };
        self.run.tell(v1::sweep_event::Event::PairDone(done));
    }
}

/// The path that a measurement probes.
pub fn path(src: &Endpoint, dst: &Endpoint, transport: Transport) -> Path {
    Path { src: src.clone(), dst: dst.clone(), transport, memory: Memory::Host, flow: 0, dscp: 0 }
}

async fn until(wake: Option<Monotonic>) {
    match wake {
        Some(at) => {
            tokio::time::sleep(at.saturating_since(clock::now().monotonic)).await;
        }
        None => std::future::pending().await,
    }
}
