//! Railgauge testbed.
