//! Whose each file is that an installation leaves on a machine.

use crate::Failure;
use crate::machine::Machine;
use std::collections::BTreeSet;

/// What the packaging tools write for themselves, and where users are kept: none of it is ours.
const BOOKS: &[&str] = &[
    "/var/lib/dpkg/",
    "/var/lib/rpm/",
    "/var/lib/systemd/deb-systemd-helper",
    "/var/log/",
    "/var/cache/",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/.pwd.lock",
    "/tmp/",
    "/run/",
    "/machine/",
];

/// Paths that are there now and were not before, without the tools' own; deleted ones of the host's begin with `-`.
pub struct Account {
    before: BTreeSet<String>,
}

impl Account {
    /// From here on.
    ///
    /// # Errors
    /// When the machine cannot be listed.
    pub fn open(machine: &Machine) -> Result<Self, Failure> {
        Ok(Self { before: machine.written()?.into_iter().collect() })
    }

    /// What has come since.
    ///
    /// # Errors
    /// When the machine cannot be listed.
    pub fn new_files(&self, machine: &Machine) -> Result<BTreeSet<String>, Failure> {
        let now = machine.written()?.into_iter().filter(|name| !self.before.contains(name));
        Ok(now.filter(|name| !is_of_the_books(name)).collect())
    }
}

fn is_of_the_books(name: &str) -> bool {
    let name = name.strip_prefix('-').unwrap_or(name);
    BOOKS.iter().any(|book| name.starts_with(book))
}

/// What there is beyond `wanted`, and what is missing of it, as sentences.
pub fn compare(when: &str, found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Vec<String> {
    let extra = found
        .difference(wanted)
        .map(|name| format!("{when}: {name} is there, and nobody accounts for it"));
    let missing = wanted.difference(found).map(|name| format!("{when}: {name} is not there"));
    extra.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let misses = compare("removed", &set(&["/a", "/b"]), &set(&["/b", "/c"]));
        assert_eq!(
            misses,
            ["removed: /a is there, and nobody accounts for it", "removed: /c is not there"]
        );
        assert!(is_of_the_books("-/var/lib/dpkg/status-old") && !is_of_the_books("-/etc/hosts"));
    }
}
