//! What a program needs of the machine it runs on, as `readelf` tells.

use super::{Failure, Path};
use crate::repo::Repo;
use std::process::Command;

/// What a program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// For which processor it is.
    pub machine: Machine,
    /// The newest version of glibc whose symbols it uses, as (2, 34).
    pub glibc: (u32, u32),
    /// The libraries it names.
    pub libraries: Vec<String>,
}

/// Processors that we build for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// AMD and Intel.
    X86_64,
    /// Arm (GB200 hosts).
    Aarch64,
}

impl Machine {
    /// Debian's word for it.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// RPM's word for it.
    pub const fn rpm(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// What the program at `path` needs.
///
/// # Errors
/// When it is not there, no program, or for no processor of ours.
pub fn needs(repo: &Repo, path: &Path) -> Result<Needs, Failure> {
    let mut readelf = Command::new(super::tool(repo, "readelf")?);
    readelf
        .args(["--wide", "--file-header", "--dynamic", "--version-info"])
        .arg(path)
        .env("LC_ALL", "C");
    let output = readelf.output().map_err(|error| Failure::because("cannot run readelf", error))?;
    if !output.status.success() || output.stdout.is_empty() {
        let hint = "`cargo build --release --workspace --bins` makes it";
        return Err(Failure::new(format!("{} is no program: {hint}", path.display())));
    }
    parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        Failure::new(format!("{}: readelf says nothing we understand", path.display()))
    })
}

fn parse(said: &str) -> Option<Needs> {
    let machine = said.lines().find_map(|line| line.trim().strip_prefix("Machine:"))?;
    let machine = match machine.trim() {
        "Advanced Micro Devices X86-64" => Machine::X86_64,
        "AArch64" => Machine::Aarch64,
        _ => return None,
    };
    let versions = said.match_indices("GLIBC_").filter_map(|(at, word)| {
        let rest = &said[at + word.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut parts = rest[..end].split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    let libraries = said.lines().filter(|line| line.contains("(NEEDED)")).filter_map(|line| {
        let (_, name) = line.split_once('[')?;
        Some(name.trim_end_matches(']').to_owned())
    });
    Some(Needs { machine, glibc: versions.max()?, libraries: libraries.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        let said = "  Machine:                           AArch64\n 0x1 (NEEDED)  Shared library: [libgcc_s.so.1]\n\
                    0x1 (NEEDED) Shared library: [libc.so.6]\n\
                    0x0010:   Name: GLIBC_2.9  Flags: none  Version: 8\n  0x0020:   Name: GLIBC_2.34  Flags: none\n GLIBC_2.2.5\n";
        let needs = parse(said).unwrap();
        assert_eq!((needs.machine.debian(), needs.glibc), ("arm64", (2, 34)));
        assert_eq!(needs.libraries, ["libgcc_s.so.1", "libc.so.6"]);
        assert_eq!(parse("  Machine:   RISC-V\nGLIBC_2.34\n"), None);
    }
}
