//! Prints what ingest costs, as JSON: from the octets of a batch to windows of paths, nodes, rails and the fleet.
//!
//! Judged is processor time of one thread, the median over rounds; a round is a minute of a fleet. Decoding and checks are those of the
//! coordinator's sessions; whether a batch is known is asked of a table in memory with the store's rule, which the store itself keeps on disk; merging
//! is by `core::rollup`, batches in the order in which the store's roll-up reads them, agent by agent. The coordinator itself stores batches as they
//! come, merges them by path and minute later, and by node, rail and fleet when asked. Beside it: the first steps alone, and how fast the store takes batches to the disk.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use prost::Message;
use railgauge_coordinator::store::{Config, Incoming, Outcome, Progress, Store};
use railgauge_core::path::Path;
use railgauge_core::path_window::PathWindow;
use railgauge_core::rollup::Rollup;
use railgauge_core::time::Wall;
use railgauge_metrics::Registry;
use railgauge_proto::{convert, v1};
use railgauge_testbed::fresh::{self, Fresh, PROBES, WINDOW_NS};

type Error = Box<dyn std::error::Error>;

/// Windows of a path in a minute.
const PER_MINUTE: u64 = 6;
/// The minute in which all begins.
const START_NS: u64 = 1_700_000_040_000_000_000;
/// Batches that are merged at once, and that the store takes in one transaction: the minute of 20 agents, 9 MB.
const GROUP: usize = 120;

/// What it costs to take windows in.
#[derive(Parser)]
struct Options {
    /// Agents of the fleet.
    #[arg(long, default_value_t = 65)]
    agents: usize,
    /// Paths of each.
    #[arg(long, default_value_t = 64)]
    paths: usize,
    /// How often the minute is taken in.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seed of the samples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to keep a store for its rate; no rate without.
    #[arg(long)]
    store_dir: Option<PathBuf>,
}

fn main() -> Result<(), Error> {
    let options = Options::parse();
    let batches = minute(&options);
    let windows = batches.len() * options.paths;
    let octets = batches.iter().map(Vec::len).sum::<usize>();
    let (mut decoding, mut converting, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut wall, mut counting) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        decoding.push(cost(windows, || decode(&batches))?.cpu_ns);
        converting.push(cost(windows, || check(&batches))?.cpu_ns);
        let cost = cost(windows, || take_in(&batches, windows as u64 * PROBES))?;
        whole.push(cost.cpu_ns);
        wall.push(cost.wall_ns);
        counting.push(count(&batches, windows)?.cpu_ns);
    }
    let store =
        options.store_dir.as_ref().map(|dir| durable(dir, &batches, windows)).transpose()?;
    let ns = median(&mut whole);
    let report = serde_json::json!({
        "row": "ingest",
        "judged": "median over rounds of processor time of one thread: decode, check, de-duplicate, merge by path, node (to and from), rail, fleet",
        "windows_per_second_and_core": 1e9 / ns,
        "ns_per_window": ns,
        "wall_ns_per_window": median(&mut wall),
        "decode_ns_per_window": median(&mut decoding),
        "decode_and_check_ns_per_window": median(&mut converting),
        "metrics_ns_per_window": median(&mut counting),
        "octets_per_window": octets / windows.max(1),
        "windows": windows, "rounds": options.rounds, "agents": options.agents, "paths": options.paths,
        "samples_per_series": PROBES, "series": 4, "seed": options.seed,
        "durable_windows_per_second": store.as_ref().map(|[cost, _]| 1e9 / cost.wall_ns),
        "durable_cpu_ns_per_window": store.as_ref().map(|[cost, _]| cost.cpu_ns),
        "minutes_windows_per_second_and_core": store.as_ref().map(|[_, cost]| 1e9 / cost.cpu_ns),
    });
    Ok(writeln!(std::io::stdout(), "{report}")?)
}

/// All batches of a minute, encoded, agent by agent: so the store reads them to roll a minute up.
fn minute(options: &Options) -> Vec<Vec<u8>> {
    let mut fresh = Fresh::new(options.seed);
    let mut batches = Vec::new();
    for agent in 0..options.agents {
        for interval in 0..PER_MINUTE {
            let head = v1::WindowBatch {
                agent: fresh::name(agent),
                instance: 1,
                first_sequence: interval * options.paths as u64,
                start_unix_ns: START_NS + interval * WINDOW_NS,
                length_ns: WINDOW_NS,
                plan_epoch: 1,
                paths: fresh::paths(agent, options.agents, options.paths),
                windows: Vec::new(),
            };
            let windows = fresh.encoded(u32::try_from(options.paths).unwrap_or(u32::MAX));
            batches.push(fresh::batch(&head, &windows));
        }
    }
    batches
}

fn decode(batches: &[Vec<u8>]) {
    for octets in batches {
        black_box(v1::WindowBatch::decode(octets.as_slice()).expect("we encoded it"));
    }
}

