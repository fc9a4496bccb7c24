//! The seams to the machine: clocks, threads, sockets, sysfs. The only room where `unsafe` may be.
//!
//! What stands here is thin: it makes system calls and hands back readings, stamps and bytes. Rules are in
//! `railgauge-core`.

pub mod clock;
pub mod ethtool;
pub mod inventory;
pub mod rdma_counters;
pub mod socket;
pub mod thread;
pub mod verbs;
