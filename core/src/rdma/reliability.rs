//! What a reliable connection does about loss before it gives up, and how long a probe has to wait for that.
//!
//! A reliable connection sends again until an acknowledgement comes: loss shows as delay, of one ACK time-out or more. The time-out
//! is a floor: the standard lets a device take up to four times as long (IB spec section 9.7.6.1.3).

use std::fmt;
use std::time::Duration;

/// A code beyond its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is beyond {most}")]
pub struct OutOfRange {
    what: &'static str,
    value: u8,
    most: u8,
}

/// Local ACK time-out: a code of 5 bits, 4.096 us * 2^code; 0 waits for ever (IB spec section 9.7.6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckTimeout(u8);

impl AckTimeout {
    /// 0 to 31.
    ///
    /// # Errors
    /// Beyond 31.
    pub const fn new(code: u8) -> Result<Self, OutOfRange> {
        match code {
            0..=31 => Ok(Self(code)),
            value => Err(OutOfRange { what: "ack time-out", value, most: 31 }),
        }
    }

    /// As verbs want it (`ibv_qp_attr.timeout`).
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The soonest a device may send again; `None`: never does. 14 is 67.1 ms, 20 is 4.29 s.
    pub const fn least(self) -> Option<Duration> {
        match self.0 {
            0 => None,
            code => Some(Duration::from_nanos(4096 << code)),
        }
    }

    /// The latest: four times the soonest.
    pub const fn most(self) -> Option<Duration> {
        match self.0 {
            0 => None,
            code => Some(Duration::from_nanos(4 * (4096 << code))),
        }
    }
}

/// `14 (67.108864ms)`.
impl fmt::Display for AckTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least() {
            Some(least) => write!(f, "{} ({least:?})", self.0),
            None => f.write_str("0 (never)"),
        }
    }
}

/// How often a packet is sent again without an acknowledgement in between: 0 to 7, all of them finite (IB spec section 9.7.6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryCount(u8);

impl RetryCount {
    /// 0 to 7.
    ///
    /// # Errors
    /// Beyond 7.
    pub const fn new(count: u8) -> Result<Self, OutOfRange> {
        match count {
            0..=7 => Ok(Self(count)),
            value => Err(OutOfRange { what: "retry count", value, most: 7 }),
        }
    }

    /// As verbs want it (`ibv_qp_attr.retry_cnt`).
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// How often a request is sent again to a receiver that is not ready: 0 to 6, and 7 is for ever (IB spec section 9.7.5.2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RnrRetry(u8);

impl RnrRetry {
    /// For ever: a receiver that posts nothing hangs the sender.
    pub const FOR_EVER: Self = Self(7);

    /// 0 to 7.
    ///
    /// # Errors
    /// Beyond 7.
    pub const fn new(count: u8) -> Result<Self, OutOfRange> {
        match count {
            0..=7 => Ok(Self(count)),
            value => Err(OutOfRange { what: "rnr retry count", value, most: 7 }),
        }
    }

    /// As verbs want it (`ibv_qp_attr.rnr_retry`).
    pub const fn code(self) -> u8 {
        self.0
    }

    /// `None`: for ever.
    pub const fn count(self) -> Option<u8> {
        match self.0 {
            7 => None,
            count => Some(count),
        }
    }
}

/// How long a sender waits at least after a receiver was not ready: a code of 5 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RnrTimer(u8);

/// Hundredths of milliseconds by code (IB spec section 9.7.5.2.8, table "Encoding for RNR NAK Timer Field").
const RNR_TIMER_10US: [u32; 32] = [
    65_536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024,
    1_536, 2_048, 3_072, 4_096, 6_144, 8_192, 12_288, 16_384, 24_576, 32_768, 49_152,
];

impl RnrTimer {
    /// 0 to 31.
    ///
    /// # Errors
    /// Beyond 31.
    pub const fn new(code: u8) -> Result<Self, OutOfRange> {
        match code {
            0..=31 => Ok(Self(code)),
            value => Err(OutOfRange { what: "rnr timer", value, most: 31 }),
        }
    }

