//! Sweep orders: one path, now, with the machinery of `railgauge ping`, on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use prost::Message;
use railgauge_core::path::{Path, Transport as Carrier};
use railgauge_core::path_window::{Parameters, PathWindow, Split, WindowAccount};
use railgauge_core::rdma::operation::{CompletionStamps, Measure, Operation};
use railgauge_core::rdma::reliability::Profile;
use railgauge_core::stamp::TimestampFormat;
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_proto::{MAX_MESSAGE, convert, v1};
use tokio::sync::mpsc::UnboundedSender;

use super::budget::Load;
use super::config::Budget;
use super::news::printable;
use super::target::{self, Checked, Endpoints};
use crate::WaitMode;
use crate::mesh::links;
use crate::ping::rdma::CompletionChoice;
use crate::ping::{self, PingConfig, PingRun, RdmaConfig, Transport, WindowReport};
use crate::target::Family;

/// Length of a window of a sweep.
const BLOCK_NS: u64 = 1_000_000_000;

/// Orders under way at most. A coordinator gives one a port.
const MOST_ORDERS: usize = 64;

/// How long an order may take at most: a result has one window a second, and a batch at most 1,024.
const LONGEST_ORDER: Duration = Duration::from_secs(1_000);

/// The shortest interval of an order.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(10);

/// A result larger than this does not travel.
const LARGEST_RESULT: usize = MAX_MESSAGE - 1_024;

/// What there is room for beside the plan.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of the node.
    pub budget: Budget,
    /// Of the plan, as it is probed now.
    pub plan: Load,
}

/// Why an order ends before its count.
const CANCELLED: u8 = 1;
const OVERDUE: u8 = 2;

/// An order under way.
struct Running {
    stop: Arc<AtomicBool>,
    /// Why it was stopped; lives as long as its thread.
    why: Arc<AtomicU8>,
    until: Monotonic,
    load: Load,
}

impl Running {
    fn stop(&self, why: u8) {
        // The first reason counts.
        let _ = self.why.compare_exchange(0, why, Ordering::Relaxed, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
    }
}

/// Runs orders and sends what came of them.
///
/// Orders count against the node's budgets: one that, with the others and the plan at its present rate, would send more than they
/// allow is refused with a sentence. They are not slowed down, as the plan is, since a sweep compares paths probed alike.
pub struct Orders {
    node: String,
    instance: u64,
    running: HashMap<(String, u64), Running>,
    results: UnboundedSender<v1::SweepResult>,
}

impl Orders {
    /// For the node of that name. Results go to `results`.
    pub fn new(node: String, instance: u64, results: UnboundedSender<v1::SweepResult>) -> Self {
        Self { node, instance, running: HashMap::new(), results }
    }

    /// Begins one.
    pub fn begin(&mut self, order: &v1::SweepOrder, ours: &Endpoints, room: Room) {
        self.running.retain(|_, running| Arc::strong_count(&running.why) > 1);
        let key = (order.sweep_id.clone(), order.order);
        if self.running.contains_key(&key) {
            return;
        }
        let refuse = |error: String| {
            // Nobody listens any more only when the process ends.
            let _ = self.results.send(empty_result(order, printable(&error)));
        };
        let (path, config) = match config(order, ours) {
            Ok(both) => both,
            Err(error) => return refuse(error),
        };
        if self.running.len() >= MOST_ORDERS {
            return refuse(format!("{MOST_ORDERS} measurements are under way here already"));
        }
        let load = Load::of(config.interval, config.key.is_some(), config.size);
        let others = self.running.values().map(|other| other.load).fold(room.plan, Load::plus);
        if others.plus(load).share_of(&room.budget) > 1.0 + 1e-6 {
            return refuse(format!(
                "over this node's budget: {:.0} packets/s are asked for beside {:.0}, and {} packets/s and {} a second are \
                 allowed (0: any)",
                load.packets,
                others.packets,
                room.budget.packets_per_second,
                room.budget.bytes_per_second
            ));
        }
        let limit = Duration::from_nanos(order.limit_ns).min(LONGEST_ORDER);
        let until = clock::monotonic().saturating_add(limit);
        let running = Running { stop: Arc::default(), why: Arc::default(), until, load };
        let (stop, why) = (Arc::clone(&running.stop), Arc::clone(&running.why));
        let results = self.results.clone();
        let (agent, instance, named) = (self.node.clone(), self.instance, order.clone());
        let run = move || {
            let result = measure(&named, &path, config, (&agent, instance), (&stop, &why, until));
            let _ = results.send(result);
        };
        match thread::Builder::new().name("sweep".to_owned()).spawn(run) {
            Ok(_) => {
                self.running.insert(key, running);
            }
            Err(error) => refuse(format!("cannot start a thread: {error}")),
        }
    }

