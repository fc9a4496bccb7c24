//! Railgauge testbed.

pub mod intervals;
pub mod mutate;