    /// As verbs want it (`ibv_qp_attr.min_rnr_timer`).
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The least wait: 0.01 ms to 655.36 ms.
    pub const fn least(self) -> Duration {
        Duration::from_micros(RNR_TIMER_10US[self.0 as usize] as u64 * 10)
    }
}

/// All of a queue pair's settings that decide how loss shows. They travel with what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reliability {
    /// When it sends again.
    pub ack_timeout: AckTimeout,
    /// How often.
    pub retries: RetryCount,
    /// How often to a receiver that is not ready.
    pub rnr_retries: RnrRetry,
    /// How long this side asks senders to wait when it is not ready itself.
    pub rnr_timer: RnrTimer,
}

/// Settings by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Time-out 14, retries 7, not-ready retries 6: a dead path is an error after seconds, not minutes.
    #[default]
    Continuous,
    /// What NCCL sets if nobody says otherwise (`NCCL_IB_TIMEOUT` 20, `NCCL_IB_RETRY_CNT` 7, not-ready retries 7, timer 12;
    /// src/transport/net_ib): what a job would have felt.
    Nccl,
}

impl Profile {
    /// Its settings.
    pub const fn reliability(self) -> Reliability {
        let (ack_timeout, rnr_retries) = match self {
            Self::Continuous => (14, 6),
            Self::Nccl => (20, 7),
        };
        Reliability {
            ack_timeout: AckTimeout(ack_timeout),
            retries: RetryCount(7),
            rnr_retries: RnrRetry(rnr_retries),
            // 0.64 ms: NCCL's and perftest's. Probes post receives before they are announced, so it never runs.
            rnr_timer: RnrTimer(12),
        }
    }

    /// The word used in results and arguments.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continuous => "continuous",
            Self::Nccl => "nccl",
        }
    }

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Continuous, Self::Nccl].into_iter().find(|profile| profile.as_str() == word)
    }
}

/// Settings under which a dead path never shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ack time-out of 0 waits for ever: no probe time-out exceeds it")]
pub struct WaitsForEver;

/// A probe is lost this share of the budget after it: timers of hosts and devices run by different clocks, and an error has to be
/// seen, too.
const MARGIN: u32 = 10;
/// What a probe time-out is rounded up to.
const STEP: Duration = Duration::from_millis(100);

impl Reliability {
    /// From the codes that verbs use, in the order time-out, retries, not-ready retries, not-ready timer.
    ///
    /// # Errors
    /// The first beyond its field.
    pub fn from_codes([ack, retries, rnr_retries, rnr_timer]: [u8; 4]) -> Result<Self, OutOfRange> {
        Ok(Self {
            ack_timeout: AckTimeout::new(ack)?,
            retries: RetryCount::new(retries)?,
            rnr_retries: RnrRetry::new(rnr_retries)?,
            rnr_timer: RnrTimer::new(rnr_timer)?,
        })
    }

    /// The codes, in the same order.
    pub const fn codes(&self) -> [u8; 4] {
        [
            self.ack_timeout.code(),
            self.retries.get(),
            self.rnr_retries.code(),
            self.rnr_timer.code(),
        ]
    }

    /// How soon and how late a queue pair gives up on a peer that does not answer at all: each try, the first included, takes
    /// one to four time-outs. `None`: never.
    pub fn gives_up(&self) -> Option<(Duration, Duration)> {
        let tries = u32::from(self.retries.get()) + 1;
        Some((self.ack_timeout.least()? * tries, self.ack_timeout.most()? * tries))
    }

    /// The longest an operation can take without progress and still succeed: all tries, and all waits for a receiver that is
    /// not ready, each as long as the peer's timer says at least. `None`: no bound from the time-out.
    ///
    /// Not-ready retries for ever have no bound either, and are left out of this one: no path makes them, only a
    /// receiver that posts nothing. A probe time-out then ends the wait, and says so by its reason.
    pub fn budget(&self, peers_timer: RnrTimer) -> Option<Duration> {
        let waits = u32::from(self.rnr_retries.count().unwrap_or(0));
        self.gives_up().map(|(_, latest)| latest + peers_timer.least() * waits)
    }

