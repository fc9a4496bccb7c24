//! All metrics of both daemons, in one table; `docs/metrics.md` is made from it. A metric is added here and nowhere else: then
//! [`Registry`](crate::Registry) hands out its counter or gauge.

use crate::model::Kind;

/// Who exposes a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// `railgauge-agent`.
    Agent,
    /// `railgauge-coordinator`.
    Coordinator,
    /// Each of them.
    Both,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What may be done with it.
    pub kind: Kind,
    /// What it counts or measures in.
    pub unit: &'static str,
    /// Its labels, in this order.
    pub labels: &'static [&'static str],
    /// Where it is.
    pub on: On,
    /// What it says, for whoever looks at a page.
    pub help: &'static str,
}

/// Labels of what is counted by probe.
const CLASS: &[&str] = &["transport", "memory", "locality"];
const CLASS_AND_REASON: &[&str] = &["reason", "transport", "memory", "locality"];
const CLASS_AND_SOURCE: &[&str] = &["transport", "memory", "locality", "timestamp_source"];

/// What each label tells apart, and how many values it can have.
pub const LABELS: &[(&str, &str)] = &[
    ("transport", "what carries the probes: `udp`, `tcp`"),
    ("memory", "where their memory is: `host`"),
    (
        "locality",
        "`node`: both ends on one node; `rail`: two nodes, same rail; `cross_rail`: two nodes, two rails",
    ),
    (
        "timestamp_source",
        "where t1, t2, t3 and t4 were taken, as `kernel/kernel/kernel/kernel`; of the application's round trip `user/none/none/user`; 16 kinds at most, further ones are `other`",
    ),
    (
        "reason",
        "why: of probes `timeout`, `late` or `budget`; of requests a word for each rule of the reflector; of connections as the daemon says it",
    ),
    ("state", "`connected`, `reconnecting`, `lost`, `left`"),
    ("severity", "`failed`, `degraded`, `unknown`"),
    ("kind", "`network-latency`, `host-delay`, `loss`, `unreachable`, `no-data`"),
    (
        "verdict",
        "of a sweep `healthy`, `degraded`, `failed`, `unknown`; of an audit line `allowed`, `refused`",
    ),
    ("rank", "`1`, the worst, to `10`"),
    ("src", "where the path begins, as `gpu-07/mlx5_0`"),
    ("dst", "where it ends"),
    ("percentile", "`p50`, `p90`, `p99`"),
    ("certificate", "`own`, `ca`"),
    ("result", "`ok`, `error`"),
    ("version", "of the program"),
    ("commit", "it was built from, where that is known"),
];

