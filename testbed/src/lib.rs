//! Railgauge testbed.

pub mod fleet;
pub mod intervals;
pub mod ledger;
pub mod mutate;
pub mod preload;
