//! What was measured: counts and series, of a path or of many.

use railgauge_core::json::LatencySeries;
use railgauge_core::path_window::WindowAccount;
use serde::{Deserialize, Serialize};

use crate::number::share;

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// What became of the probes: as [`WindowAccount`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts { $($(#[$doc])* pub $field: u64),* }

        impl From<WindowAccount> for Counts {
            fn from(account: WindowAccount) -> Self {
                Self { $($field: account.$field),* }
            }
        }

        impl From<Counts> for WindowAccount {
            fn from(counts: Counts) -> Self {
                Self { $($field: counts.$field),* }
            }
        }
    };
}

counts! {
    /// Slots whose time came; = sent + skipped + send errors.
    scheduled,
    /// Probes handed to the kernel; = received + lost + in flight.
    sent,
    /// Slots not sent because they were too old, or by budget.
    skipped,
    /// Probes that the kernel refused.
    send_errors,
    /// Probes with a reply in time.
    received,
    /// Probes without one.
    lost,
    /// Probes without a verdict.
    in_flight,
    /// Replies after their probe was lost.
    late_replies,
    /// Further replies to a probe that had one.
    duplicate,
    /// Replies that came after the reply to a later probe.
    reordered,
    /// Probes sent later after their slot than the threshold.
    late_starts,
    /// Replies whose stamps contradict each other.
    invalid_stamps,
}

impl Counts {
    /// Of the probes with a verdict, those lost; `None` without any.
    pub fn loss(&self) -> Option<f64> {
        share(self.lost, self.received.saturating_add(self.lost))
    }

    /// Probes were sent, some were given up, and none was answered.
    pub const fn is_silent(&self) -> bool {
        self.received == 0 && self.lost > 0
    }
}

/// Counts, notes and the four series, each `null` only with a reason beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measures {
    /// What became of the probes.
    #[serde(flatten)]
    pub counts: Counts,
    /// What a reader must know before believing the numbers; each sentence holds.
    pub validity: Vec<String>,
    /// What the wire and the switches took.
    pub network_rtt: Option<LatencySeries>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_rtt_reason: Option<String>,
    /// From the intended send time to the application having the reply.
    pub app_rtt: Option<LatencySeries>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_rtt_reason: Option<String>,
    /// What the prober's host added.
    pub prober_delay: Option<LatencySeries>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prober_delay_reason: Option<String>,
    /// What the responder's host added.
    pub responder_delay: Option<LatencySeries>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responder_delay_reason: Option<String>,
    /// Over verbs; absent for sockets, where nothing is posted.
    #[serde(flatten)]
    pub posted: Option<Posted>,
}

/// The fifth series, of RDMA transports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// From posting an operation to its completion at the prober. On a connection that holds the wait for the peer's
    /// acknowledgement, for a datagram only the departure.
    // Not optional when it is read: a document without it is one of sockets.
    #[serde(deserialize_with = "Option::deserialize")]
    pub post_to_completion: Option<LatencySeries>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_to_completion_reason: Option<String>,
}

impl Measures {
    /// Nothing was measured, and why.
    pub fn none(reason: &str) -> Self {
        let why = || Some(reason.to_owned());
        Self {
            network_rtt_reason: why(),
            app_rtt_reason: why(),
            prober_delay_reason: why(),
            responder_delay_reason: why(),
            ..Self::default()
        }
    }

    /// A series by its name in the document.
    pub fn series(&self, name: &str) -> Option<&LatencySeries> {
        match name {
            "network_rtt" => self.network_rtt.as_ref(),
            "app_rtt" => self.app_rtt.as_ref(),
            "prober_delay" => self.prober_delay.as_ref(),
            "responder_delay" => self.responder_delay.as_ref(),
            "post_to_completion" => self.posted.as_ref()?.post_to_completion.as_ref(),
            _ => None,
        }
    }

    /// The series that stands for the path: network RTT, or app RTT where packets have no stamps.
    pub fn rtt(&self) -> Option<&LatencySeries> {
        self.network_rtt.as_ref().or(self.app_rtt.as_ref())
    }
}