fn checked(octets: &[u8]) -> convert::Batch {
    let message = v1::WindowBatch::decode(octets).expect("we encoded it");
    convert::batch(&message).expect("we made it")
}

fn check(batches: &[Vec<u8>]) {
    for octets in batches {
        black_box(checked(octets));
    }
}

/// What the metrics of stored windows take, decoded as these are by then.
fn count(batches: &[Vec<u8>], windows: usize) -> std::io::Result<Cost> {
    let checked: Vec<convert::Batch> = batches.iter().map(|octets| checked(octets)).collect();
    let registry = Registry::new("1");
    let probes = registry.probes();
    cost(windows, || checked.iter().for_each(|batch| probes.add(self::windows(batch))))
}

/// Ranges of sequences that are known, by agent and instance: begin and end. The rule is that of the store, which keeps the ranges on disk.
#[derive(Default)]
struct Seen(HashMap<(String, u64), BTreeMap<u64, u64>>);

impl Seen {
    /// Whether it is new; then it is known from now on.
    fn is_new(&mut self, batch: &convert::Batch) -> bool {
        let key = (batch.agent.to_string(), batch.instance);
        let ranges = self.0.entry(key).or_default();
        let (mut first, mut end) =
            (batch.first_sequence, batch.first_sequence + batch.windows.len() as u64);
        if let Some((start, stop)) = ranges.range(..=first).next_back().map(|(a, b)| (*a, *b))
            && stop >= first
        {
            if stop > first {
                return false;
            }
            ranges.remove(&start);
            first = start;
        }
        if let Some((start, stop)) = ranges.range(first..=end).next().map(|(a, b)| (*a, *b)) {
            if start < end {
                return false;
            }
            ranges.remove(&start);
            end = stop;
        }
        ranges.insert(first, end);
        true
    }
}

fn windows(batch: &convert::Batch) -> impl Iterator<Item = (&Path, &PathWindow)> {
    batch.windows.iter().map(|(path, window)| (&batch.paths[*path], window))
}

/// All of it, group by group, and the first batch once more, which is known then.
fn take_in(batches: &[Vec<u8>], replies: u64) {
    let (mut seen, mut rollup) = (Seen::default(), Rollup::new());
    let mut again = 0;
    for group in batches.chunks(GROUP).chain([&batches[..1]]) {
        let mut new: Vec<convert::Batch> = group.iter().map(|octets| checked(octets)).collect();
        new.retain(|batch| seen.is_new(batch));
        again += group.len() - new.len();
        rollup.add_all(new.iter().flat_map(windows));
    }
    assert_eq!(again, 1, "a batch that came again was counted again");
    let fleet = rollup.iter().next().map(|(_, _, window)| window.app_rtt.replies());
    assert_eq!(fleet, Some(replies), "what the fleet has is not what was sent");
    black_box(&rollup);
}

/// Takes the batches to the disk, with the octets at hand as in a session, and merges what is there by path and minute, as the coordinator
/// does some time later.
fn durable(dir: &std::path::Path, batches: &[Vec<u8>], windows: usize) -> Result<[Cost; 2], Error> {
    let mut store = Store::open(Config::new(dir.to_owned()))?;
    let incoming: Vec<Incoming> = batches
        .iter()
        .map(|octets| Incoming { encoded: octets.clone(), batch: checked(octets), skewed: false })
        .collect();
    let mut stored = 0;
    let now = Wall::from_unix_nanos(START_NS + 60_000_000_000);
    let cost = cost(windows, || {
        for group in incoming.chunks(GROUP) {
            let outcomes = store.ingest(group, now);
            stored += outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count();
        }
    })?;
    if stored != batches.len() {
        return Err(format!("{stored} of {} batches were stored", batches.len()).into());
    }
    let later = Wall::from_unix_nanos(START_NS + 300_000_000_000);
    let mut progress = Ok(Progress::More);
    let merging = self::cost(windows, || {
        while matches!(progress, Ok(Progress::More)) {
            progress = store.maintain(later);
        }
    })?;
    progress?;
    Ok([cost, merging])
}

/// Of one round, in nanoseconds for a window.
struct Cost {
    cpu_ns: f64,
    wall_ns: f64,
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 windows and nanoseconds")]
fn cost(windows: usize, run: impl FnOnce()) -> std::io::Result<Cost> {
    let (begin, cpu_before) = (now(), cpu_time()?);
    run();
    let (wall, cpu) = (begin.elapsed(), cpu_time()?.saturating_sub(cpu_before));
    let each = windows.max(1) as f64;
    Ok(Cost { cpu_ns: cpu.as_nanos() as f64 / each, wall_ns: wall.as_nanos() as f64 / each })
}

/// Of this thread, in nanoseconds where `getrusage` may count whole ticks.
fn cpu_time() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
