//! What a port's counters say, and what they do not: a counter that has stopped, started anew or was never there is unknown, not 0.
//!
//! The kernel shows two groups. `counters` are those of the port's performance management agent (IB spec section 16.1.3.5): of 4,
//! 8, 16 or 32 bits, and they **stop** at the largest value. `hw_counters` are the driver's; mlx5's queue counters have 32 bits and
//! **wrap** (`be32_to_cpu` in drivers/infiniband/hw/mlx5/counters.c), others have 64. The driver may keep `hw_counters` for
//! `lifespan` milliseconds: two reads within it are one.
//!
//! Counters are those of all traffic of the port, ours and the jobs' alike.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Monotonic;

mod known;

pub use known::{Group, Kind, Sign, Unit, kind, sign, unit};

/// What a port without a performance management agent answers (virtual functions, some RoCE drivers), as text of the kernel.
const NO_AGENT: &str = "N/A (no PMA)";

/// What one counter's file held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CounterReading {
    /// A count.
    Known(u64),
    /// The port has no agent that would count.
    NotAvailable,
    /// There is no such file: other drivers have other counters.
    Missing,
    /// The file could not be read, or holds something else; why.
    Unreadable(String),
}

impl CounterReading {
    /// From the file's text.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        match text.parse() {
            Ok(count) => Self::Known(count),
            Err(_) if text.starts_with(NO_AGENT) => Self::NotAvailable,
            Err(_) => {
                let found: String = text.chars().take(40).flat_map(char::escape_default).collect();
                Self::Unreadable(format!("holds \"{found}\", not a count"))
            }
        }
    }

    /// The count.
    pub const fn known(&self) -> Option<u64> {
        match self {
            Self::Known(count) => Some(*count),
            Self::NotAvailable | Self::Missing | Self::Unreadable(_) => None,
        }
    }
}

/// All counters of a port at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSet {
    /// When they were read.
    pub at: Monotonic,
    /// Which life of the device it was: another value after the driver was loaded anew (see `fabric::rdma_counters`).
    pub incarnation: u64,
    /// How long the driver may keep `hw_counters` before it asks the device again.
    pub lifespan: Duration,
    /// By group and name; a name that is not in it is missing.
    pub readings: BTreeMap<(Group, Box<str>), CounterReading>,
}

/// How much a counter rose between two reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// By so much.
    By(u64),
    /// By so much or more: it has stopped at its largest value on the way.
    AtLeast(u64),
    /// Nobody knows.
    Unknown(Why),
}

impl Delta {
    /// What is certain: 0 where nothing is. For rules that ask whether something happened, never for sums.
    pub const fn at_least(self) -> u64 {
        match self {
            Self::By(rise) | Self::AtLeast(rise) => rise,
            Self::Unknown(_) => 0,
        }
    }

    /// The rise, where it is known exactly.
    pub const fn exactly(self) -> Option<u64> {
        match self {
            Self::By(rise) => Some(rise),
            Self::AtLeast(_) | Self::Unknown(_) => None,
        }
    }
}

/// Why a rise is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Why {
    /// It stands at its largest value and cannot rise; only a reset by its operator (`perfquery -R`) sets it free.
    #[error("the counter has stopped at its largest value; reset it (perfquery -R)")]
    Saturated,
    /// The driver was loaded anew, or somebody reset it.
    #[error("the counter began anew in between")]
    Reset,
    /// Both reads are from within the driver's cache.
    #[error("the driver had not asked the device again in between")]
    Cached,
    /// The port has no agent that counts.
    #[error("the port has no performance management agent")]
    NotAvailable,
    /// One of the reads has no such counter.
    #[error("the driver has no such counter")]
    Missing,
    /// One of the reads failed.
    #[error("the counter could not be read")]
    Unreadable,
}

/// The rises of all counters that either read has, by group and name.
pub fn deltas(before: &CounterSet, after: &CounterSet) -> BTreeMap<(Group, Box<str>), Delta> {
    let began_anew =
        before.incarnation != after.incarnation || one_fell_that_never_wraps(before, after);
    let apart = after.at.saturating_since(before.at);
    let names = before.readings.keys().chain(after.readings.keys());
    let delta = |key: &(Group, Box<str>)| {
        let cached = key.0 == Group::Driver && apart <= before.lifespan.max(after.lifespan);
        let reading =
            |set: &CounterSet| set.readings.get(key).cloned().unwrap_or(CounterReading::Missing);
        match (reading(before), reading(after)) {
            _ if began_anew => Delta::Unknown(Why::Reset),
            _ if cached => Delta::Unknown(Why::Cached),
            (CounterReading::Known(a), CounterReading::Known(b)) => rise(kind(key.0, &key.1), a, b),
            (a, b) => Delta::Unknown(absence(&a).or_else(|| absence(&b)).unwrap_or(Why::Missing)),
        }
    };
    names.map(|key| (key.clone(), delta(key))).collect()
}

