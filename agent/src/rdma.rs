//! Probes through libibverbs: what two sides say before the first of them, datagrams, reliable connections.
//!
//! `docs/adr/0011-rdma-probes.md` says why it is as it is.

pub mod exchange;
pub mod port;
pub mod rc;
pub mod responder;
pub mod ud;

pub use exchange::ExchangeError;
pub use port::{Port, PortError, PortWish};
