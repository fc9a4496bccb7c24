//! Prints what it costs to record one sample into one series, draining every second included, as JSON.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use clap::Parser;
use hdrhistogram::Histogram;
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
    /// Samples between two drains: 1 s of 1,000 probes a second.
    #[arg(long, default_value_t = 1_000)]
    drain_every: usize,
    /// Seed of the values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let values: [Vec<u64>; SERIES] = std::array::from_fn(|series| latencies(options.seed, series));
    let ours = cost(&options, || record_and_drain(&values, &options));
    let peer = cost(&options, || record_in_the_crate(&values, options.samples));
    let report = serde_json::json!({
        "row": "recording",
        "ns_per_sample_and_series": ours,
        "budget_ns": BUDGET,
        "within_budget": ours <= BUDGET,
        "samples": options.samples,
        "series": SERIES,
        "drain_every": options.drain_every,
        "seed": options.seed,
        "hdrhistogram_crate_record_only_ns": peer,
    });
    writeln!(std::io::stdout(), "{report:#}")
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 samples")]
fn cost(options: &Options, run: impl FnOnce()) -> f64 {
    let begin = now();
    run();
    begin.elapsed().as_nanos() as f64 / (options.samples * SERIES) as f64
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn record_and_drain(values: &[Vec<u64>; SERIES], options: &Options) {
    let mut recorders: [Recorder; SERIES] = std::array::from_fn(|_| Recorder::new());
    for sample in 0..options.samples {
        for (recorder, values) in recorders.iter_mut().zip(values) {
            recorder.record(values[sample % VALUES]);
        }
        if (sample + 1) % options.drain_every == 0 {
            recorders.iter_mut().for_each(|recorder| drop(black_box(recorder.drain())));
        }
    }
    recorders.iter_mut().for_each(|recorder| drop(black_box(recorder.drain())));
}

fn record_in_the_crate(values: &[Vec<u64>; SERIES], samples: usize) {
    let mut histograms: [Histogram<u64>; SERIES] = std::array::from_fn(|_| {
        Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds are valid")
    });
    for sample in 0..samples {
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
