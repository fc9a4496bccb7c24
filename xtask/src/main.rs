//! The project's own steps, the same in CI and by hand: `cargo xtask --help` lists them.

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;
use xtask::guest::{self, Job};
use xtask::{Failure, checks, demo, deny, generated, long, package, repo::Repo, say, tidy, tools};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own steps, the same in CI and by hand")]
struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Prepare what is needed, then run every check and every row of "it must show" in miniature
    Test,
    /// Run rows of "it must show" at their full counts and record them in docs/runs
    Long {
        /// Rows to run; without one, those whose record is missing or old
        rows: Vec<String>,
        /// Print which records are missing or older than the code they cover, and run nothing
        #[arg(long, conflicts_with_all = ["rows", "dirty"])]
        status: bool,
        /// Write the table in docs/benchmarks.md from the records, and run nothing
        #[arg(long, conflicts_with_all = ["rows", "dirty", "status"])]
        table: bool,
        /// Record from a working tree that differs from its commit; the record says so
        #[arg(long)]
        dirty: bool,
        /// Run the named rows in miniature, as `test` does, and record nothing
        #[arg(long, requires = "rows", conflicts_with_all = ["dirty", "status", "table"])]
        miniature: bool,
    },
    /// Show the main job on this machine: measure loopback for 10 s
    Demo,
    /// Write the generated files: man pages and shell completions
    Gen,
    /// Pack the programs of the release build, which is there already, as Debian and RPM packages below target/package
    Package,
    /// Prepare what the tests need beside Rust and a C compiler, and do nothing else
    Tools,
    /// Check bans, licences and sources with cargo-deny, which is installed on first use (some minutes)
    Deny,
    /// Check the house rules: dependency direction, unsafe code, licences, texts, generated files
    Tidy,
    /// Run a command in a guest with four soft-RoCE NICs: testbed/guest/README.md
    Guest {
        /// Leave the fabric for the command to make
        #[arg(long)]
        bare: bool,
        /// How long the command may run, in seconds
        #[arg(long, default_value_t = 600)]
        limit: u64,
        /// Memory of the guest in MiB
        #[arg(long, default_value_t = 2048)]
        memory: u32,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().step) {
        Ok(code) => code,
        Err(failure) => {
            say!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(step: &Step) -> Result<ExitCode, Failure> {
    let repo = Repo::find()?;
    let good = match step {
        Step::Guest { bare, limit, memory, command } => {
            let mut job = Job::new(command);
            (job.has_fabric, job.memory_mib) = (!bare, *memory);
            job.limit = Duration::from_secs(*limit);
            return guest::by_hand(&repo, &job);
        }
        Step::Test => checks::run(&repo)?,
        Step::Long { status: true, .. } => long::status(&repo)?,
        Step::Long { table: true, .. } => long::write_table(&repo).map(|()| true)?,
        Step::Long { rows, miniature: true, .. } => checks::miniatures(&repo, rows)?,
        Step::Long { rows, dirty, .. } => long::run(&repo, rows, *dirty)?,
        Step::Demo => demo::run(&repo)?,
        Step::Gen => generated::write(&repo, &generated::all(&repo)?).map(|()| true)?,
        Step::Package => package::run(&repo)?,
        Step::Tools => tools::prepare(&repo).map(|()| true)?,
        Step::Deny => deny::run(&repo)?,
        Step::Tidy => tidy::report(&repo)?,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
