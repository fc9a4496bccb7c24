//! A daemon as a process of ours.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lets time pass.
pub fn pause(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "processes do not say when they are done")]
    std::thread::sleep(duration);
}

/// The time, for intervals.
#[expect(clippy::disallowed_methods, reason = "the experiment is a driver")]
pub fn now() -> Instant {
    Instant::now()
}

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    child: Child,
}

/// A daemon's command line. The kernel kills it when this program is gone, however that ended.
pub fn daemon(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Daemon {
    /// Starts it; what it says goes to the end of `log`.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.env_remove("NOTIFY_SOCKET").env("NO_COLOR", "1").env("RAILGAUGE_LOG", "info");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Self { child: command.spawn()? })
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to read its configuration again.
    pub fn hang_up(&self) -> io::Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGHUP).map_err(io::Error::from)
    }

    /// Kills it at once.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to end, and waits.
    pub fn terminate(mut self, bound: Duration) -> io::Result<Option<ExitStatus>> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).map_err(io::Error::from)?;
        let until = now() + bound;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if now() > until {
                return Ok(None);
            }
            pause(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Neither can fail in a way that could be mended here.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether a daemon that met an error of its disk may end so: with an exit code of its own, not by a panic or a signal.
pub fn is_orderly(status: ExitStatus) -> bool {
    status.signal().is_none() && matches!(status.code(), Some(0 | 2 | 3))
}
