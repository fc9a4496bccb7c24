//! What became of probes, by class: latencies and counts of all windows since the start of the process.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::{IntCounter, IntCounterVec};
use railgauge_core::path::{Memory, Path, Transport};
use railgauge_core::path_window::{PathWindow, WindowAccount};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};

use crate::definitions::{self as defined, Metric};
use crate::latency::Latency;
use crate::model::{Family, Label};
use crate::registry::{Registry, histograms};

/// Kinds of stamps told apart: a fleet of one kind of machine has a handful.
const SOURCES: usize = 16;

/// Stamps of an application around its own system calls: those of app RTT, to which t2 and t3 are nothing.
const APPLICATION: TimestampSource = TimestampSource {
    t1: StampSource::User,
    t2: StampSource::None,
    t3: StampSource::None,
    t4: StampSource::User,
};

/// How far a path goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Locality {
    /// Both ends on one node.
    Node,
    /// Two nodes, same rail.
    Rail,
    /// Two nodes, two rails.
    CrossRail,
}

impl Locality {
    /// The word used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Rail => "rail",
            Self::CrossRail => "cross_rail",
        }
    }
}

/// Paths that are one in metrics, however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// What carries probes.
    pub transport: Transport,
    /// Where their memory is.
    pub memory: Memory,
    /// How far they go.
    pub locality: Locality,
}

impl Class {
    /// That of a path.
    pub fn of(path: &Path) -> Self {
        let locality = if path.src.node == path.dst.node {
            Locality::Node
        } else if path.src.rail == path.dst.rail {
            Locality::Rail
        } else {
            Locality::CrossRail
        };
        Self { transport: path.transport, memory: path.memory, locality }
    }

    /// The values of its labels, in the order of the definitions.
    pub const fn labels(&self) -> [&'static str; 3] {
        [self.transport.as_str(), self.memory.as_str(), self.locality.as_str()]
    }
}

/// Takes windows, each once, and tells what they hold together. One window takes about a microsecond; who records it waits for nobody but
/// another window, or the copying of the histograms for a page.
pub struct Probes {
    counters: Counters,
    classes: Mutex<Vec<OfClass>>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

struct Counters {
    sent: IntCounterVec,
    received: IntCounterVec,
    lost: IntCounterVec,
    skipped: IntCounterVec,
    late_starts: IntCounterVec,
    send_errors: IntCounterVec,
    late_replies: IntCounterVec,
    invalid_stamps: IntCounterVec,
}

/// The counters of one class, looked up once.
struct Counted {
    sent: IntCounter,
    received: IntCounter,
    lost: IntCounter,
    skipped: IntCounter,
    late_starts: IntCounter,
    send_errors: IntCounter,
    late_replies: IntCounter,
    invalid_stamps: IntCounter,
}

impl Counters {
    fn of(&self, class: &Class) -> Counted {
        let labels = class.labels();
        let [transport, memory, locality] = labels;
        let because = |reason| [reason, transport, memory, locality];
        Counted {
            sent: self.sent.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            lost: self.lost.with_label_values(&because("timeout")),
            skipped: self.skipped.with_label_values(&because("late")),
            late_starts: self.late_starts.with_label_values(&labels),
            send_errors: self.send_errors.with_label_values(&labels),
            late_replies: self.late_replies.with_label_values(&labels),
            invalid_stamps: self.invalid_stamps.with_label_values(&labels),
        }
    }
}

impl Counted {
    fn add(&self, account: &WindowAccount) {
        self.sent.inc_by(account.sent);
        self.received.inc_by(account.received);
        self.lost.inc_by(account.lost);
        self.skipped.inc_by(account.skipped);
        self.late_starts.inc_by(account.late_starts);
        self.send_errors.inc_by(account.send_errors);
        self.late_replies.inc_by(account.late_replies);
        self.invalid_stamps.inc_by(account.invalid_stamps);
    }
}

struct OfClass {
    class: Class,
    counted: Counted,
    app_rtt: Latency,
    splits: Vec<OfSource>,
}

#[derive(Clone, Default)]
struct OfSource {
    /// `None`: of those beyond the bound.
    source: Option<TimestampSource>,
    network_rtt: Latency,
    prober_delay: Latency,
    responder_delay: Latency,
}

/// A latency that is exposed, with its class and source.
type Exposed = (Class, Option<TimestampSource>, Latency);

impl Probes {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counters = Counters {
            sent: registry.counters(&defined::PROBES_SENT),
            received: registry.counters(&defined::PROBES_RECEIVED),
            lost: registry.counters(&defined::PROBES_LOST),
            skipped: registry.counters(&defined::PROBES_SKIPPED),
            late_starts: registry.counters(&defined::PROBE_LATE_STARTS),
            send_errors: registry.counters(&defined::PROBE_SEND_ERRORS),
            late_replies: registry.counters(&defined::PROBE_LATE_REPLIES),
            invalid_stamps: registry.counters(&defined::PROBE_INVALID_STAMPS),
        };
        Self { counters, classes: Mutex::new(Vec::new()) }
    }

