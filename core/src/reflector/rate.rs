//! How many replies one source may have.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};

use super::counters::Counters;
use super::least_recent::{LeastRecent, Touch};
use crate::time::Monotonic;

/// A token bucket per source address, each kept as one number: the time at which the bucket will be full
/// again (the "theoretical arrival time" of ITU-T I.371's generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Limiter {
    full_at: LeastRecent<IpAddr, u64>,
    /// Nanoseconds that one token takes to come back.
    per_token: u64,
    /// Nanoseconds that an empty bucket takes to fill.
    whole: u64,
}

impl Limiter {
    pub fn new(rate: NonZeroU32, burst: NonZeroU32, sources: NonZeroUsize) -> Self {
        let per_token = (1_000_000_000 / u64::from(rate.get())).max(1);
        let whole = per_token * u64::from(burst.get());
        Self { full_at: LeastRecent::new(sources), per_token, whole }
    }

    /// Whether `source` may have a reply now; takes a token if so.
    pub fn admits(&mut self, source: IpAddr, now: Monotonic, counters: &mut Counters) -> bool {
        let now = now.as_nanos();
        let (_, full_at, touch) = self.full_at.touch(source, || now);
        counters.sources_evicted += u64::from(touch == Touch::Replaced);
        let next = (*full_at).max(now).saturating_add(self.per_token);
        let admitted = next - now <= self.whole;
        if admitted {
            *full_at = next;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn limiter(sources: usize) -> Limiter {
        let (rate, burst) = (NonZeroU32::new(1_000).unwrap(), NonZeroU32::new(10).unwrap());
        Limiter::new(rate, burst, NonZeroUsize::new(sources).unwrap())
    }

    fn admitted(limiter: &mut Limiter, host: u8, times: impl Iterator<Item = u64>) -> usize {
        let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
        let mut counters = Counters::default();
        times.filter(|ns| limiter.admits(source, Monotonic::from_nanos(*ns), &mut counters)).count()
    }

    #[test]
    fn a_burst_passes_whole_and_no_more() {
        let mut limiter = limiter(4);
        assert_eq!(admitted(&mut limiter, 1, std::iter::repeat_n(5, 100)), 10);
        assert_eq!(admitted(&mut limiter, 2, std::iter::repeat_n(5, 100)), 10);
        // One token comes back each millisecond.
        assert_eq!(admitted(&mut limiter, 1, std::iter::repeat_n(1_000_005, 100)), 1);
    }

    #[test]
    fn a_steady_stream_above_the_rate_gets_the_rate() {
        let mut limiter = limiter(4);
        // 10,000 requests a second for two seconds.
        let times = (0..20_000).map(|index| index * 100_000);
        assert_eq!(admitted(&mut limiter, 1, times), 2_000 + 9);
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let mut limiter = limiter(2);
        let mut counters = Counters::default();
        for host in 0..=255 {
            let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
            assert!(limiter.admits(source, Monotonic::from_nanos(1), &mut counters));
        }
        assert_eq!(counters.sources_evicted, 254);
    }
}
