//! Railgauge testbed.

pub mod closed;
pub mod fleet;
pub mod fresh;
pub mod guest;
pub mod intervals;
pub mod ledger;
pub mod load;
pub mod mutate;
pub mod preload;
