//! What `ping` says, as a machine reads it (contract: `railgauge/ping/v1`).

use std::collections::BTreeMap;

use railgauge_core::json::LatencySeries;
use railgauge_core::quantile::{Blocks, Summary, summarize};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use serde::Serialize;

use super::rdma::RdmaReport;
use super::{PingRun, Transport, causes, validity};

/// App RTT takes no stamp but the application's own, at its two ends.
pub(super) const APP_RTT_SOURCE: TimestampSource = TimestampSource {
    t1: StampSource::User,
    t2: StampSource::None,
    t3: StampSource::None,
    t4: StampSource::User,
};

const NO_REPLY: &str = "no reply";
const NO_STAMPS_IN_STREAM: &str =
    "tcp: a byte stream has no packets whose departure and arrival could be stamped";
const BANDWIDTH_ONLY: &str =
    "bandwidth: messages are posted as room comes, so that none has a latency of its own";
const RESPONDER_UNSTAMPED: &str = "the responder's program answers and stamps nothing: what of round_trip is the network's is unknown";
const NO_SPLIT: &str = "no reply had all four stamps: see errors";

/// The result of one run. Counts as in `railgauge_core::session::Account`.
#[derive(Clone, Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields are the contract's, described in docs/schema/ping-v1.json"
)]
pub struct PingReport {
    pub schema: &'static str,
    pub version: &'static str,
    pub target: String,
    pub peer: String,
    pub started_at: String,
    pub transport: &'static str,
    pub memory: &'static str,
    pub size_bytes: usize,
    pub interval_ns: u64,
    pub timeout_ns: u64,
    pub mode: &'static str,
    pub timestamp_format: &'static str,
    pub authenticated: bool,
    pub scheduled: u64,
    pub sent: u64,
    pub skipped: u64,
    pub send_errors: u64,
    pub received: u64,
    pub lost: u64,
    pub in_flight: u64,
    pub late_replies: u64,
    pub duplicate: u64,
    pub reordered: u64,
    pub late_starts: u64,
    pub late_threshold_ns: u64,
    pub warmup_discarded: u64,
    pub follow_up_probes: u64,
    pub invalid_stamps: u64,
    pub errors: BTreeMap<&'static str, u64>,
    pub validity: Vec<String>,
    pub probe_thread: ThreadReport,
    pub flows: Vec<FlowReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaReport>,
    pub network_rtt: Option<LatencySeries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_rtt_reason: Option<&'static str>,
    pub app_rtt: Option<LatencySeries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_rtt_reason: Option<&'static str>,
    pub prober_delay: Option<LatencySeries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prober_delay_reason: Option<&'static str>,
    pub responder_delay: Option<LatencySeries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responder_delay_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The measuring thread.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct ThreadReport {
    pub cpu: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_reason: Option<String>,
    pub migrations: u64,
    pub involuntary_context_switches: u64,
    pub cpu_time_ns: u64,
    pub clock_gaps: GapReport,
    pub late_starts_explained_by_gaps: u64,
    pub clock_steps_ns: Vec<i64>,
}

/// Stretches in which the thread stood still.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct GapReport {
    pub count: u64,
    pub total_ns: u64,
    pub longest_ns: u64,
}

/// One flow.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "described in docs/schema/ping-v1.json")]
pub struct FlowReport {
    pub source_port: u16,
    pub packets_sent: u64,
    pub packets_received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_rtt: Option<LatencySeries>,
}

/// The series as judged, for those who print them.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Name, summary and stamps of each series that there is, app RTT last.
    pub series: Vec<(&'static str, Summary, TimestampSource)>,
}

