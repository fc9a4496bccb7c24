//! The project's own steps, the same in CI and by hand: `cargo xtask --help` lists them.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{Failure, checks, repo::Repo, say, tidy};

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
    /// Check the house rules: dependency direction, unsafe code, licences, texts, generated files
    Tidy,
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
        Step::Test => checks::run(&repo)?,
        Step::Tidy => tidy::report(&repo)?,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
