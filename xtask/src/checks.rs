//! `cargo xtask test`: everything that README and CI call "the tests", in one run that ends in a count.

use crate::rows::{self, Judged, ROWS, Row, Scale};
use crate::{Failure, command, oracle, repo::Repo, rules, say, screen, tidy, tools};
use std::ffi::OsString;
use std::process::Command;

/// How many checks, tests and rows passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
}

impl Tally {
    /// One more, passed or not.
    pub fn count(&mut self, good: bool) {
        if good { self.passed += 1 } else { self.failed += 1 }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The cargo that runs us, so that a chosen toolchain stays chosen.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs everything to the end, whatever fails, and closes with `N passed, N failed`; true when nothing failed.
///
/// # Errors
/// When a program that every machine with Rust has cannot be started.
pub fn run(repo: &Repo) -> Result<bool, Failure> {
    let mut tally = Tally::default();
    heading("tools");
    tally.count(reported(tools::prepare(repo).map(|()| true)));
    for (name, arguments) in CARGO_CHECKS {
        heading(name);
        tally.count(command::run(cargo_command(repo, arguments))?.success);
    }
    heading("tidy");
    tally.count(reported(tidy::report(repo)));
    heading("alert rules");
    tally.count(reported(rules::check(repo)));
    for (name, arguments) in [("tests", test_command()), ("examples in the docs", DOC_TESTS)] {
        heading(name);
        tally.add(counted(&command::run(cargo_command(repo, arguments))?));
    }
    heading("verbs ABI");
    tally.add(counted(&command::run(oracle::command(repo, &cargo()))?));
    if release(repo)? {
        tally.add(rows_in_miniature(repo));
    } else {
        tally.count(false);
        say!("no row was run: the release build failed");
    }
    let waiting: Vec<_> = rows::WAITING.iter().map(|(name, _)| *name).collect();
    if !waiting.is_empty() {
        say!("not shown yet, and not counted: {}", waiting.join(", "));
    }
    say!("");
    say!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

const CARGO_CHECKS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    ("rustdoc", &["doc", "--workspace", "--no-deps", "--locked"]),
];

const DOC_TESTS: &[&str] = &["test", "--workspace", "--doc", "--locked"];

/// nextest runs tests side by side and stops a hanging one; without it cargo's own runner does.
fn test_command() -> &'static [&'static str] {
    let has_nextest = Command::new(cargo()).args(["nextest", "--version"]).output();
    if has_nextest.is_ok_and(|output| output.status.success()) {
        &["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--no-tests=pass"]
    } else {
        &["test", "--workspace", "--all-targets", "--locked", "--no-fail-fast"]
    }
}

/// Builds the programs that the rows start; the rows measure what people run, so nothing but the release build.
///
/// # Errors
/// When cargo cannot be started.
pub fn release(repo: &Repo) -> Result<bool, Failure> {
    heading("release build");
    let arguments =
        ["build", "--release", "--workspace", "--bins", "--locked", "--exclude", "xtask"];
    Ok(command::run(cargo_command(repo, &arguments))?.success)
}

/// Runs the rows called `names` in miniature, with the programs that the release build left; true when none missed its bound.
///
/// # Errors
/// When there is no such row.
pub fn miniatures(repo: &Repo, names: &[String]) -> Result<bool, Failure> {
    let mut tally = Tally::default();
    for name in names {
        let row = rows::named(name)?;
        heading(row.name);
        let (verdict, figures) = one_row(repo, row, &mut tally);
        say!("{verdict}: {figures}");
    }
    Ok(tally.failed == 0)
}

/// Runs every row in miniature and prints what each brought out beside its bound.
fn rows_in_miniature(repo: &Repo) -> Tally {
    let mut tally = Tally::default();
    let mut table = String::new();
    for row in ROWS {
        heading(row.name);
        let (verdict, figures) = match rows::waits_for(row) {
            Some(what) => ("waiting".to_owned(), format!("for {what}")),
            None => one_row(repo, row, &mut tally),
        };
        say!("{verdict}: {figures}");
        table.push_str(&screen::entry(row.name, &verdict, &[&figures, row.bound]));
    }
    heading("it must show, in miniature (`cargo xtask long` runs the full counts)");
    say!("{}", table.trim_end());
    tally
}

/// A judged row that misses is run once more, and both misses are printed: some shapes ("500 samples waited") cannot show while
/// another machine's guest has the CPU, and a broken rule misses twice.
fn one_row(repo: &Repo, row: &Row, tally: &mut Tally) -> (String, String) {
    let first = rows::run(repo, row, Scale::Miniature);
    let outcome = match first {
        Ok((outcome, _)) if row.judged == Judged::AtEveryScale && !outcome.misses.is_empty() => {
            outcome.misses.iter().for_each(|miss| say!("miss: {miss}"));
            say!("once more, in case the machine was taken away: {}", outcome.summary());
            rows::run(repo, row, Scale::Miniature)
        }
        other => other,
    };
    let outcome = match outcome {
        Ok((outcome, _)) => outcome,
        Err(failure) => {
            tally.count(false);
            return ("failed".to_owned(), failure.to_string());
        }
    };
    for miss in &outcome.misses {
        say!("miss: {miss}");
    }
    let judged = row.judged == Judged::AtEveryScale;
    let held = outcome.misses.is_empty();
    tally.count(held || !judged);
    let verdict = match (judged, held) {
        (true, true) => "ok",
        (true, false) => "miss",
        (false, _) => "figure, not judged in the miniature",
    };
    (verdict.to_owned(), outcome.summary())
}

/// Runs the unit tests of `package` whose names contain `filter`, with further environment.
///
/// # Errors
/// When cargo cannot be started.
pub fn library_tests(
    repo: &Repo,
    package: &str,
    filter: &str,
    environment: &[(&str, &str)],
) -> Result<Tally, Failure> {
    let arguments = ["test", "--release", "--locked", "--lib", "--package", package, filter];
    let mut command = cargo_command(repo, &arguments);
    command.envs(environment.iter().copied());
    Ok(counted(&command::run(command)?))
}

fn cargo_command(repo: &Repo, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.args(arguments).current_dir(repo.root());
    command.env("RUSTDOCFLAGS", "-D warnings").env("CARGO_TERM_COLOR", "never");
    command
}

/// The tests a runner counted. A runner that failed without naming a failed test (it did not compile) counts as one.
fn counted(finished: &command::Finished) -> Tally {
    let mut tally = Tally::default();
    for line in finished.output.lines().map(str::trim) {
        if line.starts_with("test result:") || line.starts_with("Summary [") {
            tally.passed += number_before(line, "passed");
            tally.failed += number_before(line, "failed") + number_before(line, "timed out");
        }
    }
    if !finished.success && tally.failed == 0 {
        tally.failed = 1;
    }
    tally
}

fn number_before(line: &str, word: &str) -> usize {
    let before = line.split_once(&format!(" {word}")).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A step that could not be done is a step that failed; its sentence is printed.
fn reported(done: Result<bool, Failure>) -> bool {
    done.unwrap_or_else(|failure| {
        say!("error: {failure}");
        false
    })
}

fn heading(name: &str) {
    say!("");
    say!("== {name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str, success: bool) -> (usize, usize) {
        let tally = counted(&command::Finished { output: output.to_owned(), success });
        (tally.passed, tally.failed)
    }

    #[test]
    fn both_runners_are_counted() {
        let nextest = "     Summary [   0.02s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped";
        assert_eq!(tally(nextest, false), (10, 2));
        let cargo = "test result: ok. 3 passed; 0 failed; 1 ignored\ntest result: FAILED. 1 passed; 2 failed;";
        assert_eq!(tally(cargo, false), (4, 2));
    }

    #[test]
    fn a_build_that_fails_is_a_failure() {
        assert_eq!(tally("error: could not compile", false), (0, 1));
        assert_eq!(tally("     Summary [ 0.0s] 0 tests run: 0 passed, 0 skipped", true), (0, 0));
    }
}
