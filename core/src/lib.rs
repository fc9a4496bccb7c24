//! Railgauge's words and rules: time, histograms, quantiles, schedule, STAMP packets and the probe session.
//!
//! Nothing here reads a clock, opens a socket or touches a file: time and bytes come in as arguments, so
//! that every rule runs under simulated time. See `docs/ARCHITECTURE.md` for what each room may know.

pub mod access;
pub mod finding;
pub mod frame;
pub mod histogram;
pub mod json;
pub mod path;
pub mod path_window;
pub mod plan;
pub mod probe_keys;
pub mod quantile;
pub mod rdma;
pub mod reflector;
pub mod rollup;
pub mod schedule;
pub mod selector;
pub mod session;
pub mod settings;
pub mod stamp;
pub mod sweep;
pub mod time;
pub mod timestamp_source;
pub mod verdict;
