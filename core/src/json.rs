//! The JSON form of a latency series (contract: units in names, integers in nanoseconds).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Window;
use crate::quantile::{Outcome, QuantileSummary, Summary};
use crate::timestamp_source::TimestampSource;

/// A latency series: replies, with the time-outs beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySeries {
    /// Replies.
    pub count: u64,
    /// The smallest reply, exactly; `null` without replies.
    pub min_ns: Option<u64>,
    /// The largest reply, exactly.
    pub max_ns: Option<u64>,
    /// The arithmetic mean of the replies.
    pub mean_ns: Option<f64>,
    /// All replies added up; stops at 2^64 - 1.
    pub sum_ns: u64,
    /// Where t1, t2, t3 and t4 were taken, as `kernel/kernel/kernel/kernel`.
    pub timestamp_source: String,
    /// Replies above 60 s, which `hdr_v2` does not hold; absent when there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overflow: u64,
    /// The time-outs, which quantiles rank above all replies.
    pub censored: Censored,
    /// Separate runs of samples in the tail of a quantile, by its name (`p99`); those withheld are absent.
    pub episodes: BTreeMap<String, u64>,
    /// The quantiles, rising.
    pub quantiles: Vec<QuantileEntry>,
    /// All replies up to 60 s: HdrHistogram V2, compressed, base64.
    pub hdr_v2: String,
}

/// The time-outs of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Censored {
    /// How many.
    pub count: u64,
    /// The time-out: what each is known to have reached.
    pub at_ns: u64,
}

/// One quantile of a series: its value with a 95 % interval, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QuantileEntry {
    /// A reply has its rank.
    Known {
        /// The share of samples at or under it.
        q: f64,
        /// Its value.
        value_ns: u64,
        /// Lower end of the interval.
        low_ns: u64,
        /// Upper end; `null`: at or beyond the time-out.
        high_ns: Option<u64>,
    },
    /// `"value_ns":null`, with the reason.
    Unknown {
        /// The share of samples at or under it.
        q: f64,
        /// Always `null`.
        value_ns: (),
        /// Why.
        reason: Reason,
        /// With `censored`: the time-out, which the quantile is known to have reached.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least_ns: Option<u64>,
    },
}

/// Why a quantile has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Too few samples for its interval.
    N,
    /// It falls among the time-outs.
    Censored,
}

impl LatencySeries {
    /// Of a summary, the place its stamps came from, and the window summarized (for its histogram).
    pub fn from_summary(summary: &Summary, source: &TimestampSource, total: &Window) -> Self {
        let episodes = summary
            .quantiles
            .iter()
            .filter_map(|q| q.episodes.map(|runs| (q.quantile.to_string(), runs)));
        Self {
            count: summary.count,
            min_ns: summary.min_ns,
            max_ns: summary.max_ns,
            mean_ns: summary.mean_ns,
            sum_ns: u64::try_from(summary.sum_ns).unwrap_or(u64::MAX),
            timestamp_source: source.to_string(),
            overflow: summary.overflow,
            censored: Censored { count: summary.censored, at_ns: summary.censored_at_ns },
            episodes: episodes.collect(),
            quantiles: summary.quantiles.iter().map(QuantileEntry::from).collect(),
            hdr_v2: total.counts().to_base64(),
        }
    }
}

impl From<&QuantileSummary> for QuantileEntry {
    fn from(summary: &QuantileSummary) -> Self {
        let q = summary.quantile.share();
        match summary.outcome {
            Outcome::Value { value_ns, low_ns, high_ns } => {
                Self::Known { q, value_ns, low_ns, high_ns }
            }
            Outcome::AtLeast { timeout_ns } => Self::Unknown {
                q,
                value_ns: (),
                reason: Reason::Censored,
                at_least_ns: Some(timeout_ns),
            },
            Outcome::Withheld { .. } => {
                Self::Unknown { q, value_ns: (), reason: Reason::N, at_least_ns: None }
            }
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests;
