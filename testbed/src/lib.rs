//! Railgauge testbed.

pub mod mutate;
