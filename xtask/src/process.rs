//! Programs that run beside us: started with their output in files, stopped and continued from outside, never
//! waited for without a bound, and never left behind.

use crate::Failure;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Lets time pass: for experiments whose subject is time (a stop of 500 ms), not for hoping something is done.
pub fn pause(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the experiment itself is to let time pass")]
    std::thread::sleep(duration);
}

/// The monotonic clock.
pub fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the driver of the experiments; nothing below reads a clock"
    )]
    Instant::now()
}

/// Waits until `look` finds something, at most `bound`.
pub fn wait_for<T>(
    bound: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let start = now();
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if start.elapsed() > bound {
            return Ok(None);
        }
        pause(LOOK_EVERY);
    }
}

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// User and system time of the program and the children it waited for.
    pub cpu: Duration,
}

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Starts `command`; what it prints goes to `stem.stdout` and `stem.stderr`.
    ///
    /// # Errors
    /// When the files or the program cannot be opened.
    pub fn start(
        mut command: Command,
        name: &str,
        stem: &std::path::Path,
    ) -> Result<Self, Failure> {
        let (stdout, stderr) = (stem.with_extension("stdout"), stem.with_extension("stderr"));
        let open = |path: &PathBuf| {
            File::create(path).map_err(|error| {
                Failure::because(format!("cannot write {}", path.display()), error)
            })
        };
        command.stdin(std::process::Stdio::null()).stdout(open(&stdout)?).stderr(open(&stderr)?);
        let child = command
            .spawn()
            .map_err(|error| Failure::because(format!("cannot start {name}"), error))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.pid(), signal).map_err(|error| {
            Failure::because(format!("cannot send {signal} to {}", self.name), error)
        })
    }

    /// Stops it (SIGSTOP) for `duration`, then lets it go on, and returns how long it really stood.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self, duration: Duration) -> Result<Duration, Failure> {
        self.signal(Signal::SIGSTOP)?;
        let start = now();
        pause(duration);
        let stood = start.elapsed();
        self.signal(Signal::SIGCONT)?;
        Ok(stood)
    }

    /// Whether it has ended, and if so how.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn exit_code(&mut self) -> Result<Option<Option<i32>>, Failure> {
        let status = self.child.try_wait();
        let status = status
            .map_err(|error| Failure::because(format!("cannot wait for {}", self.name), error))?;
        Ok(status.map(|status| status.code()))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it is not done after `bound` (it is ended then), quoting what it said last.
    pub fn finish(mut self, bound: Duration) -> Result<Ended, Failure> {
        // Only this child is reaped in between, so the difference is its own.
        let before = cpu_of_children()?;
        let Some(code) = wait_for(bound, || self.exit_code())? else {
            let said = self.stderr();
            let last = said.lines().last().unwrap_or("nothing");
            return Err(Failure::new(format!(
                "{} was not done after {} s; on stderr it said last: {last}",
                self.name,
                bound.as_secs()
            )));
        };
        let cpu = cpu_of_children()?.saturating_sub(before);
        let stdout = std::fs::read_to_string(&self.stdout).unwrap_or_default();
        Ok(Ended { code, stdout, stderr: self.stderr(), cpu })
    }

    /// Its number, for reading what it uses.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // SIGKILL ends a stopped process too. Neither call can fail in a way that could be mended here.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// User and system time of all children waited for so far.
fn cpu_of_children() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|error| Failure::because("cannot read the CPU time of children", error))?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let unique = format!("xtask-process-{}-{}", std::process::id(), script.len());
        Running::start(command, "sh", &std::env::temp_dir().join(unique)).unwrap()
    }

    #[test]
    fn a_program_is_read_to_its_end() {
        let ended =
            shell("echo out; echo err >&2; exit 3").finish(Duration::from_secs(10)).unwrap();
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(3), "out\n", "err\n")
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let running = shell("echo waiting >&2; exec sleep 1000");
        let pid = running.pid();
        let failure = running.finish(Duration::from_millis(200)).unwrap_err();
        assert!(failure.to_string().ends_with("it said last: waiting"), "{failure}");
        assert!(kill(pid, None).is_err(), "the program is still there");
    }

    #[test]
    fn a_frozen_program_stands_still() {
        let running = shell("while :; do :; done");
        let stood = running.freeze(Duration::from_millis(20)).unwrap();
        assert!(stood >= Duration::from_millis(20));
    }
}