    fn classes(&self) -> MutexGuard<'_, Vec<OfClass>> {
        // Every sum in it is whole at any time.
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts windows with their paths.
    pub fn add<'a>(&self, windows: impl IntoIterator<Item = (&'a Path, &'a PathWindow)>) {
        let mut classes = self.classes();
        for (path, window) in windows {
            let class = Class::of(path);
            let at = classes.iter().position(|of| of.class == class).unwrap_or_else(|| {
                let counted = self.counters.of(&class);
                let (app_rtt, splits) = (Latency::default(), Vec::new());
                classes.push(OfClass { class, counted, app_rtt, splits });
                classes.len() - 1
            });
            classes[at].add(window);
        }
    }

    /// Probes of a class that were left out to keep a budget.
    pub fn over_budget(&self, class: &Class) -> IntCounter {
        let [transport, memory, locality] = class.labels();
        self.counters.skipped.with_label_values(&["budget", transport, memory, locality])
    }

    /// The histograms. The counters are in the registry.
    pub(crate) fn families(&self) -> Vec<Family> {
        let (mut app, mut parts) = (Vec::new(), [const { Vec::<Exposed>::new() }; 3]);
        for OfClass { class, app_rtt, splits, .. } in self.classes().iter() {
            app.push((*class, Some(APPLICATION), app_rtt.clone()));
            for OfSource { source, network_rtt, prober_delay, responder_delay } in splits {
                let of_source = [network_rtt, prober_delay, responder_delay];
                for (exposed, latency) in parts.iter_mut().zip(of_source) {
                    exposed.push((*class, *source, latency.clone()));
                }
            }
        }
        let [network, prober, responder] = parts;
        let all: [(&Metric, Vec<Exposed>); 4] = [
            (&defined::APP_RTT, app),
            (&defined::NETWORK_RTT, network),
            (&defined::PROBER_DELAY, prober),
            (&defined::RESPONDER_DELAY, responder),
        ];
        let present = all.into_iter().filter(|(_, exposed)| !exposed.is_empty());
        present.map(|(metric, exposed)| of_metric(metric, &exposed)).collect()
    }
}

fn of_metric(metric: &Metric, exposed: &[Exposed]) -> Family {
    let series = exposed.iter().map(|(class, source, latency)| {
        let source = source.map_or_else(|| "other".to_owned(), |source| source.to_string());
        let [transport, memory, locality] = class.labels();
        let values = [transport, memory, locality, source.as_str()];
        let mut labels: Vec<Label> =
            metric.labels.iter().zip(values).map(|(name, value)| Label::new(name, value)).collect();
        // As the registry sorts those of the others.
        labels.sort();
        (labels, latency.histogram())
    });
    histograms(metric, series)
}

impl OfClass {
    fn add(&mut self, window: &PathWindow) {
        self.counted.add(&window.account);
        self.app_rtt.add(&window.app_rtt);
        for split in &window.splits {
            let of_source = self.of_source(split.source);
            of_source.network_rtt.add(&split.network_rtt);
            of_source.prober_delay.add(&split.prober_delay);
            of_source.responder_delay.add(&split.responder_delay);
        }
    }

