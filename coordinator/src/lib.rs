//! The daemon of a cluster.
