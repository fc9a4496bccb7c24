//! Loss that a reliable connection hid: probes that took an ACK time-out longer, told from slow ones.
//!
//! A packet sent again after the queue pair's own ACK time-out T arrives between T and 4 T later (see [`super::reliability`]). So a
//! histogram of operations has a second, narrow hill there and, between the ordinary ones and the hill, next to nothing:
//! slowness has no reason to leave out the time from T/2 to T. It is recognised a second time by the port's counters, which know of all
//! traffic of the port but not of the path. Loss in either direction shows, of data and of acknowledgements: the latter in
//! post-to-completion alone where data is watched in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::counters::{Delta, Group, Sign, sign};
use super::reliability::{AckTimeout, Reliability};
use crate::histogram::{Window, layout};

/// What a histogram says of retransmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// No probe took that long.
    None,
    /// Some did.
    Found(Retransmissions),
    /// It cannot tell.
    Unclear(Unclear),
}

/// Probes that took an ACK time-out longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmissions {
    /// How many of them took one to four time-outs longer.
    pub probes: u64,
    /// How many took longer still, and were answered: several packets in a row were lost, or several times the same.
    pub several: u64,
    /// Of how many that were answered.
    pub of: u64,
    /// The time-out that it matches: the queue pair's own.
    pub timeout: AckTimeout,
    /// By how much the one in the middle of the hill took longer than the ordinary one, nanoseconds.
    pub longer_ns: u64,
}

impl Retransmissions {
    /// The share of answered probes.
    #[expect(clippy::cast_precision_loss, reason = "a share is printed with a few digits")]
    pub fn share(&self) -> f64 {
        (self.probes + self.several) as f64 / self.of as f64
    }

    /// How many time-outs of the setting the device really waited: 1 to 4.
    #[expect(clippy::cast_precision_loss, reason = "one digit is printed")]
    pub fn factor(&self) -> f64 {
        self.timeout
            .least()
            .map_or(f64::NAN, |least| self.longer_ns as f64 / least.as_nanos() as f64)
    }
}

/// The sentence that says loss, and not slowness.
impl fmt::Display for Retransmissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.share();
        let later = Duration::from_micros(self.longer_ns / 1_000);
        write!(
            f,
            "{} of {} probes ({percent:.*} %) were sent again: they took {later:?} longer, {:.1} times the ACK time-out {}; \
             packets were lost, the path is not slow",
            self.probes + self.several,
            self.of,
            if percent < 0.95 { 2 } else { 1 },
            self.factor(),
            self.timeout,
        )
    }
}

/// Why a histogram cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// Nothing was answered.
    #[error("no probe was answered")]
    NoReplies,
    /// The queue pair never sends again.
    #[error("the queue pair has no ack time-out")]
    NoTimeout,
    /// The ordinary probe takes half a time-out or more.
    #[error(
        "half of the probes take {ordinary_ns} ns or more, too near to the ack time-out {timeout}"
    )]
    Slow {
        /// The median, nanoseconds.
        ordinary_ns: u64,
        /// The setting.
        timeout: AckTimeout,
    },
    /// The tail goes through the gap.
    #[error(
        "{below} probes took half to one ack time-out {timeout}, {within} one to four: a long tail, no hill"
    )]
    NoGap {
        /// Between half and one time-out.
        below: u64,
        /// Longer.
        within: u64,
        /// The setting.
        timeout: AckTimeout,
    },
}

/// A hill is narrow: a device waits by one timer, so most of it lies within this ratio (in eighths: 1.5) of itself.
const HILL_EIGHTHS: u64 = 12;
/// And it stands out: so many times more probes lie in it than in the gap before it, from T/2 to T. An even tail has 2.7 times as
/// many at the far end of 1 to 4 T, one that falls has fewer.
const OVER_GAP: u64 = 3;

