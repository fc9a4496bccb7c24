//! The house rules that no compiler keeps, as a test. Every complaint names the place, what is wrong and what
//! to do instead; exceptions stand in one list each, which may only get shorter.

mod complaint;
mod dependencies;
mod licences;
mod purity;
mod runbook;
mod rust_code;
mod texts;
mod unsafe_code;

use crate::{Failure, command, generated, repo::Repo, say};
pub use complaint::Complaint;
use serde_json::Value;
use std::process::Command;

/// Checks the tree and prints every complaint; true when there is none.
///
/// # Errors
/// When git or cargo cannot tell what the tree holds.
pub fn report(repo: &Repo) -> Result<bool, Failure> {
    let complaints = check(repo)?;
    for complaint in &complaints {
        say!("{complaint}");
    }
    say!("tidy: {} complaints", complaints.len());
    Ok(complaints.is_empty())
}

/// Every complaint about the tree, sorted by place.
///
/// # Errors
/// When git or cargo cannot tell what the tree holds.
pub fn check(repo: &Repo) -> Result<Vec<Complaint>, Failure> {
    let mut complaints = Vec::new();
    let files = repo.files()?;
    for path in &files {
        // Not UTF-8 means not written by hand: captures and corpora carry no rule of ours.
        if let Ok(text) = std::fs::read_to_string(repo.path(path)) {
            complaints.extend(check_file(path, &text));
        }
    }
    complaints.extend(texts::stale_length_exceptions(&files));
    let allowed = licences::allow_list(&read(repo, "deny.toml")?)?;
    for manifest in files.iter().filter(|path| is_workspace(repo, path)) {
        let metadata = metadata(repo, manifest)?;
        complaints.extend(licences::check(&metadata, &allowed));
        if manifest == "Cargo.toml" {
            complaints.extend(dependencies::check(&metadata, |manifest| {
                std::fs::read_to_string(manifest).unwrap_or_default()
            }));
        }
    }
    complaints.extend(runbook::check(|path| read(repo, path))?);
    complaints.extend(generated::check(repo, &generated::all(repo)?)?);
    complaints.sort();
    Ok(complaints)
}

/// The complaints that one file's path and text give rise to.
fn check_file(path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = texts::check(path, text);
    if path.ends_with(".rs") {
        let code = rust_code::without_comments_and_strings(text);
        complaints.extend(unsafe_code::check(path, text, &code));
        complaints.extend(purity::check(path, &code));
        complaints.extend(texts::check_rust(path, &code));
    }
    complaints
}

fn read(repo: &Repo, path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(repo.path(path))
        .map_err(|error| Failure::because(format!("cannot read {path}"), error))
}

/// Whether `path` is the manifest of a workspace: the house itself, or one that stands apart (fuzz targets).
fn is_workspace(repo: &Repo, path: &str) -> bool {
    (path == "Cargo.toml" || path.ends_with("/Cargo.toml"))
        && read(repo, path).is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
}

/// What `cargo metadata` knows of a workspace and of all it depends on.
fn metadata(repo: &Repo, manifest: &str) -> Result<Value, Failure> {
    let mut command = Command::new(crate::checks::cargo());
    command.args(["metadata", "--format-version=1", "--locked", "--manifest-path", manifest]);
    command.current_dir(repo.root());
    let shown = command::shown(&command);
    let output = command
        .output()
        .map_err(|error| Failure::because(format!("cannot run `{shown}`"), error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::because(format!("`{shown}` failed"), said.trim()));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::because(format!("`{shown}` printed what is no JSON"), error))
}
