//! What the port's own counters did meanwhile, and whether operations were sent again.

use std::collections::BTreeMap;

use railgauge_core::histogram::Window;
use railgauge_core::path::PortName;
use railgauge_core::rdma::counters::{CounterSet, Delta, Group, deltas};
use railgauge_core::rdma::reliability::Reliability;
use railgauge_core::rdma::retransmission::{Recognition, counted, recognise, seen_by};
use railgauge_fabric::inventory::Roots;
use railgauge_fabric::{clock, rdma_counters};
use serde::Serialize;

/// By how much each counter of a port rose during a run.
pub type Rises = BTreeMap<(Group, Box<str>), Delta>;

/// The counters of a port before a run.
pub struct Before {
    port: PortName,
    set: Option<CounterSet>,
}

impl Before {
    /// Reads them. A port that has none, as in a container without them, simply has none.
    pub fn read(port: &PortName) -> Self {
        Self { port: port.clone(), set: read(port) }
    }

    /// Reads them again.
    pub fn rises(&self) -> Option<Rises> {
        Some(deltas(self.set.as_ref()?, &read(&self.port)?))
    }
}

fn read(port: &PortName) -> Option<CounterSet> {
    let (device, number) = port.as_str().split_once('/')?;
    let number = number.parse().ok()?;
    rdma_counters::read(&Roots::default(), device, number, clock::monotonic()).ok()
}

/// Operations that a queue pair sent again.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct RetransmissionReport {
    pub recognised: bool,
    pub probes: u64,
    pub of: u64,
    pub longer_ns: Option<u64>,
    pub ack_timeouts: Option<f64>,
    pub counted: Option<u64>,
    pub seen_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl RetransmissionReport {
    /// From the times of operations and the rises of counters; with the sentence where any were sent again.
    pub fn of(
        times: &Window,
        reliability: &Reliability,
        rises: Option<&Rises>,
    ) -> (Self, Option<String>) {
        let recognition = recognise(times, reliability);
        let counted = rises.map(counted).unwrap_or_default();
        let seen = seen_by(&recognition, &counted).as_str();
        let mut report = Self {
            recognised: false,
            probes: 0,
            of: times.replies(),
            longer_ns: None,
            ack_timeouts: None,
            counted: counted.sent_again,
            seen_by: seen,
            reason: None,
        };
        let sentence = match recognition {
            Recognition::None => None,
            Recognition::Unclear(why) => {
                report.reason = Some(why.to_string());
                None
            }
            Recognition::Found(found) => {
                report.recognised = true;
                report.probes = found.probes + found.several;
                report.longer_ns = Some(found.longer_ns);
                report.ack_timeouts = Some(found.factor());
                Some(format!("{found} ({seen})"))
            }
        };
        let rose = counted.sent_again.filter(|&count| count > 0 && sentence.is_none());
        let by_counters =
            || rose.map(|count| format!("{count} packets or more were sent again: {seen}"));
        let sentence = sentence.or_else(by_counters);
        (report, sentence)
    }
}

/// The counters that rose, as `hw_counters/completer_retry_err`.
pub fn rose(rises: &Rises) -> BTreeMap<String, u64> {
    let rose = rises.iter().filter(|(_, delta)| delta.at_least() > 0);
    rose.map(|((group, name), delta)| (format!("{}/{name}", group.directory()), delta.at_least()))
        .collect()
}
