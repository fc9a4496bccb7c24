//! Judged statements and their evidence (design D10), in the form in which they are printed.

use serde::{Deserialize, Serialize};

/// What is known of something's health. No data is `Unknown`, never `Healthy`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Measured, and nothing is wrong.
    Healthy,
    /// Not measured, or too little.
    #[default]
    Unknown,
    /// It works, and slows those who wait for it.
    Degraded,
    /// It does not work.
    Failed,
}

impl Verdict {
    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// How much a finding matters; more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not known that should be.
    Unknown,
    /// Something is slow or loses packets.
    Degraded,
    /// Something does not work.
    Failed,
}

impl Severity {
    /// All of them, rising.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Degraded, Self::Failed];

    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// What kind of thing is accused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentKind {
    /// One ordered pair of endpoints.
    Path,
    /// A port of a node, with its cable.
    Port,
    /// A machine.
    Node,
    /// The ports of one index.
    Rail,
    /// All of it.
    Fleet,
}

/// What is accused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Component {
    /// What kind of thing.
    pub kind: ComponentKind,
    /// Its name: of a node `gpu-07`, of a port `gpu-07/mlx5_0`, of a rail `rail 3`, of a path as it is printed.
    pub name: String,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The network's part of the RTT is high.
    NetworkLatency,
    /// Prober or responder delay is high: the host, not the network.
    HostDelay,
    /// Probes are lost.
    Loss,
    /// No probe is answered.
    Unreachable,
    /// Too few samples, or none.
    NoData,
}

impl FindingKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::NetworkLatency, Self::HostDelay, Self::Loss, Self::Unreachable, Self::NoData];

    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkLatency => "network-latency",
            Self::HostDelay => "host-delay",
            Self::Loss => "loss",
            Self::Unreachable => "unreachable",
            Self::NoData => "no-data",
        }
    }
}

/// How large the effect is, with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Effect {
    /// A quantile of a series against the fleet's median of the same quantile.
    Latency {
        /// `network_rtt`, `prober_delay` or `responder_delay`.
        series: String,
        /// The share, as 0.99.
        q: f64,
        /// What was measured, nanoseconds.
        value_ns: u64,
        /// Lower end of its 95 % interval.
        low_ns: u64,
        /// Upper end; `null`: at or beyond the time-out.
        high_ns: Option<u64>,
        /// The fleet's median of that quantile.
        fleet_median_ns: u64,
        /// `low_ns` over the fleet's median.
        at_least_times: f64,
    },
    /// A share of probes lost.
    Loss {
        /// Probes sent.
        sent: u64,
        /// Of them lost.
        lost: u64,
        /// The share.
        share: f64,
        /// Lower end of its 95 % interval (Wilson).
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// What there is too little of.
    Samples {
        /// Samples there are.
        samples: u64,
        /// Samples needed for a statement.
        needed: u64,
    },
}

/// What speaks for and against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Paths with the effect, worst first, one sentence each.
    pub convict: Vec<String>,
    /// Paths without it that rule out another culprit.
    pub acquit: Vec<String>,
}

/// One judged statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub kind: FindingKind,
    /// With what.
    pub component: Component,
    /// In one sentence.
    pub summary: String,
    /// How large.
    pub effect: Effect,
    /// What it rests on.
    pub evidence: Evidence,
    /// What to do or measure next.
    pub next_test: String,
}
