//! fabric's own description of the verbs ABI, compared with rdma-sys and with the installed headers (`testbed/verbs-oracle`).

use crate::{Failure, repo::Repo, tools};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What building rdma-sys takes, and a path of each package by which it is seen to be there. rdma-sys 0.3.0 has a bindgen that fails
/// with libclang 16 and newer; 14 is in Debian 12 and Ubuntu 22.04 and 24.04.
const PACKAGES: &[(&str, &str)] = &[
    ("libibverbs-dev", "usr/include/infiniband/verbs.h"),
    ("librdmacm-dev", "usr/include/rdma/rdma_cma.h"),
    ("libclang1-14", "usr/lib/llvm-14/lib/libclang.so.1"),
    ("libclang-common-14-dev", "usr/lib/clang/14/include/stddef.h"),
    ("pkg-config", "usr/bin/pkg-config"),
];

/// What apt would bring along and unpacking does not.
const UNPACKED_TOO: &[&str] = &[
    "libibverbs1",
    "librdmacm1",
    "libnl-3-dev",
    "libnl-route-3-dev",
    "libnl-3-200",
    "libnl-route-3-200",
    "libllvm14",
    // Debian's pkg-config is a name for these.
    "pkgconf",
    "pkgconf-bin",
    "libpkgconf3",
];

/// Makes headers and libclang ready.
///
/// # Errors
/// When they cannot be had.
pub fn prepare(repo: &Repo) -> Result<(), Failure> {
    let missing = missing(Path::new("/"));
    if missing.is_empty() || self::missing(&tools::unpacked(repo)).is_empty() {
        return Ok(());
    }
    tools::fetch("comparing the verbs ABI", repo, &missing, UNPACKED_TOO)
}

/// The packages whose file is not below `root`.
fn missing(root: &Path) -> Vec<&'static str> {
    let absent = PACKAGES.iter().filter(|(_, file)| !root.join(file).exists());
    absent.map(|(package, _)| *package).collect()
}

/// The command that compares, told where headers and libclang are.
pub fn command(repo: &Repo, cargo: &OsStr) -> Command {
    let mut command = Command::new(cargo);
    command.args(["test", "--locked", "--no-fail-fast", "--manifest-path"]);
    command.arg("testbed/verbs-oracle/Cargo.toml").arg("--target-dir");
    command.arg(repo.target().join("verbs-oracle")).current_dir(repo.root());
    command.env("CARGO_TERM_COLOR", "never");
    let root =
        if missing(Path::new("/")).is_empty() { PathBuf::from("/") } else { tools::unpacked(repo) };
    // Named, or the newest one on the machine would be taken.
    let clang = root.join("usr/lib/llvm-14/lib");
    command.env("LIBCLANG_PATH", &clang);
    if root == Path::new("/") {
        return command;
    }
    let include = root.join("usr/include");
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    // Moved, libclang does not find its own headers.
    let builtin = root.join("usr/lib/clang/14/include");
    let arguments = format!("-isystem {} -I{}", builtin.display(), include.display());
    command.env("BINDGEN_EXTRA_CLANG_ARGS", arguments);
    command.env("CPATH", include);
    command.env("PKG_CONFIG", root.join("usr/bin/pkg-config"));
    command.env("PKG_CONFIG_PATH", libraries.join("pkgconfig"));
    command.env("PKG_CONFIG_SYSROOT_DIR", &root);
    let loader = [libraries, clang].map(|path| path.display().to_string()).join(":");
    command.env("LD_LIBRARY_PATH", loader);
    command
}
