//! What is in which package, and where.

/// A package.
#[derive(Debug)]
pub struct Package {
    /// Its name; of a daemon also its program's, its unit's and its state directory's.
    pub name: &'static str,
    /// One line, without its name, as both formats want it.
    pub summary: &'static str,
    /// Some sentences.
    pub description: &'static str,
    /// The section of Debian's archive it would be in.
    pub section: &'static str,
    /// Files, beside those that every package has.
    pub files: &'static [File],
}

/// A file or a directory of files.
#[derive(Debug)]
pub struct File {
    /// Where it lies in the tree, or which program of the release build it is.
    pub from: From,
    /// Where it goes.
    pub to: &'static str,
}

/// Where a file comes from.
#[derive(Debug)]
pub enum From {
    /// The release build; stripped.
    Program(&'static str),
    /// The tree, as it is.
    Tree(&'static str),
    /// The tree, compressed; `.gz` is added to the name.
    Compressed(&'static str),
    /// The tree: a manual page of a daemon, which its program completes.
    Manual(&'static str),
}

/// The directory in which Debian's zsh finds what packages bring; elsewhere it is `site-functions`.
pub const ZSH_OF_DEBIAN: &str = "usr/share/zsh/vendor-completions";
/// Where other zsh find it.
pub const ZSH: &str = "usr/share/zsh/site-functions";

/// All of them.
pub const PACKAGES: &[Package] = &[
    Package {
        name: "railgauge",
        summary: "measures the paths that gradients travel: the operator's tool",
        description: "Measures latency, jitter and loss of the paths between the nodes of a GPU cluster, alone or through a coordinator: \
                      ping, reflect, inventory, sweeps of the whole fabric and their reports.",
        section: "net",
        files: &[
            File { from: From::Program("railgauge"), to: "usr/bin/railgauge" },
            File { from: From::Compressed("deploy/man/"), to: "usr/share/man/man1" },
            File {
                from: From::Tree("deploy/completions/railgauge.bash"),
                to: "usr/share/bash-completion/completions/railgauge",
            },
            File {
                from: From::Tree("deploy/completions/_railgauge"),
                to: "usr/share/zsh/site-functions/_railgauge",
            },
            File {
                from: From::Tree("deploy/completions/railgauge.fish"),
                to: "usr/share/fish/vendor_completions.d/railgauge.fish",
            },
            File {
                from: From::Compressed("docs/measurement.md"),
                to: "usr/share/doc/railgauge/measurement.md",
            },
        ],
    },
    Package {
        name: "railgauge-agent",
        summary: "probes the paths from a node and answers the probes of others",
        description: "The daemon on a node of a GPU cluster: probes the paths that gradients travel as the coordinator plans, answers the \
                      probes of other nodes, and keeps what it measured until the coordinator has it. Neither enabled nor started by its \
                      installation.",
        section: "net",
        files: &[
            File { from: From::Program("railgauge-agent"), to: "usr/bin/railgauge-agent" },
            File {
                from: From::Tree("deploy/systemd/railgauge-agent.service"),
                to: "usr/lib/systemd/system/railgauge-agent.service",
            },
            File {
                from: From::Tree("deploy/sysusers.d/railgauge.conf"),
                to: "usr/lib/sysusers.d/railgauge-agent.conf",
            },
            File {
                from: From::Tree("deploy/tmpfiles.d/railgauge.conf"),
                to: "usr/lib/tmpfiles.d/railgauge-agent.conf",
            },
            File { from: From::Tree("deploy/etc/agent.toml"), to: "etc/railgauge/agent.toml" },
            File {
                from: From::Manual("deploy/packages/man/railgauge-agent.8"),
                to: "usr/share/man/man8/railgauge-agent.8",
            },
            File {
                from: From::Compressed("docs/runbook.md"),
                to: "usr/share/doc/railgauge-agent/runbook.md",
            },
        ],
    },
    Package {
        name: "railgauge-coordinator",
        summary: "plans the probing of a cluster, keeps and judges what was measured",
        description: "The daemon of a GPU cluster: plans who probes whom, merges the latency histograms exactly, and says which node, NIC, \
                      cable or switch is slow. Neither enabled nor started by its installation.",
        section: "net",
        files: &[
            File {
                from: From::Program("railgauge-coordinator"),
                to: "usr/bin/railgauge-coordinator",
            },
            File {
                from: From::Tree("deploy/systemd/railgauge-coordinator.service"),
                to: "usr/lib/systemd/system/railgauge-coordinator.service",
            },
            File {
                from: From::Tree("deploy/sysusers.d/railgauge.conf"),
                to: "usr/lib/sysusers.d/railgauge-coordinator.conf",
            },
            File {
                from: From::Tree("deploy/tmpfiles.d/railgauge.conf"),
                to: "usr/lib/tmpfiles.d/railgauge-coordinator.conf",
            },
            File {
                from: From::Tree("deploy/etc/coordinator.toml"),
                to: "etc/railgauge/coordinator.toml",
            },
            File {
                from: From::Manual("deploy/packages/man/railgauge-coordinator.8"),
                to: "usr/share/man/man8/railgauge-coordinator.8",
            },
            File {
                from: From::Compressed("docs/runbook.md"),
                to: "usr/share/doc/railgauge-coordinator/runbook.md",
            },
            File {
                from: From::Tree("deploy/prometheus/"),
                to: "usr/share/doc/railgauge-coordinator/examples/prometheus",
            },
        ],
    },
];

/// Those with a unit, a user, a configuration and a state directory.
pub const DAEMONS: &[&str] = &["railgauge-agent", "railgauge-coordinator"];

impl Package {
    /// Whether it holds a daemon.
    pub fn is_daemon(&self) -> bool {
        DAEMONS.contains(&self.name)
    }

    /// The program in it.
    pub const fn program(&self) -> &'static str {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Repo;

    #[test]
    fn what_is_packed_is_there() {
        let repo = Repo::find().unwrap();
        for file in PACKAGES.iter().flat_map(|package| package.files) {
            match file.from {
                From::Program(_) => {}
                From::Tree(path) | From::Compressed(path) | From::Manual(path) => {
                    assert!(repo.path(path).exists(), "{path} is packed and does not exist");
                }
            }
        }
    }

    #[test]
    fn a_daemon_comes_with_all_it_needs() {
        for package in PACKAGES.iter().filter(|package| package.is_daemon()) {
            let to: Vec<&str> = package.files.iter().map(|file| file.to).collect();
            for place in [
                "usr/bin/",
                "usr/lib/systemd/",
                "usr/lib/sysusers.d/",
                "usr/lib/tmpfiles.d/",
                "etc/",
                "usr/share/man/",
            ] {
                assert!(
                    to.iter().any(|to| to.starts_with(place)),
                    "{}: nothing in {place}",
                    package.name
                );
            }
        }
    }
}
