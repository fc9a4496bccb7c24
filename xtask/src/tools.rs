//! What the tests need beside Rust and a C compiler, installed where it is missing: as root by apt, without root
//! unpacked below `target/tools`. What cannot be had is an error that says so, never a test left out in silence.

use crate::{Failure, command, guest, oracle, packages, repo::Repo, say};
use nix::unistd::Uid;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that a Debian package holds.
struct Tool {
    program: &'static str,
    package: &'static str,
    wanted_for: &'static str,
    /// Unpacked even as root: installed, it would start a service.
    unpacked: bool,
    /// Without root it is unpacked with all packages that it needs and that are not here, in a directory of its own.
    with_needs: bool,
}

const TOOLS: &[Tool] = &[
    installed("sockperf", "sockperf", "the comparison of latencies"),
    installed("chromium", "chromium", "looking at the HTML pages"),
    installed("ip", "iproute2", "an interface that goes down mid-run"),
    installed("python3", "python3", "checks against other implementations"),
    installed("strip", "binutils", "packages without debugging symbols"),
    installed("readelf", "binutils", "what packages depend on"),
    installed("dpkg-deb", "dpkg", "Debian packages"),
    installed("lintian", "lintian", "checking Debian packages"),
    installed("rpmbuild", "rpm", "RPM packages"),
    installed("unshare", "util-linux", "machines of the tests' own"),
    installed("systemd-analyze", "systemd", "services under a real service manager"),
    Tool {
        program: QEMU,
        package: "qemu-system-x86",
        wanted_for: "a guest whose kernel can do RDMA",
        unpacked: false,
        with_needs: true,
    },
    Tool {
        program: "promtool",
        package: "prometheus",
        wanted_for: "checking the alert rules",
        unpacked: true,
        with_needs: false,
    },
];

const QEMU: &str = "qemu-system-x86_64";

const fn installed(program: &'static str, package: &'static str, wanted_for: &'static str) -> Tool {
    Tool { program, package, wanted_for, unpacked: false, with_needs: false }
}

/// The Python packages that check our bytes, pinned: an oracle that changes by itself proves nothing.
const PYTHON_PACKAGES: &[&str] = &["hdrhistogram==0.10.8", "scapy==2.8.0"];

/// Makes everything ready that the rows need.
///
/// # Errors
/// A sentence for each thing that cannot be had.
pub fn prepare(repo: &Repo) -> Result<(), Failure> {
    let missing: Vec<&Tool> =
        TOOLS.iter().filter(|tool| find(repo, tool.program).is_none()).collect();
    let mut failures = Vec::new();
    for tool in missing {
        if let Err(failure) = install(repo, tool) {
            failures.push(failure.to_string());
        }
    }
    for done in [prepare_python(repo), guest::prepare(repo).map(drop), oracle::prepare(repo)] {
        if let Err(failure) = done {
            failures.push(failure.to_string());
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("; "))) }
}

/// sockperf, wherever it is.
///
/// # Errors
/// When [`prepare`] did not get it.
pub fn sockperf(repo: &Repo) -> Result<PathBuf, Failure> {
    find(repo, "sockperf").ok_or_else(|| {
        Failure::new(
            "sockperf is missing: apt install sockperf, or run `cargo xtask test` with a network",
        )
    })
}

/// A program of a Debian package that [`prepare`] gets.
///
/// # Errors
/// When it did not.
pub fn program(repo: &Repo, program: &str) -> Result<PathBuf, Failure> {
    find(repo, program).ok_or_else(|| {
        let package = TOOLS.iter().find(|tool| tool.program == program);
        let package = package.map_or(program, |tool| tool.package);
        Failure::new(format!(
            "{program} is missing: apt install {package}, or run `cargo xtask tools` with a network"
        ))
    })
}

