//! A small fleet of real processes that is killed, cut off and disturbed from outside, and a judge of what became of the
//! windows its agents recorded. `testbed/src/bin/fleet_conservation.rs` is its program.

mod chaos;
mod judge;
mod prefill;
pub mod process;
mod proxy;
mod stored;
mod sums;

pub use chaos::{Happened, Scene, run};
pub use judge::{Judgement, judge};
pub use prefill::prefill;

/// Why an experiment could not be made; what it finds is no error.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;
