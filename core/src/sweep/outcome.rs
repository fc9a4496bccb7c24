//! How measurements end.

use std::time::Duration;

use crate::path::{Endpoint, NodeName};

/// One direction of one pair on one rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement<'r> {
    /// Its number, which is that of its order: from 0.
    pub number: u64,
    /// Which round, from 1.
    pub round: u32,
    /// Who probes.
    pub src: &'r Endpoint,
    /// Who is probed.
    pub dst: &'r Endpoint,
    /// `None` until it has ended; then it never changes.
    pub outcome: Option<&'r Outcome>,
}

/// How a measurement ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The prober reported. Whether replies came is in its report.
    Measured,
    /// It was ordered, and nothing came of it.
    Failed(Failure),
    /// It was not ordered, or was under way when the sweep ended.
    NotMeasured(NotMeasured),
}

/// Why nothing came of an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The prober says why.
    #[error("{node} could not measure: {reason}")]
    Refused {
        /// The prober.
        node: NodeName,
        /// In its words.
        reason: String,
    },
    /// The prober said nothing.
    #[error("no answer from {node} within {within:?}")]
    NoAnswer {
        /// The prober.
        node: NodeName,
        /// The measurement's limit.
        within: Duration,
    },
    /// The stream of the prober or of its target ended.
    #[error("{0} went away during the measurement")]
    Left(NodeName),
}

/// Why there was no order, or no waiting for its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMeasured {
    /// One of the two was away when their turn came.
    #[error("{0} was not there")]
    Gone(NodeName),
    /// The prober left an earlier order without an answer.
    #[error("{0} gave no answer to an earlier order")]
    HeldOut(NodeName),
    /// Somebody ended the sweep.
    #[error("cancelled")]
    Cancelled,
    /// The whole sweep's limit.
    #[error("time limit")]
    TimeLimit,
}

/// What became of an answer to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It ended the measurement: keep what it brought.
    Taken,
    /// The measurement had ended before, by an earlier answer or without one: drop it and count it.
    TooLate,
    /// There is no such order, or it was given to another node: drop it and count it.
    Foreign,
}
