//! Latency samples, counted exactly (design D4).
//!
//! A [`Recorder`] sits in the measuring loop and counts samples into the buckets of [`layout`]. Draining it gives
//! a [`Window`], which is sparse, carries what buckets alone lose (exact minimum, maximum and sum, time-outs,
//! samples out of range, and the rises from which separate runs are counted) and merges exactly. The bucket
//! counts of a window, [`SparseCounts`], travel as HdrHistogram V2 ([`codec`]) and in interval logs ([`log`]).

pub mod codec;
pub mod layout;
pub mod log;

mod counts;
mod recorder;
mod window;

pub use counts::SparseCounts;
pub use recorder::Recorder;
pub(crate) use recorder::SEPARATION;
pub use window::{PartsError, Window, WindowParts};
