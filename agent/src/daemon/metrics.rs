//! What Prometheus sees of an agent. The recorder and the uplink count as they go; what threads count for themselves is read when a page
//! is made. Nobody waits for a page, and a page waits for nobody: while the spool is in use, it shows what was known before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use railgauge_access::audit::Audit;
use railgauge_access::credentials::Credentials;
use railgauge_metrics::{
    Class, Gauge, IntCounter, IntCounterVec, Probes, Registry, definitions as defined, raise,
};

use super::config::Budget;
use super::recorder::Recorded;
use crate::mesh::MeshCounters;
use crate::reflect::Reflected;
use crate::spool::Spool;

/// See the module.
pub struct Metrics {
    /// What pages are made of.
    pub registry: Registry,
    /// Windows that were measured.
    pub probes: Arc<Probes>,
    /// Windows on disk.
    pub windows_recorded: IntCounter,
    /// Whether there is a session.
    pub connected: Gauge,
    /// Of the plan in force.
    pub plan_epoch: Epoch,
    /// Whether its lease runs.
    pub lease_valid: Gauge,
    /// Probes go at one over this of the plan's rate.
    pub rate_divisor: Gauge,
    budget: [Gauge; 3],
    reload_successful: Gauge,
    reloads: IntCounterVec,
}

/// A gauge of an epoch.
pub struct Epoch(Gauge);

impl Epoch {
    /// Now this one.
    #[expect(clippy::cast_precision_loss, reason = "epochs are about the time in seconds")]
    pub fn set(&self, epoch: u64) {
        self.0.set(epoch as f64);
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let registry = Registry::new(crate::VERSION);
        let budget = [&defined::BUDGET_PACKETS, &defined::BUDGET_BYTES, &defined::BUDGET_CPU];
        let metrics = Self {
            probes: registry.probes(),
            windows_recorded: registry.counter(&defined::WINDOWS_RECORDED),
            connected: registry.gauge(&defined::COORDINATOR_CONNECTED),
            plan_epoch: Epoch(registry.gauge(&defined::PLAN_EPOCH)),
            lease_valid: registry.gauge(&defined::PLAN_LEASE_VALID),
            rate_divisor: registry.gauge(&defined::RATE_DIVISOR),
            budget: budget.map(|metric| registry.gauge(metric)),
            reload_successful: registry.gauge(&defined::RELOAD_SUCCESSFUL),
            reloads: registry.counters(&defined::RELOADS),
            registry,
        };
        // It is read once to begin with.
        metrics.reload_successful.set(1.0);
        metrics.rate_divisor.set(1.0);
        metrics
    }

    /// The budgets in force.
    #[expect(clippy::cast_precision_loss, reason = "budgets have far fewer than 53 bits")]
    pub fn budget(&self, budget: &Budget) {
        let [packets, bytes, cpu] = &self.budget;
        packets.set(budget.packets_per_second.into());
        bytes.set(budget.bytes_per_second.as_bytes() as f64);
        cpu.set(budget.cpu_percent.into());
    }

