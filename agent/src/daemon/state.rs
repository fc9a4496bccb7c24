//! What the coordinator has told this node, and what follows for its probe thread: plan, lease, budgets, orders.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use railgauge_core::path::Transport;
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_proto::{convert, protocol, v1};

use super::budget::{self, CpuBudget, CpuMeter};
use super::config::Budget;
use super::endpoints::{Own, OwnRdma};
use super::engines::Engines;
use super::keys::ReflectorKeys;
use super::metrics::Metrics;
use super::news::{Said, printable};
use super::orders::Orders;
use super::orders::Room;
use super::recorder::Recorded;
use super::target::{self, Checked, Endpoints, LARGEST_LANE};
use crate::mesh::{self, LaneKey, LaneSetup, MeshCounters, PlannedLane};

/// Without a coordinator the last plan goes on at this part of its rate (design D7).
const WITHOUT_LEASE: u32 = 10;

/// Paths in a plan at most; what goes beyond is left out, and said.
const MOST_PATHS: usize = 4_096;

/// Memory of a plan's sessions and packets at most; what goes beyond is left out, and said.
const MOST_MEMORY: usize = 256 << 20;

/// The shortest interval of continuous probes.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(100);

/// The longest operation of continuous probes: latency is measured, not what the path carries.
const LARGEST_READ: usize = 4_096;

/// Windows that a coordinator may ask for.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);
const LONGEST_WINDOW: Duration = Duration::from_secs(3_600);

/// Who this node is; does not change while the process runs, but for labels and budget.
pub struct Identity {
    /// Its name.
    pub node: String,
    /// Random, made with the state directory.
    pub identity: [u8; 16],
    /// Random, made at the start of the process.
    pub instance: u64,
    /// The kernel's.
    pub boot_id: String,
    /// Where probes are answered.
    pub endpoints: Vec<Own>,
    /// `railgauge inventory --output json`.
    pub inventory_json: Vec<u8>,
    /// The coordinator's URL.
    pub coordinator: String,
    /// Probes without authentication get no answer here.
    pub refuses_unauthenticated: bool,
}

/// The node as the coordinator has made it.
pub struct NodeState {
    identity: Identity,
    labels: BTreeMap<String, String>,
    budget: Budget,
    mesh: Engines,
    orders: Orders,
    keys: ReflectorKeys,
    epoch: u64,
    lanes: Vec<LaneSetup>,
    lease: Duration,
    lease_until: Option<Monotonic>,
    /// How long the keys of the plan are good without a renewal, and until when that is. Zero: without end.
    keys_valid: Duration,
    keys_until: Option<Monotonic>,
    /// No probe leaves any more.
    has_ended: bool,
    factor: u32,
    cpu: CpuMeter,
    cpu_budget: CpuBudget,
    over_budget: budget::Unsent,
    spool: v1::SpoolState,
    connected: bool,
    said: Said,
    metrics: Arc<Metrics>,
}

impl NodeState {
    /// A node without a plan.
    pub fn new(
        identity: Identity,
        labels: BTreeMap<String, String>,
        budget: Budget,
        mesh: Engines,
        orders: Orders,
        keys: ReflectorKeys,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.budget(&budget);
        Self {
            identity,
            labels,
            budget,
            mesh,
            orders,
            keys,
            epoch: 0,
            lanes: Vec::new(),
            lease: Duration::ZERO,
            lease_until: None,
            keys_valid: Duration::ZERO,
            keys_until: None,
            has_ended: false,
            factor: 1,
            cpu: CpuMeter::begin(clock::monotonic()),
            cpu_budget: CpuBudget::default(),
            over_budget: budget::Unsent::default(),
            spool: v1::SpoolState::default(),
            connected: false,
            said: Said::default(),
            metrics,
        }
    }

    /// The coordinator's URL.
    pub fn coordinator(&self) -> &str {
        &self.identity.coordinator
    }

    /// What we say first.
    pub fn hello(&self) -> v1::Hello {
        let rdma = |rdma: &OwnRdma| v1::RdmaOffer {
            address: rdma.reached.ip().to_string(),
            port: rdma.reached.port().into(),
            datagrams: true,
            // What is agreed on for a connection is not authenticated yet.
            connections: !self.identity.refuses_unauthenticated,
        };
        let endpoint = |own: &Own| v1::AgentEndpoint {
            endpoint: Some(convert::endpoint_message(&own.endpoint)),
            address: own.reached.ip().to_string(),
            port: own.reached.port().into(),
            rdma: own.rdma.as_ref().map(rdma),
        };
        v1::Hello {
            protocol: Some(protocol::OURS),
            software_version: crate::VERSION.to_owned(),
            node: self.identity.node.clone(),
            identity: self.identity.identity.to_vec(),
            instance: self.identity.instance,
            boot_id: self.identity.boot_id.clone(),
            endpoints: self.identity.endpoints.iter().map(endpoint).collect(),
            labels: self.labels.clone().into_iter().collect(),
            inventory_json: self.identity.inventory_json.clone(),
            sent_at_unix_ns: clock::wall().as_unix_nanos(),
            refuses_unauthenticated: self.identity.refuses_unauthenticated,
        }
    }

