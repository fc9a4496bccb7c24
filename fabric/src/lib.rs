//! Railgauge fabric: the hardware seams.

pub mod ethtool;
pub mod inventory;