    fn of_source(&mut self, source: TimestampSource) -> &mut OfSource {
        let known = self.splits.iter().position(|of| of.source == Some(source));
        let at = known.unwrap_or_else(|| {
            let source = (self.splits.len() < SOURCES).then_some(source);
            let other = self.splits.iter().position(|of| source.is_none() && of.source.is_none());
            other.unwrap_or_else(|| {
                self.splits.push(OfSource { source, ..OfSource::default() });
                self.splits.len() - 1
            })
        });
        &mut self.splits[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use railgauge_core::histogram::Recorder;
    use railgauge_core::path::{Endpoint, NodeName, PortName};
    use railgauge_core::path_window::{Parameters, Split};

    fn path(src: (&str, u16), dst: (&str, u16)) -> Path {
        let at = |(node, rail): (&str, u16)| Endpoint {
            node: NodeName::new(node).unwrap(),
            port: PortName::new(&format!("p{rail}")).unwrap(),
            rail,
        };
        let (src, dst) = (at(src), at(dst));
        let (transport, memory) = (Transport::Udp, Memory::Host);
        Path { src, dst, transport, memory, flow: 0, dscp: 0 }
    }

    fn window(source: TimestampSource) -> PathWindow {
        let parameters = Parameters { interval_ns: 1, timeout_ns: 1, size_bytes: 1, rdma: None };
        let mut recorder = Recorder::new();
        recorder.record(19_000);
        recorder.record_censored();
        let network_rtt = recorder.drain();
        let mut window = PathWindow::new(parameters);
        window.account = WindowAccount {
            scheduled: 3,
            skipped: 1,
            sent: 2,
            received: 1,
            lost: 1,
            ..window.account
        };
        let (prober_delay, responder_delay) = (network_rtt.clone(), network_rtt.clone());
        window.app_rtt.clone_from(&network_rtt);
        window.splits.push(Split { source, network_rtt, prober_delay, responder_delay });
        window
    }

    fn kernel(t1: StampSource) -> TimestampSource {
        let kernel = StampSource::Kernel;
        TimestampSource { t1, t2: kernel, t3: kernel, t4: kernel }
    }

    fn count(families: &[Family], name: &str) -> Vec<u64> {
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let counts = family.series.iter().map(|s| s.histogram.as_ref().unwrap().sample_count());
        counts.collect()
    }

    #[test]
    fn paths_are_told_apart_by_class_alone() {
        let registry = Registry::new("1");
        let probes = registry.probes();
        let window = window(kernel(StampSource::Kernel));
        for n in 0..100 {
            let other = format!("n{n}");
            probes.add([
                (&path(("a", 0), (&other, 0)), &window),
                (&path(("a", 0), (&other, 1)), &window),
                (&path(("a", 0), ("a", 1)), &window),
            ]);
        }
        let families = registry.families();
        for metric in ["network_rtt", "app_rtt", "prober_delay", "responder_delay"] {
            let name = format!("railgauge_probe_{metric}_seconds");
            assert_eq!(count(&families, &name), [100, 100, 100], "{name}");
        }
        let text = String::from_utf8(registry.page(Format::Text)).unwrap();
        for line in [
            "railgauge_probes_sent_total{locality=\"rail\",memory=\"host\",transport=\"udp\"} 200\n",
            "railgauge_probes_lost_total{locality=\"node\",memory=\"host\",reason=\"timeout\",transport=\"udp\"} 100\n",
            "railgauge_probes_skipped_total{locality=\"cross_rail\",memory=\"host\",reason=\"late\",transport=\"udp\"} 100\n",
            "{locality=\"rail\",memory=\"host\",timestamp_source=\"user/none/none/user\",transport=\"udp\",le=\"2e-05\"} 100\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn the_largest_page_there_can_be_is_within_two_mebibytes() {
        use StampSource::{Cqe, Hardware, Kernel, User};
        let registry = Registry::new("1");
        let probes = registry.probes();
        for transport in Transport::ALL {
            for dst in [("a", 0), ("b", 0), ("b", 1)] {
                let path = Path { transport, ..path(("a", 0), dst) };
                for t1 in [Hardware, Cqe, Kernel, User] {
                    for t2 in [Hardware, Cqe, Kernel, User] {
                        for t3 in [Hardware, Kernel] {
                            let source = TimestampSource { t1, t2, t3, t4: Hardware };
                            let mut window = window(source);
                            // In all buckets.
                            let (mut recorder, mut ns) = (Recorder::new(), 1);
                            while ns < 70_000_000_000 {
                                recorder.record(ns);
                                ns += ns / 50 + 1;
                            }
                            let all = recorder.drain();
                            for split in &mut window.splits {
                                split.network_rtt.clone_from(&all);
                            }
                            // A byte stream has no stamps at all.
                            if transport == Transport::Tcp {
                                window.splits.clear();
                            }
                            probes.add([(&path, &window)]);
                        }
                    }
                }
            }
        }
        for format in [Format::Text, Format::Protobuf] {
            let octets = registry.page(format).len();
            assert!((200_000..2 << 20).contains(&octets), "{format:?}: {octets}");
        }
    }

    #[test]
    fn kinds_of_stamps_are_bounded() {
        use StampSource::{Cqe, Device, Hardware, Kernel, Unknown, User};
        let registry = Registry::new("1");
        let probes = registry.probes();
        let path = path(("a", 0), ("b", 0));
        for t1 in [Hardware, Cqe, Kernel, User, Device, Unknown] {
            for t2 in [Hardware, Cqe, Kernel, User, Device, Unknown] {
                probes.add([(&path, &window(TimestampSource { t2, ..kernel(t1) }))]);
            }
        }
        let counts = count(&registry.families(), "railgauge_probe_network_rtt_seconds");
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (17, 36));
        assert!(counts.contains(&20), "{counts:?}");
    }
}
