//! Railgauge testbed.

pub mod intervals;
pub mod ledger;
pub mod mutate;
pub mod preload;
