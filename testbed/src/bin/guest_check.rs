//! In the guest: checks its fabric with perftest, and prints one JSON object.

use std::io::Write;

use clap::Parser;
use railgauge_testbed::fleet::Trouble;
use railgauge_testbed::guest::{Fabric, check};
use serde_json::json;

/// What can be typed.
#[derive(Parser)]
struct Options {
    /// Of all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Each kind of fault at each end of each cable, and not each kind once.
    #[arg(long)]
    everywhere: bool,
}

fn main() -> Result<(), Trouble> {
    let options = Options::parse();
    let fabric = Fabric::of_this_guest()?;
    let checked = check(&fabric, options.seed, options.everywhere)?;
    let line = json!({
        "figures": checked.figures, "episodes": checked.episodes, "violations": checked.violations,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
