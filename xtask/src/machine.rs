//! A machine of its own on this one, with systemd as its first process or with none: `testbed/machine/boot.sh` makes it of
//! namespaces and an overlay over the host's root. What is installed and written in it is gone when it is dropped.

use crate::harness::Bench;
use crate::process::{Running, wait_for};
use crate::{Failure, say};
use nix::unistd::{Pid, Uid};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What runs first in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// The service manager, as on a node.
    Systemd,
    /// Nothing: an image that is being built.
    Idle,
}

/// It boots in a second; a busy or an emulated host takes longer.
const BOOT_BOUND: Duration = Duration::from_secs(120);
/// For one command in it, in seconds: packages are installed within, on an emulated host too.
const COMMAND_BOUND: &str = "300";

/// One that runs.
#[derive(Debug)]
pub struct Machine {
    // Dropped first: with it all processes in the machine die.
    running: Option<Running>,
    init: Pid,
    directory: PathBuf,
    control: PathBuf,
}

/// What a command in it said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output without blanks around it.
    pub fn word(&self) -> &str {
        self.stdout.trim()
    }
}

impl Machine {
    /// Boots one; `name` is a directory of the bench, inside it is `/machine`.
    ///
    /// # Errors
    /// When we are not root, or it does not come up.
    pub fn boot(bench: &Bench<'_>, name: &str, init: Init) -> Result<Self, Failure> {
        if !Uid::effective().is_root() {
            return Err(Failure::new(
                "a machine of its own needs root (mounts, control groups, other users): run this row with sudo",
            ));
        }
        let scratch = bench.scratch();
        let scratch = scratch.canonicalize();
        let directory = scratch
            .map_err(|error| Failure::because("cannot find the scratch directory", error))?
            .join(name);
        std::fs::create_dir_all(&directory).map_err(|error| {
            Failure::because(format!("cannot make {}", directory.display()), error)
        })?;
        // Should we be killed, it dies too.
        let mut boot = Command::new("setpriv");
        boot.args(["--pdeathsig", "KILL"]).arg(bench.repo().path("testbed/machine/boot.sh"));
        boot.arg(&directory).arg(match init {
            Init::Systemd => "systemd",
            Init::Idle => "idle",
        });
        let mut running = bench.start(boot, &format!("{name}-boot"))?;
        let mut machine =
            Self { running: None, init: running.pid(), directory, control: PathBuf::new() };
        let come = wait_for(BOOT_BOUND, || {
            if running.exit_code()?.is_some() {
                let said = running.stderr();
                return Err(Failure::new(format!("the machine did not boot: {}", said.trim())));
            }
            machine.find_init(running.pid(), init)
        });
        machine.running = Some(running);
        match come? {
            Some(()) => Ok(machine),
            None => {
                let console = std::fs::read_to_string(machine.directory.join("console"));
                let console = console.unwrap_or_default();
                let last = console.lines().last().unwrap_or("nothing");
                Err(Failure::new(format!(
                    "the machine did not come up; its console said last: {last}"
                )))
            }
        }
    }

    /// Looks for the first process in it: the child of `unshare`, once it has become what it is to be.
    fn find_init(&mut self, outer: Pid, init: Init) -> Result<Option<()>, Failure> {
        let control = std::fs::read_to_string(self.directory.join("cgroup")).unwrap_or_default();
        self.control = PathBuf::from(control.trim());
        let children = format!("/proc/{outer}/task/{outer}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let Some(child) = children.split_whitespace().next().and_then(|pid| pid.parse().ok())
        else {
            return Ok(None);
        };
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        let wanted = match init {
            Init::Systemd => "systemd",
            Init::Idle => "sleep",
        };
        if name.trim() != wanted {
            return Ok(None);
        }
        self.init = Pid::from_raw(child);
        if init == Init::Idle {
            return Ok(Some(()));
        }
        let state = self.run(&["systemctl", "is-active", "multi-user.target"])?;
        Ok((state.word() == "active").then_some(()))
    }

    /// Its directory on this machine; `/machine` inside.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in it, as it is reached from here.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        PathBuf::from(format!("/proc/{}/root", self.init))
            .join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// A command that runs in it.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        // The root is the process' own: where the host itself lives in a chroot, its namespace has another.
        let init = self.init.to_string();
        command.args(["--target", &init, "--all", "--root", "--wd", "--"]).args(line);
        // Of the host's environment nothing is meant for it.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("PAGER", "cat").env("NO_COLOR", "1");
        command
    }

    /// Runs a command in it to its end.
    ///
    /// # Errors
    /// When it cannot be started; a failing one is no error.
    pub fn run(&self, line: &[&str]) -> Result<Said, Failure> {
        let mut words = vec!["timeout", "--signal=KILL", COMMAND_BOUND];
        words.extend(line);
        let output = self.command(&words).stdin(std::process::Stdio::null()).output();
        let output = output.map_err(|error| Failure::because("cannot run nsenter", error))?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// As [`Machine::run`], but a failing command is an error that quotes what it said.
    ///
    /// # Errors
    /// When it does not end with status 0.
    pub fn must(&self, line: &[&str]) -> Result<String, Failure> {
        let said = self.run(line)?;
        if said.code == Some(0) {
            return Ok(said.stdout);
        }
        let text = format!("{}{}", said.stdout, said.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(6)..].join(" / ");
        Err(Failure::because(
            format!("in the machine `{}` failed ({:?})", line.join(" "), said.code),
            last,
        ))
    }

    /// One property of a unit.
    ///
    /// # Errors
    /// When the service manager does not answer.
    pub fn property(&self, unit: &str, name: &str) -> Result<String, Failure> {
        let text = self.must(&["systemctl", "show", "--value", "--property", name, unit])?;
        Ok(text.trim().to_owned())
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<(), Failure> {
        let path = self.path(inside);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, content)).map_err(|error| {
            Failure::because(format!("cannot write {inside} in the machine"), error)
        })
    }

    /// What was written in it since it booted, files and links only, sorted; with a `-` before what was deleted.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn written(&self) -> Result<Vec<String>, Failure> {
        let list =
            self.must(&["find", "/machine-upper", "-not", "-type", "d", "-printf", "%y %P\\n"])?;
        let mut names: Vec<String> = list
            .lines()
            .filter_map(|line| line.split_once(' '))
            // An overlay marks what is deleted by a character device.
            .map(|(kind, name)| if kind == "c" { format!("-/{name}") } else { format!("/{name}") })
            .collect();
        names.sort();
        Ok(names)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.running.take());
        // Its processes are being taken down by the kernel; the groups are empty a moment later.
        let gone = wait_for(Duration::from_secs(10), || Ok(remove(&self.control).then_some(())));
        if !matches!(gone, Ok(Some(()))) {
            say!("the control group {} is still there", self.control.display());
        }
    }
}

/// Removes a control group with all below it; true when it is gone.
fn remove(group: &Path) -> bool {
    if group.as_os_str().is_empty() {
        return true;
    }
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    // It is a virtual file system: directories are removed with their files in them.
    let _ = std::fs::remove_dir(group);
    !group.exists()
}
