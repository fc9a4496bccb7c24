//! The lines about an RDMA device.

use std::fmt::Write;

use railgauge_agent::ping::rdma::RdmaReport;

use crate::number::count;

/// What was done between which ends, and what only RDMA measures.
pub fn lines(rdma: &RdmaReport) -> String {
    let (ours, theirs) = (&rdma.ours, &rdma.theirs);
    let mut text = format!(
        "{} {}, completion by {}, {}, path MTU {}: {} {} qp {} > {} {} qp {}\n",
        rdma.operation,
        rdma.measure,
        rdma.completion,
        rdma.schedule,
        rdma.path_mtu_bytes,
        ours.port,
        ours.gid,
        ours.queue_pair,
        theirs.port,
        theirs.gid,
        theirs.queue_pair
    );
    if let Some(reliability) = &rdma.reliability {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "profile {}: ack time-out {}, retries {}, not-ready retries {}",
            reliability.profile,
            reliability.ack_timeout,
            reliability.retries,
            reliability.rnr_retries
        );
    }
    if let Some(bandwidth) = &rdma.bandwidth {
        let of = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        let _ = writeln!(
            text,
            "\n{} Gbit/s = {} GB/s (10^9) = {} MiB/s (2^20): {} messages of {} octets",
            of(bandwidth.gbit_per_second),
            of(bandwidth.gbyte_per_second),
            of(bandwidth.mibyte_per_second),
            count(bandwidth.messages),
            count(bandwidth.message_bytes.into())
        );
    }
    if let Some(as_perftest) = &rdma.as_perftest {
        let of = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        let _ = writeln!(
            text,
            "{}, as perftest names it: t_min {:.2} us, t_typical {} us, t_avg {:.2} us, 99% {} us, 99.9% {} us, t_max {:.2} us (of all samples)",
            as_perftest.of,
            as_perftest.t_min_us,
            of(as_perftest.t_typical_us),
            as_perftest.t_avg_us,
            of(as_perftest.p99_us),
            of(as_perftest.p99_9_us),
            as_perftest.t_max_us
        );
    }
    text
}