/// A driver that begins anew sets all its counters back. Where one fell that never wraps, the fall of another is no wrap either.
fn one_fell_that_never_wraps(before: &CounterSet, after: &CounterSet) -> bool {
    before.readings.iter().any(|(key, reading)| {
        let fell = match (reading.known(), after.readings.get(key).and_then(CounterReading::known))
        {
            (Some(a), Some(b)) => b < a,
            _ => false,
        };
        fell && key.0 == Group::Driver && kind(key.0, &key.1) == Kind::Counts64
    })
}

const fn absence(reading: &CounterReading) -> Option<Why> {
    match reading {
        CounterReading::Known(_) => None,
        CounterReading::NotAvailable => Some(Why::NotAvailable),
        CounterReading::Missing => Some(Why::Missing),
        CounterReading::Unreadable(_) => Some(Why::Unreadable),
    }
}

/// How much a counter of `kind` rose from `before` to `after`, both of one life of its device.
pub fn rise(kind: Kind, before: u64, after: u64) -> Delta {
    let most = kind.most();
    match kind {
        Kind::Stops { .. } | Kind::Data if before == most && after == most => {
            Delta::Unknown(Why::Saturated)
        }
        Kind::Stops { .. } | Kind::Data if after == most && before < most => {
            Delta::AtLeast(after - before)
        }
        Kind::Wraps32 if after < before && before <= most => wrapped(before, after),
        _ if after < before => Delta::Unknown(Why::Reset),
        _ => Delta::By(after - before),
    }
}

