//! The working tree: where it is, what git tracks in it, and which commit it stands on.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The working tree these steps act on.
#[derive(Debug, Clone)]
pub struct Repo {
    root: PathBuf,
}

impl Repo {
    /// The workspace that the current directory is in.
    ///
    /// # Errors
    /// When no directory from here upwards holds a `Cargo.toml` with a `[workspace]`.
    pub fn find() -> Result<Self, Failure> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::because("cannot tell the current directory", error))?;
        here.ancestors()
            .find(|directory| {
                std::fs::read_to_string(directory.join("Cargo.toml"))
                    .is_ok_and(|manifest| manifest.contains("[workspace]"))
            })
            .map(Self::at)
            .ok_or_else(|| {
                Failure::new(format!(
                    "no Cargo workspace at or above {}: run this inside the repository",
                    here.display()
                ))
            })
    }

    /// The working tree whose root is `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root of the working tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// A program the release build makes.
    pub fn release(&self, program: &str) -> PathBuf {
        self.target().join("release").join(program)
    }

    /// Where cargo builds, honouring `CARGO_TARGET_DIR`.
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.path("target"), |directory| self.root.join(directory))
    }

    /// What `git ARGUMENTS` prints, without the last line's end.
    ///
    /// # Errors
    /// When git cannot be started or refuses.
    pub fn git(&self, arguments: &[&str]) -> Result<String, Failure> {
        let what = format!("git {}", arguments.join(" "));
        let output = Command::new("git")
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .map_err(|error| Failure::because(format!("cannot start `{what}`"), error))?;
        if !output.status.success() {
            return Err(Failure::because(
                format!("`{what}` failed"),
                String::from_utf8_lossy(&output.stderr).trim(),
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// The paths git tracks or would track (new files not ignored count, so that a check sees them before
    /// the commit), relative to the root; files deleted in the tree are left out.
    ///
    /// # Errors
    /// As [`Repo::git`].
    pub fn files(&self) -> Result<Vec<String>, Failure> {
        let listed =
            self.git(&["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"])?;
        Ok(listed.lines().filter(|path| self.path(path).is_file()).map(str::to_owned).collect())
    }

    /// The commit the tree stands on.
    ///
    /// # Errors
    /// As [`Repo::git`].
    pub fn head(&self) -> Result<String, Failure> {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Whether the tree differs from [`Repo::head`]; recorded runs themselves (`docs/runs`, the table made
    /// of them) do not count, or no second row could be recorded after the first.
    ///
    /// # Errors
    /// As [`Repo::git`].
    pub fn dirty(&self) -> Result<bool, Failure> {
        let changed = self.git(&[
            "status",
            "--porcelain",
            "--",
            ".",
            ":(exclude)docs/runs",
            ":(exclude)docs/benchmarks.md",
        ])?;
        Ok(!changed.is_empty())
    }
}
