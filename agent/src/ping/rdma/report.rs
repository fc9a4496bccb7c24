//! The RDMA part of `ping`'s report.

use std::collections::BTreeMap;
use std::time::Duration;

use railgauge_core::json::LatencySeries;
use railgauge_core::quantile::{Outcome, Quantile, Summary};
use railgauge_core::rdma::operation::Measure;
use serde::Serialize;

use super::counters::{RetransmissionReport, Rises, rose};
use super::{Bandwidth, RdmaEnd};
use crate::ping::PingRun;
use crate::rdma::rc::Connected;

/// What both ends were set to, and the series that only RDMA has.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct RdmaReport {
    pub operation: &'static str,
    pub measure: &'static str,
    pub completion: &'static str,
    pub completion_order_forced: bool,
    pub schedule: &'static str,
    pub outstanding: u16,
    pub inline: bool,
    pub memory_route: &'static str,
    pub path_mtu_bytes: u32,
    pub traffic_class: u8,
    pub service_level: u8,
    pub flow_label: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reliability: Option<ReliabilityReport>,
    pub ours: EndReport,
    pub theirs: EndReport,
    pub queue_pairs_recreated: u64,
    pub failed_connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    pub failures: BTreeMap<&'static str, u64>,
    pub post_to_completion: Option<LatencySeries>,
    pub round_trip: Option<LatencySeries>,
    pub post_to_post: Option<LatencySeries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_perftest: Option<AsPerftest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmissions: Option<RetransmissionReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters_rose: Option<BTreeMap<String, u64>>,
}

/// What a reliable connection does about loss.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct ReliabilityReport {
    pub profile: &'static str,
    pub ack_timeout: u8,
    pub ack_timeout_ns: Option<u64>,
    pub retries: u8,
    pub rnr_retries: u8,
    pub min_rnr_timer: u8,
    pub gives_up_after_ns: Option<[u64; 2]>,
}

/// One end.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct EndReport {
    pub port: String,
    pub link_layer: &'static str,
    pub gid: String,
    pub gid_kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid_index: Option<u32>,
    pub lid: u16,
    pub queue_pair: u32,
    pub in_order: bool,
}

/// Figures under perftest's names, of all samples: perftest itself leaves out the two largest.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct AsPerftest {
    pub of: &'static str,
    pub iterations: u64,
    pub t_min_us: f64,
    pub t_max_us: f64,
    pub t_typical_us: Option<f64>,
    pub t_avg_us: f64,
    pub p99_us: Option<f64>,
    pub p99_9_us: Option<f64>,
}

/// What was moved, in units of their own names: G is 10^9, Mi is 2^20.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct BandwidthReport {
    pub messages: u64,
    pub message_bytes: u32,
    pub bytes: u64,
    pub elapsed_ns: u64,
    pub gbit_per_second: Option<f64>,
    pub gbyte_per_second: Option<f64>,
    pub mibyte_per_second: Option<f64>,
}

impl PingRun {
    /// The RDMA part, where there is one.
    pub(in crate::ping) fn rdma_report(&self) -> Option<RdmaReport> {
        let end = self.rdma.as_ref()?;
        let connected = end.connected();
        let offer = &connected.offer;
        let (recreated, failed, last_failure, failures) = match end {
            RdmaEnd::Latency(end) => {
                (end.recreated, end.failed_tries, end.last_failure.clone(), end.failures.clone())
            }
            RdmaEnd::Bandwidth(end) => {
                (0, 0, None, end.failure.map(|reason| (reason, 1)).into_iter().collect())
            }
            RdmaEnd::Datagrams(_) => (0, 0, None, BTreeMap::new()),
        };
        let series = |name: &str| {
            let (_, blocks) = self.series.extras.iter().find(|(known, _)| *known == name)?;
            self.latency(blocks, &super::super::report::APP_RTT_SOURCE)
        };
        Some(RdmaReport {
            operation: offer.method.operation.as_str(),
            measure: offer.method.measure.as_str(),
            completion: offer.method.completion.as_str(),
            completion_order_forced: connected.is_unordered,
            schedule: self.schedule(),
            outstanding: offer.outstanding,
            inline: connected.is_inline,
            memory_route: offer.endpoint.route.as_str(),
            path_mtu_bytes: connected.mtu.octets(),
            traffic_class: offer.traffic_class,
            service_level: offer.service_level,
            flow_label: offer.flow_label.get(),
            reliability: self.reliability_report(),
            ours: connected.ours(),
            theirs: connected.theirs(),
            queue_pairs_recreated: recreated,
            failed_connections: failed,
            last_failure,
            failures,
            post_to_completion: series("post_to_completion"),
            round_trip: series("round_trip"),
            post_to_post: series("post_to_post"),
            as_perftest: self.as_perftest(),
            bandwidth: end.bandwidth().map(BandwidthReport::of),
            retransmissions: self.retransmissions().map(|(report, _)| report),
            counters_rose: end.rises().map(rose),
        })
    }

