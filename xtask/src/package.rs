//! `cargo xtask package`: Debian and RPM packages of the programs that the release build left, the same octets for the same commit.
//!
//! Three packages, because three kinds of machine want one each: a GPU node the agent, a control host the coordinator, an operator's
//! laptop the tool. What goes where is one table ([`PACKAGES`]); it is staged once a format, and packed by the format's own tool.

mod contents;
mod deb;
mod elf;
mod notices;
mod rpm;
mod stage;

use crate::{Failure, command, repo::Repo, say};
use std::path::{Path, PathBuf};
use std::process::Command;

pub use contents::{DAEMONS, PACKAGES, Package};

/// Who answers for the packages.
const MAINTAINER: &str = "Railgauge maintainers <maintainers@railgauge.example>";

/// What one packing is about.
#[derive(Debug, Clone)]
pub struct Edition {
    /// As packages call it, without a release: the workspace's version.
    pub version: String,
    /// Seconds since 1970 that all of it is dated: the commit's.
    pub epoch: String,
    /// Where packages are left.
    pub out: PathBuf,
    /// A line added to each configuration file: what another version may do to it.
    pub configuration: &'static str,
    /// Compressed little: larger, the same otherwise, and packed in a third of the time.
    pub quick: bool,
}

/// A packed package.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Its name.
    pub name: &'static str,
    /// Its file.
    pub file: PathBuf,
}

impl Edition {
    /// This tree's: its version, its commit's time, `target/package`.
    ///
    /// # Errors
    /// When git cannot tell the time of the commit.
    pub fn of(repo: &Repo) -> Result<Self, Failure> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: repo.git(&["log", "-1", "--format=%ct"])?,
            out: repo.target().join("package"),
            configuration: "",
            quick: false,
        })
    }

    /// The same somewhere else.
    pub fn below(&self, out: impl Into<PathBuf>) -> Self {
        Self { out: out.into(), ..self.clone() }
    }

    /// The same, compressed little.
    pub fn quick(&self) -> Self {
        Self { quick: true, ..self.clone() }
    }

    /// The same programs as another version whose configuration has changed, for trying an upgrade.
    pub fn next(&self, version: &str, configuration: &'static str) -> Self {
        Self { version: version.to_owned(), configuration, ..self.clone() }
    }
}

/// Packs everything in both formats and says where it lies.
///
/// # Errors
/// When a program of the release build or a packing tool is missing, or one refuses.
pub fn run(repo: &Repo) -> Result<bool, Failure> {
    let edition = Edition::of(repo)?;
    for packed in debs(repo, &edition)?.iter().chain(&rpms(repo, &edition)?) {
        say!("{}", packed.file.display());
    }
    Ok(true)
}

/// Packs the Debian packages.
///
/// # Errors
/// As [`run`].
pub fn debs(repo: &Repo, edition: &Edition) -> Result<Vec<Packed>, Failure> {
    let stage = stage::Stage::empty(edition.out.join("stage-deb"))?;
    PACKAGES.iter().map(|package| deb::pack(repo, edition, &stage, package)).collect()
}

/// Packs the RPM packages.
///
/// # Errors
/// As [`run`].
pub fn rpms(repo: &Repo, edition: &Edition) -> Result<Vec<Packed>, Failure> {
    let stage = stage::Stage::empty(edition.out.join("stage-rpm"))?;
    rpm::pack(repo, edition, &stage)
}

/// A tool of one of the formats, which Debian has in `package`.
fn tool(repo: &Repo, program: &str) -> Result<PathBuf, Failure> {
    crate::tools::program(repo, program)
}

fn must(command: Command) -> Result<(), Failure> {
    command::must(command).map(drop)
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    std::fs::write(path, content)
        .map_err(|error| Failure::because(format!("cannot write {}", path.display()), error))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::because(format!("cannot read {}", path.display()), error))
}
