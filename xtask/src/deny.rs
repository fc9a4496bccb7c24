//! `cargo xtask deny`: the real cargo-deny, installed below `target/tools` on first use (some minutes).

use crate::repo::Repo;
use crate::{Failure, checks, command};
use std::process::Command;

/// Pinned, so that a new release cannot turn a green tree red.
const VERSION: &str = "0.20.2";

/// Checks bans, licences and sources with deny.toml; true when all hold.
///
/// # Errors
/// When cargo-deny cannot be installed.
pub fn run(repo: &Repo) -> Result<bool, Failure> {
    let home = repo.target().join("tools/cargo-deny");
    let program = home.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = Command::new(checks::cargo());
        install
            .args(["install", "cargo-deny", "--version", VERSION, "--locked", "--root"])
            .arg(&home);
        command::must(install)?;
    }
    let mut deny = Command::new(program);
    deny.args(["--all-features", "check", "bans", "licenses", "sources"]).current_dir(repo.root());
    Ok(command::run(deny)?.success)
}
