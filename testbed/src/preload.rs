//! The shim that watches and disturbs a process' files from outside: `testbed/preload/storage.c` has its settings.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shim's source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/preload/storage.c");

/// A compiled shim and what it is to watch.
#[derive(Clone, Debug)]
pub struct Shim {
    library: PathBuf,
    /// Below it, files are watched and disturbed. Absolute.
    pub directory: PathBuf,
    /// Where the records go; outside the directory.
    pub ledger: PathBuf,
    /// While this file is there, the faults that it names happen.
    pub control: PathBuf,
    /// From which faults are drawn.
    pub seed: u64,
}

impl Shim {
    /// Compiles the shim into `scratch`, where ledger and control file will lie too, to watch `directory`.
    ///
    /// # Errors
    /// When there is no C compiler, or it refuses.
    pub fn build(scratch: &Path, directory: &Path) -> io::Result<Self> {
        let library = scratch.join("storage.so");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o"]).arg(&library);
        let ended = cc.args([SOURCE, "-ldl"]).output()?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            return Err(io::Error::other(format!("cc refused {SOURCE}: {said}")));
        }
        Ok(Self {
            library,
            directory: directory.to_owned(),
            ledger: scratch.join("ledger"),
            control: scratch.join("faults"),
            seed: 1,
        })
    }

    /// The same for another process: `name`'s own ledger and control file, beside this one's.
    pub fn for_another(&self, name: &str, directory: &Path, seed: u64) -> Self {
        Self {
            library: self.library.clone(),
            directory: directory.to_owned(),
            ledger: self.ledger.with_file_name(format!("{name}.ledger")),
            control: self.control.with_file_name(format!("{name}.faults")),
            seed,
        }
    }

    /// Puts the shim under a process that is about to start.
    pub fn under<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command
    }

    /// The variables that put the shim under a process.
    pub fn environment(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        let path = |path: &Path| path.as_os_str().to_owned();
        vec![
            ("LD_PRELOAD", path(&self.library)),
            ("RAILGAUGE_SHIM_DIR", path(&self.directory)),
            ("RAILGAUGE_SHIM_LEDGER", path(&self.ledger)),
            ("RAILGAUGE_SHIM_CONTROL", path(&self.control)),
            ("RAILGAUGE_SHIM_SEED", self.seed.to_string().into()),
        ]
    }

    /// From now on these faults happen: `write=20 sync=30`, of a thousand each; see the shim's source for all.
    ///
    /// # Errors
    /// When the control file cannot be written.
    pub fn begin_faults(&self, faults: impl AsRef<OsStr>) -> io::Result<()> {
        let new = self.control.with_extension("new");
        std::fs::write(&new, faults.as_ref().as_encoded_bytes())?;
        std::fs::rename(new, &self.control)
    }

    /// From now on none do.
    ///
    /// # Errors
    /// When the control file cannot be removed.
    pub fn end_faults(&self) -> io::Result<()> {
        std::fs::remove_file(&self.control)
    }
}
