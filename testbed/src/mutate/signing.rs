//! Signs what a mutator has changed, so that changes get past the HMAC. Written apart from the code under
//! test, from RFC 8762 section 4.4 and RFC 8972 section 4.8.

use hmac::{Hmac, KeyInit, Mac};
use railgauge_core::stamp::{AUTHENTICATED_LEN, tlv};
use sha2::Sha256;

/// How much of a packet is signed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    /// Nothing.
    AsCame,
    /// The base packet.
    Base,
    /// The base packet and, where there is an HMAC TLV, the TLVs before it.
    Whole,
}

/// `packet` signed with `key`; one too short to carry an HMAC stays as it is.
pub(super) fn sign(packet: &[u8], key: &[u8], signing: Signing) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() < AUTHENTICATED_LEN || signing == Signing::AsCame {
        return packet;
    }
    if signing == Signing::Whole {
        let (base, area) = packet.split_at_mut(AUTHENTICATED_LEN);
        let found = tlv::walk(area).find(|found| found.kind == tlv::HMAC && found.len == 16);
        if let Some(found) = found {
            let digest = digest(key, &[&base[..4], &area[..found.at]]);
            area[found.value_at()..found.end()].copy_from_slice(&digest);
        }
    }
    let digest = digest(key, &[&packet[..96]]);
    packet[96..112].copy_from_slice(&digest);
    packet
}

fn digest(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    let full = mac.finalize().into_bytes();
    std::array::from_fn(|index| full[index])
}
