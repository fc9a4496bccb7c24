//! Prints what it costs to record one sample into one series, draining every second included, as JSON.
//!
//! Judged is processor time, the median of many short rounds: on a machine with other work, wall time is mostly that of
//! others. It is printed beside, as is the `hdrhistogram` crate, measured in turn with ours.

use std::hint::black_box;
use std::io::Write;
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use railgauge_core::histogram::Recorder;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// As many as a probe has: network RTT, application RTT, prober delay, responder delay.
const SERIES: usize = 4;
/// Values prepared for each series: more than stay in the first-level cache.
const VALUES: usize = 1 << 20;
/// The budget, in nanoseconds for a sample and series.
const BUDGET: f64 = 30.0;

/// What it costs to record one sample into one series.
#[derive(Parser)]
struct Options {
    /// Samples, each recorded into all four series.
    #[arg(long, default_value_t = 20_000_000)]
    samples: usize,
    /// Rounds into which they are divided.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Samples between two drains: 1 s of 1,000 probes a second.
    #[arg(long, default_value_t = 1_000)]
    drain_every: usize,
    /// Seed of the values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Values = [Vec<u64>; SERIES];

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let values: Values = std::array::from_fn(|series| latencies(options.seed, series));
    let samples = (options.samples / options.rounds.max(1)).max(1);
    let mut recorders: [Recorder; SERIES] = std::array::from_fn(|_| Recorder::new());
    let mut histograms: [Histogram<u64>; SERIES] = std::array::from_fn(|_| {
        Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds are valid")
    });
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..options.rounds.max(1) {
        let part = round * samples..(round + 1) * samples;
        ours.push(cost(samples, || {
            record_and_drain(&mut recorders, &values, part.clone(), options.drain_every);
        })?);
        peer.push(cost(samples, || record_in_the_crate(&mut histograms, &values, part))?);
    }
    let cpu = median(ours.iter().map(|cost| cost.cpu_ns));
    let report = serde_json::json!({
        "row": "recording",
        "judged": "median over rounds of processor time, recording and draining",
        "ns_per_sample_and_series": cpu,
        "wall_ns_per_sample_and_series": median(ours.iter().map(|cost| cost.wall_ns)),
        "budget_ns": BUDGET,
        "within_budget": cpu <= BUDGET,
        "samples": samples * ours.len(),
        "rounds": ours.len(),
        "series": SERIES,
        "drain_every": options.drain_every,
        "seed": options.seed,
        "hdrhistogram_crate_record_only_ns": median(peer.iter().map(|cost| cost.cpu_ns)),
        "ns_of_each_round": ours.iter().map(|cost| cost.cpu_ns).collect::<Vec<_>>(),
    });
    writeln!(std::io::stdout(), "{report}")
}

/// Of one round, in nanoseconds for a sample and series.
struct Cost {
    cpu_ns: f64,
    wall_ns: f64,
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 samples and nanoseconds")]
fn cost(samples: usize, run: impl FnOnce()) -> std::io::Result<Cost> {
    let (begin, cpu_before) = (now(), cpu_time()?);
    run();
    let (wall, cpu) = (begin.elapsed(), cpu_time()?.saturating_sub(cpu_before));
    let each = (samples * SERIES) as f64;
    Ok(Cost { cpu_ns: cpu.as_nanos() as f64 / each, wall_ns: wall.as_nanos() as f64 / each })
}

/// Of this thread. The kernel accounts `getrusage` in whole ticks where it is built so, but this clock in nanoseconds.
fn cpu_time() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn median(costs: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = costs.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn record_and_drain(
    recorders: &mut [Recorder; SERIES],
    values: &Values,
    samples: Range<usize>,
    drain_every: usize,
) {
    for sample in samples {
        for (recorder, values) in recorders.iter_mut().zip(values) {
            recorder.record(values[sample % VALUES]);
        }
        if (sample + 1).is_multiple_of(drain_every) {
            recorders.iter_mut().for_each(|recorder| drop(black_box(recorder.drain())));
        }
    }
    recorders.iter_mut().for_each(|recorder| drop(black_box(recorder.drain())));
}

fn record_in_the_crate(
    histograms: &mut [Histogram<u64>; SERIES],
    values: &Values,
    samples: Range<usize>,
) {
    for sample in samples {
        for (histogram, values) in histograms.iter_mut().zip(values) {
            histogram.saturating_record(values[sample % VALUES]);
        }
    }
    black_box(&histograms);
}

/// Log-normal about 10 us and up, each series with another median; 1 % is in a tail up to milliseconds.
fn latencies(seed: u64, series: usize) -> Vec<u64> {
    let mut random = Pcg64Mcg::seed_from_u64(seed.wrapping_add(series as u64));
    let mut uniform = || {
        (f64::from(u32::try_from(random.next_u64() >> 32).unwrap_or(u32::MAX)) + 0.5)
            / 2f64.powi(32)
    };
    let median = 10_000.0 * 1.7f64.powi(i32::try_from(series).unwrap_or(0));
    let mut latency = || {
        let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let body = median * (0.2 * normal).exp();
        if uniform() < 0.01 { body + 50_000.0 * uniform().powf(-0.7) } else { body }
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    (0..VALUES).map(|_| latency() as u64).collect()
}
