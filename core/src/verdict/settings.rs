//! The thresholds, each with unit, source and reason.

use crate::quantile::Quantile;

/// A quantile that is looked at, and the least step above the reference that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub quantile: Quantile,
    /// How far above the reference its low end must lie, nanoseconds.
    pub least_ns: u64,
    /// In how many separate runs (see [`crate::histogram::Window::runs_above_rank`]) its tail must come.
    pub least_runs: u64,
    /// The same for a path that is accused alone, without other paths that show it too.
    pub least_runs_alone: u64,
}

/// Thresholds of judgement. The defaults are for sockets between hosts that share CPUs with other work, virtual ones among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How many times the reference the low end of the 95 % interval must reach. 3: the project's rule until there are baselines.
    pub ratio: f64,
    /// Share of probes lost that is too much. 0.001: likewise. The low end of the 95 % interval (Wilson) must lie above it.
    pub loss: f64,
    /// Losses, and separate events of loss, below which nothing is said, 3: of 400 probes a single one lost has an interval
    /// of 0.04 to 1.4 %, and two in one burst are one.
    pub least_losses: u64,
    /// Unanswered probes below which silence is not judged, 10: at 10 % loss ten in a row are lost once in 10^10.
    pub least_unanswered: u64,
    /// Samples below which a path is `Unknown`, 36: the fewest for which p90 has a 95 % interval (design D4).
    pub least_samples: u64,
    /// The part of a node's paths that must show an effect before the node is accused of it, 2/3: with three nodes, a
    /// slow neighbour makes it half.
    pub most_paths: f64,
    /// The same for a rail, 0.9: one ill port of three on a rail makes it two thirds.
    pub most_rail_paths: f64,
    /// Paths that a path alone must be comparable with, 3: then its own pair is not the majority.
    pub least_references: usize,
    /// Quantiles of network RTT. Steps: 50 us is what it costs to wake a sleeping core for an interrupt (cpuidle's exit
    /// latencies reach 100 us); 200 us and 1 ms are what virtual CPUs lose at p90 and p99 while another guest runs, to which
    /// kernel stamps are not immune.
    pub network: [Step; 3],
    /// Quantiles of prober and responder delay. Steps: a sleeping thread wakes after 50 us of timer slack and a wake-up of up
    /// to 100 us, so 500 us is not one; a runnable thread waits for the slice of another, 3 ms (`base_slice_ns` of Linux's
    /// scheduler at 2 to 3 CPUs, and about the shortest slice on more): 3 ms at p90 is such waiting for a tenth of all
    /// probes, and 6 ms at p99 is two slices.
    pub host: [Step; 3],
    /// Paths named on each side of a finding's evidence; more are counted. 8: what one screen takes.
    pub most_evidence: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let steps = |p50, p90, p99| {
            [
                // Half of all samples are no single event.
                step(Quantile::P50, p50, 0, 0),
                // One long stall can hold a tenth of a second's samples; not three times.
                step(Quantile::P90, p90, 3, 3),
                // 10: below that the summary itself warns of few events; 30: a count known to a fifth, as hundreds of
                // paths are looked at alone.
                step(Quantile::P99, p99, 10, 30),
            ]
        };
        Self {
            ratio: 3.0,
            loss: 0.001,
            least_losses: 3,
            least_unanswered: 10,
            least_samples: 36,
            most_paths: 2.0 / 3.0,
            most_rail_paths: 0.9,
            least_references: 3,
            network: steps(50_000, 200_000, 1_000_000),
            host: steps(500_000, 3_000_000, 6_000_000),
            most_evidence: 8,
        }
    }
}

const fn step(quantile: Quantile, least_ns: u64, least_runs: u64, least_runs_alone: u64) -> Step {
    Step { quantile, least_ns, least_runs, least_runs_alone }
}
