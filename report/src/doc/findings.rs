//! The open findings.

use railgauge_core::finding::{Finding, Verdict};
use serde::{Deserialize, Serialize};

/// What is judged wrong or unknown now (contract: `railgauge/findings/v1`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Always [`Findings::SCHEMA`].
    pub schema: String,
    /// When: RFC 3339, UTC.
    pub at: String,
    /// What is known of the fleet's health.
    pub verdict: Verdict,
    /// Worst first.
    pub findings: Vec<OpenFinding>,
    /// Why there is nothing, or not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Findings {
    /// Its schema.
    pub const SCHEMA: &str = "railgauge/findings/v1";
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            at: String::new(),
            verdict: Verdict::Unknown,
            findings: Vec::new(),
            error: None,
        }
    }
}

/// A finding followed over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFinding {
    /// As judged last.
    #[serde(flatten)]
    pub finding: Finding,
    /// RFC 3339, UTC.
    pub first_seen: String,
    /// RFC 3339, UTC.
    pub last_seen: String,
}
