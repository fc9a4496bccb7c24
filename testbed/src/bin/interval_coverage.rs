//! Prints how often the intervals of simulated experiments hold the true quantile, as JSON.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use railgauge_testbed::intervals;

/// How often the intervals of simulated experiments hold the true quantile.
#[derive(Parser)]
struct Options {
    /// Experiments for each kind of samples and size.
    #[arg(long, default_value_t = 10_000)]
    experiments: u64,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> std::io::Result<ExitCode> {
    let options = Options::parse();
    let report = intervals::run(&intervals::SIZES, options.experiments, options.seed, 0.0);
    writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    Ok(ExitCode::from(u8::from(!report.violations.is_empty())))
}
