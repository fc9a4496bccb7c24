//! A guest of our own with a kernel that can do RDMA, disturbed links and modules, under QEMU's own emulation: `testbed/guest` has
//! its scripts and says what it proves. The host's root is its root, read-only with a layer in memory over it, so programs built here run
//! in it as they are.

mod archive;
mod image;

pub use image::Image;

use crate::process::{Running, wait_for};
use crate::{Failure, repo::Repo, say, tools};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

/// It boots in 5 s; on a machine that does much else it takes longer.
const BOOT_BOUND: Duration = Duration::from_secs(180);
/// A run that is shorter tells nothing of the guest's clock, whose uptime is written in steps of 10 ms.
const CLOCK_NEEDS: Duration = Duration::from_secs(2);
/// A guest whose clock is further off than this measures nothing.
pub const CLOCK_MAY_BE_OFF: f64 = 0.02;
/// Lines of the console that a failure quotes.
const QUOTED_LINES: usize = 8;
/// What the kernel says when something in it is broken, as it begins after the time.
const KERNEL_COMPLAINTS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "INFO: task",
    "rcu: INFO",
    "watchdog: BUG",
    "Oops",
    "unregister_netdevice",
];

/// What is to run in a guest, once.
#[derive(Debug, Clone)]
pub struct Job {
    /// Program and arguments; the program is looked for in the guest's PATH, or is a path of the host outside `/run`.
    pub command: Vec<OsString>,
    /// Further environment. `GUEST_OUT` is a directory whose files come back, `GUEST_FABRIC` the path of `testbed/guest/fabric.sh`.
    pub environment: Vec<(String, OsString)>,
    /// Whether the fabric is up before the program starts.
    pub has_fabric: bool,
    /// How long it may run from when the guest has booted.
    pub limit: Duration,
    /// Memory of the guest, all that it writes included.
    pub memory_mib: u32,
}

impl Job {
    /// `command` with the fabric up, 10 min at most, in 2 GiB.
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            has_fabric: true,
            limit: Duration::from_secs(600),
            memory_mib: 2048,
        }
    }
}

/// What came of a [`Job`].
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit status; 128 and the signal where one ended the program.
    pub code: i32,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// The directory with the files that the program wrote to `GUEST_OUT`.
    pub files: PathBuf,
    /// From the start of QEMU to the start of the program.
    pub boot: Duration,
    /// Seconds of the guest's clock in a second of ours; `None` when it ran too shortly to tell. A kernel that boots while others have
    /// the CPUs can take a wrong measure of its counter.
    pub clock: Option<f64>,
    /// Lines in which the guest's kernel says that something in it is broken.
    pub kernel_complaints: Vec<String>,
}

/// Whether the streams of the program are passed on as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// They are only kept.
    Kept,
    /// They go to our own, too.
    PassedOn,
}

/// Makes what is missing of what the guest boots from.
///
/// # Errors
/// When this machine cannot run its programs in the guest, or something cannot be had.
pub fn prepare(repo: &Repo) -> Result<Image, Failure> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Failure::new(
            "the guest is an x86_64 one and runs this machine's programs: it needs an x86_64 machine",
        ));
    }
    image::prepare(repo).map_err(|failure| Failure::because("the guest cannot be made", failure))
}

/// Boots a guest, runs `job` in it and takes it down. `directory` is made anew: consoles and results are in it.
///
/// # Errors
/// When something to boot with is missing, the guest does not boot, or the program is not done in time. A program that fails is no error.
pub fn run(repo: &Repo, directory: &Path, job: &Job, streams: Streams) -> Result<Said, Failure> {
    let image = prepare(repo)?;
    let exchange = Exchange::make(directory, repo, job)?;
    let running =
        Running::start(qemu(repo, &image, &exchange, job)?, "qemu", &exchange.0.join("qemu"))?;
    Boot { running, exchange, job, streams }.wait()
}

