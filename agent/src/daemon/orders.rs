//! Sweep orders: one path, now, with the machinery of `railgauge ping`, on a thread of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use railgauge_core::path::Path;
use railgauge_core::path_window::{Parameters, PathWindow, Split, WindowAccount};
use railgauge_core::stamp::TimestampFormat;
use railgauge_proto::{convert, v1};
use tokio::sync::mpsc::UnboundedSender;

use crate::WaitMode;
use crate::ping::{self, PingConfig, PingRun, Transport, WindowReport};
use crate::target::Family;

/// Length of a window of a sweep.
const BLOCK_NS: u64 = 1_000_000_000;

/// Orders under way at most. A coordinator gives one a port.
const MOST_ORDERS: usize = 64;

/// Runs orders and sends what came of them.
pub struct Orders {
    node: String,
    instance: u64,
    running: HashMap<(String, u64), Arc<AtomicBool>>,
    results: UnboundedSender<v1::SweepResult>,
}

impl Orders {
    /// For the node of that name. Results go to `results`.
    pub fn new(node: String, instance: u64, results: UnboundedSender<v1::SweepResult>) -> Self {
        Self { node, instance, running: HashMap::new(), results }
    }

    /// Begins one. `local` gives the address of one of our endpoints.
    pub fn begin(&mut self, order: &v1::SweepOrder, local: impl Fn(&Path) -> Option<IpAddr>) {
        self.running.retain(|_, stop| Arc::strong_count(stop) > 1);
        let key = (order.sweep_id.clone(), order.order);
        if self.running.contains_key(&key) {
            return;
        }
        let refuse = |error: String| {
            // Nobody listens any more only when the process ends.
            let _ = self.results.send(empty_result(order, error));
        };
        let (path, config) = match config(order, local) {
            Ok(both) => both,
            Err(error) => return refuse(error),
        };
        if self.running.len() >= MOST_ORDERS {
            return refuse(format!("{MOST_ORDERS} measurements are under way here already"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (own_stop, results) = (Arc::clone(&stop), self.results.clone());
        let (agent, instance, named) = (self.node.clone(), self.instance, order.clone());
        let run = move || {
            let _ = results.send(measure(&named, &path, config, (&agent, instance), &own_stop));
        };
        match thread::Builder::new().name("sweep".to_owned()).spawn(run) {
            Ok(_) => {
                self.running.insert(key, stop);
            }
            Err(error) => refuse(format!("cannot start a thread: {error}")),
        }
    }

    /// Ends one order of a sweep, or all of them: what is measured is reported.
    pub fn cancel(&mut self, cancel: &v1::SweepCancel) {
        for ((sweep, order), stop) in &self.running {
            if *sweep == cancel.sweep_id && cancel.order.is_none_or(|one| one == *order) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Ends all.
    pub fn cancel_all(&mut self) {
        self.running.values().for_each(|stop| stop.store(true, Ordering::Relaxed));
    }
}

fn empty_result(order: &v1::SweepOrder, error: String) -> v1::SweepResult {
    let sweep_id = order.sweep_id.clone();
    v1::SweepResult { sweep_id, order: order.order, windows: None, error, validity: Vec::new() }
}

fn config(
    order: &v1::SweepOrder,
    local: impl Fn(&Path) -> Option<IpAddr>,
) -> Result<(Path, PingConfig), String> {
    let target = order.target.as_ref().ok_or("the order names no target")?;
    let path = target.path.as_ref().ok_or("the order names no path")?;
    let path = convert::path(path).map_err(|e| format!("the order's path: {e}"))?;
    let address: IpAddr =
        target.address.parse().map_err(|_| format!("{:?} is no address", target.address))?;
    let port = u16::try_from(target.port).map_err(|_| format!("{} is no port", target.port))?;
    let source = local(&path).ok_or_else(|| format!("{} is no endpoint of ours", path.src))?;
    if target.interval_ns < 10_000 || order.count == 0 || target.timeout_ns == 0 {
        return Err("the order asks for less than 10 us between probes, or for none".to_owned());
    }
    let size = usize::try_from(target.size_bytes).unwrap_or(usize::MAX);
    let config = PingConfig {
        target: SocketAddr::new(address, port).to_string(),
        family: Family::Any,
        transport: Transport::Udp,
        interval: Duration::from_nanos(target.interval_ns),
        count: order.count,
        timeout: Duration::from_nanos(target.timeout_ns),
        warmup: order.warmup.into(),
        size,
        bare: false,
        mode: WaitMode::Sleep,
        cpu: None,
        device: None,
        source: Some(source),
        dscp: path.dscp,
        ttl: 255,
        flows: 1,
        ssid: 0,
        format: TimestampFormat::Ntp,
        key: None,
        keep_outcomes: false,
    };
    Ok((path, config))
}

fn measure(
    order: &v1::SweepOrder,
    path: &Path,
    config: PingConfig,
    (agent, instance): (&str, u64),
    stop: &Arc<AtomicBool>,
) -> v1::SweepResult {
    let mut reports: Vec<WindowReport> = Vec::new();
    let keep = |window: Option<&WindowReport>, _| reports.extend(window.cloned());
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
    let ended_early = stop.load(Ordering::Relaxed) && run.end.account.scheduled < order.count;
    v1::SweepResult {
        sweep_id: order.sweep_id.clone(),
        order: order.order,
        windows: (!windows.is_empty()).then_some(batch),
        error: if ended_early { "cancelled".to_owned() } else { String::new() },
        validity: report.validity,
    }
}

/// One window a second. What belongs to no sample (slots without a probe, probes without a verdict) is in the last.
fn windows(run: &PingRun, reports: &[WindowReport]) -> Vec<PathWindow> {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let parameters = Parameters {
        interval_ns: nanos(run.config.interval),
        timeout_ns: nanos(run.config.timeout),
        size_bytes: u32::try_from(run.size_bytes).unwrap_or(u32::MAX),
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
        clock_stepped: false,
    }
}
