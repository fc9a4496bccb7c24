//! A sweep while it runs.

use railgauge_proto::v1::SweepPairDone;
use railgauge_proto::v1::sweep_event::Event;
use railgauge_report::number::{count, latency};

use crate::columns::cut;

/// How many of the worst are shown.
const WORST: usize = 5;

/// Lines are no longer, so that most terminals do not break them.
const LINE: usize = 79;

/// How a sweep is going, as its events tell.
#[derive(Debug, Default)]
pub struct Live {
    round: (u32, u32),
    done: (u32, u32),
    worst: Vec<Seen>,
}

/// A measurement that is over.
#[derive(Debug)]
struct Seen {
    /// Greater is worse: silence, then p99.
    rank: (bool, u64),
    line: String,
}

impl Live {
    /// A line for people, where the event is worth one.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::RoundStarted(round) => {
                self.round = (round.round, round.rounds);
                None
            }
            Event::PairDone(pair) => {
                self.done = (pair.done, pair.measurements);
                self.keep(pair);
                Some(self.summary())
            }
            _ => None,
        }
    }

    fn summary(&self) -> String {
        let ((round, rounds), (done, all)) = (self.round, self.done);
        format!("sweep, round {round} of {rounds}: {done} of {all} measurements")
    }

    fn keep(&mut self, pair: &SweepPairDone) {
        let silent = pair.sent > 0 && pair.sent == pair.lost;
        let failed = silent || !pair.error.is_empty();
        let rank = (failed, pair.network_rtt_p99_ns.unwrap_or(0));
        let shown = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), latency);
        let found = if pair.error.is_empty() {
            format!(
                "p50 {}, p99 {}, lost {}",
                shown(pair.network_rtt_p50_ns),
                shown(pair.network_rtt_p99_ns),
                count(pair.lost)
            )
        } else {
            pair.error.clone()
        };
        let line =
            cut(&format!("  {} > {}  {found}", cut(&pair.src, 24), cut(&pair.dst, 24)), LINE);
        self.worst.push(Seen { rank, line });
        self.worst.sort_by_key(|seen| std::cmp::Reverse(seen.rank));
        self.worst.truncate(WORST);
    }

    /// How far it is, and the worst so far: several lines.
    pub fn screen(&self) -> String {
        let mut text = self.summary() + ", worst so far";
        for seen in &self.worst {
            text.push('\n');
            text += &seen.line;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_stay_and_names_are_data() {
        let mut live = Live::default();
        for number in 0..20u64 {
            let pair = SweepPairDone {
                src: format!("n{number}\u{1b}[2J"),
                dst: "x".repeat(300),
                done: 1,
                measurements: 20,
                sent: 10,
                lost: if number == 3 { 10 } else { 0 },
                network_rtt_p99_ns: (number != 3).then_some(number * 1000),
                ..Default::default()
            };
            assert!(live.line(&Event::PairDone(pair)).is_some());
        }
        let screen = live.screen();
        assert!(!screen.contains('\u{1b}') && screen.lines().all(|l| l.len() <= LINE), "{screen}");
        let worst: Vec<_> = screen.lines().skip(1).map(|l| l[2..5].to_owned()).collect();
        assert_eq!(worst, ["n3?", "n19", "n18", "n17", "n16"]);
    }
}
