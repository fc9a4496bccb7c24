//! Packets, messages and documents that nobody should send: a seeded mutator, and for each decoder an exercise that feeds it
//! such and checks what must hold whatever comes.
//!
//! The fuzz targets in `testbed/fuzz` call the same exercises with octets that libFuzzer chooses; the tests
//! here are the same in miniature, with octets that a seed chooses.

mod access;
mod endpoints;
mod frames;
mod histograms;
mod json;
mod messages;
mod outside;
mod replies;
mod requests;
pub mod seeds;
mod segments;
mod signing;
mod wire;

use std::collections::BTreeMap;

pub use access::{exercise_accept, exercise_identity, exercise_probe_keys};
pub use endpoints::exercise_endpoints;
pub use frames::exercise_frames;
pub use histograms::exercise_histogram;
pub use messages::{exercise_agent_message, exercise_coordinator_message};
pub use outside::{exercise_document, exercise_row, exercise_text};
pub use replies::exercise_sender_reply;
pub use requests::ReflectorExercise;
pub use segments::exercise_segment;

/// How often each thing happened, by name. Printed by tests and by the fuzz runner.
pub type Outcomes = BTreeMap<String, u64>;

/// The key of every authenticated exercise.
pub const KEY: [u8; 32] = [0x4b; 32];

/// Changes packets the same way for the same seed.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

/// Longest packet the mutator makes: enough for every TLV twice.
const MAX_LEN: usize = 512;
/// Octets that sit at the edges of fields: lengths, flags, TLV types, signs.
const EDGES: [u8; 16] =
    [0, 1, 4, 7, 8, 16, 0x20, 0x40, 0x7f, 0x80, 0xa0, 0xf0, 0xfb, 0xfe, 0xff, 44];

/// Numbers at the edges of types and limits.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    63,
    1_024,
    0xffff,
    0x1_0000,
    1 << 31,
    0xffff_ffff,
    60_000_000_000,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

impl Mutator {
    /// A mutator for one seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next of an endless row of numbers (splitmix64: Steele, Lea and Flood 2014).
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next_u64() % bound as u64).unwrap_or(0)
    }

    /// `packet` with one to eight changes; every seventh stays as it is, so that the good ways are walked too.
    pub fn mutate(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut out = packet.to_vec();
        if self.below(7) > 0 {
            for _ in 0..=self.below(8) {
                self.change(&mut out);
            }
        }
        out
    }

    fn change(&mut self, out: &mut Vec<u8>) {
        let at = self.below(out.len() + 1);
        let octet = EDGES[self.below(EDGES.len())];
        match self.below(7) {
            0 => out.truncate(at),
            1 => self.append_tlv(out),
            2 if out.len() < MAX_LEN => out.insert(at, octet),
            3 if at < out.len() => drop(out.remove(at)),
            4 if at < out.len() => out[at] ^= 1 << self.below(8),
            5 => self.repeat(out, at),
            _ if at < out.len() => out[at] = octet,
            _ => {}
        }
    }

    fn append_tlv(&mut self, out: &mut Vec<u8>) {
        let len = u8::try_from(self.below(24)).unwrap_or(0);
        if out.len() + 4 + usize::from(len) <= MAX_LEN {
            let kind = EDGES[self.below(EDGES.len())];
            out.extend([0x80, kind, 0, len]);
            out.extend((0..len).map(|_| self.next_u64().to_be_bytes()[0]));
        }
    }

    fn repeat(&mut self, out: &mut Vec<u8>, at: usize) {
        let end = (at + self.below(32)).min(out.len());
        let chunk = out[at..end].to_vec();
        if out.len() + chunk.len() <= MAX_LEN {
            out.extend(chunk);
        }
    }
}

/// Counts one more of `name`.
fn count(outcomes: &mut Outcomes, name: impl Into<String>) {
    *outcomes.entry(name.into()).or_default() += 1;
}

#[cfg(test)]
mod tests;
