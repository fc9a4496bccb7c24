//! The key shared by the two ends of an authenticated session, and the digests made with it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Octets of a digest: HMAC-SHA-256 cut to 128 bits (RFC 8762 section 4.4).
pub(crate) const DIGEST_LEN: usize = 16;
/// Fewest octets a key may have: those of the digest, below which guessing the key is the easier way.
const MIN_KEY_LEN: usize = 16;

/// A shared HMAC key. Its octets are not kept: only the two hash states made from them are, and `Debug`
/// shows neither.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text holds something that is no hexadecimal digit.
    #[error(
        "{found:?} at position {position} of the key is no hexadecimal digit; write the key as one line of hexadecimal digits, such as `openssl rand -hex 32` prints"
    )]
    NotHex {
        /// The character.
        found: char,
        /// Its place, counted from 1 after leading blanks.
        position: usize,
    },
    /// The last octet has one digit.
    #[error("the key has {digits} hexadecimal digits, an odd number; two digits make an octet")]
    HalfOctet {
        /// How many digits there are.
        digits: usize,
    },
    /// The key is too short to be safe.
    #[error(
        "the key has {octets} octets and needs at least {MIN_KEY_LEN} (32 are better); make one with `openssl rand -hex 32`"
    )]
    TooShort {
        /// Octets found.
        octets: usize,
    },
}

impl Key {
    /// From the content of a key file: one line of hexadecimal digits, at least 16 octets (32 are better);
    /// blanks and line ends around it do not count.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let mut octets = Vec::with_capacity(text.len() / 2);
        let mut half = None;
        for (index, found) in text.chars().enumerate() {
            let digit = found
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or(KeyError::NotHex { found, position: index + 1 })?;
            match half.take() {
                None => half = Some(digit),
                Some(high) => octets.push(high << 4 | digit),
            }
        }
        if half.is_some() {
            return Err(KeyError::HalfOctet { digits: text.len() });
        }
        Self::from_octets(&octets)
    }

    /// From the key itself, at least 16 octets.
    pub fn from_octets(octets: &[u8]) -> Result<Self, KeyError> {
        let too_short = KeyError::TooShort { octets: octets.len() };
        if octets.len() < MIN_KEY_LEN {
            return Err(too_short);
        }
        // HMAC takes keys of every length (RFC 2104 section 3), so the error never comes.
        Hmac::new_from_slice(octets).map(Self).map_err(|_| too_short)
    }

    /// From an HMAC that has its key.
    pub(crate) const fn from_mac(mac: Hmac<Sha256>) -> Self {
        Self(mac)
    }

    /// The digest over the concatenation of `parts`.
    pub(crate) fn digest(&self, parts: [&[u8]; 2]) -> [u8; DIGEST_LEN] {
        let full = self.over(parts).finalize().into_bytes();
        let mut digest = [0; DIGEST_LEN];
        digest.copy_from_slice(&full[..DIGEST_LEN]);
        digest
    }

    /// Whether `digest` is the one over `parts`; takes the same time wherever they differ.
    pub(crate) fn verifies(&self, parts: [&[u8]; 2], digest: [u8; DIGEST_LEN]) -> bool {
        self.over(parts).verify_truncated_left(&digest).is_ok()
    }

    fn over(&self, parts: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}
