//! Railgauge cli: what the `railgauge` command prints.

pub mod inventory;