    /// Abandons what has taken too long; to be called about twice a second.
    pub fn tick(&mut self, now: Monotonic) {
        self.running.values().filter(|running| now >= running.until).for_each(|r| r.stop(OVERDUE));
    }

    /// Ends one order of a sweep, or all of them: what is measured is reported.
    pub fn cancel(&mut self, cancel: &v1::SweepCancel) {
        for ((sweep, order), running) in &self.running {
            if *sweep == cancel.sweep_id && cancel.order.is_none_or(|one| one == *order) {
                running.stop(CANCELLED);
            }
        }
    }

    /// Ends all.
    pub fn cancel_all(&mut self) {
        self.running.values().for_each(|running| running.stop(CANCELLED));
    }
}

fn empty_result(order: &v1::SweepOrder, error: String) -> v1::SweepResult {
    let sweep_id = order.sweep_id.clone();
    v1::SweepResult { sweep_id, order: order.order, windows: None, error, validity: Vec::new() }
}

/// What is to be measured, and how, when the order can be carried out.
///
/// # Errors
/// A sentence for the coordinator.
pub fn config(order: &v1::SweepOrder, ours: &Endpoints) -> Result<(Path, PingConfig), String> {
    let target = order.target.as_ref().ok_or("the order names no target")?;
    let Checked { path, peer, local, interval, timeout, size, key, rdma, .. } =
        target::check(target, ours, SHORTEST_INTERVAL)?;
    if order.count == 0 || order.limit_ns == 0 {
        return Err("the order asks for no probes, or gives them no time".to_owned());
    }
    let config = PingConfig {
        target: peer.to_string(),
        family: Family::Any,
        transport: match path.transport {
            Carrier::RdmaUd => Transport::RdmaUd,
            Carrier::RdmaRc => Transport::RdmaRc,
            // No other is let through.
            Carrier::Udp | Carrier::Tcp => Transport::Udp,
        },
        interval,
        count: order.count,
        timeout,
        warmup: order.warmup.into(),
        size,
        bare: false,
        mode: WaitMode::Sleep,
        cpu: None,
        device: rdma.as_deref().map(ToOwned::to_owned),
        // Over verbs the address is where endpoints are exchanged from, and the rules choose the GID.
        source: rdma.is_none().then_some(local),
        dscp: path.dscp,
        ttl: 255,
        flows: 1,
        ssid: 0,
        format: TimestampFormat::Ntp,
        key: key.map(|(_, key)| key),
        keep_outcomes: false,
        rdma: (path.transport == Carrier::RdmaRc).then(|| RdmaConfig {
            operation: Operation::Read,
            measure: Measure::Latency,
            completion: CompletionChoice::Auto,
            // A job's own time-outs would let one lost packet hold up a sweep for seconds, and a dead path for minutes: retransmissions
            // are told apart by what the queue pair is set to, whatever that is.
            profile: Profile::Continuous,
            size: Some(u32::try_from(size).unwrap_or(u32::MAX)),
            depth: 1,
            duration: None,
        }),
        exchange_from: rdma.is_some().then_some(local),
    };
    Ok((path, config))
}

fn measure(
    order: &v1::SweepOrder,
    path: &Path,
    config: PingConfig,
    (agent, instance): (&str, u64),
    (stop, why, until): (&AtomicBool, &AtomicU8, Monotonic),
) -> v1::SweepResult {
    let mut reports: Vec<WindowReport> = Vec::new();
    let keep = |window: Option<&WindowReport>, _| {
        reports.extend(window.cloned());
        // The session may be away, and with it whoever else minds the time.
        if clock::monotonic() >= until {
            let _ = why.compare_exchange(0, OVERDUE, Ordering::Relaxed, Ordering::Relaxed);
            stop.store(true, Ordering::Release);
        }
    };
    let run = match ping::run(config, stop, keep) {
        Ok(run) => run,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            return empty_result(order, format!("{error}{cause}"));
        }
    };
    let windows = windows(&run, &reports);
    let started_at = run.end.started_at.as_unix_nanos();
    let batch = v1::WindowBatch {
        agent: agent.to_owned(),
        instance,
        first_sequence: 0,
        start_unix_ns: started_at - started_at % BLOCK_NS,
        length_ns: BLOCK_NS,
        plan_epoch: 0,
        paths: vec![convert::path_message(path)],
        windows: windows.iter().map(|window| convert::window_message(0, window)).collect(),
    };
    let report = run.report();
    let error = match why.load(Ordering::Relaxed) {
        _ if run.end.account.scheduled >= order.count && run.end.account.in_flight == 0 => "",
        CANCELLED => "cancelled",
        OVERDUE => "abandoned: it took longer than the order allows",
        _ => "",
    };
    let result = v1::SweepResult {
        sweep_id: order.sweep_id.clone(),
        order: order.order,
        windows: (!windows.is_empty()).then_some(batch),
        error: error.to_owned(),
        validity: report.validity,
    };
    if result.encoded_len() > LARGEST_RESULT {
        return empty_result(order, "what was measured is too much for one message".to_owned());
    }
    result
}

