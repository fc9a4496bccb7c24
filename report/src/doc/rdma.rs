//! How a path was probed over verbs, in words and units.

use railgauge_core::rdma::parameters::RdmaParameters;
use serde::{Deserialize, Serialize};

/// The parameters beside interval, time-out and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RdmaDoc {
    /// `send`, `write`, `read` or `atomic`.
    pub operation: String,
    /// `latency` or `bandwidth`.
    pub measure: String,
    /// `queue`, `memory` or `imm`: how the arrival was seen.
    pub completion: String,
    /// Operations outstanding at a time.
    pub outstanding: u16,
    /// What one packet carried at most.
    pub path_mtu_bytes: u32,
    /// Service level, or priority on Ethernet.
    pub service_level: u8,
    /// `host`, `gpu-dmabuf` or `gpu-peermem`.
    pub prober_memory: String,
    /// The same, at the responder.
    pub responder_memory: String,
    /// `busy` or `event`.
    pub polling: String,
    /// The clock of completions: `software`, `raw` or `wallclock`.
    pub completion_stamps: String,
    /// Of a connection: when it sends again, as code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_timeout_code: Option<u8>,
    /// As time: a device may take up to four times as long. Absent where it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_timeout_ns: Option<u64>,
    /// Of a connection: how often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u8>,
    /// Of a connection: how often to a receiver that is not ready; 7 is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rnr_retries: Option<u8>,
    /// Of a connection: how long at least between those, as time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rnr_timer_ns: Option<u64>,
}

impl From<&RdmaParameters> for RdmaDoc {
    fn from(from: &RdmaParameters) -> Self {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let own = from.reliability;
        Self {
            operation: from.method.operation.as_str().to_owned(),
            measure: from.method.measure.as_str().to_owned(),
            completion: from.method.completion.as_str().to_owned(),
            outstanding: from.outstanding,
            path_mtu_bytes: from.mtu.octets(),
            service_level: from.service_level,
            prober_memory: from.prober_route.as_str().to_owned(),
            responder_memory: from.responder_route.as_str().to_owned(),
            polling: from.polling.as_str().to_owned(),
            completion_stamps: from.stamps.as_str().to_owned(),
            ack_timeout_code: own.map(|own| own.ack_timeout.code()),
            ack_timeout_ns: own.and_then(|own| own.ack_timeout.least()).map(nanos),
            retries: own.map(|own| own.retries.get()),
            rnr_retries: own.map(|own| own.rnr_retries.code()),
            rnr_timer_ns: own.map(|own| nanos(own.rnr_timer.least())),
        }
    }
}
