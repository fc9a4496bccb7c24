//! `cargo xtask demo`: the main job on this machine: a small fabric, started, probed, swept, reported and stopped.

use crate::repo::Repo;
use crate::{Failure, checks, command, say};
use std::process::{Command, Stdio};

/// Builds, runs `railgauge demo`, says where to look next; true when a verdict came.
///
/// # Errors
/// When it cannot be built or started.
pub fn run(repo: &Repo) -> Result<bool, Failure> {
    if !checks::release(repo)? {
        return Err(Failure::new("the release build failed, so there is nothing to show"));
    }
    let mut demo = Command::new(repo.release("railgauge"));
    demo.args(["demo", "--out", "target/demo"]).current_dir(repo.root()).stdin(Stdio::null());
    say!("");
    say!("$ {}", command::shown(&demo));
    // The table and the live progress are for whoever watches: straight to the terminal.
    let status =
        demo.status().map_err(|error| Failure::because("cannot start railgauge", error))?;
    say!("");
    say!("{NEXT}");
    // Degraded is a verdict too: this machine may be.
    Ok(matches!(status.code(), Some(0 | 1)))
}

const NEXT: &str = "\
Loopback has no network: what you see is this machine. Between two machines, run `railgauge reflect` on one and on the
other the `railgauge ping` that it prints. How each number comes to be: docs/measurement.md. What this machine can
measure: railgauge inventory. All commands: railgauge --help.";