/// One window a second. What belongs to no sample (slots without a probe, probes without a verdict) is in the last.
fn windows(run: &PingRun, reports: &[WindowReport]) -> Vec<PathWindow> {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let parameters = Parameters {
        interval_ns: nanos(run.config.interval),
        timeout_ns: nanos(run.config.timeout),
        size_bytes: u32::try_from(run.size_bytes).unwrap_or(u32::MAX),
        rdma: run.rdma.as_ref().map(|end| {
            let by_nic = matches!(run.end.flows.first(), Some(flow) if flow.stamps.is_ok());
            let stamps =
                if by_nic { CompletionStamps::Wallclock } else { CompletionStamps::Software };
            links::parameters(end.connected(), stamps)
        }),
    };
    let mut windows: Vec<PathWindow> = reports.iter().map(|w| window(parameters, w)).collect();
    if windows.is_empty() {
        windows.push(PathWindow::new(parameters));
    }
    let run = &run.end.account;
    if let Some(last) = windows.last_mut() {
        let unsent = run.skipped + run.send_errors;
        let account = &mut last.account;
        account.scheduled += unsent + run.in_flight;
        account.sent += run.in_flight;
        account.in_flight += run.in_flight;
        account.skipped = run.skipped;
        account.send_errors = run.send_errors;
        account.late_replies = run.late_replies;
        account.duplicate = run.duplicate;
        account.reordered = run.reordered;
        account.late_starts = run.late_starts;
        account.invalid_stamps = run.invalid_stamps;
    }
    windows
}

fn window(parameters: Parameters, report: &WindowReport) -> PathWindow {
    let (received, lost) = (report.app_rtt.replies(), report.app_rtt.censored());
    let sent = received + lost;
    let splits = report.split.iter().map(|(source, parts)| Split {
        source: *source,
        network_rtt: parts.network_rtt.clone(),
        prober_delay: parts.prober_delay.clone(),
        responder_delay: parts.responder_delay.clone(),
    });
    PathWindow {
        parameters,
        account: WindowAccount { scheduled: sent, sent, received, lost, ..Default::default() },
        app_rtt: report.app_rtt.clone(),
        splits: splits.collect(),
        // Of reads it is the network RTT by construction, and its last sample of a second may be booked before the outcome is.
        post_to_completion: None,
        clock_stepped: false,
    }
}
