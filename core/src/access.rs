//! Who may do what: identities, roles, the policy for every RPC and every page, and how much a sweep may disturb.
//!
//! An identity is a SPIFFE ID (SPIFFE-ID specification, sections 2.1 to 2.4) in the URI of a certificate's subject alternative name:
//! `spiffe://TRUST-DOMAIN/railgauge/ROLE/NAME`, where NAME of an agent is its node's. What the policy does not name is for nobody.

mod caps;
mod identity;
mod policy;

pub use caps::{Caps, CapsError, Disturbance};
pub use identity::{Identity, IdentityError, Role};
pub use policy::{Need, POLICY, Refusal, decide, is_held_back_unwritten, page_need, rpc_need};

#[cfg(test)]
mod tests;
