//! One path of a document.

use railgauge_core::finding::Verdict;
use railgauge_core::path::Path;
use serde::{Deserialize, Serialize};

use super::{Measures, RdmaDoc};

/// One path, and what was measured on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathDoc {
    /// Where probes leave, as `node/port`.
    pub src: String,
    /// Where they are answered, as `node/port`.
    pub dst: String,
    /// The node of `src`.
    pub src_node: String,
    /// The node of `dst`.
    pub dst_node: String,
    /// The rail of `src`.
    pub rail: u16,
    /// The rail of `dst`; absent when it is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_rail: Option<u16>,
    /// `udp`, `tcp`, `rdma-ud` or `rdma-rc`.
    pub transport: String,
    /// `host`.
    pub memory: String,
    /// Which of several source ports.
    pub flow: u16,
    /// Differentiated services code point.
    pub dscp: u8,
    /// How it was probed over verbs; absent for sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaDoc>,
    /// The round of a sweep in which it was measured, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// Windows that the numbers are made of (continuous probing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<u64>,
    /// End of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_window_at: Option<String>,
    /// What is known of its health.
    pub verdict: Verdict,
    /// What was measured.
    #[serde(flatten)]
    pub measures: Measures,
    /// Why nothing, or not all, was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl PathDoc {
    /// Of a path and what was measured on it; the rest is the caller's to set.
    pub fn new(path: &Path, verdict: Verdict, measures: Measures) -> Self {
        Self {
            src: path.src.to_string(),
            dst: path.dst.to_string(),
            src_node: path.src.node.to_string(),
            dst_node: path.dst.node.to_string(),
            rail: path.src.rail,
            dst_rail: (path.dst.rail != path.src.rail).then_some(path.dst.rail),
            transport: path.transport.as_str().to_owned(),
            memory: path.memory.as_str().to_owned(),
            flow: path.flow,
            dscp: path.dscp,
            verdict,
            measures,
            ..Self::default()
        }
    }

    /// As core prints paths: `a/eth0 > b/eth0 udp`, with flow and DSCP where they are not 0.
    pub fn name(&self) -> String {
        let mut name = format!("{} > {} {}", self.src, self.dst, self.transport);
        for (what, number) in [(" flow ", self.flow), (" dscp ", u16::from(self.dscp))] {
            if number != 0 {
                name += what;
                name += &number.to_string();
            }
        }
        name
    }
}
