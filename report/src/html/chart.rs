//! Axes of a percentile chart: share of samples across, as 1/(1-p) on a log scale, as HdrHistogram draws it; latency up, log scale.

use maud::{Markup, html};

use crate::number::latency;

/// The plotting area of a chart, in units of its view box, and the scales of both axes.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// Of the whole drawing.
    pub width: f64,
    /// Of the whole drawing.
    pub height: f64,
    /// Left of the plotting area: latencies.
    pub left: f64,
    /// Right of it: names of curves.
    pub right: f64,
    /// Largest 1/(1-p).
    pub most: f64,
    /// Lowest latency, nanoseconds.
    pub low_ns: f64,
    /// Highest.
    pub high_ns: f64,
}

/// Above the plotting area, and below it for the labels of shares.
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

impl Plane {
    /// Across, for 1/(1-p).
    pub fn x(&self, inverse_tail: f64) -> f64 {
        let whole = self.most.log10().max(0.1);
        self.left
            + (self.right_edge() - self.left) * (inverse_tail.max(1.0).log10() / whole).min(1.0)
    }

    /// Up, for a latency in nanoseconds.
    pub fn y(&self, ns: f64) -> f64 {
        let (low, high) = (self.low_ns.log10(), self.high_ns.log10());
        let share = (ns.max(self.low_ns).log10() - low) / (high - low).max(1e-9);
        self.floor() - (self.floor() - TOP) * share.min(1.0)
    }

    /// The right end of the plotting area.
    pub fn right_edge(&self) -> f64 {
        self.width - self.right
    }

    /// The lower end of the plotting area.
    pub fn floor(&self) -> f64 {
        self.height - BOTTOM
    }

    /// The upper end.
    pub const fn ceiling(&self) -> f64 {
        TOP
    }

    /// The labels that fit beside each other: the rarest first.
    fn labels(&self) -> Vec<(f64, String)> {
        let mut left = f64::INFINITY;
        let mut fit = share_ticks(self.most);
        fit.reverse();
        fit.retain(|(share, label)| {
            #[expect(clippy::cast_precision_loss, reason = "a few letters")]
            let half = label.len() as f64 * 3.4;
            let x = self.x(*share);
            let fits = x + half + 5.0 < left;
            left = if fits { x - half } else { left };
            fits
        });
        fit
    }

    /// Grid, ticks and labels.
    pub fn axes(&self, what: &str) -> Markup {
        let (right, floor) = (self.right_edge(), self.floor());
        html! {
            g.grid {
                @for ns in latency_ticks(self.low_ns, self.high_ns) {
                    line x1=(f(self.left)) x2=(f(right)) y1=(f(self.y(ns))) y2=(f(self.y(ns))) {}
                }
                @for (share, _) in share_ticks(self.most) {
                    line x1=(f(self.x(share))) x2=(f(self.x(share))) y1=(f(TOP)) y2=(f(floor)) {}
                }
            }
            g.ticks {
                @for ns in latency_ticks(self.low_ns, self.high_ns) {
                    text x=(f(self.left - 6.0)) y=(f(self.y(ns) + 4.0)) text-anchor="end" { (tick(ns)) }
                }
                @for (share, label) in self.labels() {
                    text x=(f(self.x(share))) y=(f(floor + 15.0)) text-anchor="middle" { (label) }
                }
                text.axis x=(f(f64::midpoint(self.left, right))) y=(f(floor + 30.0)) text-anchor="middle" { (what) }
            }
            line.base x1=(f(self.left)) x2=(f(right)) y1=(f(floor)) y2=(f(floor)) {}
        }
    }
}

/// A coordinate: a tenth of a unit is finer than anything seen.
pub fn f(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// 50 %, 90 %, 99 % … as far as the axis goes.
fn share_ticks(most: f64) -> Vec<(f64, String)> {
    let mut ticks = vec![(1.0, "0%".to_owned()), (2.0, "50%".to_owned())];
    let (mut share, mut nines) = (10.0, 1usize);
    while share <= most * 1.001 {
        let label = match nines {
            1 => "90%".to_owned(),
            2 => "99%".to_owned(),
            more => format!("99.{}%", "9".repeat(more - 2)),
        };
        ticks.push((share, label));
        share *= 10.0;
        nines += 1;
    }
    ticks
}

/// 1-2-5 steps within two and a half decades, else decades.
fn latency_ticks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high / low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut decade = 10f64.powf(low.log10().floor());
    let mut ticks = Vec::new();
    while decade <= high {
        ticks.extend(steps.iter().map(|step| step * decade).filter(|ns| (low..=high).contains(ns)));
        decade *= 10.0;
    }
    ticks
}

/// `20us`, not `20.0us`.
fn tick(ns: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and positive"
    )]
    let text = latency(ns.round() as u64);
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    if !number.contains('.') {
        return text;
    }
    format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |low, high| latency_ticks(low, high).into_iter().map(tick).collect::<Vec<_>>();
        assert_eq!(labels(8_000.0, 300_000.0), ["10us", "20us", "50us", "100us", "200us"]);
        assert_eq!(labels(900.0, 2e9), ["1us", "10us", "100us", "1ms", "10ms", "100ms", "1s"]);
        let shares: Vec<_> = share_ticks(12_000.0).into_iter().map(|t| t.1).collect();
        assert_eq!(shares, ["0%", "50%", "90%", "99%", "99.9%", "99.99%"]);
    }
}
