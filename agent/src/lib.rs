//! Railgauge agent.