    /// Probes that budgets left out so far.
    pub fn over_budget<'a>(&self, probes: impl Iterator<Item = (&'a Class, u64)>) {
        probes.for_each(|(class, probes)| raise(&self.probes.over_budget(class), probes));
    }

    /// Reads who is let in, and until when our certificate is good, whenever a page is made.
    pub fn watch_access(&self, credentials: Option<Credentials>, audit: Audit) {
        let registry = &self.registry;
        let lines = registry.counters(&defined::AUDIT_LINES);
        let dropped = registry.counter(&defined::AUDIT_LINES_DROPPED);
        let refused = registry.counters(&defined::CONNECTIONS_REFUSED);
        let expiry = registry.gauges(&defined::CERTIFICATE_EXPIRY);
        let reloaded = registry.gauges(&defined::CERTIFICATE_RELOAD_SUCCESSFUL);
        registry.before_each_page(move || {
            let written = audit.written();
            raise(&lines.with_label_values(&["allowed"]), written.allowed);
            raise(&lines.with_label_values(&["refused"]), written.refused);
            raise(&dropped, written.failed);
            raise(&refused.with_label_values(&["handshake"]), written.handshakes);
            if let Some(credentials) = &credentials {
                let [own, authority] = credentials.ends();
                expiry.with_label_values(&["own"]).set(float(own));
                expiry.with_label_values(&["ca"]).set(float(authority));
                let usable = !credentials.reloads().failing;
                reloaded.with_label_values::<&str>(&[]).set(f64::from(usable));
            }
        });
    }

    /// The configuration was read again, or could not be.
    pub fn reloaded(&self, successfully: bool) {
        self.reload_successful.set(f64::from(successfully));
        let result = if successfully { "ok" } else { "error" };
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Reads what these count whenever a page is made.
    pub fn watch(
        &self,
        meshes: Vec<Arc<MeshCounters>>,
        recorded: Arc<Recorded>,
        reflected: Arc<Reflected>,
    ) {
        let registry = &self.registry;
        let unrecorded = registry.counter(&defined::WINDOWS_UNRECORDED);
        let (probed, failed) =
            (registry.gauge(&defined::PATHS_PROBED), registry.gauge(&defined::PATHS_FAILED));
        let spool = SpoolMetrics::new(registry);
        spool.read(&recorded.spool());
        let requests = registry.counter(&defined::REFLECTOR_REQUESTS);
        let replies = registry.counter(&defined::REFLECTOR_REPLIES);
        let dropped = registry.counters(&defined::REFLECTOR_DROPPED);
        registry.before_each_page(move || {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let sum = |of: fn(&MeshCounters) -> &AtomicU64| {
                meshes.iter().map(|mesh| load(of(mesh))).sum::<u64>()
            };
            let lost = load(&recorded.windows_unrecorded) + sum(|mesh| &mesh.windows_unrecorded);
            raise(&unrecorded, lost);
            let (paths, without) = (sum(|mesh| &mesh.paths), sum(|mesh| &mesh.paths_failed));
            probed.set(float(paths.saturating_sub(without)));
            failed.set(float(without));
            if let Ok(held) = recorded.spool.try_lock() {
                spool.read(&held);
            }
            raise(&requests, reflected.received());
            raise(&replies, reflected.replied());
            for (reason, count) in reflected.dropped() {
                raise(&dropped.with_label_values(&[reason.as_str()]), count);
            }
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

struct SpoolMetrics {
    windows: Gauge,
    bytes: Gauge,
    capacity: Gauge,
    dropped: IntCounter,
    damaged: IntCounter,
    refused: IntCounter,
}

impl SpoolMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            windows: registry.gauge(&defined::SPOOL_WINDOWS),
            bytes: registry.gauge(&defined::SPOOL_BYTES),
            capacity: registry.gauge(&defined::SPOOL_CAPACITY),
            dropped: registry.counter(&defined::SPOOL_WINDOWS_DROPPED),
            damaged: registry.counter(&defined::SPOOL_DAMAGED_BYTES),
            refused: registry.counter(&defined::WINDOWS_REFUSED),
        }
    }

    fn read(&self, spool: &Spool) {
        let state = spool.state();
        self.windows.set(float(state.windows));
        self.bytes.set(float(state.bytes));
        self.capacity.set(float(spool.most_bytes()));
        raise(&self.dropped, state.windows_dropped);
        raise(&self.damaged, state.octets_damaged);
        raise(&self.refused, state.windows_refused);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use railgauge_metrics::Format;
    use tokio::sync::Notify;

    use super::*;
    use crate::pulse::Pulse;
    use crate::spool::Limits;

    #[test]
    fn a_page_does_not_wait_for_a_disk_that_stands_still() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), Limits::of(64 << 20)).unwrap();
        let recorded = Arc::new(Recorded {
            spool: Mutex::new(spool),
            news: Notify::new(),
            windows_unrecorded: AtomicU64::new(2),
            alive: Pulse::begin(),
        });
        let mesh = Arc::new(MeshCounters::default());
        mesh.windows_unrecorded.store(3, Ordering::Relaxed);
        mesh.paths.store(7, Ordering::Relaxed);
        mesh.paths_failed.store(1, Ordering::Relaxed);
        let metrics = Metrics::new();
        metrics.watch(vec![mesh], Arc::clone(&recorded), Arc::default());
        let held = recorded.spool();
        let page = String::from_utf8(metrics.registry.page(Format::Text)).unwrap();
        drop(held);
        for line in [
            "railgauge_windows_unrecorded_total 5",
            "railgauge_paths_probed 6",
            "railgauge_spool_capacity_bytes 67108864",
            "railgauge_reflector_dropped_total{reason=\"rate_limited\"} 0",
        ] {
            assert!(page.contains(&format!("\n{line}\n")), "no {line} in {page}");
        }
    }
}
