//! The rows of "it must show", one module each and all of one shape: what is shown, the bound, the crates it
//! covers, and a run in miniature or in full.

mod agent_cost;
mod capacity;
mod closed;
mod conservation;
mod coordinator;
mod cpu;
mod fault;
mod first_run;
mod fleet_conservation;
mod fuzz;
mod guest;
mod ingest;
mod intervals;
mod merging;
mod omission;
mod outcome;
mod packages;
mod rdma_pairs;
mod recording;
mod rotation;
mod scale;
mod scrape;
mod service;
mod sockperf;
mod standard;
mod sweep;
mod tls_cost;
mod truth;
mod verbs;

use crate::harness::Bench;
use crate::{Failure, repo::Repo};
pub use outcome::{Figure, Outcome};

/// How much of a row is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Seconds: shows that the row can be run and that its structure holds.
    Miniature,
    /// The counts the row promises.
    Full,
}

impl Scale {
    /// `miniature` or `full`, whichever this is.
    pub fn pick<T>(self, miniature: T, full: T) -> T {
        match self {
            Self::Miniature => miniature,
            Self::Full => full,
        }
    }
}

/// Whether a miniature can miss its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Counts and shapes: they hold at any scale, on any machine.
    AtEveryScale,
    /// Times: seconds on a shared machine prove nothing, so a miniature only prints them.
    InFullOnly,
}

/// One row.
#[derive(Debug)]
pub struct Row {
    /// What it is called on the command line and in `docs/runs`.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// What must hold.
    pub bound: &'static str,
    /// Paths whose change makes a recorded run old.
    pub covers: &'static [&'static str],
    /// Whether a miniature can miss.
    pub judged: Judged,
    /// Runs it.
    pub run: fn(&Bench<'_>, Scale) -> Result<Outcome, Failure>,
}

/// The crates that make a measurement.
pub const INSTRUMENT: &[&str] = &["core", "fabric", "agent", "cli"];

/// All rows, in the order of the promise.
pub static ROWS: &[Row] = &[
    truth::ROW,
    omission::ROW,
    conservation::ROW,
    intervals::ROW,
    merging::ROW,
    standard::ROW,
    sockperf::ROW,
    cpu::ROW,
    capacity::ROW,
    recording::ROW,
    ingest::ROW,
    scale::ROW,
    fuzz::ROW,
    first_run::ROW,
    fault::ROW,
    sweep::ROW,
    agent_cost::ROW,
    fleet_conservation::ROW,
    closed::ROW,
    tls_cost::ROW,
    rotation::ROW,
    scrape::ROW,
    guest::ROW,
    verbs::ROW,
    rdma_pairs::ROW,
    service::ROW,
    packages::ROW,
];

/// Rows whose programs are not in the tree yet, and what they wait for. This list only gets shorter.
pub const WAITING: &[(&str, &str)] = &[];

/// What the row waits for, if it does.
pub fn waits_for(row: &Row) -> Option<&'static str> {
    WAITING.iter().find(|(name, _)| *name == row.name).map(|(_, what)| *what)
}

/// The row called `name`.
///
/// # Errors
/// When there is none; the sentence lists those that are.
pub fn named(name: &str) -> Result<&'static Row, Failure> {
    ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        Failure::new(format!("no row `{name}`; there are {}", names.join(", ")))
    })
}

/// Runs one row on a fresh bench; the command lines it used come with the outcome.
///
/// # Errors
/// When a program it needs is missing, does not start, does not end or prints what cannot be read.
pub fn run(repo: &Repo, row: &Row, scale: Scale) -> Result<(Outcome, Vec<String>), Failure> {
    let bench = Bench::new(repo, row.name)?;
    let outcome = (row.run)(&bench, scale)?;
    Ok((outcome, bench.commands()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_waiting_rows_exist() {
        for row in ROWS {
            let same = ROWS.iter().filter(|other| other.name == row.name).count();
            assert_eq!(same, 1, "{}", row.name);
        }
        for (name, _) in WAITING {
            named(name).unwrap();
        }
        assert!(named("nothing").unwrap_err().to_string().contains("truth, omission"));
    }

    #[test]
    fn covered_paths_exist() {
        let repo = Repo::find().unwrap();
        let here = ROWS.iter().filter(|row| waits_for(row).is_none());
        for path in here.flat_map(|row| row.covers) {
            assert!(repo.path(path).exists(), "{path} is covered and does not exist");
        }
    }
}
