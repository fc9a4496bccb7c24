//! Cuts sample sets in random ways, merges the parts and compares bytes with the uncut set; prints JSON that holds one
//! set as `hdr_v2` with the counts to expect of it, and writes the parts as an interval log, for `hdr_decode.py`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use railgauge_core::histogram::log::{Header, Interval};
use railgauge_core::histogram::{Recorder, Window, layout};
use railgauge_core::time::Wall;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// Samples that are drawn at most, so that short sets with their edge cases are as frequent as long ones.
const MOST_SAMPLES: u64 = 5_000;

/// Cuts sample sets in random ways, merges the parts and compares bytes.
#[derive(Parser)]
struct Options {
    /// Sample sets.
    #[arg(long, default_value_t = 1_000)]
    sets: u64,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the parts of the last set as an interval log.
    #[arg(long)]
    hlog: Option<PathBuf>,
}

fn main() -> std::io::Result<ExitCode> {
    let options = Options::parse();
    let mut random = Pcg64Mcg::seed_from_u64(options.seed);
    let (mut differing, mut parts, mut whole) = (0u64, Vec::new(), Window::default());
    for _ in 0..options.sets {
        let samples = draw(&mut random);
        whole = record(&samples);
        let dealt = deal(&samples, &mut random);
        parts = cut(&samples, &mut random);
        // Cut along time all is equal, dealt out in any way the bytes are.
        let same = merged(&parts) == whole
            && merged(&dealt).counts().encode_v2_compressed()
                == whole.counts().encode_v2_compressed();
        differing += u64::from(!same);
    }
    if let Some(path) = &options.hlog {
        std::fs::write(path, interval_log(&parts))?;
    }
    let counts: Vec<_> = whole.counts().entries().iter().map(value_and_count).collect();
    let report = serde_json::json!({
        "row": "merging", "sets": options.sets, "seed": options.seed, "differing": differing,
        "hdr_v2": whole.counts().to_base64(), "total": whole.counts().total(), "counts": counts,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(ExitCode::from(u8::from(differing > 0)))
}

/// Replies of all sizes, time-outs as `None`.
fn draw(random: &mut Pcg64Mcg) -> Vec<Option<u64>> {
    let length = random.next_u64() % MOST_SAMPLES + 1;
    let mut sample = || {
        let (kind, value) = (random.next_u64() % 100, random.next_u64());
        match kind {
            0 => None,
            1..50 => Some(10_000 + value % 5_000),
            // As many in each doubling, up to and beyond 60 s.
            _ => Some(value >> (28 + random.next_u64() % 36)),
        }
    };
    (0..length).map(|_| sample()).collect()
}

fn feed(recorder: &mut Recorder, sample: Option<u64>) {
    match sample {
        Some(ns) => recorder.record(ns),
        None => recorder.record_censored(),
    }
}

fn record(samples: &[Option<u64>]) -> Window {
    let mut recorder = Recorder::new();
    samples.iter().for_each(|&sample| feed(&mut recorder, sample));
    recorder.drain()
}

/// Windows of one recorder, cut at random.
fn cut(samples: &[Option<u64>], random: &mut Pcg64Mcg) -> Vec<Window> {
    let (mut recorder, mut windows) = (Recorder::new(), Vec::new());
    // Empty parts are among them.
    let most = random.next_u64() % 1_000 + 1;
    let mut rest = samples;
    while !rest.is_empty() {
        let length = usize::try_from(random.next_u64() % (most + 1)).unwrap_or(0).min(rest.len());
        let (part, after) = rest.split_at(length);
        part.iter().for_each(|&sample| feed(&mut recorder, sample));
        windows.push(recorder.drain());
        rest = after;
    }
    windows
}

/// Windows of up to 16 recorders, each sample with one of them.
fn deal(samples: &[Option<u64>], random: &mut Pcg64Mcg) -> Vec<Window> {
    let hands = random.next_u64() % 16 + 1;
    let mut recorders: Vec<Recorder> = (0..hands).map(|_| Recorder::new()).collect();
    for &sample in samples {
        let hand = usize::try_from(random.next_u64() % hands).unwrap_or(0);
        feed(&mut recorders[hand], sample);
    }
    recorders.iter_mut().map(Recorder::drain).collect()
}

/// Merged as a tree: neighbours first.
fn merged(windows: &[Window]) -> Window {
    match windows {
        [] => Window::default(),
        [one] => one.clone(),
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            let mut window = merged(left);
            window.merge(&merged(right));
            window
        }
    }
}

fn interval_log(windows: &[Window]) -> String {
    let start = Wall::from_unix_nanos(1_700_000_000_250_000_000);
    let length = Duration::from_secs(1);
    let line = |(second, window)| {
        let start = Duration::from_secs(second);
        Interval { tag: "network_rtt", start, length, window }.to_string()
    };
    let lines: String = (0..).zip(windows).map(line).collect();
    format!("{}{lines}", Header { start })
}

fn value_and_count(&(index, count): &(u16, u64)) -> (u64, u64) {
    (layout::lowest_equivalent(index), count)
}
