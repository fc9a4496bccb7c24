//! Who wrote what is in our programs beside us, and under which licence: most licences of crates want their text to travel with the program.

use super::Failure;
use super::elf::Machine;
use crate::command;
use crate::repo::Repo;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Files of a crate that are its licence or go with it begin so.
const BEGINNINGS: &[&str] = &["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "UNLICENSE"];

/// The crates of others in a program of ours, each with its licence, then their texts, each once.
///
/// # Errors
/// When cargo does not tell what the program is made of.
pub fn of(repo: &Repo, package: &str, machine: Machine) -> Result<String, Failure> {
    let mut command = Command::new(crate::checks::cargo());
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform"]);
    command.arg(format!("{}-unknown-linux-gnu", machine.rpm())).current_dir(repo.root());
    let shown = command::shown(&command);
    let output = command.output();
    let output =
        output.map_err(|error| Failure::because(format!("cannot run `{shown}`"), error))?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::because(format!("`{shown}` printed what is no JSON"), error))?;
    let crates = closure(&metadata, package)
        .ok_or_else(|| Failure::new(format!("`{shown}` says nothing of {package}")))?;
    Ok(text(&crates, texts_of))
}

/// A crate of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    name: String,
    version: String,
    licence: String,
    authors: Vec<String>,
    manifest: String,
}

/// What is linked into `package`, itself and our own crates left out: what builds or tests it is not in it.
fn closure(metadata: &Value, package: &str) -> Option<BTreeSet<Part>> {
    let packages = metadata["packages"].as_array()?;
    let by_id: BTreeMap<&str, &Value> =
        packages.iter().filter_map(|one| Some((one["id"].as_str()?, one))).collect();
    let nodes = metadata["resolve"]["nodes"].as_array()?;
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let root = by_id.iter().find(|(_, one)| one["name"] == package && one["source"].is_null())?;
    let (mut seen, mut open) = (BTreeSet::from([*root.0]), vec![*root.0]);
    while let Some(id) = open.pop() {
        for dependency in nodes.get(id)?["deps"].as_array()? {
            let linked =
                dependency["dep_kinds"].as_array()?.iter().any(|kind| kind["kind"].is_null());
            let id = dependency["pkg"].as_str()?;
            if linked && seen.insert(id) {
                open.push(id);
            }
        }
    }
    let others = seen.iter().filter_map(|id| by_id.get(id)).filter(|one| !one["source"].is_null());
    Some(others.map(|one| part(one)).collect())
}

fn part(one: &Value) -> Part {
    let word = |key: &str| one[key].as_str().unwrap_or("not stated").to_owned();
    let authors = one["authors"].as_array().into_iter().flatten();
    Part {
        name: word("name"),
        version: word("version"),
        licence: word("license"),
        authors: authors.filter_map(Value::as_str).map(str::to_owned).collect(),
        manifest: word("manifest_path"),
    }
}

/// The texts that lie beside a crate's manifest, sorted by name.
fn texts_of(part: &Part) -> Vec<String> {
    let directory = Path::new(&part.manifest).parent().unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        path.is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    });
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

fn text(parts: &BTreeSet<Part>, texts: impl Fn(&Part) -> Vec<String>) -> String {
    let mut out = "This program contains the following works of others.\n\n".to_owned();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in parts {
        let by = if part.authors.is_empty() {
            String::new()
        } else {
            format!(", by {}", part.authors.join(", "))
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} {}: {}{by}", part.name, part.version, part.licence);
        for text in texts(part) {
            let text = text.trim().replace('\r', "");
            users.entry(text).or_default().push(format!("{} {}", part.name, part.version));
        }
    }
    let mut texts: Vec<(String, String)> =
        users.into_iter().map(|(text, users)| (users.join(", "), text)).collect();
    texts.sort();
    for (users, text) in texts {
        let _ = write!(out, "\n{}\n{users}:\n\n{text}\n", "-".repeat(80));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_linked_is_named_and_each_text_stands_once() {
        let one = |id: &str, source: Value| json!({"id": id, "name": id, "version": "1", "license": "MIT", "authors": ["A"], "source": source, "manifest_path": "/x/Cargo.toml"});
        let link = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [one("ours", Value::Null), one("core", Value::Null), one("a", json!("r")), one("b", json!("r")), one("builds", json!("r"))],
            "resolve": {"nodes": [
                {"id": "ours", "deps": [link("core", Value::Null), link("builds", json!("build"))]},
                {"id": "core", "deps": [link("a", Value::Null)]},
                {"id": "a", "deps": [link("b", Value::Null), link("builds", json!("dev"))]},
                {"id": "b", "deps": []},
                {"id": "builds", "deps": []},
            ]},
        });
        let parts = closure(&metadata, "ours").unwrap();
        assert_eq!(parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let said = text(&parts, |_| vec!["Be kind.\r\n".to_owned()]);
        assert!(said.contains("a 1: MIT, by A\nb 1: MIT, by A\n"), "{said}");
        assert_eq!(said.matches("Be kind.").count(), 1);
        assert!(said.contains("\na 1, b 1:\n\nBe kind.\n"), "{said}");
        assert_eq!(closure(&metadata, "nobody"), None);
    }
}
