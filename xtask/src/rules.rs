//! The rules for Prometheus, checked and tried out by Prometheus' own tool.

use crate::{Failure, command, repo::Repo, tools};
use std::process::Command;

/// Rules, and the experiments with them.
const RULES: &str = "deploy/prometheus/rules.yml";
const TESTS: &str = "deploy/prometheus/rules_test.yml";

/// Whether `promtool` finds nothing wrong in the rules, and each alert fires and stays silent as its tests say.
///
/// # Errors
/// When there is no `promtool`.
pub fn check(repo: &Repo) -> Result<bool, Failure> {
    let promtool = tools::program(repo, "promtool")?;
    let mut good = true;
    for arguments in [["check", "rules", RULES], ["test", "rules", TESTS]] {
        let mut command = Command::new(&promtool);
        command.args(arguments).current_dir(repo.root());
        good &= command::run(command)?.success;
    }
    Ok(good)
}
