//! `--fail-if 'p99>50us'`: when a finished measurement means exit code 1.

use std::str::FromStr;

use railgauge_core::quantile::{Outcome, Quantile, Summary};

use crate::number;

/// One condition: a figure of a series (`app_rtt` unless named) above a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct FailIf {
    text: String,
    figure: Figure,
}

#[derive(Clone, Debug, PartialEq)]
enum Figure {
    /// Share of sent probes, 0 to 1.
    Loss {
        above: f64,
    },
    Latency {
        series: &'static str,
        which: Which,
        above_ns: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    Quantile(Quantile),
    Max,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It does.
    Holds,
    /// It does not.
    Fine,
    /// The run cannot tell.
    Unknown,
}

const SERIES: [&str; 6] = [
    "app_rtt",
    "network_rtt",
    "prober_delay",
    "responder_delay",
    "round_trip",
    "post_to_completion",
];

impl FromStr for FailIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no condition: write p99>50us, network_rtt.p99.9>1ms, max>10ms or loss>0.1%"
            )
        };
        let (left, right) = text.split_once('>').ok_or_else(wrong)?;
        let (left, right) = (left.trim(), right.trim());
        let figure = if left == "loss" {
            let percent: f64 =
                right.strip_suffix('%').and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
            if !(0.0..=100.0).contains(&percent) {
                return Err(format!("{right:?} in {text:?} is no share: from 0% to 100%"));
            }
            Figure::Loss { above: percent / 100.0 }
        } else {
            let named =
                SERIES.iter().find_map(|s| Some((*s, left.strip_prefix(s)?.strip_prefix('.')?)));
            let (series, which) = named.unwrap_or(("app_rtt", left));
            let which = which_of(which).ok_or_else(wrong)?;
            let limit = number::duration(right)?;
            let above_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            Figure::Latency { series, which, above_ns }
        };
        Ok(Self { text: text.to_owned(), figure })
    }
}

fn which_of(name: &str) -> Option<Which> {
    if name == "max" {
        return Some(Which::Max);
    }
    Quantile::ALL.into_iter().find(|q| q.to_string() == name).map(Which::Quantile)
}

impl FailIf {
    /// As typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Judges a run by its losses and summaries.
    pub fn judge(
        &self,
        sent: u64,
        lost: u64,
        summary: impl Fn(&str) -> Option<Summary>,
    ) -> Judgement {
        match &self.figure {
            Figure::Loss { .. } if sent == 0 => Judgement::Unknown,
            Figure::Loss { above } => {
                #[expect(clippy::cast_precision_loss, reason = "a share")]
                let share = lost as f64 / sent as f64;
                holds(share > *above)
            }
            Figure::Latency { series, which, above_ns } => {
                let Some(summary) = summary(series) else { return Judgement::Unknown };
                judge_latency(&summary, *which, *above_ns)
            }
        }
    }
}

const fn holds(it_does: bool) -> Judgement {
    if it_does { Judgement::Holds } else { Judgement::Fine }
}

fn judge_latency(summary: &Summary, which: Which, above_ns: u64) -> Judgement {
    let quantile = match which {
        Which::Max => return judge_max(summary, above_ns),
        Which::Quantile(quantile) => quantile,
    };
    let entry = summary.quantiles.iter().find(|entry| entry.quantile == quantile);
    match entry.map(|entry| entry.outcome) {
        Some(Outcome::Value { value_ns, .. }) => holds(value_ns > above_ns),
        Some(Outcome::AtLeast { timeout_ns }) if timeout_ns >= above_ns => Judgement::Holds,
        _ => Judgement::Unknown,
    }
}

/// With losses the maximum is only known to have reached the time-out, whatever the longest reply took.
fn judge_max(summary: &Summary, above_ns: u64) -> Judgement {
    match summary.max_ns {
        Some(max) if max > above_ns => Judgement::Holds,
        _ if summary.censored > 0 && summary.censored_at_ns >= above_ns => Judgement::Holds,
        Some(_) if summary.censored == 0 => Judgement::Fine,
        _ => Judgement::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use railgauge_core::histogram::Recorder;
    use railgauge_core::quantile::{Blocks, summarize};

    use super::*;

    fn judge(text: &str, samples: u64) -> Judgement {
        let mut recorder = Recorder::new();
        (1..=samples).for_each(|us| recorder.record(us * 1_000));
        let mut blocks = Blocks::new();
        blocks.push(&recorder.drain());
        let condition: FailIf = text.parse().unwrap();
        condition.judge(1_000, 1, |series| {
            (series == "app_rtt").then(|| summarize(&blocks, 1_000_000_000))
        })
    }

    #[test]
    fn conditions_hold_or_not_or_cannot_be_known() {
        assert_eq!(judge("p99>900us", 1_000), Judgement::Holds);
        assert_eq!(judge("p99 > 1ms", 1_000), Judgement::Fine);
        assert_eq!(judge("p99.9>1us", 1_000), Judgement::Unknown, "1,000 samples are too few");
        assert_eq!(judge("network_rtt.p50>1us", 1_000), Judgement::Unknown, "not measured");
        assert_eq!(judge("app_rtt.max>999us", 1_000), Judgement::Holds);
        assert_eq!(judge("loss>0.1%", 1_000), Judgement::Fine);
        assert_eq!(judge("loss>0.09%", 1_000), Judgement::Holds);
    }

    #[test]
    fn a_maximum_above_a_loss_is_not_fine() {
        let mut recorder = Recorder::new();
        (1..=10).for_each(|us| recorder.record(us * 1_000));
        recorder.record_censored();
        let mut blocks = Blocks::new();
        blocks.push(&recorder.drain());
        let judged = |text: &str| {
            let condition: FailIf = text.parse().unwrap();
            condition.judge(11, 1, |_| Some(summarize(&blocks, 100_000_000)))
        };
        assert_eq!(judged("max>9us"), Judgement::Holds, "a reply took longer");
        assert_eq!(judged("max>10ms"), Judgement::Holds, "the loss took at least 100 ms");
        assert_eq!(judged("max>100ms"), Judgement::Holds, "as for a quantile among the losses");
        assert_eq!(judged("max>1s"), Judgement::Unknown, "how long the loss took is not known");
    }

    #[test]
    fn what_is_no_condition_says_how_to_write_one() {
        for text in ["", "p99", "p98>1us", "p99>50", "loss>1", "loss>200%", "x.p99>1us", "p99<1us"]
        {
            assert!(text.parse::<FailIf>().is_err(), "{text}");
        }
    }
}
