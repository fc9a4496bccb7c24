//! Railgauge fabric.
