//! One path over one interval, with all its series: what is recorded, sent, merged and judged.

use crate::histogram::Window;
use crate::rdma::parameters::RdmaParameters;
use crate::timestamp_source::TimestampSource;

/// Counts of the probes whose intended send time lies in a window (design D3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowAccount {
    /// Slots whose time came.
    pub scheduled: u64,
    /// Probes handed to the kernel.
    pub sent: u64,
    /// Slots not sent because they were too old, or by budget.
    pub skipped: u64,
    /// Probes that the kernel refused.
    pub send_errors: u64,
    /// Probes with a reply in time.
    pub received: u64,
    /// Probes without one.
    pub lost: u64,
    /// Probes without a verdict, because the plan or the process ended before it.
    pub in_flight: u64,
    /// Replies after their probe was lost, counted when seen.
    pub late_replies: u64,
    /// Further replies to a probe that had one.
    pub duplicate: u64,
    /// Replies that came after the reply to a later probe.
    pub reordered: u64,
    /// Probes sent later after their slot than the threshold.
    pub late_starts: u64,
    /// Replies whose stamps contradict each other.
    pub invalid_stamps: u64,
}

impl WindowAccount {
    /// Adds the counts of `other`.
    pub const fn merge(&mut self, other: &Self) {
        macro_rules! add {
            ($($field:ident),*) => { $(self.$field = self.$field.saturating_add(other.$field);)* };
        }
        add!(scheduled, sent, skipped, send_errors, received, lost, in_flight);
        add!(late_replies, duplicate, reordered, late_starts, invalid_stamps);
    }
}

/// The parts of app RTT for the replies whose stamps were taken in the same four places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Those places.
    pub source: TimestampSource,
    /// Network RTT, time-outs as censored samples.
    pub network_rtt: Window,
    /// Prober delay.
    pub prober_delay: Window,
    /// Responder delay.
    pub responder_delay: Window,
}

/// How a path was probed; windows with different parameters are different series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parameters {
    /// Between intended sends, nanoseconds.
    pub interval_ns: u64,
    /// When a probe is lost, nanoseconds.
    pub timeout_ns: u64,
    /// Octets of payload.
    pub size_bytes: u32,
    /// What else matters over verbs; `None` for sockets.
    pub rdma: Option<RdmaParameters>,
}

/// One path over one interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathWindow {
    /// How it was probed.
    pub parameters: Parameters,
    /// What became of its probes.
    pub account: WindowAccount,
    /// App RTT, time-outs as censored samples.
    pub app_rtt: Window,
    /// The parts, by where their stamps were taken; no two with the same.
    pub splits: Vec<Split>,
    /// Over verbs: from posting an operation to its completion at the prober. On a connection that holds the wait for the peer's
    /// acknowledgement, for a datagram only the departure. `None` where nothing is posted.
    pub post_to_completion: Option<Window>,
    /// The prober's wall clock was stepped meanwhile.
    pub clock_stepped: bool,
}

/// Why counts of a window cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// The first equation of design D3.
    #[error(
        "scheduled {scheduled} is not sent {sent} + skipped {skipped} + send errors {send_errors}"
    )]
    Scheduled {
        /// As counted.
        scheduled: u64,
        /// As counted.
        sent: u64,
        /// As counted.
        skipped: u64,
        /// As counted.
        send_errors: u64,
    },
    /// The second.
    #[error("sent {sent} is not received {received} + lost {lost} + in flight {in_flight}")]
    Sent {
        /// As counted.
        sent: u64,
        /// As counted.
        received: u64,
        /// As counted.
        lost: u64,
        /// As counted.
        in_flight: u64,
    },
    /// App RTT has other replies than were received.
    #[error("app_rtt holds {samples} replies, received are {received}")]
    Replies {
        /// In the histogram.
        samples: u64,
        /// As counted.
        received: u64,
    },
    /// App RTT has other time-outs than were lost.
    #[error("app_rtt holds {censored} time-outs, lost are {lost}")]
    Losses {
        /// In the histogram.
        censored: u64,
        /// As counted.
        lost: u64,
    },
    /// The parts have more samples than there are replies, or not equally many.
    #[error("{series} holds {samples} samples where at most {most} can be")]
    Parts {
        /// Which.
        series: &'static str,
        /// In the histogram.
        samples: u64,
        /// What there can be.
        most: u64,
    },
    /// Exact extremes and sum contradict the buckets.
    #[error("{series}: minimum, maximum or sum contradict its buckets")]
    Extremes {
        /// Which.
        series: &'static str,
    },
    /// Two splits with the same stamps.
    #[error("two splits have the stamps {0}")]
    SameSource(TimestampSource),
}

