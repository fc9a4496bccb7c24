//! `cargo xtask demo`: the main job on this machine. For now one path: a reflector on loopback and a ping of it.

use crate::harness::Bench;
use crate::repo::Repo;
use crate::{Failure, checks, command, say};
use std::process::{Command, Stdio};

/// Builds, measures loopback for 10 s, prints the table and says where to look next; true when it measured.
///
/// # Errors
/// When the reflector does not come to listen.
pub fn run(repo: &Repo) -> Result<bool, Failure> {
    if !checks::release(repo)? {
        return Err(Failure::new("the release build failed, so there is nothing to show"));
    }
    let bench = Bench::new(repo, "demo")?;
    let reflector = bench.reflector(&[])?;
    say!("");
    say!("{}", reflector.running.stderr().trim());
    let mut ping = Command::new(repo.release("railgauge"));
    // The table and the live progress are for whoever watches: straight to the terminal.
    ping.args(["ping", &reflector.address, "--duration", "10s"]).stdin(Stdio::null());
    say!("");
    say!("$ {}", command::shown(&ping));
    let status =
        ping.status().map_err(|error| Failure::because("cannot start railgauge", error))?;
    say!("");
    say!("{NEXT}");
    Ok(status.success())
}

const NEXT: &str = "\
Loopback has no network: what you see is this machine. Between two machines, run `railgauge reflect` on one and on the
other the `railgauge ping` that it prints. How each number comes to be: docs/measurement.md. The result for programs:
--output json, --hlog FILE. What this machine can measure: railgauge inventory. All flags: railgauge ping --help.";
