//! `railgauge-coordinator`.

fn main() {}
