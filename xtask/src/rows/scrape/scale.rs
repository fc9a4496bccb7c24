//! What the page of a large fleet's coordinator is, and what it takes to make it.

use crate::Failure;
use crate::harness::Bench;
use crate::http::get;
use crate::process::{now, pause};
use crate::rows::coordinator::Coordinator;
use crate::rows::outcome::{float, median};
use crate::rows::{Outcome, Scale};
use std::collections::BTreeSet;
use std::time::Duration;

const MOST_MS: f64 = 100.0;
const MOST_OCTETS: usize = 2 << 20;
/// Agents, paths of each, and seconds of load: the second fleet has many times the paths of the first.
const MINIATURE: [(&str, &str, &str); 2] = [("5", "4", "11"), ("30", "64", "11")];
const FULL: [(&str, &str, &str); 2] = [("100", "8", "30"), ("1000", "64", "60")];
/// Between two pages.
const EVERY: Duration = Duration::from_millis(500);

/// What follows from a judgement, and so comes when it is done.
const JUDGED: [&str; 3] = [
    "railgauge_worst_path_network_rtt_seconds",
    "railgauge_incidents_open",
    "railgauge_judged_timestamp_seconds",
];

/// Which form of the page is asked for.
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

pub fn run(bench: &Bench<'_>, scale: Scale, outcome: &mut Outcome) -> Result<(), Failure> {
    let mut series = Vec::new();
    for (agents, paths, seconds) in scale.pick(MINIATURE, FULL) {
        let coordinator = Coordinator::start(bench)?;
        let join = scale.pick("500", "5000");
        let flags = ["--agents", agents, "--paths", paths, "--seconds", seconds];
        let more = ["--join-ms", join, "--spread-ms", "500"];
        let mut load = coordinator.begin_load(bench, &[flags.as_slice(), &more].concat())?;
        let (mut took, mut octets) = (Vec::new(), 0);
        while load.exit_code()?.is_none() {
            for accept in [None, Some(PROTOBUF)] {
                let start = now();
                let page = get(&coordinator.http, "/metrics", accept)?;
                took.push(start.elapsed().as_secs_f64() * 1e3);
                octets = octets.max(page.body.len());
                if page.status != 200 {
                    return Err(Failure::new(format!("/metrics: {}", page.status)));
                }
            }
            pause(EVERY);
        }
        let report = coordinator.finish_load(bench, load)?;
        let page = get(&coordinator.http, "/metrics", None)?.text();
        let present = names(&page);
        took.sort_by(f64::total_cmp);
        let worst = took.last().copied().unwrap_or_default();
        // Beside the slowest: all agents deliver at once, and the generator of their load shares the processors.
        let most = took.get(took.len() * 9 / 10).copied().unwrap_or(f64::INFINITY);
        let fleet = format!("{agents} agents of {paths} paths");
        outcome.figure(format!("{fleet}: nine pages of ten within"), most, "ms");
        outcome.figure(format!("{fleet}: slowest page"), worst, "ms");
        outcome.figure(format!("{fleet}: median page"), median(&took), "ms");
        outcome.figure(format!("{fleet}: largest page"), float(octets) / 1024.0, "KiB");
        outcome.figure(format!("{fleet}: series"), float(present.len()), "");
        outcome.raw.push(report);
        // Times of seconds on a shared machine prove nothing.
        let in_time = scale == Scale::Miniature || worst <= MOST_MS;
        outcome.expect(in_time, || {
            format!(
                "{fleet}: the slowest page took {worst:.0} ms, nine of ten at most {most:.0} ms"
            )
        });
        outcome.expect(octets <= MOST_OCTETS, || format!("{fleet}: a page has {octets} octets"));
        series.push(present);
        coordinator.stop()?;
    }
    if let [few, many] = series.as_slice() {
        let differ: Vec<&String> = few.symmetric_difference(many).take(3).collect();
        outcome.expect(differ.is_empty(), || {
            format!("more paths have other series, as {differ:?}: {} and {}", few.len(), many.len())
        });
    }
    Ok(())
}

/// The series of a page, but for those that come with a judgement. Of these there are at most 30, 15 and one.
fn names(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let series = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0));
    let lasting = series.filter(|series| !JUDGED.iter().any(|judged| series.starts_with(judged)));
    lasting.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn series_are_counted_without_their_values() {
        let page =
            "# HELP a x\n# TYPE a gauge\na 1\nb{c=\"d e\"} 2\nrailgauge_incidents_open{} 0\n";
        assert_eq!(Vec::from_iter(super::names(page)), ["a", "b{c=\"d e\"}"]);
    }
}