    /// A coordinator has taken us. It may be another one than before, or one that has lost its state: its plans count anew.
    pub fn connected(&mut self, welcome: &v1::Welcome) {
        tracing::info!("connected to the coordinator, {}", printable(&welcome.software_version));
        self.connected = true;
        self.metrics.connected.set(1.0);
        self.epoch = 0;
        self.keys.connected();
        if welcome.window_ns > 0 {
            let window = Duration::from_nanos(welcome.window_ns);
            self.mesh.set_window(window.clamp(SHORTEST_WINDOW, LONGEST_WINDOW));
        }
    }

    /// The stream has ended. The plan goes on; sweeps do not.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.metrics.connected.set(0.0);
        self.orders.cancel_all();
    }

    /// Puts a plan in force.
    pub fn plan(&mut self, plan: &v1::Plan) {
        if plan.epoch < self.epoch {
            tracing::debug!("a plan of epoch {} came after {}", plan.epoch, self.epoch);
            return;
        }
        self.epoch = plan.epoch;
        self.metrics.plan_epoch.set(plan.epoch);
        self.lease = Duration::from_nanos(plan.lease_ns);
        self.keys_valid = Duration::from_nanos(plan.probe_keys_valid_ns);
        let (lanes, left_out) = lanes(&plan.targets, &self.identity.endpoints);
        if let Some((first, count)) = left_out {
            if self.said.is_news(&first) {
                tracing::error!("the plan has {count} targets that are left out, such as: {first}");
            }
        } else {
            self.said.forget();
        }
        self.lanes = lanes.iter().map(|lane| lane.setup.clone()).collect();
        self.renew(plan.epoch);
        self.mesh.plan(self.epoch, lanes);
    }

    /// Takes the keys that our reflector is to answer.
    pub fn take_keys(&mut self, keys: &v1::ProbeKeys) {
        self.keys.take(keys);
    }

    /// Whether the coordinator knows on this stream that our reflector has its keys.
    pub const fn keys_are_settled(&self) -> bool {
        self.keys.are_settled()
    }

    /// Waits for something that the coordinator should hear of at once: keys are kept, or a plan has come into force.
    pub async fn news(&mut self) {
        tokio::select! {
            () = self.mesh.plan_applied() => {}
            () = self.keys.kept() => {}
        }
    }

    /// The plan of this epoch is valid for another lease.
    pub fn renew(&mut self, epoch: u64) {
        if epoch == self.epoch {
            let now = clock::monotonic();
            self.lease_until = Some(now.saturating_add(self.lease));
            let end = Some(self.keys_valid).filter(|valid| !valid.is_zero());
            self.keys_until = end.map(|valid| now.saturating_add(valid));
            self.mesh.keys_until(self.keys_until.unwrap_or(Monotonic::from_nanos(u64::MAX)));
            self.tick();
        }
        // Whatever the epoch: the coordinator that gave them lives.
        self.keys.renew();
    }

    /// Adapts the rate to lease and budgets; to be called about twice a second.
    pub fn tick(&mut self) {
        let now = clock::monotonic();
        let expired = self.lease_until.is_some_and(|until| now >= until);
        let without = if expired { WITHOUT_LEASE } else { 1 };
        let rate = budget::factor(&self.lanes, &self.budget);
        self.orders.tick(now);
        self.keys.tick();
        self.say_when_keys_are_over(now);
        if let Some(permille) = self.cpu.sample(now) {
            self.cpu_budget.judge(permille, self.budget.cpu_percent);
        }
        let budgeted = rate.saturating_mul(self.cpu_budget.factor());
        self.over_budget.pass(now, &self.lanes, budgeted);
        let factor = budgeted.saturating_mul(without);
        if factor != self.factor {
            tracing::info!("probing at 1/{factor} of the plan's rate");
            self.factor = factor;
            self.mesh.slow(factor);
        }
        let metrics = &self.metrics;
        metrics.lease_valid.set(f64::from(self.lease_until.is_some() && !expired));
        metrics.rate_divisor.set(factor.into());
        metrics.over_budget(self.over_budget.by_class());
    }

    fn say_when_keys_are_over(&mut self, now: Monotonic) {
        let without = self.without_keys(now);
        if without > 0 && self.said.is_news("keys") {
            tracing::error!(
                "{without} paths are probed no more: no coordinator has renewed their keys for {:?}",
                self.keys_valid
            );
        }
    }

    /// Paths whose keys are good no more.
    fn without_keys(&self, now: Monotonic) -> usize {
        let over = self.keys_until.is_some_and(|until| now >= until);
        let lanes = self.lanes.iter().filter(|lane| over && lane.authenticated);
        lanes.count()
    }

    /// Begins a measurement of a sweep.
    pub fn order(&mut self, order: &v1::SweepOrder) {
        let room = Room { budget: self.budget, plan: budget::load(&self.lanes).over(self.factor) };
        self.orders.begin(order, &self.identity.endpoints, room);
    }

    /// The mesh has ended, and orders do: nobody waits for them any more.
    pub fn end(&mut self) {
        self.orders.cancel_all();
        self.has_ended = true;
    }

    /// Ends it.
    pub fn cancel(&mut self, cancel: &v1::SweepCancel) {
        self.orders.cancel(cancel);
    }

    /// New labels and budget. Whether a new hello is needed.
    pub fn reconfigured(&mut self, labels: BTreeMap<String, String>, budget: Budget) -> bool {
        let news = labels != self.labels;
        (self.labels, self.budget) = (labels, budget);
        self.metrics.budget(&budget);
        self.tick();
        news
    }

    /// How we are.
    pub fn heartbeat(&mut self, recorded: &Recorded) -> v1::Heartbeat {
        // While the recorder waits for the disk, what was known before will do.
        if let Ok(spool) = recorded.spool.try_lock() {
            let state = spool.state();
            self.spool = v1::SpoolState {
                windows: state.windows,
                bytes: state.bytes,
                windows_dropped: state.windows_dropped,
                windows_unrecorded: 0,
                octets_damaged: state.octets_damaged,
                windows_refused: state.windows_refused,
            };
        }
        let of_mesh = self.mesh.counters().map(|of| of.windows_unrecorded.load(Ordering::Relaxed));
        let unrecorded = recorded.windows_unrecorded.load(Ordering::Relaxed) + of_mesh.sum::<u64>();
        v1::Heartbeat {
            sent_at_unix_ns: clock::wall().as_unix_nanos(),
            // Received is not yet in force.
            plan_epoch: if self.mesh.are_under(self.epoch) { self.epoch } else { 0 },
            spool: Some(v1::SpoolState { windows_unrecorded: unrecorded, ..self.spool }),
            cpu_permille: self.cpu.permille(),
            probes_over_budget: self.over_budget.probes(),
            probe_key_epoch: self.keys.confirmed(),
            probing_ended: self.has_ended,
        }
    }

    /// One line for people.
    pub fn status(&self) -> String {
        let link = if self.connected { "connected" } else { "no coordinator" };
        let sum = |of: fn(&MeshCounters) -> &AtomicU64| {
            self.mesh.counters().map(|counters| of(counters).load(Ordering::Relaxed)).sum::<u64>()
        };
        let (paths, failed) = (sum(|of| &of.paths), sum(|of| &of.paths_failed));
        let rate =
            if self.factor > 1 { format!(" at 1/{} rate", self.factor) } else { String::new() };
        let failed =
            if failed > 0 { format!(", {failed} without a socket or link") } else { String::new() };
        let without = self.without_keys(clock::monotonic());
        let without =
            if without > 0 { format!(", {without} without a valid key") } else { String::new() };
        let windows = self.spool.windows;
        format!("{link}; {paths} paths{rate}{failed}{without}; {windows} windows in the spool")
    }
}

