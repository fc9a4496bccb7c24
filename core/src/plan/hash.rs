//! A hash that is the same in every run, on every machine and with every version of Rust, which the standard library's is
//! not: phases and ring places must not move when the coordinator is upgraded.

/// FNV-1a over 64 bits (Fowler, Noll, Vo), spread by the last step of splitmix64 (Steele, Lea, Flood 2014), because the
/// high bits of FNV-1a hardly depend on the last octets and names differ in their last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hasher(u64);

impl Hasher {
    pub(super) fn new(seed: u64) -> Self {
        Self(0xcbf2_9ce4_8422_2325).number(seed)
    }

    fn octet(self, octet: u8) -> Self {
        Self((self.0 ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    pub(super) fn number(self, number: u64) -> Self {
        number.to_le_bytes().into_iter().fold(self, Self::octet)
    }

    /// With its length, so that `ab`, `c` is not `a`, `bc`.
    pub(super) fn text(self, text: &str) -> Self {
        text.bytes().fold(self.number(text.len() as u64), Self::octet)
    }

    pub(super) fn finish(self) -> u64 {
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From FNV's reference: the hash of the empty text, and of `a`.
    #[test]
    fn it_is_fnv_1a() {
        let empty = Hasher(0xcbf2_9ce4_8422_2325);
        assert_eq!(empty.octet(b'a').0, 0xaf63_dc4c_8601_ec8c);
        let foobar = b"foobar".iter().fold(empty, |hasher, &octet| hasher.octet(octet));
        assert_eq!(foobar.0, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn fields_do_not_run_together() {
        let of = |a, b| Hasher::new(7).text(a).text(b).finish();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(Hasher::new(1).text("a").finish(), Hasher::new(2).text("a").finish());
    }
}
