//! A fleet under kills, cut connections and write errors, and what became of its windows: prints one line of JSON.

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use railgauge_testbed::fleet::{self, Scene, Trouble};
use serde_json::json;

/// One run by a seed.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Filling>,
    /// Of all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A directory of its own for state, logs and ledgers; removed when all held.
    #[arg(long, default_value = "fleet-conservation")]
    out: PathBuf,
    /// Leave the directory there.
    #[arg(long)]
    keep: bool,
}

#[derive(Subcommand)]
enum Filling {
    /// Fills a spool; for the program's own use
    Prefill {
        #[arg(long)]
        state_dir: PathBuf,
        #[arg(long)]
        agent: String,
        #[arg(long)]
        most_bytes: u64,
        #[arg(long)]
        octets: usize,
        #[arg(long)]
        from_unix_ns: u64,
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> Result<(), Trouble> {
    let options = Options::parse();
    if let Some(Filling::Prefill { state_dir, agent, most_bytes, octets, from_unix_ns, seed }) =
        options.command
    {
        return fleet::prefill(&state_dir, &agent, most_bytes, octets, from_unix_ns, seed);
    }
    let own = std::env::current_exe()?;
    let programs = own.parent().ok_or("this program lies nowhere")?.to_owned();
    let out = std::path::absolute(&options.out)?.join(format!("seed-{}", options.seed));
    // What an earlier run left is not this run's.
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out)?;
    let scene = Scene { seed: options.seed, out: out.clone(), programs, own };
    let happened = fleet::run(&scene)?;
    let judgement = fleet::judge(&happened)?;
    let line = json!({
        "seed": options.seed,
        "small_spools": happened.small,
        "ends_drained": happened.drained,
        "happened": happened.counts,
        "windows": judgement,
        "violations": judgement.violations,
    });
    writeln!(std::io::stdout(), "{line}")?;
    if judgement.violations.is_empty() && !options.keep {
        std::fs::remove_dir_all(&out)?;
    }
    Ok(())
}
