//! What a document says of one quantile.

use railgauge_core::json::{LatencySeries, QuantileEntry, Reason};
use railgauge_core::quantile::Quantile;
use railgauge_report::number::{interval, latency};

/// What is known of a quantile. In nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Its value, with a 95 % interval; without an upper end that is at or beyond the time-out.
    Value { value_ns: u64, low_ns: u64, high_ns: Option<u64> },
    /// It falls among the time-outs.
    AtLeast(u64),
    /// Too few samples, or no series.
    Withheld,
}

impl Reading {
    /// Of a series that may be missing.
    pub(crate) fn of(series: Option<&LatencySeries>, quantile: Quantile) -> Self {
        let is_it = |q: f64| (q - quantile.share()).abs() < 1e-9;
        let Some(series) = series else { return Self::Withheld };
        let found = series.quantiles.iter().find_map(|entry| match *entry {
            QuantileEntry::Known { q, value_ns, low_ns, high_ns } if is_it(q) => {
                Some(Self::Value { value_ns, low_ns, high_ns })
            }
            QuantileEntry::Unknown { q, reason: Reason::Censored, at_least_ns, .. } if is_it(q) => {
                Some(Self::AtLeast(at_least_ns.unwrap_or(series.censored.at_ns)))
            }
            _ => None,
        });
        found.unwrap_or(Self::Withheld)
    }

    /// What it is known to have reached.
    pub(crate) const fn reached_ns(self) -> Option<u64> {
        match self {
            Self::Value { value_ns, .. } => Some(value_ns),
            Self::AtLeast(ns) => Some(ns),
            Self::Withheld => None,
        }
    }

    /// `12.3us`, `>=1.00s`, `-`.
    pub(crate) fn short(self) -> String {
        match self {
            Self::Value { value_ns, .. } => latency(value_ns),
            Self::AtLeast(ns) => format!(">={}", latency(ns)),
            Self::Withheld => "-".to_owned(),
        }
    }

    /// `12.3us [12.2-12.5]`, `>=1.00s`, `-`.
    pub(crate) fn full(self) -> String {
        match self {
            Self::Value { value_ns, low_ns, high_ns } => {
                format!("{} {}", latency(value_ns), interval(value_ns, low_ns, high_ns))
            }
            Self::AtLeast(_) | Self::Withheld => self.short(),
        }
    }
}
