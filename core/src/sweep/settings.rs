//! What a sweep is, and what it announces before it starts.

use std::time::Duration;

use crate::schedule::WARMUP_INTERVAL;

/// What a sweep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepSettings {
    /// Probes of a measurement that count.
    pub count: u64,
    /// Probes before those.
    pub warmup: u64,
    /// Time between probes.
    pub interval: Duration,
    /// Octets of UDP payload of a probe as sent, and of its reply.
    pub size_bytes: u32,
    /// A measurement without an answer this long after it was ordered is given up. It has to hold the probing time,
    /// the time-out of the last probe and what an agent takes to begin and to report.
    pub measurement_limit: Duration,
    /// After so long the sweep ends, whatever is missing. `None`: twice the expected duration and ten times the
    /// measurement's limit, which lets ten nodes be stuck one after the other.
    pub whole_limit: Option<Duration>,
    /// At most so many rounds; `None`: all.
    pub max_rounds: Option<usize>,
}

/// UDP and IPv4 headers, and Ethernet's header and check sequence (no preamble, no gap, no VLAN tag): RFC 768, RFC 791,
/// IEEE 802.3.
const HEADERS_BYTES: u64 = 8 + 20 + 18;

impl SweepSettings {
    /// From the first slot of a measurement to one interval after its last: the warm-up, whose slots are at most 10 ms
    /// apart, and the probes that count.
    pub fn probing_time(&self) -> Duration {
        times(self.interval.min(WARMUP_INTERVAL), self.warmup)
            .saturating_add(times(self.interval, self.count))
    }

    /// Packets of one measurement when all are answered: requests and replies. The few probes that only fetch the last true t3
    /// are not foreseen.
    pub fn packets(&self) -> u64 {
        self.count.saturating_add(self.warmup).saturating_mul(2)
    }

    /// Octets that those are on the wire.
    pub fn wire_bytes(&self) -> u64 {
        self.packets().saturating_mul(u64::from(self.size_bytes) + HEADERS_BYTES)
    }

    pub(super) fn usual_whole_limit(&self, expected: Duration) -> Duration {
        expected.saturating_mul(2).saturating_add(self.measurement_limit.saturating_mul(10))
    }
}

fn times(interval: Duration, count: u64) -> Duration {
    let nanos = interval.as_nanos().saturating_mul(count.into());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What a sweep will take, before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Nodes that take part.
    pub nodes: usize,
    /// Rounds of disjoint pairs.
    pub rounds: usize,
    /// One direction on one rail each.
    pub measurements: usize,
    /// Pairs of nodes without a common rail, which are not measured.
    pub unmeasurable: usize,
    /// With healthy nodes and no time between orders: of the chain of pairs that waits for most, its probing time. As a rule rounds x 2 x
    /// the probing time of a measurement.
    pub expected_duration: Duration,
    /// After so long the sweep ends, whatever is missing.
    pub limit: Duration,
    /// Requests and replies.
    pub packets: u64,
    /// Octets on the wire, both directions: of each packet the UDP payload and 46 octets of headers and check sequence.
    pub wire_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_reckoned_as_its_schedule_is_made() {
        let settings = SweepSettings {
            count: 3,
            warmup: 50,
            interval: Duration::from_secs(1),
            size_bytes: 72,
            measurement_limit: Duration::from_secs(10),
            whole_limit: None,
            max_rounds: None,
        };
        assert_eq!(settings.probing_time(), Duration::from_millis(3_500));
        assert_eq!(settings.packets(), 106);
        assert_eq!(settings.wire_bytes(), 106 * 118);
        let schedule = crate::schedule::Schedule::new(Default::default(), settings.interval, 50, 3);
        let last = schedule.slot(52).unwrap().as_nanos();
        assert_eq!(u128::from(last) + 1_000_000_000, settings.probing_time().as_nanos());
        let endless = SweepSettings { count: u64::MAX, ..settings };
        assert_eq!(endless.wire_bytes(), u64::MAX);
        assert_eq!(
            endless.probing_time(),
            Duration::from_nanos(u64::MAX) + Duration::from_millis(500)
        );
    }
}
