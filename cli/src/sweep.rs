//! `railgauge sweep`.

use railgauge_core::finding::Verdict;
use railgauge_proto::v1::sweep_event::Event;
use railgauge_report::doc::Sweep;

use crate::Exit;

/// The exit code of a verdict (contract).
pub const fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Healthy => Exit::Healthy,
        Verdict::Degraded | Verdict::Failed => Exit::Degraded,
        Verdict::Unknown => Exit::Unmeasured,
    }
}

/// How a sweep is going, as its events tell.
#[derive(Debug, Default)]
pub struct Live {
    round: (u32, u32),
}

impl Live {
    /// A line for people, where the event is worth one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::RoundStarted(round) => {
                self.round = (round.round, round.rounds);
                None
            }
            Event::PairDone(pair) => Some(format!(
                "sweep, round {} of {}: {} of {} measurements",
                self.round.0, self.round.1, pair.done, pair.measurements
            )),
            _ => None,
        }
    }
}

/// The whole text.
pub fn table(sweep: &Sweep) -> String {
    format!("verdict {}\n", sweep.verdict.as_str())
}