/// stamp-suite, another project's STAMP sender and reflector, built by cargo below `target/tools` on first use.
///
/// # Errors
/// When cargo cannot get or build it.
pub fn stamp_suite(repo: &Repo) -> Result<PathBuf, Failure> {
    let root = repo.path("target/tools/stamp-suite");
    let program = root.join("bin/stamp-suite");
    if !program.exists() {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet", "--locked", "stamp-suite", "--version", "1.0.0"]);
        cargo.arg("--root").arg(&root);
        if !command::run(cargo)?.success {
            return Err(Failure::new(
                "cargo cannot install stamp-suite 1.0.0: see what it says above",
            ));
        }
    }
    Ok(program)
}

/// The Python that has the pinned packages.
pub fn python(repo: &Repo) -> PathBuf {
    venv(repo).join("bin/python")
}

/// QEMU, emulating x86_64: a command that finds its own parts where they are, for arguments to be added.
///
/// # Errors
/// When [`prepare`] did not get it.
pub fn qemu(repo: &Repo) -> Result<Command, Failure> {
    let program = program(repo, QEMU)?;
    let home = tools(repo).join(QEMU).join("usr");
    // Should we be killed, it dies too.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(&program);
    if program.starts_with(&home) {
        let libraries = home.join("lib/x86_64-linux-gnu");
        command.env("QEMU_MODULE_DIR", libraries.join("qemu")).env("LD_LIBRARY_PATH", libraries);
        command.arg("-L").arg(home.join("share/qemu")).arg("-L").arg(home.join("share/seabios"));
    }
    Ok(command)
}

fn venv(repo: &Repo) -> PathBuf {
    tools(repo).join("venv")
}

fn tools(repo: &Repo) -> PathBuf {
    repo.target().join("tools")
}

/// A program on the PATH, where Debian keeps what only root needs, or where we unpacked it.
fn find(repo: &Repo, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let unpacked = unpacked(repo);
    let unpacked = ["usr/bin", "usr/sbin", "bin", "sbin"].map(|below| unpacked.join(below));
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(unpacked)
        .chain([tools(repo).join(program).join("usr/bin")])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn install(repo: &Repo, tool: &Tool) -> Result<(), Failure> {
    let package = tool.package;
    say!("{} is missing ({}): fetching Debian's {package}", tool.program, tool.wanted_for);
    let by_apt_too = Uid::effective().is_root() && !tool.unpacked;
    let done = match () {
        () if by_apt_too => by_apt(package),
        () if tool.with_needs => unpack_with_needs(repo, tool),
        () => unpack(repo, package),
    };
    done.and_then(|()| match find(repo, tool.program) {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!("{package} holds no program `{}`", tool.program))),
    })
    .map_err(|failure| {
        let what = format!("{} ({}) cannot be had", tool.program, tool.wanted_for);
        Failure::because(what, format!("{failure}; install it by hand: apt install {package}"))
    })
}

/// Where packages are unpacked without root.
pub fn unpacked(repo: &Repo) -> PathBuf {
    tools(repo).join("debian")
}

/// Fetches Debian packages that hold no program: installed as root; otherwise unpacked below `target/tools/debian`, with what they need and
/// this machine lacks.
///
/// # Errors
/// When one cannot be had.
pub fn fetch(wanted_for: &str, repo: &Repo, names: &[&str]) -> Result<(), Failure> {
    let all = names.join(" ");
    say!("missing ({wanted_for}): fetching Debian's {all}");
    let done = if Uid::effective().is_root() {
        names.iter().try_for_each(|name| by_apt(name))
    } else {
        unpack_all(repo, names)
    };
    done.map_err(|failure| {
        let what = format!("{all} ({wanted_for}) cannot be had");
        Failure::because(what, format!("{failure}; install by hand: apt install {all}"))
    })
}

fn unpack_all(repo: &Repo, names: &[&str]) -> Result<(), Failure> {
    let fetched = tools(repo).join("packages/with-needs");
    for package in packages::fetch(&packages::missing(names)?, &fetched)? {
        packages::unpack(&package, &unpacked(repo), &[])?;
    }
    let _ = std::fs::remove_dir_all(fetched);
    Ok(())
}

