//! The sweep object.

use std::collections::BTreeMap;

use railgauge_core::finding::{Finding, Verdict};
use serde::{Deserialize, Serialize};

use super::PathDoc;

/// One sweep of the fleet (contract: `railgauge/sweep/v1`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// Always [`Sweep::SCHEMA`].
    pub schema: String,
    /// What the coordinator calls it.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; `null` while it is not over.
    pub finished_at: Option<String>,
    /// What was run: `quick`, `sockets`.
    pub suite: String,
    /// What is known of the fleet's health.
    pub verdict: Verdict,
    /// Of the coordinator, with the commit it was built from.
    pub software_version: String,
    /// How it was measured.
    pub parameters: Parameters,
    /// All nodes asked for, absent and excluded ones included.
    pub nodes: Vec<NodeDoc>,
    /// Rounds that were begun.
    pub rounds: u32,
    /// Rounds that the plan had.
    pub rounds_planned: u32,
    /// From the first order to the last result.
    pub duration_ns: u64,
    /// What was measured.
    pub paths: Vec<PathDoc>,
    /// What is judged wrong or unknown, worst first.
    pub findings: Vec<Finding>,
    /// What the plan left out or did not get to, and why.
    pub not_measured: Vec<NotMeasured>,
    /// What a reader must know of the sweep as a whole; each sentence holds.
    pub validity: Vec<String>,
    /// Why the sweep failed or ended early; what was measured stands beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Sweep {
    /// Its schema.
    pub const SCHEMA: &str = "railgauge/sweep/v1";
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            id: String::new(),
            started_at: String::new(),
            finished_at: None,
            suite: String::new(),
            verdict: Verdict::Unknown,
            software_version: String::new(),
            parameters: Parameters::default(),
            nodes: Vec::new(),
            rounds: 0,
            rounds_planned: 0,
            duration_ns: 0,
            paths: Vec::new(),
            findings: Vec::new(),
            not_measured: Vec::new(),
            validity: Vec::new(),
            error: None,
        }
    }
}

/// How each path of a sweep was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// Probes that count, by path.
    pub count: u64,
    /// Between intended sends.
    pub interval_ns: u64,
    /// Probes before them that do not count.
    pub warmup: u64,
    /// When a probe is lost.
    pub timeout_ns: u64,
    /// Octets of payload.
    pub size_bytes: u32,
    /// What carried the probes.
    pub transport: String,
    /// The nodes asked for, as typed; empty: all.
    pub nodes: String,
    /// Rounds at most; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rounds: Option<u32>,
    /// Nodes that were said to be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<String>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDoc {
    /// Its name.
    pub name: String,
    /// What is known of its health.
    pub verdict: Verdict,
    /// `connected`, `reconnecting`, `lost`, `left`, `absent`.
    pub state: String,
    /// Anything an operator should know: one sentence each.
    pub notes: Vec<String>,
    /// What its operator calls it by.
    pub labels: BTreeMap<String, String>,
    /// The agent's version; empty where none was ever heard.
    pub version: String,
    /// Its ports.
    pub ports: Vec<NodePort>,
}

/// One port of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodePort {
    /// Its name.
    pub port: String,
    /// Its rail.
    pub rail: u16,
    /// Address and port at which it answers.
    pub address: String,
}

/// Something that was not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotMeasured {
    /// What: a node, a path, a number of paths.
    pub what: String,
    /// Why.
    pub reason: String,
}
