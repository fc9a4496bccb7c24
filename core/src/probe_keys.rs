//! Keys of STAMP's authenticated mode inside a fleet: how they are made, which a reflector answers, and when a new one takes the
//! place of an old one ([ADR 9](../../../docs/adr/0009-probe-keys.md)).
//!
//! Each epoch has a secret of its own, random, which only the coordinator has. The key of a reflector in an epoch is made from
//! that secret and the reflector's name, so a node is given its own keys and those of the nodes that it probes, and no others.
//!
//! [`Rotation`] is the coordinator's part, [`AcceptedKeys`] the reflector's. Together they keep one promise: no probe leaves with a
//! key that its reflector does not answer, whatever is restarted or cut off when.

mod accepted;
mod rotation;
mod sealed;
#[cfg(test)]
mod tests;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::path::NodeName;
use crate::stamp::Key;

pub use accepted::{AcceptedKeys, GivenKey};
pub use rotation::{Action, Laggard, Probing, Remembered, Report, Rotation, RotationSettings};
pub use sealed::{Damaged, Generation, KeyFile, read_probers, write_probers};

/// Octets of a secret, and of each key made from it.
pub const SECRET_LEN: usize = 32;

/// Sets keys of probes apart from whatever else may once be made from a secret.
const LABEL: &[u8] = b"railgauge probe key";

/// Octets that nobody else may see: an epoch's secret, or a reflector's key. `Debug` shows nothing of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_LEN]);

impl Secret {
    /// Of these octets.
    pub const fn new(octets: [u8; SECRET_LEN]) -> Self {
        Self(octets)
    }

    /// Of what came over a wire; `None` where it is not as long as it should be.
    pub fn from_slice(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }

    /// For the wire, and for files that only we may read.
    pub const fn octets(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }

    /// The key of the reflector on `node` in `epoch`, of which this is the secret:
    /// HMAC-SHA-256(secret, label || epoch || name).
    pub fn of_node(&self, epoch: u64, node: &NodeName) -> Self {
        let mut mac = keyed(&self.0);
        mac.update(LABEL);
        mac.update(&epoch.to_be_bytes());
        mac.update(node.as_str().as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// As packets are signed with it.
    pub fn key(&self) -> Key {
        Key::from_mac(keyed(&self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// HMAC pads a key that is shorter than a block with zeros (RFC 2104 section 2), so that this takes any without an error.
fn keyed(octets: &[u8; SECRET_LEN]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..SECRET_LEN].copy_from_slice(octets);
    Hmac::new(&block.into())
}
