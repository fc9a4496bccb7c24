//! Agents that measure nothing: each has a connection and a session of its own, as a real one does, and sends prepared windows.

mod codec;
mod identities;
mod node;

pub use codec::Octets;
pub use identities::Identities;
pub use node::{Agent, Pace, Shared, Tally};
