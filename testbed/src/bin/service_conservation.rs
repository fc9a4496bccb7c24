//! What became of the windows of agents that ran as services: judges their ledgers, their state directories and the coordinator's store
//! once all have ended drained, and prints one line of JSON. It merges what is in the store: give it copies.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use railgauge_testbed::fleet::{self, Happened, Trouble};
use serde_json::json;

/// Judges what is left.
#[derive(Parser)]
struct Options {
    /// A copy of the coordinator's store.
    #[arg(long)]
    store: PathBuf,
    /// Where this program may write.
    #[arg(long)]
    out: PathBuf,
    /// How large their spools may become, octets.
    #[arg(long, default_value_t = 256 << 20)]
    spool_bytes: u64,
    /// Of each agent NAME=STATE_DIRECTORY=LEDGER.
    #[arg(required = true)]
    agents: Vec<String>,
}

fn main() -> Result<(), Trouble> {
    let options = Options::parse();
    let agents = options.agents.iter().map(|agent| {
        let mut parts = agent.splitn(3, '=');
        let mut next =
            || parts.next().ok_or_else(|| format!("{agent} is no NAME=STATE_DIRECTORY=LEDGER"));
        Ok((next()?.to_owned(), PathBuf::from(next()?), PathBuf::from(next()?)))
    });
    let agents = agents.collect::<Result<Vec<_>, String>>()?;
    std::fs::create_dir_all(&options.out)?;
    // Of the coordinator no ledger was kept: no faults were put into it.
    std::fs::write(options.out.join("coordinator.ledger"), [])?;
    let judgement = fleet::judge(&Happened {
        counts: BTreeMap::new(),
        clean_kill: None,
        small: false,
        drained: true,
        violations: Vec::new(),
        agents,
        spool_bytes: options.spool_bytes,
        store: options.store,
        out: options.out,
    })?;
    let line = json!({ "windows": judgement, "violations": judgement.violations });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
