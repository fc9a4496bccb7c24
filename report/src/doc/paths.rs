//! What the coordinator knows of the paths now.

use railgauge_core::finding::Verdict;
use serde::{Deserialize, Serialize};

use super::{Measures, NodeDoc, PathDoc};

/// The paths over the last while (contract: `railgauge/paths/v1`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paths {
    /// Always [`Paths::SCHEMA`].
    pub schema: String,
    /// When it was put together: RFC 3339, UTC.
    pub at: String,
    /// How far back its windows reach.
    pub since_ns: u64,
    /// Version of the coordinator, with the commit.
    pub coordinator_version: String,
    /// The nodes it knows.
    pub nodes: Vec<NodeDoc>,
    /// The paths.
    pub paths: Vec<PathDoc>,
    /// The same windows merged by node: of all paths that leave it.
    pub by_node: Vec<Aggregate>,
    /// Merged by rail.
    pub by_rail: Vec<Aggregate>,
    /// All merged; `null` without windows.
    pub fleet: Option<Aggregate>,
    /// Why there is nothing, or not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Paths {
    /// Its schema.
    pub const SCHEMA: &str = "railgauge/paths/v1";
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            at: String::new(),
            since_ns: 0,
            coordinator_version: String::new(),
            nodes: Vec::new(),
            paths: Vec::new(),
            by_node: Vec::new(),
            by_rail: Vec::new(),
            fleet: None,
            error: None,
        }
    }
}

/// Many paths merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregate {
    /// Of what: `gpu-07`, `rail 3`, `fleet`.
    pub name: String,
    /// Paths in it.
    pub paths: u64,
    /// What is known of its health.
    pub verdict: Verdict,
    /// Merged exactly.
    #[serde(flatten)]
    pub measures: Measures,
}
