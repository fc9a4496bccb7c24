//! Debian packages that are unpacked and not installed: what apt would install, fetched without root.

use crate::{Failure, command, say};
use nix::unistd::Uid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages that `names` need and that this machine lacks, with the named ones themselves where they are not installed: what
/// apt would install, by its own reckoning.
///
/// # Errors
/// When there is no apt, or it knows no such package.
pub fn missing(names: &[&str]) -> Result<Vec<String>, Failure> {
    let ask = || {
        let mut ask = Command::new("apt-get");
        // A simulation needs neither root nor the lock.
        ask.args(["--simulate", "-o", "Debug::NoLocking=1", "--no-install-recommends", "install"]);
        ask.args(names)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .map_err(|error| Failure::because("no apt-get (packages are Debian's)", error))
    };
    let mut answer = ask()?;
    if !answer.status.success() && Uid::effective().is_root() {
        // A fresh machine has no lists yet.
        update()?;
        answer = ask()?;
    }
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        let said =
            said.lines().find(|line| line.starts_with("E: ")).unwrap_or("it does not say why");
        let what = format!("apt cannot tell what {} need", names.join(", "));
        return Err(Failure::because(what, format!("{said} (run `apt update` as root, once)")));
    }
    Ok(to_be_installed(&String::from_utf8_lossy(&answer.stdout)))
}

fn update() -> Result<(), Failure> {
    let mut update = Command::new("apt-get");
    update.args(["update", "-q"]);
    command::must(update).map(drop)
}

/// The names in lines such as `Inst perftest (4.5+0.17-1 Debian:12.15/oldstable [amd64])`.
fn to_be_installed(simulation: &str) -> Vec<String> {
    let names = simulation.lines().filter_map(|line| line.strip_prefix("Inst "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The package that `meta` stands for: Debian's `linux-image-amd64` is empty and depends on the kernel of the day.
///
/// # Errors
/// When apt knows no such package.
pub fn behind(meta: &str) -> Result<String, Failure> {
    let answer = Command::new("apt-cache").args(["depends", meta]).output();
    let answer = answer.map_err(|error| Failure::because("no apt-cache", error))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let depends = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    depends.map(|name| name.trim().to_owned()).ok_or_else(|| {
        Failure::new(format!("apt knows no kernel package behind {meta}: the guest's kernel is Debian's (run `apt update` as root)"))
    })
}

/// Fetches packages into the directory `into`, which is made anew.
///
/// # Errors
/// When one of them cannot be had.
pub fn fetch(names: &[String], into: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |error| Failure::because(format!("cannot make {}", into.display()), error);
    let _ = std::fs::remove_dir_all(into);
    std::fs::create_dir_all(into).map_err(cannot)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    say!("fetching Debian's {}", names.join(", "));
    let download = || {
        let mut download = Command::new("apt-get");
        // As root it would do without its sandbox in a directory of ours, and says so at length.
        download.args(["download", "-q", "-o", "APT::Sandbox::User=root"]).args(names);
        command::must(download_in(download, into))
    };
    download().or_else(|failure| {
        // Lists that are old name versions that are gone.
        if Uid::effective().is_root() { update().and_then(|()| download()) } else { Err(failure) }
    })?;
    let files = std::fs::read_dir(into).map_err(cannot)?.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == "deb")).collect();
    files.sort();
    if files.len() < names.len() {
        return Err(Failure::new(format!(
            "apt-get fetched {} of {} packages",
            files.len(),
            names.len()
        )));
    }
    Ok(files)
}

fn download_in(mut command: Command, directory: &Path) -> Command {
    command.current_dir(directory);
    command
}

/// Unpacks a package below `into`, which is merged as Debian's own root is: what says `lib` goes to `usr/lib`. `choice` are further
/// arguments of tar.
///
/// # Errors
/// When dpkg-deb or tar refuses.
pub fn unpack(package: &Path, into: &Path, choice: &[String]) -> Result<(), Failure> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let link = into.join(name);
        let made = std::fs::create_dir_all(into.join("usr").join(name));
        let made = made.and_then(|()| match link.symlink_metadata() {
            Ok(_) => Ok(()),
            Err(_) => std::os::unix::fs::symlink(Path::new("usr").join(name), &link),
        });
        made.map_err(|error| Failure::because(format!("cannot make {}", link.display()), error))?;
    }
    let cannot =
        |cause: String| Failure::because(format!("cannot unpack {}", package.display()), cause);
    // `dpkg-deb --extract` would put a directory in the place of a link, and has no choice of files.
    let mut read = Command::new("dpkg-deb");
    read.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut read = read.spawn().map_err(|error| cannot(format!("dpkg-deb: {error}")))?;
    let mut extract = Command::new("tar");
    extract
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"])
        .arg(into)
        .args(choice);
    extract.stdin(read.stdout.take().map_or_else(Stdio::null, Stdio::from));
    let extracted = extract.output().map_err(|error| cannot(format!("tar: {error}")));
    let read = read.wait().map_err(|error| cannot(error.to_string()))?;
    let extracted = extracted?;
    if read.success() && extracted.status.success() {
        return Ok(());
    }
    Err(cannot(String::from_utf8_lossy(&extracted.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_read() {
        let said = "NOTE: a simulation\nInst pci.ids (0.0 Debian:12.15/oldstable [all])\n\
                    Inst libc6 [2.36-9] (2.36-10 Debian:12.15/oldstable [amd64])\nConf pci.ids (0.0)\n";
        assert_eq!(to_be_installed(said), ["pci.ids", "libc6"]);
        assert!(to_be_installed("0 upgraded, 0 newly installed").is_empty());
    }
}