impl PathWindow {
    /// An empty one.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            account: WindowAccount::default(),
            app_rtt: Window::default(),
            splits: Vec::new(),
            post_to_completion: None,
            clock_stepped: false,
        }
    }

    /// The split that stands for the path: the one with most replies (the first of those with equally many).
    pub fn main_split(&self) -> Option<&Split> {
        self.splits.iter().rev().max_by_key(|split| split.network_rtt.replies())
    }

    /// Adds what `other` saw. Exact. Splits with other stamps stay apart; `other` must have been probed alike, which the
    /// caller decides.
    pub fn merge(&mut self, other: &Self) {
        self.account.merge(&other.account);
        self.app_rtt.merge(&other.app_rtt);
        self.clock_stepped |= other.clock_stepped;
        if let Some(theirs) = &other.post_to_completion {
            self.post_to_completion.get_or_insert_default().merge(theirs);
        }
        for split in &other.splits {
            match self.splits.iter_mut().find(|own| own.source == split.source) {
                None => self.splits.push(split.clone()),
                Some(own) => {
                    own.network_rtt.merge(&split.network_rtt);
                    own.prober_delay.merge(&split.prober_delay);
                    own.responder_delay.merge(&split.responder_delay);
                }
            }
        }
    }

    /// Whether the counts can be true.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Inconsistent> {
        let WindowAccount {
            scheduled, sent, skipped, send_errors, received, lost, in_flight, ..
        } = self.account;
        let sum = |parts: &[u64]| parts.iter().try_fold(0u64, |sum, n| sum.checked_add(*n));
        if sum(&[sent, skipped, send_errors]) != Some(scheduled) {
            return Err(Inconsistent::Scheduled { scheduled, sent, skipped, send_errors });
        }
        if sum(&[received, lost, in_flight]) != Some(sent) {
            return Err(Inconsistent::Sent { sent, received, lost, in_flight });
        }
        let samples = self.app_rtt.replies();
        if samples != received {
            return Err(Inconsistent::Replies { samples, received });
        }
        let censored = self.app_rtt.censored();
        if censored != lost {
            return Err(Inconsistent::Losses { censored, lost });
        }
        if !self.app_rtt.is_plausible() {
            return Err(Inconsistent::Extremes { series: "app_rtt" });
        }
        if let Some(completions) = &self.post_to_completion {
            // An operation whose answer was lost completes all the same, and one that failed never does.
            let samples = completions.samples();
            if samples > sent {
                let series = "post_to_completion";
                return Err(Inconsistent::Parts { series, samples, most: sent });
            }
            if !completions.is_plausible() {
                return Err(Inconsistent::Extremes { series: "post_to_completion" });
            }
        }
        self.check_splits()
    }

    fn check_splits(&self) -> Result<(), Inconsistent> {
        let mut left = self.account.received;
        for (n, split) in self.splits.iter().enumerate() {
            if self.splits[..n].iter().any(|other| other.source == split.source) {
                return Err(Inconsistent::SameSource(split.source));
            }
            let parts = [
                ("network_rtt", &split.network_rtt),
                ("prober_delay", &split.prober_delay),
                ("responder_delay", &split.responder_delay),
            ];
            let equally_many = split.network_rtt.replies();
            for (series, window) in parts {
                let samples = window.replies();
                if samples > left || samples != equally_many {
                    return Err(Inconsistent::Parts { series, samples, most: left });
                }
                if !window.is_plausible() {
                    return Err(Inconsistent::Extremes { series });
                }
            }
            left -= equally_many;
            for (series, window, most) in [
                // A loss is in the network RTT of every kind of stamps, as nothing acquits the network of it, and of a kind that
                // is first seen late it carries those from before.
                ("network_rtt time-outs", &split.network_rtt, u64::MAX),
                ("prober_delay time-outs", &split.prober_delay, 0),
                ("responder_delay time-outs", &split.responder_delay, 0),
            ] {
                let samples = window.censored();
                if samples > most {
                    return Err(Inconsistent::Parts { series, samples, most });
                }
            }
        }
        Ok(())
    }
}