    /// The shortest probe time-out that leaves every retry its time: 10 % above the whole budget, rounded up to 100 ms; `wished`
    /// where that is longer. A probe lost before its queue pair has given up would count loss twice, and its late completion
    /// would be taken for the next probe's.
    ///
    /// # Errors
    /// When the queue pair never gives up.
    pub fn probe_timeout(
        &self,
        peers_timer: RnrTimer,
        wished: Duration,
    ) -> Result<Duration, WaitsForEver> {
        let budget = self.budget(peers_timer).ok_or(WaitsForEver)?;
        let nanos =
            (budget + budget / MARGIN).as_nanos().div_ceil(STEP.as_nanos()) * STEP.as_nanos();
        Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(wished))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(duration: Option<Duration>) -> Option<u128> {
        duration.map(|duration| duration.as_millis())
    }

    #[test]
    fn time_outs_are_those_of_the_table() {
        let timeout = |code| AckTimeout::new(code).unwrap();
        assert_eq!(
            [0, 14, 18, 20].map(|code| ms(timeout(code).least())),
            [None, Some(67), Some(1_073), Some(4_294)]
        );
        assert_eq!(ms(timeout(14).most()), Some(268));
        assert_eq!(timeout(31).least(), Some(Duration::from_nanos(8_796_093_022_208)));
        assert_eq!(timeout(14).to_string(), "14 (67.108864ms)");
        assert_eq!(AckTimeout::new(32).unwrap_err().to_string(), "ack time-out 32 is beyond 31");
        let timers = [0, 1, 12, 31].map(|code| RnrTimer::new(code).unwrap().least().as_micros());
        assert_eq!(timers, [655_360, 10, 640, 491_520]);
    }

    #[test]
    fn a_dead_path_errors_in_seconds_and_under_nccl_in_minutes() {
        let (soon, late) = Profile::Continuous.reliability().gives_up().unwrap();
        assert_eq!((soon.as_millis(), late.as_millis()), (536, 2_147));
        let (soon, late) = Profile::Nccl.reliability().gives_up().unwrap();
        assert_eq!((soon.as_secs(), late.as_secs()), (34, 137));
    }

    #[test]
    fn a_probe_time_out_exceeds_the_whole_budget() {
        let continuous = Profile::Continuous.reliability();
        let timeout = |wished| continuous.probe_timeout(continuous.rnr_timer, wished);
        assert_eq!(timeout(Duration::from_secs(1)), Ok(Duration::from_millis(2_400)));
        assert_eq!(timeout(Duration::from_secs(9)), Ok(Duration::from_secs(9)));
        let nccl = Profile::Nccl.reliability();
        assert_eq!(
            nccl.probe_timeout(nccl.rnr_timer, Duration::ZERO),
            Ok(Duration::from_millis(151_200))
        );
        let never = Reliability { ack_timeout: AckTimeout::new(0).unwrap(), ..nccl };
        assert_eq!(never.probe_timeout(nccl.rnr_timer, Duration::MAX), Err(WaitsForEver));
    }

    #[test]
    fn profiles_have_words() {
        for profile in [Profile::Continuous, Profile::Nccl] {
            assert_eq!(Profile::from_word(profile.as_str()), Some(profile));
        }
        assert_eq!(Profile::from_word("fast"), None);
    }

    proptest! {
        #[test]
        fn codes_come_back_or_are_refused(codes: [u8; 4]) {
            let fits = codes[0] < 32 && codes[1] < 8 && codes[2] < 8 && codes[3] < 32;
            match Reliability::from_codes(codes) {
                Ok(reliability) => {
                    prop_assert!(fits);
                    prop_assert_eq!(reliability.codes(), codes);
                }
                Err(_) => prop_assert!(!fits),
            }
        }

        #[test]
        fn no_budget_reaches_its_time_out(
            ack in 1..32_u8, retries in 0..8_u8, rnr in 0..8_u8, timer in 0..32_u8,
        ) {
            let reliability = Reliability::from_codes([ack, retries, rnr, timer]).unwrap();
            let budget = reliability.budget(reliability.rnr_timer).unwrap();
            let timeout = reliability.probe_timeout(reliability.rnr_timer, Duration::ZERO).unwrap();
            prop_assert!(timeout > budget);
            let (soon, late) = reliability.gives_up().unwrap();
            prop_assert!(soon * 4 == late && budget >= late);
        }
    }
}
