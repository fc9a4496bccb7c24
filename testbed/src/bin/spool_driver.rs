//! A spool at the end of a pipe, to be killed and disturbed: each line on standard input is a command, each line on
//! standard output its outcome.
//!
//! - `append N OCTETS`: a batch of one window with sequence N. `recorded N` or `unrecorded N: why`.
//! - `acknowledge N`: `forgotten WINDOWS`.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Parser;
use prost::Message;
use railgauge_agent::spool::{Key, Limits, Spool};
use railgauge_proto::v1::WindowBatch;

/// A spool driven by lines on standard input.
#[derive(Parser)]
struct Options {
    /// The state directory.
    directory: PathBuf,
    /// Bound of the spool.
    #[arg(long, default_value_t = 1 << 20)]
    most_bytes: u64,
    /// Instance of the batches.
    #[arg(long, default_value_t = 1)]
    instance: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let (mut spool, opening) = Spool::open(&options.directory, Limits::of(options.most_bytes))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "opened {} {}", opening.octets_damaged(), spool.state().windows)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = |n: &str| -> Result<Key, std::num::ParseIntError> {
            Ok(Key { instance: options.instance, first_sequence: n.parse()?, windows: 1 })
        };
        match words[..] {
            ["append", n, octets] => {
                let batch = WindowBatch {
                    agent: "x".repeat(octets.parse()?),
                    instance: options.instance,
                    first_sequence: n.parse()?,
                    ..WindowBatch::default()
                };
                match spool.append(key(n)?, &batch.encode_to_vec()) {
                    Ok(()) => writeln!(out, "recorded {n}")?,
                    Err(why) => writeln!(out, "unrecorded {n}: {why}")?,
                }
            }
            ["acknowledge", n] => writeln!(out, "forgotten {}", spool.acknowledge(&[key(n)?]))?,
            _ => return Err(format!("no such command: {line}").into()),
        }
    }
    Ok(())
}
