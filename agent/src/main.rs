//! `railgauge-agent`: the daemon on a node.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use railgauge_agent::daemon::config::{self, Config, Flags};
use railgauge_agent::daemon::{self, DaemonError, Source, with_cause};
use tracing_subscriber::EnvFilter;

/// Measures the paths from this node to others, as the coordinator plans, and answers the others' probes.
#[derive(Parser)]
#[command(
    name = "railgauge-agent",
    version = railgauge_agent::VERSION,
    after_help = "While all is well it says nothing; RAILGAUGE_LOG=info says more. SIGHUP reads the configuration again. Exit codes: \
                  0 told to stop; 2 usage or configuration; 3 it could not run."
)]
struct Arguments {
    /// The configuration [default: /etc/railgauge/agent.toml, where there is one]
    #[arg(long, env = "RAILGAUGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration in force, and exit
    #[arg(long)]
    check_config: bool,
    /// Write the addresses in use to this file once it listens
    #[arg(long, value_name = "FILE")]
    addresses_file: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("RAILGAUGE_LOG").unwrap_or_else(|_| "warn".into());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let config =
        match config::load(arguments.config.as_deref(), &arguments.flags, daemon::host_name()) {
            Ok(config) => config,
            Err(error) => return fail(&error, 2),
        };
    if arguments.check_config {
        for complaint in daemon::rdma::complaints(&config) {
            let _ = writeln!(std::io::stderr(), "railgauge-agent: {complaint}");
        }
        return print(&config);
    }
    let source = Source {
        file: arguments.config,
        flags: arguments.flags,
        addresses: arguments.addresses_file,
    };
    // One thread for the network, and those that wait for the disk.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 3),
    };
    let ended = runtime.block_on(daemon::run(config, source));
    // A disk that stands still must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An address that is not there yet, and a certificate whose time is not now, are no mistakes that nobody mends: after a boot
            // interfaces and the clock come late, and who starts us again is to go on doing so.
            let usage = match &error {
                DaemonError::Credentials(error) => !error.passes(),
                DaemonError::NoCertificate(_) | DaemonError::Identity { .. } => true,
                _ => false,
            };
            fail(&error, if usage { 2 } else { 3 })
        }
    }
}

fn print(config: &Config) -> ExitCode {
    match toml::to_string(config) {
        Ok(text) => {
            // Who closes the pipe has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 2),
    }
}

fn fail(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    let line = format!("railgauge-agent: {}\n", with_cause(error));
    let _ = std::io::stderr().write_all(line.as_bytes());
    ExitCode::from(code)
}
