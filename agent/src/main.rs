//! `railgauge-agent`.

fn main() {}