/// Runs `job` with its streams passed on, and ends as it does. What it wrote to `GUEST_OUT` stays, and is said.
///
/// # Errors
/// As [`run`].
pub fn by_hand(repo: &Repo, job: &Job) -> Result<ExitCode, Failure> {
    let directory = repo.target().join(format!("guest/run-{}", std::process::id()));
    let said = run(repo, &directory, job, Streams::PassedOn)?;
    for complaint in &said.kernel_complaints {
        say!("the guest's kernel: {complaint}");
    }
    if let Some(clock) = said.clock.filter(|clock| (clock - 1.0).abs() > CLOCK_MAY_BE_OFF) {
        say!(
            "the guest's clock ran at {clock:.3} of this machine's: believe no time that was measured"
        );
    }
    let has_files = std::fs::read_dir(&said.files).is_ok_and(|mut files| files.next().is_some());
    if has_files {
        say!("files: {}", said.files.display());
    } else {
        let _ = std::fs::remove_dir_all(&directory);
    }
    Ok(u8::try_from(said.code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn qemu(repo: &Repo, image: &Image, exchange: &Exchange, job: &Job) -> Result<Command, Failure> {
    let mut command = tools::qemu(repo)?;
    // Never hardware's virtualisation: where this machine is itself a guest, /dev/kvm may open and then hang.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]);
    command.args(["-m", &job.memory_mib.to_string(), "-nodefaults", "-no-reboot", "-nic", "none"]);
    command.args(["-display", "none", "-monitor", "none"]);
    command.arg("-chardev").arg(option("file,id=console,path=", &exchange.console()));
    command.args(["-serial", "chardev:console"]);
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initramfs);
    let share = |path: &Path, tag: &str, more: &str| {
        let mut share = option("local,path=", path);
        share.push(format!(",mount_tag={tag},security_model=none,multidevs=remap{more}"));
        share
    };
    command.arg("-virtfs").arg(share(Path::new("/"), "host", ",readonly=on"));
    command.arg("-virtfs").arg(share(&image.layer, "layer", ",readonly=on"));
    command.arg("-virtfs").arg(share(&exchange.0, "exchange", ""));
    // A broken kernel ends the guest at once: what it says then is worth no measurement. Its clock is the host's counter, not an emulated
    // timer that costs more to read than what is measured.
    command.args(["-append", "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic mitigations=off tsc=reliable clocksource=tsc"]);
    Ok(command)
}

/// `prefix` and a path, as QEMU reads options: a comma in it is doubled.
fn option(prefix: &str, path: &Path) -> OsString {
    let mut octets = prefix.as_bytes().to_vec();
    for octet in path.as_os_str().as_bytes() {
        octets.extend(std::iter::repeat_n(*octet, if *octet == b',' { 2 } else { 1 }));
    }
    OsStr::from_bytes(&octets).to_owned()
}

/// The directory that host and guest share, `/guest` there.
#[derive(Debug)]
struct Exchange(PathBuf);

impl Exchange {
    fn make(directory: &Path, repo: &Repo, job: &Job) -> Result<Self, Failure> {
        let cannot =
            |error| Failure::because(format!("cannot make {}", directory.display()), error);
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir_all(directory.join("out")).map_err(cannot)?;
        let exchange = Self(directory.canonicalize().map_err(cannot)?);
        std::fs::write(exchange.0.join("command"), script(repo, job)?).map_err(cannot)?;
        Ok(exchange)
    }

    fn console(&self) -> PathBuf {
        self.0.join("console")
    }

    fn text(&self, name: &str) -> String {
        let octets = std::fs::read(self.0.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&octets).replace('\r', "")
    }

    /// How fast the guest's clock ran between two files that it wrote its uptime to.
    fn clock(&self) -> Option<f64> {
        let read = |name: &str| -> Option<(SystemTime, f64)> {
            let written = std::fs::metadata(self.0.join(name)).and_then(|file| file.modified());
            Some((written.ok()?, self.text(name).split_whitespace().next()?.parse().ok()?))
        };
        let ((from, begun), (to, ended)) = (read("booted")?, read("ended")?);
        let passed = to.duration_since(from).ok().filter(|passed| *passed >= CLOCK_NEEDS)?;
        Some((ended - begun) / passed.as_secs_f64())
    }

    /// The last lines of one of the files.
    fn last_lines(&self, name: &str) -> String {
        let text = self.text(name);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        if last.is_empty() { "nothing".to_owned() } else { last.join("\n  ") }
    }
}

/// What `/bin/sh` runs in the guest.
fn script(repo: &Repo, job: &Job) -> Result<Vec<u8>, Failure> {
    let root = repo.root().canonicalize();
    let root =
        root.map_err(|error| Failure::because("cannot tell where the working tree is", error))?;
    let fabric = root.join("testbed/guest/fabric.sh");
    let mut script = b"cd ".to_vec();
    script.extend(quoted(root.as_os_str()));
    // RDMA needs memory that stays where it is; nobody's home is in the guest.
    script.extend(b" || exit 125\nulimit -l unlimited\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 GUEST_OUT=/guest/out");
    let own = [("GUEST_FABRIC".to_owned(), fabric.into_os_string())];
    for (name, value) in own.iter().chain(&job.environment) {
        script.extend(format!(" {name}=").into_bytes());
        script.extend(quoted(value));
    }
    if job.has_fabric {
        script.extend(
            b"\n\"$GUEST_FABRIC\" up || { echo 'the fabric does not come up' >&2; exit 125; }",
        );
    }
    script.extend(b"\nexec");
    for word in &job.command {
        script.push(b' ');
        script.extend(quoted(word));
    }
    script.push(b'\n');
    Ok(script)
}

/// A word that the shell takes as it is.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for octet in word.as_bytes() {
        match octet {
            b'\'' => quoted.extend(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// A guest that runs.
struct Boot<'a> {
    running: Running,
    exchange: Exchange,
    job: &'a Job,
    streams: Streams,
}

impl Boot<'_> {
    fn wait(mut self) -> Result<Said, Failure> {
        let begun = crate::process::now();
        let booted = self.until(BOOT_BOUND, "booted", &mut [])?;
        let boot = begun.elapsed();
        if booted.is_none() {
            return Err(
                self.failure(&format!("the guest did not boot within {} s", BOOT_BOUND.as_secs()))
            );
        }
        let mut streams = match self.streams {
            Streams::Kept => Vec::new(),
            Streams::PassedOn => vec![Follow::new("stdout"), Follow::new("stderr")],
        };
        let status = self.until(self.job.limit, "status", &mut streams)?;
        streams.iter_mut().for_each(|stream| stream.pass_on(&self.exchange));
        let Some(status) = status else {
            let last = self.exchange.last_lines("stderr");
            let said = format!(
                "the guest's program was not done after {} s; on stderr it said last:\n  {last}",
                self.job.limit.as_secs()
            );
            return Err(self.failure(&said));
        };
        let code = status.trim().parse().map_err(|_| {
            self.failure(&format!("the guest says that its program ended with `{}`", status.trim()))
        })?;
        Ok(Said {
            code,
            stdout: self.exchange.text("stdout"),
            stderr: self.exchange.text("stderr"),
            files: self.exchange.0.join("out"),
            boot,
            clock: self.exchange.clock(),
            kernel_complaints: complaints(&self.exchange.text("console")),
        })
    }

    /// The content of a file that the guest writes when it has come so far.
    fn until(
        &mut self,
        bound: Duration,
        name: &str,
        streams: &mut [Follow],
    ) -> Result<Option<String>, Failure> {
        let path = self.exchange.0.join(name);
        let running = &mut self.running;
        let exchange = &self.exchange;
        let mut has_ended = false;
        let found = wait_for(bound, || {
            streams.iter_mut().for_each(|stream| stream.pass_on(exchange));
            // In this order: what it wrote before it ended counts.
            has_ended = running.exit_code()?.is_some();
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Some(Some(text))),
                Err(_) => Ok(has_ended.then_some(None)),
            }
        })?;
        match found {
            Some(None) => Err(self.failure("the guest switched off before its program had ended")),
            Some(text) => Ok(text),
            None => Ok(None),
        }
    }

    /// A failure with what the console and QEMU said last.
    fn failure(&self, what: &str) -> Failure {
        let console = self.exchange.last_lines("console");
        let qemu = self.exchange.last_lines("qemu.stderr");
        Failure::new(format!("{what}; its console said last:\n  {console}\nQEMU said:\n  {qemu}"))
    }
}

