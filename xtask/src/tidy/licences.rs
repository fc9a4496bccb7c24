//! Whether every crate we build on has a licence that deny.toml allows.
//!
//! The same list that `cargo deny` reads, judged here from `cargo metadata` because building cargo-deny takes
//! longer than all other checks together; `cargo xtask deny` runs the real one.

use super::complaint::Complaint;
use super::dependencies::{name, packages};
use crate::Failure;
use serde_json::Value;

/// The licences of `[licenses] allow = […]` in deny.toml.
///
/// # Errors
/// When there is no such list: an empty one would refuse everything, a missing one must not allow everything.
pub fn allow_list(deny: &str) -> Result<Vec<String>, Failure> {
    let list = deny
        .split_once("\n[licenses]")
        .and_then(|(_, section)| section.split_once("\nallow = ["))
        .and_then(|(_, list)| list.split_once("\n]"))
        .map(|(list, _)| list);
    let list = list.ok_or_else(|| {
        Failure::new("deny.toml has no `[licenses]` with `allow = [`, one licence a line, and `]`")
    })?;
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    let names = lines.filter_map(|line| line.split('"').nth(1));
    Ok(names.map(str::to_owned).collect())
}

/// Crates that come with the text of a licence and do not name it, read by hand. One in what we ship would need a `clarify` in
/// deny.toml as well.
const READ_BY_HAND: &[(&str, &str, &str)] = &[
    // The oracle of the verbs ABI alone.
    ("rdma-sys", "0.3.0", "MIT"),
];

/// The licence of a package, in SPDX.
fn licence(package: &Value) -> Option<&str> {
    let is = |(name, version, _): &&(&str, &str, &str)| {
        package["name"].as_str() == Some(name) && package["version"].as_str() == Some(version)
    };
    let read = || READ_BY_HAND.iter().find(is).map(|(_, _, licence)| *licence);
    package["license"].as_str().or_else(read)
}

/// Complaints about crates whose licence `allowed` does not cover.
pub fn check(metadata: &Value, allowed: &[String]) -> Vec<Complaint> {
    let judged = packages(metadata).map(|package| (package, licence(package)));
    let refused = judged.filter(|(_, licence)| !licence.is_some_and(|l| permits(l, allowed)));
    refused
        .map(|(package, licence)| {
            let version = package["version"].as_str().unwrap_or_default();
            let licence = licence.unwrap_or("none declared");
            let wrong = format!("{} {version} has licence `{licence}`", name(package));
            let instead = "do without it, or argue in the commit that allows it";
            Complaint::at("deny.toml", 0, wrong, instead)
        })
        .collect()
}

/// Whether an SPDX expression can be satisfied with `allowed` licences alone.
///
/// `OR` binds weaker than `AND`; the old `A/B` means `OR`. `X WITH Y` must be listed as it stands.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at, allowed) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut permitted = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        permitted |= all_of(words, at, allowed);
    }
    permitted
}

fn all_of(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut permitted = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        permitted &= one(words, at, allowed);
    }
    permitted
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let permitted = any_of(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return permitted && closed;
    }
    let mut licence = (*word).to_owned();
    if let (Some(&"WITH"), Some(exception)) = (words.get(*at), words.get(*at + 1)) {
        licence = format!("{licence} WITH {exception}");
        *at += 2;
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn allowed() -> Vec<String> {
        allow_list("x\n[licenses]\nallow = [\n  \"MIT\", # why\n  \"Apache-2.0\",\n]\n").unwrap()
    }

    #[test]
    fn expressions_are_judged() {
        for good in
            ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND Apache-2.0", "(MIT OR X) AND MIT"]
        {
            assert!(permits(good, &allowed()), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "MIT WITH Odd-exception", "", "(MIT", "MIT MIT"] {
            assert!(!permits(bad, &allowed()), "{bad}");
        }
    }

    #[test]
    fn an_undeclared_licence_is_refused() {
        let metadata = json!({"packages": [{"name": "a", "version": "1.0.0", "license": null},
                                           {"name": "b", "version": "1.0.0", "license": "MIT"}]});
        let found = check(&metadata, &allowed());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].wrong, "a 1.0.0 has licence `none declared`");
    }

    #[test]
    fn a_licence_read_by_hand_is_that_of_one_version() {
        let of = |version: &str| {
            let package = json!({"name": "rdma-sys", "version": version, "license": null});
            check(&json!({"packages": [package]}), &allowed()).len()
        };
        assert_eq!((of("0.3.0"), of("0.4.0")), (0, 1));
    }

    #[test]
    fn a_missing_list_is_an_error() {
        assert!(allow_list("[bans]\n").is_err());
    }
}