/// Looks for the hill of a queue pair's own time-out among times from post to answer or completion.
pub fn recognise(times: &Window, reliability: &Reliability) -> Recognition {
    let timeout = reliability.ack_timeout;
    let (Some(least), Some(most)) = (nanos(timeout.least()), nanos(timeout.most())) else {
        return Recognition::Unclear(Unclear::NoTimeout);
    };
    let of = times.replies();
    let Some(ordinary_ns) = at_rank(times, of.div_ceil(2)) else {
        return Recognition::Unclear(Unclear::NoReplies);
    };
    if ordinary_ns >= least / 2 {
        return Recognition::Unclear(Unclear::Slow { ordinary_ns, timeout });
    }
    let upper = most.saturating_add(ordinary_ns);
    let probes = between(times, least, upper);
    let several = between(times, upper.saturating_add(1), u64::MAX) + times.overflow();
    if probes + several == 0 {
        return Recognition::None;
    }
    let below = between(times, least / 2, least - 1);
    let hill = if probes == 0 { several } else { densest(times, least, upper) };
    if hill <= below.saturating_mul(OVER_GAP) || hill < probes.div_ceil(2) {
        let within = probes + several;
        return Recognition::Unclear(Unclear::NoGap { below, within, timeout });
    }
    // Without any in the hill itself all were sent again several times: the first of those stands for it.
    let middle = of - several - probes + probes.div_ceil(2).max(1);
    let seen = at_rank(times, middle).unwrap_or(least);
    let longer_ns = seen.saturating_sub(ordinary_ns).max(least);
    Recognition::Found(Retransmissions { probes, several, of, timeout, longer_ns })
}

