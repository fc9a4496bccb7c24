//! RDMA's words and rules: addresses, limits, time-outs, counters and what two ends tell each other first.
//!
//! "IB spec" below is the InfiniBand Architecture Specification, volume 1, release 1.6; its Annex A17 is RoCE v2. Numbers
//! that are not in it name the header or program they come from. Nothing here knows libibverbs: codes of verbs come in as
//! numbers, and an unknown one is a value and not an error.

pub mod completion_clock;
pub mod counters;
pub mod endpoint;
pub mod flow_label;
pub mod gid;
pub mod mtu;
pub mod operation;
pub mod parameters;
pub mod reliability;
pub mod retransmission;