fn by_apt(package: &str) -> Result<(), Failure> {
    apt_get(&["update", "-q"])?;
    apt_get(&["install", "-q", "-y", "--no-install-recommends", package])
}

fn apt_get(arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command::must(command).map(drop)
}

/// Fetches a package without root and unpacks it below `target/tools/debian`.
fn unpack(repo: &Repo, package: &str) -> Result<(), Failure> {
    let (packages, into) = (tools(repo).join("packages"), unpacked(repo));
    std::fs::create_dir_all(&packages)
        .map_err(|error| Failure::because(format!("cannot make {}", packages.display()), error))?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", package]).current_dir(&packages);
    command::must(download)?;
    let mut extract = Command::new("dpkg");
    extract.arg("-x").arg(fetched(&packages, package)?).arg(&into);
    command::must(extract).map(drop)
}

/// The same with what the package needs. It is found by [`qemu`] and its like, not by other programs.
fn unpack_with_needs(repo: &Repo, tool: &Tool) -> Result<(), Failure> {
    let fetched = tools(repo).join("packages").join(tool.program);
    let into = tools(repo).join(tool.program);
    for package in packages::fetch(&packages::missing(&[tool.package])?, &fetched)? {
        packages::unpack(&package, &into, &[])?;
    }
    let _ = std::fs::remove_dir_all(fetched);
    Ok(())
}

fn fetched(packages: &Path, package: &str) -> Result<PathBuf, Failure> {
    let files =
        std::fs::read_dir(packages).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    };
    files
        .filter(named)
        .max()
        .ok_or_else(|| Failure::new(format!("apt-get download left no {package}_*.deb")))
}

/// A virtual environment with the pinned packages; made again when the list has changed.
fn prepare_python(repo: &Repo) -> Result<(), Failure> {
    let stamp = venv(repo).join("packages");
    let wanted = PYTHON_PACKAGES.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    make_venv(repo)?;
    let mut install = Command::new(python(repo));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install.args(PYTHON_PACKAGES);
    command::must(install).map_err(|failure| {
        Failure::because(format!("{} cannot be had", PYTHON_PACKAGES.join(", ")), failure)
    })?;
    std::fs::write(&stamp, wanted)
        .map_err(|error| Failure::because(format!("cannot write {}", stamp.display()), error))
}

/// Debian's python3 comes without `ensurepip`; then pip itself comes from the package that has it.
fn make_venv(repo: &Repo) -> Result<(), Failure> {
    let interpreter = find(repo, "python3").unwrap_or_else(|| "python3".into());
    let make = || {
        let mut make = Command::new(&interpreter);
        make.args(["-m", "venv", "--clear"]).arg(venv(repo));
        command::run(make)
    };
    if make()?.success {
        return Ok(());
    }
    if Uid::effective().is_root() {
        by_apt("python3-venv")?;
        if make()?.success {
            return Ok(());
        }
        return Err(Failure::new("python3 -m venv fails even with Debian's python3-venv"));
    }
    make_venv_without_ensurepip(repo, &interpreter)
}

/// Without root: an environment without pip, into which the wheels that Debian's python3-pip-whl ships are linked.
fn make_venv_without_ensurepip(repo: &Repo, interpreter: &Path) -> Result<(), Failure> {
    unpack(repo, "python3-pip-whl")?;
    let mut make = Command::new(interpreter);
    make.args(["-m", "venv", "--clear", "--without-pip"]).arg(venv(repo));
    command::must(make)?;
    let wheels = unpacked(repo).join("usr/share/python-wheels");
    let wheel = std::fs::read_dir(&wheels)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("pip-")))
        .ok_or_else(|| Failure::new("python3-pip-whl holds no wheel of pip"))?;
    // A wheel is a zip file that Python can run from: pip installs itself.
    let mut bootstrap = Command::new(python(repo));
    bootstrap.arg(wheel.join("pip")).args(["install", "--quiet", "--no-index"]).arg(&wheel);
    command::must(bootstrap).map(drop)
}
