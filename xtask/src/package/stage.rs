//! The files of packages as they will lie on a machine: one directory a package, modes set, nothing dated but by the commit.

use super::contents::{File, From, Package};
use super::{Edition, Failure, must, read, write};
use crate::repo::Repo;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where packages are staged.
#[derive(Debug)]
pub struct Stage(PathBuf);

impl Stage {
    /// An empty one.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn empty(at: PathBuf) -> Result<Self, Failure> {
        let _ = std::fs::remove_dir_all(&at);
        make(&at)?;
        // A relative path would be another one to the tools that work elsewhere.
        let at = at
            .canonicalize()
            .map_err(|error| Failure::because(format!("cannot find {}", at.display()), error))?;
        Ok(Self(at))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of one package.
    pub fn of(&self, package: &Package) -> PathBuf {
        self.0.join(package.name)
    }

    /// Puts the files of `package` there; `elsewhere` says under what other name a file goes in this format.
    ///
    /// # Errors
    /// When a file is missing or cannot be written.
    pub fn fill(
        &self,
        repo: &Repo,
        edition: &Edition,
        package: &Package,
        elsewhere: impl Fn(&str) -> String,
    ) -> Result<PathBuf, Failure> {
        let root = self.of(package);
        for file in package.files {
            one(repo, edition, file, &root.join(elsewhere(file.to)))?;
        }
        for setting in
            files(&root)?.iter().filter(|name| name.starts_with("etc/") && !name.ends_with('/'))
        {
            let path = root.join(setting);
            write(&path, format!("{}{}", read(&path)?, edition.configuration))?;
        }
        let doc = root.join("usr/share/doc").join(package.name);
        make(&doc)?;
        compress(&repo.path("CHANGELOG.md"), &doc.join("changelog.gz"))?;
        let machine = super::elf::needs(repo, &repo.release(package.program()))?.machine;
        let notices = doc.join("third-party-notices");
        // The crate of each program is called railgauge-something, and that of the tool railgauge-cli.
        let name = if package.is_daemon() { package.name } else { "railgauge-cli" };
        write(&notices, super::notices::of(repo, name, machine)?)?;
        compress(&notices, &gz(&notices))?;
        std::fs::remove_file(&notices)
            .map_err(|error| Failure::because("cannot remove the plain notices", error))?;
        Ok(root)
    }
}

fn one(repo: &Repo, edition: &Edition, file: &File, to: &Path) -> Result<(), Failure> {
    make(to.parent().unwrap_or(to))?;
    match file.from {
        From::Program(name) => strip(repo, &repo.release(name), to),
        From::Tree(path) => each(&repo.path(path), to, |from, to| {
            std::fs::copy(from, to)
                .map(drop)
                .map_err(|error| Failure::because(format!("cannot copy {}", from.display()), error))
        }),
        From::Compressed(path) => each(&repo.path(path), to, |from, to| compress(from, &gz(to))),
        From::Manual(path) => manual(repo, edition, &repo.path(path), to),
    }
}

/// Applies `put` to a file, or to each file of a directory.
fn each(
    from: &Path,
    to: &Path,
    put: impl Fn(&Path, &Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !from.is_dir() {
        return put(from, to);
    }
    make(to)?;
    let entries = std::fs::read_dir(from);
    for entry in entries
        .map_err(|error| Failure::because(format!("cannot list {}", from.display()), error))?
        .flatten()
    {
        put(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A page with the options that its program prints, whatever they are by now.
fn manual(repo: &Repo, edition: &Edition, from: &Path, to: &Path) -> Result<(), Failure> {
    let page = read(from)?;
    let name = to.file_stem().unwrap_or_default().to_string_lossy();
    let mut help = Command::new(repo.release(&name));
    // Variables that are set would be shown, and a terminal's width counted.
    help.arg("--help").env_clear();
    let output = help
        .output()
        .map_err(|error| Failure::because(format!("cannot ask {name} for its options"), error))?;
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let options =
        options(&help).ok_or_else(|| Failure::new(format!("`{name} --help` lists no options")))?;
    let page = page
        .replace("@VERSION@", &edition.version)
        .replace("\n@OPTIONS@\n", &format!("\n{options}\n"));
    write(to, page)?;
    compress(to, &gz(to))?;
    std::fs::remove_file(to)
        .map_err(|error| Failure::because(format!("cannot remove {}", to.display()), error))
}

/// The list of options in a help text, as troff takes it literally.
fn options(help: &str) -> Option<String> {
    let (_, list) = help.split_once("\nOptions:\n")?;
    let lines = list.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
    let escaped = lines.map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    let text = escaped.collect::<Vec<_>>().join("\n");
    Some(text.trim_end().to_owned())
}

fn gz(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".gz");
    PathBuf::from(name)
}

/// Without a name and a time in it, and as small as can be: what packages hold.
pub fn compress(from: &Path, to: &Path) -> Result<(), Failure> {
    let output = Command::new("gzip").args(["-9nc"]).arg(from).output();
    let output = output.map_err(|error| Failure::because("cannot run gzip", error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::because(format!("cannot compress {}", from.display()), said.trim()));
    }
    write(to, output.stdout)
}

/// Symbols and line tables are two thirds of a program and of no use on a node.
fn strip(repo: &Repo, from: &Path, to: &Path) -> Result<(), Failure> {
    let mut strip = Command::new(super::tool(repo, "strip")?);
    strip.args(["--strip-unneeded", "--remove-section=.comment", "-o"]).arg(to).arg(from);
    must(strip)?;
    std::fs::set_permissions(to, Permissions::from_mode(0o755)).map_err(|error| {
        Failure::because(format!("cannot set the mode of {}", to.display()), error)
    })
}

/// A directory and those above it.
pub fn make(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::because(format!("cannot make {}", directory.display()), error))
}

/// Every file below `root`, relative to it, sorted; directories end in `/`.
///
/// # Errors
/// When a directory cannot be listed.
pub fn files(root: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let directory = root.join(&below);
        let cannot =
            |error| Failure::because(format!("cannot list {}", directory.display()), error);
        for entry in std::fs::read_dir(&directory).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let path = below.join(entry.file_name());
            if entry.file_type().map_err(cannot)?.is_dir() {
                found.push(format!("{}/", path.display()));
                open.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Sets modes that do not depend on the builder's umask: programs and directories for all to use, the rest for all to read.
///
/// # Errors
/// When one cannot be set.
pub fn set_modes(root: &Path) -> Result<(), Failure> {
    for name in files(root)? {
        let program = name.starts_with("usr/bin/") || name.starts_with("DEBIAN/p");
        let mode = if name.ends_with('/') || program { 0o755 } else { 0o644 };
        std::fs::set_permissions(root.join(&name), Permissions::from_mode(mode))
            .map_err(|error| Failure::because(format!("cannot set the mode of {name}"), error))?;
    }
    std::fs::set_permissions(root, Permissions::from_mode(0o755)).map_err(|error| {
        Failure::because(format!("cannot set the mode of {}", root.display()), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_literally() {
        let help = "What it is\n\nUsage: x [OPTIONS]\n\nOptions:\n      --cpu <N>  Pin\n                 [env: X=]\n  -h, --help     Print\n\nExit codes: 0.\n";
        let options = options(help).unwrap();
        assert!(options.starts_with("      \\-\\-cpu <N>  Pin\n"), "{options}");
        assert!(options.ends_with("Print"), "{options}");
        assert_eq!(super::options("no list"), None);
    }
}
