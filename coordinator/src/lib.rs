//! The daemon of a cluster.

pub mod store;
