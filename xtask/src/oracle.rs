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
    ("libclang1-14", LIBCLANG),
    ("libclang-common-14-dev", BUILTIN),
    ("pkg-config", PKG_CONFIG),
];

const LIBCLANG: &str = "usr/lib/llvm-14/lib/libclang.so.1";
const BUILTIN: &str = "usr/lib/clang/14/include/stddef.h";
const PKG_CONFIG: &str = "usr/bin/pkg-config";

/// Makes headers and libclang ready.
///
/// # Errors
/// When they cannot be had.
pub fn prepare(repo: &Repo) -> Result<(), Failure> {
    let absent = PACKAGES.iter().filter(|(_, file)| place(repo, file).is_none());
    let absent: Vec<&str> = absent.map(|(package, _)| *package).collect();
    if absent.is_empty() { Ok(()) } else { tools::fetch("comparing the verbs ABI", repo, &absent) }
}

/// Where a file of a package is: installed, or unpacked.
fn place(repo: &Repo, file: &str) -> Option<PathBuf> {
    let roots = [PathBuf::from("/"), tools::unpacked(repo)];
    roots.into_iter().map(|root| root.join(file)).find(|path| path.exists())
}

/// The command that compares, told where headers and libclang are.
pub fn command(repo: &Repo, cargo: &OsStr) -> Command {
    let mut command = Command::new(cargo);
    command.args(["test", "--locked", "--no-fail-fast", "--manifest-path"]);
    command.arg("testbed/verbs-oracle/Cargo.toml").arg("--target-dir");
    command.arg(repo.target().join("verbs-oracle")).current_dir(repo.root());
    command.env("CARGO_TERM_COLOR", "never");
    let directory = |file: &str| {
        let path = place(repo, file).unwrap_or_else(|| Path::new("/").join(file));
        path.parent().map_or_else(PathBuf::new, Path::to_path_buf)
    };
    // Named, or the newest one on the machine would be taken.
    let clang = directory(LIBCLANG);
    command.env("LIBCLANG_PATH", &clang);
    if PACKAGES.iter().all(|(_, file)| Path::new("/").join(file).exists()) {
        return command;
    }
    let root = tools::unpacked(repo);
    let (builtin, include) = (directory(BUILTIN), root.join("usr/include"));
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    // Moved, libclang does not find its own headers.
    let arguments = format!("-isystem {} -I{}", builtin.display(), include.display());
    command.env("BINDGEN_EXTRA_CLANG_ARGS", arguments);
    command.env("CPATH", include);
    command.env("PKG_CONFIG", directory(PKG_CONFIG).join("pkg-config"));
    command.env("PKG_CONFIG_PATH", libraries.join("pkgconfig"));
    command.env("PKG_CONFIG_SYSROOT_DIR", &root);
    let loader = [libraries, clang].map(|path| path.display().to_string()).join(":");
    command.env("LD_LIBRARY_PATH", loader);
    command
}