macro_rules! metrics {
    ($($ident:ident: $kind:ident $on:ident $name:literal, $unit:literal, $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Metric = Metric {
                name: $name, kind: Kind::$kind, unit: $unit, labels: $labels, on: On::$on, help: $help,
            };
        )*

        /// All of them, in the order of the documentation.
        pub static ALL: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    NETWORK_RTT: Histogram Both "railgauge_probe_network_rtt_seconds", "seconds", CLASS_AND_SOURCE,
        "Round trip without the time at either host, of answered probes. Time-outs are no samples: railgauge_probes_lost_total counts them.";
    APP_RTT: Histogram Both "railgauge_probe_app_rtt_seconds", "seconds", CLASS_AND_SOURCE,
        "Round trip as the prober sees it, of answered probes. Time-outs are no samples: railgauge_probes_lost_total counts them.";
    PROBER_DELAY: Histogram Both "railgauge_probe_prober_delay_seconds", "seconds", CLASS_AND_SOURCE,
        "Part of the application's round trip that was spent in the probing host.";
    RESPONDER_DELAY: Histogram Both "railgauge_probe_responder_delay_seconds", "seconds", CLASS_AND_SOURCE,
        "Part of the application's round trip that was spent in the answering host.";
    PROBES_SENT: Counter Both "railgauge_probes_sent_total", "probes", CLASS,
        "Probes handed to the kernel. Counted when their window is recorded, so some seconds later.";
    PROBES_RECEIVED: Counter Both "railgauge_probes_received_total", "probes", CLASS,
        "Probes with a reply in time.";
    PROBES_LOST: Counter Both "railgauge_probes_lost_total", "probes", CLASS_AND_REASON,
        "Probes without a reply in time.";
    PROBES_SKIPPED: Counter Both "railgauge_probes_skipped_total", "probes", CLASS_AND_REASON,
        "Probes that were planned and not sent: late, as the prober did not run when they were due, or left out to keep a budget, which agents alone tell.";
    PROBE_LATE_STARTS: Counter Both "railgauge_probe_late_starts_total", "probes", CLASS,
        "Probes sent more than 1 ms after their time: the prober's host did not let it run.";
    PROBE_SEND_ERRORS: Counter Both "railgauge_probe_send_errors_total", "probes", CLASS,
        "Probes that the kernel refused to send.";
    PROBE_LATE_REPLIES: Counter Both "railgauge_probe_late_replies_total", "replies", CLASS,
        "Replies to probes that were lost by then.";
    PROBE_INVALID_STAMPS: Counter Both "railgauge_probe_invalid_stamps_total", "replies", CLASS,
        "Replies whose stamps contradict each other: they count as received and are in no part of the round trip.";

    WINDOWS_RECORDED: Counter Agent "railgauge_windows_recorded_total", "windows", &[],
        "Windows (one path over one interval) on the disk of the agent.";
    WINDOWS_UNRECORDED: Counter Agent "railgauge_windows_unrecorded_total", "windows", &[],
        "Windows that could not be brought to disk, and are lost.";
    WINDOWS_REFUSED: Counter Both "railgauge_windows_refused_total", "windows", &[],
        "Windows that the coordinator refused for good, as too old or from the future. An agent's count outlives restarts.";
    SPOOL_WINDOWS: Gauge Agent "railgauge_spool_windows", "windows", &[],
        "Recorded windows that the coordinator does not have yet.";
    SPOOL_BYTES: Gauge Agent "railgauge_spool_bytes", "bytes", &[],
        "Size of the spool on disk, including what was delivered and is not deleted yet.";
    SPOOL_CAPACITY: Gauge Agent "railgauge_spool_capacity_bytes", "bytes", &[],
        "Size at which the spool drops its oldest windows.";
    SPOOL_WINDOWS_DROPPED: Counter Agent "railgauge_spool_windows_dropped_total", "windows", &[],
        "Recorded windows given up because the spool was full. Outlives restarts.";
    SPOOL_DAMAGED_BYTES: Counter Agent "railgauge_spool_damaged_bytes_total", "bytes", &[],
        "Parts of the spool that could not be read. Outlives restarts.";
    COORDINATOR_CONNECTED: Gauge Agent "railgauge_coordinator_connected", "0 or 1", &[],
        "Whether the agent has a session with its coordinator.";
    PLAN_EPOCH: Gauge Both "railgauge_plan_epoch", "epoch", &[],
        "Number of the plan in force; 0 before the first.";
    PLAN_LEASE_VALID: Gauge Agent "railgauge_plan_lease_valid", "0 or 1", &[],
        "Whether the plan's lease runs. Without it the agent probes at a tenth of the rate.";
    PATHS_PROBED: Gauge Agent "railgauge_paths_probed", "paths", &[],
        "Paths of the plan that are probed now.";
    PATHS_FAILED: Gauge Agent "railgauge_paths_failed", "paths", &[],
        "Paths of the plan that no socket can be opened for.";
    RATE_DIVISOR: Gauge Agent "railgauge_probe_rate_divisor", "ratio", &[],
        "Probes go out at one over this of the planned rate: more than 1 by budget or without a lease.";
    BUDGET_PACKETS: Gauge Agent "railgauge_budget_packets_per_second", "packets per second", &[],
        "Configured bound on probes sent; 0 is none.";
    BUDGET_BYTES: Gauge Agent "railgauge_budget_bytes_per_second", "bytes per second", &[],
        "Configured bound on octets sent, headers included; 0 is none.";
    BUDGET_CPU: Gauge Agent "railgauge_budget_cpu_percent", "percent of a core", &[],
        "Configured bound on processor time; 0 is none.";
    REFLECTOR_REQUESTS: Counter Agent "railgauge_reflector_requests_total", "packets", &[],
        "Probes of others that arrived here.";
    REFLECTOR_REPLIES: Counter Agent "railgauge_reflector_replies_total", "packets", &[],
        "Replies made to them.";
    REFLECTOR_DROPPED: Counter Agent "railgauge_reflector_dropped_total", "packets", &["reason"],
        "Requests that got no reply.";

    NODES: Gauge Coordinator "railgauge_nodes", "nodes", &["state"],
        "Nodes that are known, by state.";
    WINDOWS_INGESTED: Counter Coordinator "railgauge_windows_ingested_total", "windows", &[],
        "Windows on the disk of the coordinator, each counted once.";
    WINDOWS_DUPLICATE: Counter Coordinator "railgauge_windows_duplicate_total", "windows", &[],
        "Windows that came again, as after a lost acknowledgement, and were not counted again.";
    WINDOWS_FAILED: Counter Coordinator "railgauge_windows_failed_total", "windows", &[],
        "Windows that could not be stored when they came. They stay with their agents and come again.";
    INCIDENTS_OPEN: Gauge Coordinator "railgauge_incidents_open", "findings", &["severity", "kind"],
        "Findings that are open. Absent before the first judgement: nobody knows then.";
    JUDGED_TIMESTAMP: Gauge Coordinator "railgauge_judged_timestamp_seconds", "seconds since 1970", &[],
        "When the fleet was last judged; absent before the first judgement.";
    WORST_PATH_RTT: Gauge Coordinator "railgauge_worst_path_network_rtt_seconds", "seconds", &["rank", "src", "dst", "transport", "percentile"],
        "Network round trip of the ten paths with the highest p99 of the last five minutes, as last judged. Where losses decide a percentile, it is absent: railgauge_probes_lost_total and the findings tell those.";
    STORE_BYTES: Gauge Coordinator "railgauge_store_bytes", "bytes", &[],
        "Size of the store on disk.";
    STORE_CAPACITY: Gauge Coordinator "railgauge_store_capacity_bytes", "bytes", &[],
        "Size at which the store drops its oldest hours.";
    STORE_WINDOWS_DROPPED: Counter Coordinator "railgauge_store_windows_dropped_total", "windows", &[],
        "Windows dropped because the store was full. Outlives restarts.";
    STORE_FAILING: Gauge Coordinator "railgauge_store_failing", "0 or 1", &[],
        "Whether windows cannot be stored now.";
    PLAN_FAILING: Gauge Coordinator "railgauge_plan_failing", "0 or 1", &[],
        "Whether no new plan can be given out now.";
    SWEEPS: Counter Coordinator "railgauge_sweeps_total", "sweeps", &["verdict"],
        "Sweeps that ended.";
    SWEEP_RUNNING: Gauge Coordinator "railgauge_sweep_running", "0 or 1", &[],
        "Whether a sweep is under way.";

    AUDIT_LINES: Counter Both "railgauge_audit_lines_total", "lines", &["verdict"],
        "Decisions about who may do what, handshakes included; of a flood of refusals only the first are lines of the audit log.";
    AUDIT_LINES_DROPPED: Counter Both "railgauge_audit_lines_dropped_total", "lines", &[],
        "Decisions that could not be written to the audit log.";
    CONNECTIONS_REFUSED: Counter Both "railgauge_connections_refused_total", "connections", &["reason"],
        "Connections that were not let in: handshake, of which the audit log has the particulars.";
    CERTIFICATE_EXPIRY: Gauge Both "railgauge_certificate_expiry_timestamp_seconds", "seconds since 1970", &["certificate"],
        "When the certificate in use ends; absent without one.";
    CERTIFICATE_RELOAD_SUCCESSFUL: Gauge Both "railgauge_certificate_last_reload_successful", "0 or 1", &[],
        "Whether what is in the certificate's files can be used; if not, what was there before is in force. Absent without a certificate.";
    PROBE_KEY_EPOCH: Gauge Coordinator "railgauge_probe_key_epoch", "epoch", &[],
        "Number of the newest key that probes are authenticated with; absent without keys.";
    RELOAD_SUCCESSFUL: Gauge Both "railgauge_configuration_last_reload_successful", "0 or 1", &[],
        "Whether the configuration could be read when it was last asked for; if not, the one before is in force.";
    RELOADS: Counter Both "railgauge_configuration_reloads_total", "reloads", &["result"],
        "Times the configuration was read again.";
    BUILD_INFO: Gauge Both "railgauge_build_info", "1", &["version", "commit"],
        "Which program this is; always 1.";
    PROCESS_CPU: Counter Both "process_cpu_seconds_total", "seconds", &[],
        "User and system time of the process.";
    PROCESS_RESIDENT: Gauge Both "process_resident_memory_bytes", "bytes", &[],
        "Memory of the process in RAM.";
    PROCESS_VIRTUAL: Gauge Both "process_virtual_memory_bytes", "bytes", &[],
        "Address space of the process.";
    PROCESS_START: Gauge Both "process_start_time_seconds", "seconds since 1970", &[],
        "When the process began.";
    PROCESS_OPEN_FDS: Gauge Both "process_open_fds", "descriptors", &[],
        "Open file descriptors.";
    PROCESS_MAX_FDS: Gauge Both "process_max_fds", "descriptors", &[],
        "File descriptors that may be open.";
    PROCESS_THREADS: Gauge Both "process_threads", "threads", &[],
        "Threads of the process.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn is_word(text: &str) -> bool {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is there twice");
        for metric in ALL {
            let name = metric.name;
            assert!(is_word(name), "{name}");
            assert!(name.starts_with("railgauge_") || name.starts_with("process_"), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let stem = name.trim_end_matches("_total").trim_end_matches("_timestamp_seconds");
            for unit in ["seconds", "bytes"] {
                let base = metric.unit == unit;
                assert!(!base || stem.ends_with(unit) || name.contains(unit), "{name}");
            }
            let says = metric.help.ends_with('.') && !metric.help.contains('\n');
            assert!(says && !metric.unit.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_label_is_explained_and_none_is_reserved() {
        let explained: BTreeSet<_> = LABELS.iter().map(|(name, _)| *name).collect();
        let used: BTreeSet<_> = ALL.iter().flat_map(|metric| metric.labels).copied().collect();
        assert_eq!(explained, used);
        // promtool allows these two to histograms and summaries alone.
        assert!(!used.contains("le") && !used.contains("quantile"));
        assert!(used.iter().all(|label| is_word(label)));
    }
}
