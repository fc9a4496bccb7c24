//! Railgauge cli.