impl PingRun {
    fn timeout_ns(&self) -> u64 {
        u64::try_from(self.config.timeout.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Summaries of every series that has samples.
    pub fn judge(&self) -> Judged {
        let mut series = Vec::new();
        let mut add = |name, blocks: &Blocks, source| {
            if blocks.total().samples() > 0 {
                series.push((name, summarize(blocks, self.timeout_ns()), source));
            }
        };
        if let Some((source, split)) = self.shown_split() {
            add("network_rtt", &split.network_rtt, *source);
            add("prober_delay", &split.prober_delay, *source);
            add("responder_delay", &split.responder_delay, *source);
        }
        for (name, blocks) in &self.series.extras {
            add(name, blocks, APP_RTT_SOURCE);
        }
        add("app_rtt", &self.series.app_rtt, APP_RTT_SOURCE);
        Judged { series }
    }

    fn is_bandwidth(&self) -> bool {
        self.rdma.as_ref().is_some_and(|rdma| rdma.bandwidth().is_some())
    }

    fn shown_split(&self) -> Option<&(TimestampSource, super::series::SplitSeries)> {
        self.series.main_split().filter(|_| self.config.transport != Transport::Tcp)
    }

    /// Why there is no split, when there is none.
    fn no_split_reason(&self) -> &'static str {
        match self.config.transport {
            Transport::Tcp => NO_STAMPS_IN_STREAM,
            _ if self.is_bandwidth() => BANDWIDTH_ONLY,
            _ if self.end.account.received == 0 => NO_REPLY,
            Transport::RdmaRc => RESPONDER_UNSTAMPED,
            Transport::Udp | Transport::RdmaUd => NO_SPLIT,
        }
    }

    /// Why nothing came back, when nothing did: a sentence with the way out.
    pub fn failure(&self) -> Option<String> {
        (self.end.account.received == 0).then(|| causes::of_silence(self))
    }

    /// The report.
    pub fn report(&self) -> PingReport {
        let account = &self.end.account;
        let config = &self.config;
        let judged = self.judge();
        let named: Vec<_> =
            judged.series.iter().map(|(name, summary, _)| (*name, summary)).collect();
        let validity = validity::notes(self, &named);
        let split = self.shown_split();
        let json = |blocks: &Blocks, source| self.latency(blocks, source);
        let network_rtt = split.and_then(|(source, s)| json(&s.network_rtt, source));
        let prober_delay = split.and_then(|(source, s)| json(&s.prober_delay, source));
        let responder_delay = split.and_then(|(source, s)| json(&s.responder_delay, source));
        let app_rtt = json(&self.series.app_rtt, &APP_RTT_SOURCE);
        let missing = |series: &Option<LatencySeries>, why| series.is_none().then_some(why);
        let no_split = self.no_split_reason();
        PingReport {
            schema: "railgauge/ping/v1",
            version: crate::VERSION,
            target: config.target.clone(),
            peer: self.peer.to_string(),
            started_at: crate::rfc3339(self.end.started_at),
            transport: config.transport.as_str(),
            memory: "host",
            size_bytes: self.size_bytes,
            interval_ns: crate::nanos(config.interval),
            timeout_ns: self.timeout_ns(),
            mode: config.mode.as_str(),
            timestamp_format: match config.format {
                railgauge_core::stamp::TimestampFormat::Ntp => "ntp",
                railgauge_core::stamp::TimestampFormat::Ptp => "ptp",
            },
            authenticated: config.key.is_some(),
            scheduled: account.scheduled,
            sent: account.sent,
            skipped: account.skipped,
            send_errors: account.send_errors,
            received: account.received,
            lost: account.lost,
            in_flight: account.in_flight,
            late_replies: account.late_replies,
            duplicate: account.duplicate,
            reordered: account.reordered,
            late_starts: account.late_starts,
            late_threshold_ns: crate::nanos(super::begin::late_threshold(config.mode)),
            warmup_discarded: account.warmup_discarded,
            follow_up_probes: account.follow_up_probes,
            invalid_stamps: account.invalid_stamps,
            errors: account.errors_by_reason().clone(),
            validity,
            probe_thread: self.thread_report(),
            flows: self.flow_reports(),
            rdma: self.rdma_report(),
            network_rtt_reason: missing(&network_rtt, no_split),
            prober_delay_reason: missing(&prober_delay, no_split),
            responder_delay_reason: missing(&responder_delay, no_split),
            app_rtt_reason: missing(
                &app_rtt,
                if self.is_bandwidth() { BANDWIDTH_ONLY } else { NO_REPLY },
            ),
            network_rtt,
            app_rtt,
            prober_delay,
            responder_delay,
            error: self.failure(),
        }
    }

    /// `None` where nothing came back: losses alone are in the account.
    pub(super) fn latency(
        &self,
        blocks: &Blocks,
        source: &TimestampSource,
    ) -> Option<LatencySeries> {
        let total = blocks.total();
        let summary = summarize(blocks, self.timeout_ns());
        (total.replies() > 0).then(|| LatencySeries::from_summary(&summary, source, total))
    }

    fn thread_report(&self) -> ThreadReport {
        let findings = &self.end.findings;
        ThreadReport {
            cpu: self.pinned.as_ref().ok().copied(),
            cpu_reason: self.pinned.as_ref().err().cloned(),
            migrations: findings.migrations,
            involuntary_context_switches: findings.involuntary_context_switches,
            cpu_time_ns: findings.cpu_ns,
            clock_gaps: GapReport {
                count: findings.gaps,
                total_ns: findings.gaps_total_ns,
                longest_ns: findings.gaps_longest_ns,
            },
            late_starts_explained_by_gaps: findings.late_starts_explained,
            clock_steps_ns: findings.clock_steps_ns.clone(),
        }
    }

    fn flow_reports(&self) -> Vec<FlowReport> {
        let one = |(index, flow): (usize, &crate::probe_thread::FlowEnd)| FlowReport {
            source_port: flow.source_port,
            packets_sent: flow.packets_sent,
            packets_received: flow.packets_received,
            app_rtt: self.series.flows.get(index).and_then(|b| self.latency(b, &APP_RTT_SOURCE)),
        };
        self.end.flows.iter().enumerate().map(one).collect()
    }
}
