//! How much of a fleet one sweep may disturb.

use crate::settings::Span;

/// What a sweep is going to do, as announced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// Nodes that take part.
    pub nodes: u32,
    /// How long it takes at most.
    pub limit: Span,
    /// Octets on the wire, both directions.
    pub octets: u64,
    /// How long it is expected to take.
    pub expected: Span,
}

impl Disturbance {
    /// All nodes together, in Gbit/s.
    pub fn gbit_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate, to three digits")]
        let bits = self.octets as f64 * 8.0;
        bits / self.expected.duration().as_secs_f64().max(1e-9) / 1e9
    }
}

/// The most that a sweep may do; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    /// Nodes that take part.
    pub nodes: Option<u32>,
    /// How long it takes at most.
    pub limit: Option<Span>,
    /// All nodes together.
    pub gbit_per_second: Option<f64>,
}

/// A sweep that would disturb more than it may.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CapsError {
    /// Too many nodes.
    #[error(
        "the sweep has {nodes} nodes, and sweep_max_nodes allows {most}: choose fewer with --nodes, or raise it in the coordinator's \
         configuration"
    )]
    Nodes {
        /// How many it would have.
        nodes: u32,
        /// How many it may have.
        most: u32,
    },
    /// Too long.
    #[error(
        "the sweep may take {limit}, and sweep_max_duration allows {most}: choose fewer nodes with --nodes or fewer rounds with --rounds, or \
         raise it in the coordinator's configuration"
    )]
    Duration {
        /// How long it could take.
        limit: Span,
        /// How long it may.
        most: Span,
    },
    /// Too much.
    #[error(
        "the sweep sends {rate:.3} Gbit/s, and sweep_max_gbit_per_second allows {most}: choose fewer nodes with --nodes, or raise it in the \
         coordinator's configuration"
    )]
    Rate {
        /// What it would send.
        rate: f64,
        /// What it may.
        most: f64,
    },
}

impl Caps {
    /// Whether a sweep stays within.
    ///
    /// # Errors
    /// The first bound that it does not.
    pub fn allow(&self, what: &Disturbance) -> Result<(), CapsError> {
        if let Some(most) = self.nodes.filter(|most| what.nodes > *most) {
            return Err(CapsError::Nodes { nodes: what.nodes, most });
        }
        if let Some(most) = self.limit.filter(|most| what.limit > *most) {
            // In whole seconds, rounded up: 78700ms is no time of day.
            let seconds = what.limit.as_nanos().div_ceil(1_000_000_000);
            return Err(CapsError::Duration { limit: Span::from_secs(seconds), most });
        }
        let rate = what.gbit_per_second();
        if let Some(most) = self.gbit_per_second.filter(|most| rate > *most) {
            return Err(CapsError::Rate { rate, most });
        }
        Ok(())
    }
}
