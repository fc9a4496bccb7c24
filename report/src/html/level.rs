//! Steps of shade: few enough to be told apart in print, each with a sign beside the shade.

use railgauge_core::quantile::Quantile;

use super::reading::Reading;
use crate::doc::PathDoc;

/// What a cell of a map shows. The worse of two is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No path between the two, or none measured.
    Missing,
    /// Measured, but too few samples for this number.
    Withheld,
    /// Steps 0 (usual) to 4 (far off).
    Step(u8),
    /// No probe was answered.
    Silent,
}

impl Level {
    /// For classes of CSS: `0` to `7`.
    pub const fn index(self) -> u8 {
        match self {
            Self::Step(step) => step,
            Self::Silent => 5,
            Self::Withheld => 6,
            Self::Missing => 7,
        }
    }

    /// Of a latency against the fleet's median of the same quantile. The fourth step begins where a verdict may: at 3 times.
    pub fn of_latency(reading: Reading, median_ns: u64) -> Self {
        let Some(value) = reading.reached_ns() else { return Self::Withheld };
        let tenths = u128::from(value) * 10 / u128::from(median_ns.max(1));
        Self::Step(match tenths {
            0..15 => 0,
            15..20 => 1,
            20..30 => 2,
            30..100 => 3,
            _ => 4,
        })
    }

    /// Of a share of probes lost. The fourth step begins at 1 %, the third at 0.1 %, where a verdict may.
    pub fn of_loss(share: f64) -> Self {
        Self::Step(match share {
            s if s <= 0.0 => 0,
            s if s <= 0.001 => 1,
            s if s <= 0.01 => 2,
            s if s <= 0.1 => 3,
            _ => 4,
        })
    }
}

/// The median over paths of a quantile of their RTT; `None` where none has it.
pub fn fleet_median(paths: &[PathDoc], quantile: Quantile, series: &str) -> Option<u64> {
    let reached = |path: &PathDoc| Reading::of(series_of(path, series), quantile).reached_ns();
    let mut all: Vec<u64> = paths.iter().filter_map(reached).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// The series of that name; `network_rtt` gives app RTT where packets have no stamps.
pub fn series_of<'a>(
    path: &'a PathDoc,
    name: &str,
) -> Option<&'a railgauge_core::json::LatencySeries> {
    if name == "network_rtt" { path.measures.rtt() } else { path.measures.series(name) }
}
