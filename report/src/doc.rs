//! The documents of the contract, as written and as read back.
//!
//! Names carry units, times are RFC 3339 in UTC, what is unknown is `null` or absent, never 0. Readers ignore fields that
//! they do not know and take defaults for those that they miss, so that a document of another minor version is read.

mod findings;
mod measures;
mod path;
mod paths;
mod rdma;
mod read;
mod sweep;

pub use findings::{Findings, OpenFinding};
pub use measures::{Counts, Measures, Posted};
pub use path::PathDoc;
pub use paths::{Aggregate, Paths};
pub use rdma::RdmaDoc;
pub use read::{Document, ReadError, from_json};
pub use sweep::{NodeDoc, NodePort, NotMeasured, Parameters, Sweep};
