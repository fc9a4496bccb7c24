//! `cargo xtask test`: everything that README and CI call "the tests", in one run that ends in a count.

use crate::{Failure, command, repo::Repo, say, tidy};
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
    for (name, arguments) in CARGO_CHECKS {
        heading(name);
        tally.count(command::run(cargo_command(repo, arguments))?.success);
    }
    heading("tidy");
    tally.count(tidy::report(repo).unwrap_or_else(|failure| {
        say!("error: {failure}");
        false
    }));
    for (name, arguments) in [("tests", test_command()), ("examples in the docs", DOC_TESTS)] {
        heading(name);
        tally.add(counted(&command::run(cargo_command(repo, arguments))?));
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
