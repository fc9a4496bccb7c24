//! What goes into a run, and what comes out of it beside its windows.

use railgauge_core::session::{Account, ConfigError, Outcome, SessionConfig};
use railgauge_core::stamp::{RequestTemplate, TimestampFormat};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::StampSource;

use super::flow::{Flow, FlowError, FlowOptions};
use super::watch::ThreadFindings;
use crate::WaitMode;
use crate::rdma::rc::Connected;

/// What a run needs.
pub struct ProbeRun {
    /// Schedule and account.
    pub session: SessionConfig,
    /// The packets.
    pub template: RequestTemplate,
    /// The format of their timestamps.
    pub format: TimestampFormat,
    /// The sockets, one a flow.
    pub flows: Vec<FlowOptions>,
    /// Spin or sleep.
    pub mode: WaitMode,
    /// Whether every outcome is kept and handed over at the end.
    pub keep_outcomes: bool,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A flow.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// The schedule.
    #[error(transparent)]
    Session(#[from] ConfigError),
}

/// What a run leaves behind, beside its windows.
#[derive(Debug)]
pub struct ProbeEnd {
    /// The account.
    pub account: Account,
    /// What happened to the thread.
    pub findings: ThreadFindings,
    /// Samples kept out of the split because too many kinds of stamps came.
    pub unrecorded: u64,
    /// The last path MTU that did not suffice, where the kernel knows it.
    pub mtu: Option<u32>,
    /// The flows, in order.
    pub flows: Vec<FlowEnd>,
    /// What both ends of the first were set to, where it is one of RDMA datagrams.
    pub connected: Option<Connected>,
    /// Every outcome, in send order, where asked for.
    pub outcomes: Vec<Outcome>,
    /// The first slot that counts.
    pub first_counted_slot: Monotonic,
    /// The wall clock at that slot.
    pub started_at: Wall,
    /// Whether the run ended itself, because no probe of the warm-up was answered and some were refused on their way, or all
    /// by this host.
    pub gave_up: bool,
    /// Whether the reflector does not know our telemetry TLVs.
    pub telemetry_unknown: bool,
}

/// What is known of one flow at the end.
#[derive(Debug)]
pub struct FlowEnd {
    /// Its source port.
    pub source_port: u16,
    /// Packets sent, warm-up included.
    pub packets_sent: u64,
    /// Packets received, warm-up included.
    pub packets_received: u64,
    /// Who stamped, `Hardware` or `Kernel`, or why nobody did.
    pub stamps: Result<StampSource, String>,
    /// The receive buffer granted, in bytes; `None` for a stream.
    pub receive_buffer_bytes: Option<usize>,
}

impl FlowEnd {
    pub(super) fn of(flow: &Flow) -> Self {
        let socket = flow.socket();
        Self {
            source_port: flow.source_port(),
            packets_sent: flow.counts.0,
            packets_received: flow.counts.1,
            stamps: flow.stamps(),
            receive_buffer_bytes: socket.map(|s| s.receive_buffer_bytes()),
        }
    }
}
