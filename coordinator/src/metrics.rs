//! What Prometheus sees of the coordinator. The ingest thread counts what it stores; the rest is read when a page is made, from what there
//! is anyway: nothing here grows with the number of paths.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use railgauge_access::audit::Audit;
use railgauge_access::credentials::Credentials;
use railgauge_core::finding::{FindingKind, Severity};
use railgauge_metrics::{
    Gauge, GaugeVec, IntCounterVec, Probes, Registry, definitions as defined, raise,
};
use tokio::sync::watch;

use crate::config::Config;
use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::judging::{Current, Judging, Worst};
use crate::planning::Plans;
use crate::registry::State;
use crate::sweeps::Sweeps;

/// Names of the quantiles of [`Worst::network_rtt_ns`].
const PERCENTILES: [&str; 3] = ["p50", "p90", "p99"];

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    /// What pages are made of.
    pub registry: Registry,
    /// What was stored.
    pub probes: Arc<Probes>,
    reload_successful: Gauge,
    reloads: IntCounterVec,
}

/// What is read when a page is made.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Who is there.
    pub fleet: Arc<Fleet>,
    /// What was stored, and whether it can be.
    pub ingest: Ingest,
    /// What it says.
    pub judging: Judging,
    /// What was measured on demand.
    pub sweeps: Sweeps,
    /// The plan in force.
    pub plans: watch::Receiver<Arc<Plans>>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new(crate::VERSION);
        let metrics = Self {
            probes: registry.probes(),
            reload_successful: registry.gauge(&defined::RELOAD_SUCCESSFUL),
            reloads: registry.counters(&defined::RELOADS),
            registry,
        };
        // It is read once to begin with.
        metrics.reload_successful.set(1.0);
        metrics
    }
}

impl Metrics {
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

    /// Reads `sources` whenever a page is made.
    pub fn watch(&self, sources: Sources) {
        self.watch_windows(&sources);
        self.watch_fleet(&sources);
        self.watch_findings(sources.judging);
    }

    fn watch_windows(&self, sources: &Sources) {
        let registry = &self.registry;
        let counters = [
            &defined::WINDOWS_INGESTED,
            &defined::WINDOWS_DUPLICATE,
            &defined::WINDOWS_REFUSED,
            &defined::WINDOWS_FAILED,
            &defined::STORE_WINDOWS_DROPPED,
        ]
        .map(|metric| registry.counter(metric));
        let failing = registry.gauge(&defined::STORE_FAILING);
        let bytes = registry.gauge(&defined::STORE_BYTES);
        let capacity = registry.gauge(&defined::STORE_CAPACITY);
        let (ingest, config) = (sources.ingest.clone(), sources.config.clone());
        let reader = sources.judging.reader().clone();
        registry.before_each_page(move || {
            let counted = ingest.counters();
            let now = [
                counted.windows_ingested.load(Relaxed),
                counted.windows_duplicate.load(Relaxed),
                counted.windows_refused.load(Relaxed),
                counted.windows_failed.load(Relaxed),
                reader.windows_dropped(),
            ];
            counters.iter().zip(now).for_each(|(counter, now)| raise(counter, now));
            failing.set(f64::from(counted.failing().is_some()));
            capacity.set(float(config.borrow().keep_bytes.as_bytes()));
            // A directory that cannot be read is told by the ingest thread.
            if let Ok(octets) = reader.octets() {
                bytes.set(float(octets));
            }
        });
    }

    fn watch_fleet(&self, sources: &Sources) {
        let registry = &self.registry;
        let nodes = registry.gauges(&defined::NODES);
        let epoch = registry.gauge(&defined::PLAN_EPOCH);
        let planless = registry.gauge(&defined::PLAN_FAILING);
        let ended = registry.counters(&defined::SWEEPS);
        let running = registry.gauge(&defined::SWEEP_RUNNING);
        let keys = registry.gauges(&defined::PROBE_KEY_EPOCH);
        let Sources { fleet, sweeps, plans, .. } = sources.clone();
        registry.before_each_page(move || {
            for state in State::ALL {
                let count = fleet.in_state(state) as u64;
                nodes.with_label_values(&[state.as_str()]).set(float(count));
            }
            epoch.set(float(plans.borrow().epoch));
            planless.set(f64::from(fleet.planless().is_some()));
            if fleet.keys.is_on() {
                keys.with_label_values::<&str>(&[]).set(float(fleet.keys.epoch()));
            }
            for (verdict, count) in sweeps.ended().iter() {
                raise(&ended.with_label_values(&[verdict.as_str()]), *count);
            }
            running.set(f64::from(sweeps.running().is_some()));
        });
    }

    fn watch_findings(&self, judging: Judging) {
        let registry = &self.registry;
        let open = registry.gauges(&defined::INCIDENTS_OPEN);
        let judged = registry.gauges(&defined::JUDGED_TIMESTAMP);
        let worst = registry.gauges(&defined::WORST_PATH_RTT);
        registry.before_each_page(move || {
            let current = judging.current();
            if let Some(at) = current.at {
                let seconds = float(at.as_unix_nanos()) / 1e9;
                judged.with_label_values::<&str>(&[]).set(seconds);
                set_open(&open, &current);
            }
            // Paths of the judgement before are not the worst any more.
            worst.reset();
            (1..).zip(&current.worst).for_each(|(rank, path)| set_worst(&worst, rank, path));
        });
    }
}

/// Of all that can be open, so that what is closed is 0 and not absent.
fn set_open(gauges: &GaugeVec, current: &Current) {
    for severity in Severity::ALL {
        for kind in FindingKind::ALL {
            let of_this = current
                .open
                .iter()
                .filter(|open| (open.finding.severity, open.finding.kind) == (severity, kind));
            let count = of_this.count() as u64;
            gauges.with_label_values(&[severity.as_str(), kind.as_str()]).set(float(count));
        }
    }
}

fn set_worst(gauges: &GaugeVec, rank: usize, worst: &Worst) {
    let Worst { path, network_rtt_ns } = worst;
    let (rank, src, dst) = (rank.to_string(), path.src.to_string(), path.dst.to_string());
    for (percentile, ns) in PERCENTILES.into_iter().zip(network_rtt_ns) {
        let Some(ns) = ns else { continue };
        let labels = [rank.as_str(), &src, &dst, path.transport.as_str(), percentile];
        gauges.with_label_values(&labels).set(float(*ns) / 1e9);
    }
}

#[expect(clippy::cast_precision_loss, reason = "to a few parts in 10^16")]
const fn float(count: u64) -> f64 {
    count as f64
}
