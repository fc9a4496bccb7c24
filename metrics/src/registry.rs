//! What a daemon counts, and the page made of it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Opts};

use crate::definitions::{self, Metric};
use crate::model::{Family, Histogram, Kind, Label};
use crate::negotiate::{Format, negotiate};
use crate::probes::Probes;
use crate::{model, process, text};

/// What is done before a page is made: gauges are set, counters of elsewhere caught up with.
type Refresh = Box<dyn Fn() + Send + Sync>;

/// The metrics of one daemon.
///
/// ```
/// use railgauge_metrics::{Format, Registry, definitions};
/// let registry = Registry::new("0.1.0 (0123456789ab)");
/// registry.counter(&definitions::WINDOWS_INGESTED).inc_by(3);
/// registry.gauges(&definitions::NODES).with_label_values(&["lost"]).set(2.0);
/// let page = String::from_utf8(registry.page(Format::Text)).unwrap();
/// assert!(page.contains("\nrailgauge_nodes{state=\"lost\"} 2\n"));
/// ```
pub struct Registry {
    inner: prometheus::Registry,
    probes: OnceLock<Arc<Probes>>,
    /// Held while they run: two pages at a time would catch up twice.
    refresh: Mutex<Vec<Refresh>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Of a program of this version, as `0.1.0 (0123456789ab)`.
    pub fn new(version: &str) -> Self {
        let registry = Self {
            inner: prometheus::Registry::new(),
            probes: OnceLock::new(),
            refresh: Mutex::new(Vec::new()),
        };
        let (version, commit) = version.split_once(" (").unwrap_or((version, ""));
        let labels = [version, commit.trim_end_matches(')')];
        registry.gauges(&definitions::BUILD_INFO).with_label_values(&labels).set(1.0);
        registry
    }

    /// A counter without labels.
    pub fn counter(&self, metric: &Metric) -> IntCounter {
        self.counters(metric).with_label_values::<&str>(&[])
    }

    /// A counter for each combination of the metric's labels; there is none before it is asked for.
    pub fn counters(&self, metric: &Metric) -> IntCounterVec {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        let counters = IntCounterVec::new(options(metric), metric.labels);
        let counters = counters.expect("a test checks all names and labels");
        self.register(metric, counters)
    }

    /// A gauge without labels.
    pub fn gauge(&self, metric: &Metric) -> Gauge {
        self.gauges(metric).with_label_values::<&str>(&[])
    }

    /// A gauge for each combination of the metric's labels; there is none before it is asked for.
    pub fn gauges(&self, metric: &Metric) -> GaugeVec {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        let gauges = GaugeVec::new(options(metric), metric.labels);
        self.register(metric, gauges.expect("a test checks all names and labels"))
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: &Metric, collector: C) -> C {
        let registered = self.inner.register(Box::new(collector.clone()));
        debug_assert!(registered.is_ok(), "{} is registered twice", metric.name);
        collector
    }

    /// Latencies and counts of probes.
    pub fn probes(&self) -> Arc<Probes> {
        Arc::clone(self.probes.get_or_init(|| Arc::new(Probes::new(self))))
    }

    /// Does this before each page is made; it must not wait.
    pub fn before_each_page(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(refresh));
    }

    /// All families with series, by name.
    pub fn families(&self) -> Vec<Family> {
        let refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        refresh.iter().for_each(|refresh| refresh());
        let mut families: Vec<Family> = self.inner.gather().iter().map(family).collect();
        drop(refresh);
        families.extend(self.probes.get().map(|probes| probes.families()).unwrap_or_default());
        families.extend(process::families());
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families
    }

    /// A page.
    pub fn page(&self, format: Format) -> Vec<u8> {
        let families = self.families();
        match format {
            Format::Text => text::text(&families).into_bytes(),
            Format::Protobuf => model::delimited(&families),
        }
    }

    /// The page that a request with these `Accept` headers gets, after its `Content-Type`.
    pub fn answer<'a>(&self, accept: impl IntoIterator<Item = &'a str>) -> (&'static str, Vec<u8>) {
        let format = negotiate(accept);
        (format.content_type(), self.page(format))
    }
}

/// Brings a counter to what was counted elsewhere.
pub fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn options(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

/// What the registry gathered, in Prometheus' words.
fn family(gathered: &prometheus::proto::MetricFamily) -> Family {
    let counter = gathered.get_field_type() == MetricType::COUNTER;
    let kind = if counter { Kind::Counter } else { Kind::Gauge };
    let mut family = Family {
        name: Some(gathered.name().to_owned()),
        help: Some(gathered.help().to_owned()),
        kind: Some(kind.into()),
        series: Vec::new(),
    };
    for metric in gathered.get_metric() {
        let labels = metric.get_label().iter().map(|pair| Label::new(pair.name(), pair.value()));
        let value =
            if counter { metric.get_counter().get_value() } else { metric.get_gauge().get_value() };
        family.push(labels.collect(), value);
    }
    family
}

/// A family of histograms.
pub fn histograms(
    metric: &Metric,
    series: impl Iterator<Item = (Vec<Label>, Histogram)>,
) -> Family {
    let series = series.map(|(label, histogram)| model::Series {
        label,
        histogram: Some(histogram),
        ..model::Series::default()
    });
    let mut series: Vec<model::Series> = series.collect();
    series.sort_by(|a, b| a.label.cmp(&b.label));
    Family { series, ..Family::new(metric) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_elsewhere_are_caught_up_with_and_never_fall() {
        let registry = Registry::new("1");
        let counter = registry.counter(&definitions::WINDOWS_INGESTED);
        raise(&counter, 7);
        raise(&counter, 5);
        assert_eq!(counter.get(), 7);
    }

    #[test]
    fn gauges_are_set_when_the_page_is_made_and_old_series_go() {
        let registry = Registry::new("1.2.3 (abc)");
        let gauges = registry.gauges(&definitions::NODES);
        let round = std::sync::atomic::AtomicU32::new(0);
        registry.before_each_page(move || {
            let round = round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            gauges.reset();
            gauges.with_label_values(&[["left", "lost"][round as usize]]).set(1.5);
        });
        let page = || String::from_utf8(registry.page(Format::Text)).unwrap();
        assert!(page().contains("railgauge_nodes{state=\"left\"} 1.5\n"));
        let page = page();
        assert!(page.contains("railgauge_nodes{state=\"lost\"} 1.5\n") && !page.contains("left\""));
        assert!(page.contains("railgauge_build_info{commit=\"abc\",version=\"1.2.3\"} 1\n"));
    }
}
