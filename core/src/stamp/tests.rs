use super::*;
use crate::time::Wall;
use proptest::prelude::*;

proptest! {
    #[test]
    fn both_formats_keep_every_nanosecond(nanos in 0..u64::from(u32::MAX) * 1_000_000_000 + 999_999_999) {
        for format in [TimestampFormat::Ntp, TimestampFormat::Ptp] {
            let at = Wall::from_unix_nanos(nanos);
            prop_assert_eq!(format.decode(format.encode(at)), at);
        }
    }

    #[test]
    fn any_octets_are_a_timestamp(field: [u8; 8]) {
        TimestampFormat::Ntp.decode(field);
        TimestampFormat::Ptp.decode(field);
    }
}
