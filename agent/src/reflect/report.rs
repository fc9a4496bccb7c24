//! What a reflector says when it ends.

use std::collections::BTreeMap;

use railgauge_core::reflector::{Counters, DropReason};
use serde::Serialize;

use crate::rdma::responder::Responded;

/// Totals since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReflectReport {
    /// `railgauge/reflect/v1`.
    pub schema: &'static str,
    /// Version of the tool.
    pub version: &'static str,
    /// Datagrams or frames judged.
    pub received: u64,
    /// Replies made.
    pub replied: u64,
    /// Requests without a reply, by reason; reasons that did not occur are absent.
    pub dropped: BTreeMap<&'static str, u64>,
    /// STAMP sessions begun.
    pub sessions: u64,
    /// Sessions that made room for a new one, with the true t3s they still owed: more senders than the table holds.
    pub sessions_evicted: u64,
    /// Replies that carried an earlier reply's true t3.
    pub follow_ups_sent: u64,
    /// What went wrong in the sockets, by reason: refused sends, ICMP errors, overflows.
    pub errors: BTreeMap<&'static str, u64>,
}

impl ReflectReport {
    /// Of operations answered over RDMA: what its device answers by itself is in no count.
    pub(super) fn of_rdma(responded: Responded) -> Self {
        let mut report = Self::new(&responded.datagrams, responded.trouble);
        report.received += responded.answered;
        report.replied += responded.answered;
        report.sessions = report.sessions.max(responded.sessions);
        report
    }

    pub(super) fn new(counters: &Counters, errors: BTreeMap<&'static str, u64>) -> Self {
        let dropped =
            DropReason::ALL.iter().map(|&reason| (reason.as_str(), counters.dropped(reason)));
        Self {
            schema: "railgauge/reflect/v1",
            version: crate::VERSION,
            received: counters.received,
            replied: counters.replied,
            dropped: dropped.filter(|&(_, count)| count > 0).collect(),
            sessions: counters.sessions_started,
            sessions_evicted: counters.sessions_evicted,
            follow_ups_sent: counters.follow_ups_sent,
            errors,
        }
    }
}