    fn reliability_report(&self) -> Option<ReliabilityReport> {
        let config = self.config.rdma.as_ref()?;
        let reliability = config.profile.reliability();
        let [ack_timeout, retries, rnr_retries, min_rnr_timer] = reliability.codes();
        let gives_up = reliability.gives_up();
        Some(ReliabilityReport {
            profile: config.profile.as_str(),
            ack_timeout,
            ack_timeout_ns: reliability.ack_timeout.least().map(crate::nanos),
            retries,
            rnr_retries,
            min_rnr_timer,
            gives_up_after_ns: gives_up.map(|(least, most)| [least, most].map(crate::nanos)),
        })
    }

    /// Whether operations were sent again, with the sentence where they were. By the times from post to answer, which hold the
    /// retransmissions of both directions, else by those to completion.
    pub(in crate::ping) fn retransmissions(
        &self,
    ) -> Option<(RetransmissionReport, Option<String>)> {
        let RdmaEnd::Latency(end) = self.rdma.as_ref()? else { return None };
        let times = |name| {
            let (_, blocks) = self.series.extras.iter().find(|(known, _)| *known == name)?;
            Some(blocks.total()).filter(|times| times.replies() > 0)
        };
        let times = times("round_trip").or_else(|| times("post_to_completion"))?;
        let reliability = end.connected.offer.reliability;
        Some(RetransmissionReport::of(times, &reliability, end.rises.as_ref()))
    }

    fn schedule(&self) -> &'static str {
        let measures_latency =
            self.config.rdma.as_ref().is_none_or(|config| config.measure == Measure::Latency);
        match (measures_latency, self.config.interval.is_zero()) {
            (true, false) => "open-loop",
            (true, true) => "closed-loop",
            (false, _) => "as many as are outstanding",
        }
    }

    /// What perftest would print of the same operations: only a closed loop has its samples.
    fn as_perftest(&self) -> Option<AsPerftest> {
        let RdmaEnd::Latency(end) = self.rdma.as_ref()? else { return None };
        let (_, summary, _) =
            self.judge().series.into_iter().find(|(name, ..)| *name == "post_to_post")?;
        let (of, parts) = if end.connected.offer.method.is_answered_by_program() {
            ("half of post_to_post", 2.0)
        } else {
            ("post_to_post", 1.0)
        };
        let us = |nanos: u64| to_micros(nanos) / parts;
        let quantile = |wanted| value(&summary, wanted).map(us);
        Some(AsPerftest {
            of,
            iterations: summary.count,
            t_min_us: us(summary.min_ns?),
            t_max_us: us(summary.max_ns?),
            t_typical_us: quantile(Quantile::P50),
            t_avg_us: summary.mean_ns? / 1000.0 / parts,
            p99_us: quantile(Quantile::P99),
            p99_9_us: quantile(Quantile::P99_9),
        })
    }
}

fn value(summary: &Summary, wanted: Quantile) -> Option<u64> {
    let entry = summary.quantiles.iter().find(|entry| entry.quantile == wanted)?;
    match entry.outcome {
        Outcome::Value { value_ns, .. } => Some(value_ns),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time, not a count")]
fn to_micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

impl RdmaEnd {
    /// What both ends were set to.
    pub const fn connected(&self) -> &Connected {
        match self {
            Self::Latency(end) => &end.connected,
            Self::Bandwidth(end) => &end.connected,
            Self::Datagrams(connected) => connected,
        }
    }

    /// What was moved, where that was measured.
    pub const fn bandwidth(&self) -> Option<&Bandwidth> {
        match self {
            Self::Latency(_) | Self::Datagrams(_) => None,
            Self::Bandwidth(end) => Some(end),
        }
    }

    const fn rises(&self) -> Option<&Rises> {
        match self {
            Self::Latency(end) => end.rises.as_ref(),
            Self::Bandwidth(_) | Self::Datagrams(_) => None,
        }
    }
}

impl Connected {
    fn ours(&self) -> EndReport {
        EndReport { gid_index: Some(self.gid_index), ..end(&self.offer.endpoint) }
    }

    fn theirs(&self) -> EndReport {
        end(&self.peer)
    }
}

fn end(endpoint: &railgauge_core::rdma::endpoint::RdmaEndpoint) -> EndReport {
    EndReport {
        port: endpoint.port.to_string(),
        link_layer: endpoint.link_layer.as_str(),
        gid: endpoint.gid.to_string(),
        gid_kind: endpoint.gid_kind.as_str(),
        gid_index: None,
        lid: endpoint.lid,
        queue_pair: endpoint.queue_pair,
        in_order: endpoint.in_order,
    }
}

impl BandwidthReport {
    fn of(bandwidth: &Bandwidth) -> Self {
        let rate = bandwidth.gbit_per_second();
        // Octets a nanosecond are 10^9 octets a second.
        let per_mebi = 1e9 / f64::from(1 << 20);
        Self {
            messages: bandwidth.messages,
            message_bytes: bandwidth.connected.offer.size,
            bytes: bandwidth.bytes,
            elapsed_ns: crate::nanos(bandwidth.elapsed.max(Duration::ZERO)),
            gbit_per_second: rate,
            gbyte_per_second: rate.map(|rate| rate / 8.0),
            mibyte_per_second: rate.map(|rate| rate / 8.0 * per_mebi),
        }
    }
}
