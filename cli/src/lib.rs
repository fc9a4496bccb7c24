//! The `railgauge` command: what was typed, what it means, what is printed, which code it exits with.

pub mod args;
mod certs;
mod columns;
mod demo;
mod fail_if;
pub mod inventory;
mod keys;
mod nodes;
mod number;
mod output;
mod path_table;
mod paths;
mod ping;
mod reading;
mod reflect;
mod remote;
mod report;
mod stop;
mod sweep;

use std::process::ExitCode;

use args::{Cli, Command};

/// Exit codes (contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done and healthy.
    Healthy,
    /// Done, and something is degraded or failed.
    Degraded,
    /// Usage or configuration.
    Usage,
    /// Could not measure.
    Unmeasured,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Healthy => 0,
            Exit::Degraded => 1,
            Exit::Usage => 2,
            Exit::Unmeasured => 3,
        })
    }
}

/// Runs what was typed.
pub fn run(cli: Cli) -> Exit {
    match cli.command {
        Command::Ping(args) => ping::run(*args),
        Command::Reflect(args) => reflect::run(&args),
        Command::Inventory(args) => inventory::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Nodes(args) => nodes::run(&args),
        Command::Paths(args) => paths::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Certs(args) => certs::run(&args),
    }
}
