//! The `railgauge` command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Quiet when healthy: warnings only, unless RAILGAUGE_LOG says otherwise (as in `RAILGAUGE_LOG=debug`).
    let filter =
        EnvFilter::try_from_env("RAILGAUGE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(color)
        .with_writer(io::stderr)
        .init();
    railgauge_cli::run(railgauge_cli::args::Cli::parse()).into()
}
