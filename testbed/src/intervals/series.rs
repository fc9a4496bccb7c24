//! Samples with known quantiles.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use serde::Serialize;

/// How samples follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Each for itself.
    Independent,
    /// Some fall into stalls: a path stops for a time drawn for each stall, and a probe that meets it waits for what
    /// is left of it, so that the wait falls in even steps to zero.
    Sawtooth,
    /// As before, but the wait is the same for all probes of a stall, and every fifth probe, at random, escapes it
    /// (another queue, another link): a stall is many runs of samples.
    Broken,
}

/// A kind of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How samples follow each other.
    pub arrivals: Arrivals,
    /// Samples that one stall hits; 1 when there are none.
    pub stall: u32,
}

/// Latency without a stall: log-logistic (like log-normal, with a heavier tail), in nanoseconds.
const BASE: LogLogistic = LogLogistic { median: 12_000.0, shape: 0.15 };
/// How long stalls are, in nanoseconds.
const STALL: LogLogistic = LogLogistic { median: 300_000.0, shape: 0.35 };
/// Share of samples that meet a stall: so many that p99 and p99.9 lie among them.
const STALLED: f64 = 0.03;
/// Share of samples in a broken stall that it does not hit.
const ESCAPES: f64 = 0.2;

impl Scenario {
    /// Those that are published.
    pub const ALL: [Self; 5] = [
        Self { arrivals: Arrivals::Independent, stall: 1 },
        Self { arrivals: Arrivals::Sawtooth, stall: 10 },
        Self { arrivals: Arrivals::Sawtooth, stall: 100 },
        Self { arrivals: Arrivals::Broken, stall: 10 },
        Self { arrivals: Arrivals::Broken, stall: 100 },
    ];

    /// What it is called in reports.
    pub fn name(self) -> String {
        match self.arrivals {
            Arrivals::Independent => "independent".to_owned(),
            Arrivals::Sawtooth => format!("sawtooth stalls of {}", self.stall),
            Arrivals::Broken => format!("broken stalls of {}", self.stall),
        }
    }

    /// The share of samples at or under `ns`.
    fn distribution(self, ns: f64) -> f64 {
        let base = BASE.distribution(ns);
        let stalled = match self.arrivals {
            Arrivals::Independent => return base,
            Arrivals::Sawtooth => {
                let at_step = |left: u32| STALL.distribution(ns / self.left(left));
                base * (1..=self.stall).map(at_step).sum::<f64>() / f64::from(self.stall)
            }
            Arrivals::Broken => base * (ESCAPES + (1.0 - ESCAPES) * STALL.distribution(ns)),
        };
        (1.0 - STALLED) * base + STALLED * stalled
    }

    /// The true quantile, in nanoseconds.
    pub fn quantile(self, share: f64) -> f64 {
        let (mut low, mut high) = (1.0, 60e9);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if self.distribution(middle) < share {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// How much of a stall a probe still meets that has `left` of its samples to come, itself included.
    fn left(self, left: u32) -> f64 {
        f64::from(left) / f64::from(self.stall)
    }
}

/// A stream of samples.
pub struct Series {
    scenario: Scenario,
    random: Pcg64Mcg,
    /// Of the stall under way: how long it is, and how many samples it still hits.
    length: f64,
    left: u32,
    stalled: u64,
    longest_wait: f64,
}

impl Series {
    /// A stream that has been running for long: it may begin inside a stall.
    pub fn new(scenario: Scenario, mut random: Pcg64Mcg) -> Self {
        let inside = scenario.arrivals != Arrivals::Independent && uniform(&mut random) < STALLED;
        let (length, position) = (STALL.draw(&mut random), uniform(&mut random));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 100")]
        let left = (position * f64::from(scenario.stall)).ceil() as u32;
        let left = if inside { left } else { 0 };
        Self { scenario, random, length, left, stalled: 0, longest_wait: 0.0 }
    }

    /// Whether as many samples as make one stall have met one so far.
    pub fn met_a_stall(&self) -> bool {
        self.stalled >= self.scenario.stall.into()
    }

    /// The longest that a stall has made a sample wait so far, in nanoseconds; 0 when there was none.
    pub fn longest_wait(&self) -> f64 {
        self.longest_wait
    }

    /// The next sample, in nanoseconds.
    pub fn sample(&mut self) -> f64 {
        let base = BASE.draw(&mut self.random);
        if self.scenario.arrivals == Arrivals::Independent {
            return base;
        }
        if self.left == 0 {
            // Stalls so often that the share STALLED of all samples meets one.
            let start = STALLED / (1.0 - STALLED) / f64::from(self.scenario.stall);
            if uniform(&mut self.random) < start {
                self.length = STALL.draw(&mut self.random);
                self.left = self.scenario.stall;
            }
            return base;
        }
        let left = self.left;
        self.left -= 1;
        self.stalled += 1;
        let wait = match self.scenario.arrivals {
            Arrivals::Broken if uniform(&mut self.random) < ESCAPES => return base,
            Arrivals::Broken => self.length,
            _ => self.length * self.scenario.left(left),
        };
        self.longest_wait = self.longest_wait.max(wait);
        base.max(wait)
    }
}

/// The logarithm of a value is logistic: distribution and quantile are closed forms.
struct LogLogistic {
    median: f64,
    shape: f64,
}

impl LogLogistic {
    fn distribution(&self, x: f64) -> f64 {
        1.0 / (1.0 + (x / self.median).powf(-1.0 / self.shape))
    }

    fn draw(&self, random: &mut Pcg64Mcg) -> f64 {
        let u = uniform(random);
        self.median * (self.shape * (u / (1.0 - u)).ln()).exp()
    }
}

/// Between 0 and 1, neither included.
#[expect(clippy::cast_precision_loss, reason = "52 bits are kept")]
fn uniform(random: &mut Pcg64Mcg) -> f64 {
    ((random.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_pcg::rand_core::SeedableRng;

    /// The closed form is that of what is drawn.
    #[test]
    fn samples_have_the_quantiles_claimed() {
        for scenario in Scenario::ALL {
            let mut series = Series::new(scenario, Pcg64Mcg::seed_from_u64(11));
            let (median, high) = (scenario.quantile(0.5), scenario.quantile(0.99));
            let (mut under_median, mut under_high) = (0u32, 0u32);
            for _ in 0..1_000_000 {
                let sample = series.sample();
                under_median += u32::from(sample <= median);
                under_high += u32::from(sample <= high);
            }
            let name = scenario.name();
            assert!((f64::from(under_median) / 1e6 - 0.5).abs() < 0.003, "{name} {under_median}");
            // 300 stalls of 100: the share over p99 is off by 6 % with one standard deviation.
            assert!((f64::from(under_high) / 1e6 - 0.99).abs() < 0.002, "{name} {under_high}");
        }
    }
}