/// A stream of the guest's program, passed on as it comes.
struct Follow {
    name: &'static str,
    at: u64,
}

impl Follow {
    fn new(name: &'static str) -> Self {
        Self { name, at: 0 }
    }

    fn pass_on(&mut self, exchange: &Exchange) {
        let Ok(mut file) = std::fs::File::open(exchange.0.join(self.name)) else { return };
        let mut octets = Vec::new();
        if file.seek(SeekFrom::Start(self.at)).and_then(|_| file.read_to_end(&mut octets)).is_err()
        {
            return;
        }
        self.at += octets.len() as u64;
        // A reader who went away is no error.
        let _ = if self.name == "stdout" {
            let mut out = std::io::stdout().lock();
            out.write_all(&octets).and_then(|()| out.flush())
        } else {
            std::io::stderr().lock().write_all(&octets)
        };
    }
}

/// The lines of a console in which the kernel complains of itself.
fn complaints(console: &str) -> Vec<String> {
    let lines = console.lines().map(|line| match line.split_once("] ") {
        Some((time, rest)) if time.starts_with('[') => rest,
        _ => line,
    });
    lines
        .filter(|line| KERNEL_COMPLAINTS.iter().any(|begin| line.starts_with(begin)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_guest_as_they_are() {
        assert_eq!(quoted(OsStr::new("it's $HOME")), b"'it'\\''s $HOME'");
        assert_eq!(option("local,path=", Path::new("/a,b")), "local,path=/a,,b");
    }

    #[test]
    fn the_kernels_complaints_are_found_and_its_chatter_is_not() {
        let console = "[    0.5] WARNING: CPU: 1 PID: 7 at drivers/x.c\nguest: x\n[    1.0] rdma_rxe: loaded\n[ 9.0] BUG: unable to\n";
        assert_eq!(
            complaints(console),
            ["WARNING: CPU: 1 PID: 7 at drivers/x.c", "BUG: unable to"]
        );
    }
}
