//! Railgauge testbed.

pub mod intervals;
