#![expect(clippy::disallowed_macros, reason = "a build script speaks to cargo through stdout")]
//! Puts the commit into the version, where there is a repository to ask.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/refs/heads");
    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = git.ok().filter(|output| output.status.success()).and_then(|output| {
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    });
    let version = env!("CARGO_PKG_VERSION");
    let version =
        commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=RAILGAUGE_VERSION={version}");
}