/// What of a plan can be probed; and of the rest, the first reason and the number.
pub fn lanes(
    targets: &[v1::Target],
    ours: &Endpoints,
) -> (Vec<PlannedLane>, Option<(String, usize)>) {
    let (mut lanes, mut left_out, mut known) = (Vec::new(), None, HashSet::new());
    let mut memory = MOST_MEMORY;
    for target in targets {
        let lane = lane(target, ours).and_then(|lane| {
            if lanes.len() >= MOST_PATHS {
                return Err(format!("a plan has at most {MOST_PATHS} paths"));
            }
            let needed = mesh::memory_of(&lane.setup);
            let rest = memory.checked_sub(needed);
            let rest = rest.ok_or_else(|| {
                let path = &lane.setup.path;
                format!("{path}: with it the plan needs more than {} MiB", MOST_MEMORY >> 20)
            })?;
            if !known.insert(Arc::clone(&lane.setup.path)) {
                return Err(format!("{} is in the plan twice", lane.setup.path));
            }
            memory = rest;
            Ok(lane)
        });
        match lane {
            Ok(lane) => lanes.push(lane),
            Err(why) => left_out.get_or_insert((printable(&why), 0)).1 += 1,
        }
    }
    (lanes, left_out)
}

fn lane(target: &v1::Target, ours: &Endpoints) -> Result<PlannedLane, String> {
    let Checked { path, peer, local, interval, phase, timeout, size, key, rdma } =
        target::check(target, ours, SHORTEST_INTERVAL)?;
    if size > LARGEST_LANE {
        return Err(format!("{path}: {size} octets are more than {LARGEST_LANE}"));
    }
    if path.transport == Transport::RdmaRc && (size == 0 || size > LARGEST_READ) {
        return Err(format!("{path}: operations of {size} octets are not 1 to {LARGEST_READ}"));
    }
    let (path, authenticated) = (Arc::new(path), key.is_some());
    let setup =
        LaneSetup { path, peer, local, interval, phase, timeout, size, rdma, authenticated };
    Ok(PlannedLane { setup, key: key.map(|(epoch, key)| LaneKey { epoch, key }) })
}