fn nanos(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Replies in buckets that begin in `from..=to`; a bucket is a thousandth wide at most.
fn between(times: &Window, from: u64, to: u64) -> u64 {
    let inside =
        |&&(index, _): &&(u16, u64)| (from..=to).contains(&layout::highest_equivalent(index));
    times.counts().entries().iter().filter(inside).fold(0, |sum, e| sum.saturating_add(e.1))
}

/// The most replies that lie within [`HILL_EIGHTHS`] of each other, between `from` and `to`.
fn densest(times: &Window, from: u64, to: u64) -> u64 {
    let at = |index: u16| layout::highest_equivalent(index);
    let inside = |&(index, _): &(u16, u64)| (from..=to).contains(&at(index));
    let (mut first, mut sum, mut most) = (0, 0_u64, 0);
    let entries: Vec<(u16, u64)> =
        times.counts().entries().iter().copied().filter(inside).collect();
    for &(index, count) in &entries {
        sum = sum.saturating_add(count);
        while at(index) > at(entries[first].0).saturating_mul(HILL_EIGHTHS) / 8 {
            sum = sum.saturating_sub(entries[first].1);
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

fn at_rank(times: &Window, rank: u64) -> Option<u64> {
    if rank == 0 {
        return None;
    }
    times.counts().index_at_rank(rank).map(layout::highest_equivalent).or_else(|| times.max_ns())
}

/// What the port's counters say of retransmission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets that were sent again, at least; `None` where no counter of it can be read. Drivers count one
    /// event under several names: the largest of them.
    pub sent_again: Option<u64>,
    /// Queue pairs that gave up, at least.
    pub gave_up: Option<u64>,
    /// The counters that rose, with how much at least.
    pub rose: Vec<(Box<str>, u64)>,
}

/// Of the rises of all counters of a port (see [`super::counters::deltas`]).
pub fn counted(deltas: &BTreeMap<(Group, Box<str>), Delta>) -> Counted {
    let mut counted = Counted::default();
    for ((group, name), delta) in deltas {
        let which = match sign(*group, name) {
            Some(Sign::TimedOut | Sign::SentAgain) => &mut counted.sent_again,
            Some(Sign::GaveUp) => &mut counted.gave_up,
            _ => continue,
        };
        if matches!(delta, Delta::Unknown(_)) {
            continue;
        }
        let rise = delta.at_least();
        *which = Some(which.unwrap_or(0).max(rise));
        if rise > 0 {
            counted.rose.push((name.clone(), rise));
        }
    }
    counted
}

/// Who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// Probes of this path, and the counters of its port.
    Both,
    /// Probes of this path; the counters did not rise.
    ProbesAlone,
    /// Probes of this path; the port has no counters of it.
    ProbesWithoutCounters,
    /// The counters of the port: other traffic than these probes, or a packet that its successor gave away before the time-out.
    CountersAlone,
    /// Nobody.
    Nobody,
}

/// Puts both together.
pub fn seen_by(recognition: &Recognition, counted: &Counted) -> SeenBy {
    let rose = counted.sent_again.unwrap_or(0) > 0 || counted.gave_up.unwrap_or(0) > 0;
    match (recognition, rose) {
        (Recognition::Found(_), true) => SeenBy::Both,
        (Recognition::Found(_), false) if counted.sent_again.is_none() => {
            SeenBy::ProbesWithoutCounters
        }
        (Recognition::Found(_), false) => SeenBy::ProbesAlone,
        (_, true) => SeenBy::CountersAlone,
        (_, false) => SeenBy::Nobody,
    }
}

impl SeenBy {
    /// As the end of a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "seen by probes and by the port's counters",
            Self::ProbesAlone => "seen by probes, not by the port's counters",
            Self::ProbesWithoutCounters => "seen by probes; the port has no counters of it",
            Self::CountersAlone => {
                "seen by the port's counters, which count all its traffic, and not by probes"
            }
            Self::Nobody => "not seen",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::Rng;

    use super::*;
    use crate::histogram::Recorder;
    use crate::rdma::counters::Why;
    use crate::rdma::reliability::Profile;

    const MS: u64 = 1_000_000;

    fn window(times: impl IntoIterator<Item = u64>) -> Window {
        let mut recorder = Recorder::new();
        times.into_iter().for_each(|time| recorder.record(time));
        recorder.drain()
    }

    fn continuous() -> Reliability {
        Profile::Continuous.reliability()
    }

    fn found(times: &Window) -> Retransmissions {
        match recognise(times, &continuous()) {
            Recognition::Found(found) => found,
            other => panic!("{other:?}"),
        }
    }

    /// Time-out 14 is 67.1 ms; rxe waits just that.
    #[test]
    fn one_percent_of_loss_is_loss_and_names_its_time_out() {
        let times = (0..1_200).map(|n| if n % 100 == 7 { 67_300_000 } else { 40_000 + n });
        let found = found(&window(times));
        assert_eq!((found.probes, found.several, found.of), (12, 0, 1_200));
        assert_eq!(
            found.to_string(),
            "12 of 1200 probes (1.0 %) were sent again: they took 67.264ms longer, 1.0 times the ACK time-out 14 \
             (67.108864ms); packets were lost, the path is not slow"
        );
    }

    /// A device may take four times as long, and a packet may be lost twice.
    #[test]
    fn slow_timers_and_repeated_loss_are_found() {
        let times = (0..1_000).map(|n| match n {
            0..10 => 250 * MS,
            10..13 => 500 * MS,
            _ => 20_000,
        });
        let found = found(&window(times));
        assert_eq!((found.probes, found.several), (10, 3));
        assert!((3.6..3.8).contains(&found.factor()), "{}", found.factor());
        let only_twice = (0..100).map(|n| if n < 2 { 600 * MS } else { 20_000 });
        assert_eq!(super::tests::found(&window(only_twice)).several, 2);
    }

    #[test]
    fn slowness_is_not_loss() {
        let recognise = |times: Window| recognise(&times, &continuous());
        assert_eq!(recognise(window([2 * MS; 500])), Recognition::None);
        assert_eq!(recognise(window([])), Recognition::Unclear(Unclear::NoReplies));
        let slow = recognise(window([80 * MS; 500]));
        assert!(matches!(slow, Recognition::Unclear(Unclear::Slow { .. })), "{slow:?}");
        // Tails from 10 to 270 ms, even on a scale of time, and of ratios.
        let even = (0..1_000).map(|n| if n < 900 { MS } else { (n - 890) * 5 * MS / 2 });
        let falling = (0..1_000).scan(10 * MS, |at, n| {
            *at += if n < 900 { 0 } else { *at / 30 };
            Some(if n < 900 { MS } else { *at })
        });
        for tail in [window(even), window(falling)] {
            let unclear = recognise(tail);
            let Recognition::Unclear(why) = unclear else { panic!("{unclear:?}") };
            let text = why.to_string();
            assert!(text.contains("a long tail, no hill"), "{text}");
        }
    }

    #[test]
    fn without_a_time_out_nothing_is_said() {
        let never = Reliability::from_codes([0, 7, 6, 12]).unwrap();
        assert_eq!(recognise(&window([5]), &never), Recognition::Unclear(Unclear::NoTimeout));
    }

    #[test]
    fn counters_bear_it_out_or_not() {
        let deltas = |all: &[(&str, Delta)]| {
            all.iter().map(|(name, delta)| ((Group::Driver, Box::from(*name)), *delta)).collect()
        };
        let some =
            Recognition::Found(found(&window((0..100).map(|n| if n == 0 { 70 * MS } else { 1 }))));
        let judge =
            |recognition, all: &[(&str, Delta)]| seen_by(recognition, &counted(&deltas(all)));
        let rose = [("local_ack_timeout_err", Delta::By(1)), ("packet_seq_err", Delta::By(0))];
        assert_eq!(judge(&some, &rose), SeenBy::Both);
        assert_eq!(judge(&Recognition::None, &rose), SeenBy::CountersAlone);
        assert_eq!(judge(&some, &rose[1..]), SeenBy::ProbesAlone);
        let unknown = [("local_ack_timeout_err", Delta::Unknown(Why::Reset))];
        assert_eq!(judge(&some, &unknown), SeenBy::ProbesWithoutCounters);
        assert_eq!(
            judge(&some, &[("rx_write_requests", Delta::By(9))]),
            SeenBy::ProbesWithoutCounters
        );
        assert_eq!(judge(&Recognition::None, &[]), SeenBy::Nobody);
        let all = counted(&deltas(&[
            ("local_ack_timeout_err", Delta::By(3)),
            ("roce_adp_retrans", Delta::AtLeast(5)),
            ("req_transport_retries_exceeded", Delta::By(1)),
        ]));
        assert_eq!((all.sent_again, all.gave_up, all.rose.len()), (Some(5), Some(1), 3));
    }

    proptest! {
        /// Loss of some share, on paths up to a few ms, by devices that wait one to four time-outs: the number found is the
        /// number made, whatever the ordinary times are.
        #[test]
        fn what_was_lost_is_found(
            share in 1..100_u64, base in 1_000..5_000_000_u64, quarters in 4..16_u64, seed: u64,
        ) {
            let mut random = Pcg64Mcg::new(u128::from(seed) | 1);
            let timeout = continuous().ack_timeout.least().unwrap().as_nanos();
            let timeout = u64::try_from(timeout).unwrap() * quarters / 4;
            let mut made = 0;
            let times: Vec<u64> = (0..1_000).map(|_| {
                let ordinary = base + random.next_u64() % base;
                let lost = random.next_u64() % 1_000 < share;
                made += u64::from(lost);
                ordinary + if lost { timeout } else { 0 }
            }).collect();
            match recognise(&window(times), &continuous()) {
                Recognition::Found(found) => prop_assert_eq!(found.probes + found.several, made),
                other => prop_assert!(made == 0, "{:?}", other),
            }
        }

        /// Whatever the times, the parts never exceed the whole.
        #[test]
        fn counts_are_of_the_whole(times in prop::collection::vec(0..90_000 * MS, 0..300), code in 0..32_u8) {
            let reliability = Reliability::from_codes([code, 7, 6, 12]).unwrap();
            if let Recognition::Found(found) = recognise(&window(times.clone()), &reliability) {
                prop_assert!(found.probes + found.several <= found.of);
                prop_assert_eq!(found.of, times.len() as u64);
                prop_assert!(found.share() <= 1.0 && found.factor() >= 1.0);
            }
        }
    }
}
