//! The railgauge command.
fn main() {}
