//! `railgauge-coordinator`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use railgauge_coordinator::config::{self, Config, Layer};
use railgauge_coordinator::server::{self, Running, StartError};
use railgauge_coordinator::session::Limits;
use railgauge_coordinator::{VERSION, clock, epoch, notify, sentence};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing_subscriber::EnvFilter;

/// Usage or configuration is wrong.
const USAGE: u8 = 2;
/// Nothing wrong with it, and yet it cannot run.
const CANNOT: u8 = 3;

/// The daemon of a cluster: it plans who probes whom, keeps what was measured, and answers `railgauge`
#[derive(Parser)]
#[command(
    name = "railgauge-coordinator",
    version = VERSION,
    after_help = "--check-config shows the defaults. While all is well it says nothing; RAILGAUGE_LOG=info says more. SIGHUP reads \
                  the configuration again. Exit codes: 0 told to stop; 2 usage or configuration; 3 it could not run."
)]
struct Arguments {
    /// The configuration file [default: /etc/railgauge/coordinator.toml, if it is there]
    #[arg(long, env = "RAILGAUGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration in force as TOML, and exit
    #[arg(long)]
    check_config: bool,
    /// Write the addresses in use to this file once it listens
    #[arg(long, value_name = "FILE")]
    addresses_file: Option<PathBuf>,
    #[command(flatten)]
    flags: Layer,
}

/// Why the process ends otherwise than asked: its exit code, and a sentence.
struct Failure(u8, String);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, sentence)) => {
            // Where stderr is closed, the exit code still tells.
            drop(writeln!(io::stderr(), "railgauge-coordinator: {sentence}"));
            ExitCode::from(code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let usage = |error: &dyn std::error::Error| Failure(USAGE, sentence(error));
    let config = config::load(arguments.config.as_deref(), &arguments.flags);
    let config = config.map_err(|error| usage(&error))?;
    if arguments.check_config {
        let printed = io::stdout().write_all(config.to_toml().as_bytes());
        printed.map_err(|error| usage(&error))?;
        return config.check_exposure().map_err(|error| usage(&error));
    }
    let filter =
        EnvFilter::try_from_env("RAILGAUGE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(io::stderr)
        .init();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure(CANNOT, sentence(&error)))?;
    runtime.block_on(serve(arguments, config))
}

/// Every agent takes a file descriptor, and the usual soft limit of 1,024 is there for programs that use select(2).
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 20), hard));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

async fn serve(arguments: &Arguments, config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure(CANNOT, sentence(&error)))?;
    let running = server::start(config, Limits::default()).await.map_err(|error| {
        // A certificate whose time is not now passes by itself: after a boot the clock comes late, and who starts us again is to go on.
        let usage = match &error {
            StartError::Credentials(error) => !error.passes(),
            StartError::Config(_) | StartError::NoCertificate(_) | StartError::Identity { .. } => {
                true
            }
            _ => false,
        };
        let code = if usage { USAGE } else { CANNOT };
        Failure(code, sentence(&error))
    })?;
    if let Some(path) = &arguments.addresses_file {
        publish(path, &running).map_err(|error| {
            Failure(CANNOT, format!("cannot write {}: {error}", path.display()))
        })?;
    }
    notify::ready();
    tracing::info!("gRPC on {}, HTTP on {}", running.grpc, running.http);
    until_stopped(arguments, &running, &mut signals).await;
    notify::stopping();
    running.stop().await;
    Ok(())
}

fn publish(path: &Path, running: &Running) -> io::Result<()> {
    let addresses = format!("grpc={}\nhttp={}\n", running.grpc, running.http);
    epoch::write_durably(path, addresses.as_bytes())
}

/// What the process listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

async fn until_stopped(arguments: &Arguments, running: &Running, signals: &mut Signals) {
    // Half of what systemd waits for, as its manual advises; without a watchdog, often enough for the status line.
    let every = notify::watchdog().map_or(Duration::from_secs(10), |watchdog| watchdog / 2);
    let mut alive = interval(every.max(Duration::from_millis(100)));
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hang_up.recv() => {
                notify::reloading();
                // Nor is one taken over that the next start would refuse.
                let read = config::load(arguments.config.as_deref(), &arguments.flags)
                    .and_then(|config| config.check_exposure().map(|()| config));
                running.pages.metrics.reloaded(read.is_ok());
                match read {
                    Ok(config) => running.reload(config),
                    Err(error) => {
                        tracing::error!("the configuration stays as it was: {}", sentence(&error));
                    }
                }
                notify::ready();
            }
            _ = alive.tick() => {
                if running.pages.illness().is_none() {
                    notify::alive(&status(running));
                }
            }
        }
    }
}

fn status(running: &Running) -> String {
    let stored = running.ingest.counters().windows_ingested();
    let now = clock::now();
    let silent = running.ingest.silent_for(now.monotonic).as_secs();
    let waits =
        if silent > 5 { format!(", the store is silent for {silent} s") } else { String::new() };
    let failing = running.ingest.counters().failing();
    let fails = failing.map_or_else(String::new, |why| format!(", none can be stored now: {why}"));
    format!("{} agents connected, {stored} windows stored{waits}{fails}", running.fleet.open())
}
