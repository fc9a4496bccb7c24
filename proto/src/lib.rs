//! The gRPC wire: `railgauge/v1/*.proto` is the specification, [`v1`] the code made from it, [`convert`] the way between
//! its messages and the words of `core`. Messages stop here: no other crate's rules speak of them.

pub mod codec;
pub mod convert;
mod keys;
pub mod protocol;

/// The code made from the specification by `cargo xtask gen`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; the specification beside it is its documentation"
)]
#[rustfmt::skip]
#[path = "generated/railgauge.v1.rs"]
pub mod v1;

/// The descriptors of the specification, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/railgauge.v1.bin");

/// The largest message that either side reads, in octets: a batch of [`MOST_WINDOWS`] windows of fresh samples is under 2 MiB.
pub const MAX_MESSAGE: usize = 8 << 20;

/// Windows in a batch at most.
pub const MOST_WINDOWS: usize = 1_024;
