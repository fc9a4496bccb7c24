//! Inside the guest with soft-RoCE NICs (`testbed/guest`): its fabric with disturbances at each end of each cable, and perftest as the
//! witness of what they do.

mod check;
mod fabric;
mod perftest;

pub use check::{Checked, check};
pub use fabric::{CABLES, Disturbance, End, Fabric, Family, Fault};
pub use perftest::{Bandwidth, Latency, Measured, Perftest, Program};