/// A fall of a counter of 32 bits is a wrap as long as it went less than half way round: within a window nothing goes further,
/// while a reset from a small value looks as if it had.
const fn wrapped(before: u64, after: u64) -> Delta {
    let round = (1 << 32) - before + after;
    if round < 1 << 31 { Delta::By(round) } else { Delta::Unknown(Why::Reset) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PORT: Group = Group::Port;
    const DRIVER: Group = Group::Driver;

    fn set(ms: u64, incarnation: u64, readings: &[(Group, &str, &str)]) -> CounterSet {
        let one = |(group, name, text): &(Group, &str, &str)| {
            ((*group, Box::from(*name)), CounterReading::parse(text))
        };
        CounterSet {
            at: Monotonic::from_nanos(ms * 1_000_000),
            incarnation,
            lifespan: Duration::from_millis(10),
            readings: readings.iter().map(one).collect(),
        }
    }

    fn delta(group: Group, name: &str, before: &str, after: &str) -> Delta {
        let sets = [before, after].map(|text| [(group, name, text)]);
        let (a, b) = (set(0, 1, &sets[0]), set(1_000, 1, &sets[1]));
        deltas(&a, &b)[&(group, Box::from(name))]
    }

    #[test]
    fn text_is_a_count_or_says_why_not() {
        assert_eq!(CounterReading::parse(" 7\n"), CounterReading::Known(7));
        assert_eq!(CounterReading::parse("N/A (no PMA)\n"), CounterReading::NotAvailable);
        let CounterReading::Unreadable(why) = CounterReading::parse("-1\x1b") else { panic!() };
        assert_eq!(why, "holds \"-1\\u{1b}\", not a count");
    }

    #[test]
    fn a_counter_that_has_stopped_is_unknown_and_not_still() {
        use Delta::{AtLeast, By, Unknown};
        assert_eq!(delta(PORT, "link_downed", "255", "255"), Unknown(Why::Saturated));
        assert_eq!(delta(PORT, "link_downed", "250", "255"), AtLeast(5));
        assert_eq!(delta(PORT, "link_downed", "250", "254"), By(4));
        assert_eq!(
            delta(PORT, "excessive_buffer_overrun_errors", "15", "15"),
            Unknown(Why::Saturated)
        );
        assert_eq!(delta(PORT, "port_xmit_discards", "65535", "65535"), Unknown(Why::Saturated));
        assert_eq!(
            delta(PORT, "port_xmit_wait", "4294967295", "4294967295"),
            Unknown(Why::Saturated)
        );
        // Ports with extended counters have 64 bits of data, those without stop at 32.
        assert_eq!(
            delta(PORT, "port_xmit_data", "4294967295", "4294967295"),
            Unknown(Why::Saturated)
        );
        assert_eq!(delta(PORT, "port_xmit_data", "4294967296", "9000000000"), By(4_705_032_704));
        assert_eq!(delta(PORT, "link_downed", "255", "3"), Unknown(Why::Reset));
    }

    #[test]
    fn queue_counters_wrap_and_others_begin_anew() {
        use Delta::{By, Unknown};
        assert_eq!(delta(DRIVER, "local_ack_timeout_err", "4294967290", "4"), By(10));
        assert_eq!(delta(DRIVER, "local_ack_timeout_err", "1000", "4"), Unknown(Why::Reset));
        assert_eq!(delta(DRIVER, "sent_pkts", "4294967290", "4"), Unknown(Why::Reset));
        assert_eq!(delta(DRIVER, "np_cnp_sent", "4294967290", "4294967300"), By(10));
        // rxe counts the same name with 64 bits: beyond 32 it cannot have wrapped.
        assert_eq!(delta(DRIVER, "duplicate_request", "4294967300", "4"), Unknown(Why::Reset));
    }

    #[test]
    fn a_driver_loaded_anew_is_no_wrap() {
        let name = Box::from("local_ack_timeout_err");
        let before = set(0, 1, &[(DRIVER, "local_ack_timeout_err", "4294967290")]);
        let after = set(1_000, 2, &[(DRIVER, "local_ack_timeout_err", "4")]);
        let key = (DRIVER, name);
        assert_eq!(deltas(&before, &after)[&key], Delta::Unknown(Why::Reset));
        // Nor when it shows only by a neighbour that never wraps.
        let also = |ms, ours, theirs| {
            set(ms, 1, &[(DRIVER, "local_ack_timeout_err", ours), (DRIVER, "np_cnp_sent", theirs)])
        };
        let (before, after) = (also(0, "4294967290", "900"), also(1_000, "4", "0"));
        assert_eq!(deltas(&before, &after)[&key], Delta::Unknown(Why::Reset));
        let (before, after) = (also(0, "4294967290", "900"), also(1_000, "4", "901"));
        assert_eq!(deltas(&before, &after)[&key], Delta::By(10));
    }

    #[test]
    fn what_the_driver_keeps_is_not_read_twice() {
        let with =
            |ms, text| set(ms, 1, &[(DRIVER, "np_cnp_sent", text), (PORT, "port_rcv_data", text)]);
        let read = deltas(&with(0, "5"), &with(10, "5"));
        assert_eq!(read[&(DRIVER, Box::from("np_cnp_sent"))], Delta::Unknown(Why::Cached));
        assert_eq!(read[&(PORT, Box::from("port_rcv_data"))], Delta::By(0));
        let read = deltas(&with(0, "5"), &with(11, "5"));
        assert_eq!(read[&(DRIVER, Box::from("np_cnp_sent"))], Delta::By(0));
    }

    #[test]
    fn what_is_not_there_is_unknown() {
        use Delta::Unknown;
        assert_eq!(
            delta(PORT, "symbol_error", "N/A (no PMA)", "N/A (no PMA)"),
            Unknown(Why::NotAvailable)
        );
        assert_eq!(delta(PORT, "symbol_error", "3", "what"), Unknown(Why::Unreadable));
        let (before, after) = (set(0, 1, &[]), set(1_000, 1, &[(DRIVER, "new_one", "7")]));
        let appeared = deltas(&before, &after)[&(DRIVER, Box::from("new_one"))];
        assert_eq!((appeared, appeared.at_least()), (Unknown(Why::Missing), 0));
    }

    proptest! {
        /// A counter that truly rises, cut to its width, gives the true rise or says that it cannot.
        #[test]
        fn no_rise_is_ever_made_up(start in 0..1_u64 << 34, by in 0..1_u64 << 31) {
            let true_end = start + by;
            for kind in [Kind::Wraps32, Kind::Counts64, Kind::Data, Kind::Stops { bits: 4 },
                Kind::Stops { bits: 8 }, Kind::Stops { bits: 16 }, Kind::Stops { bits: 32 }]
            {
                let shown = |n: u64| match kind {
                    Kind::Wraps32 => n & 0xffff_ffff,
                    Kind::Stops { bits } => n.min((1 << bits) - 1),
                    Kind::Counts64 | Kind::Data => n,
                };
                let delta = rise(kind, shown(start), shown(true_end));
                prop_assert!(delta.at_least() <= by, "{kind:?}");
                if let Some(exactly) = delta.exactly() {
                    prop_assert_eq!(exactly, by, "{:?}", kind);
                }
            }
        }

        #[test]
        fn any_two_sets_have_a_delta_for_each_name(
            a in prop::collection::vec(("[a-z_]{1,9}", any::<u64>()), 0..9),
            b in prop::collection::vec(("[a-z_]{1,9}", any::<u64>()), 0..9),
        ) {
            let of = |ms, all: &[(String, u64)]| {
                let texts: Vec<String> = all.iter().map(|one| one.1.to_string()).collect();
                let readings: Vec<_> = all.iter().zip(&texts)
                    .map(|((name, _), text)| (DRIVER, name.as_str(), text.as_str())).collect();
                set(ms, 1, &readings)
            };
            let (a, b) = (of(0, &a), of(1_000, &b));
            let all = deltas(&a, &b);
            prop_assert!(a.readings.keys().chain(b.readings.keys()).all(|key| all.contains_key(key)));
        }
    }
}
