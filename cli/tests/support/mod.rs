//! The real binary, run with bounds: nothing started here outlives its test.
#![allow(dead_code, reason = "each test file takes the part it needs")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Far more than any command here takes: it only keeps a hang from hanging the suite.
pub const BOUND: Duration = Duration::from_secs(30);

/// The command under test, without a terminal on any side.
pub fn railgauge(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_railgauge"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("RAILGAUGE_LOG").env_remove("COLUMNS");
    for place in ["COORDINATOR", "CA", "CERT", "KEY"] {
        command.env_remove(format!("RAILGAUGE_{place}"));
    }
    command
}

/// Runs to the end.
pub fn run(args: &[&str]) -> Done {
    finish(railgauge(args).spawn().unwrap())
}

/// Waits for `child`, and kills it when it takes longer than [`BOUND`].
pub fn finish(child: Child) -> Done {
    let pid = child.id();
    let (ended, end) = mpsc::channel();
    let waiting = thread::spawn(move || {
        // The receiver is there until this thread has been joined.
        let _ = ended.send(child.wait_with_output());
    });
    let Ok(output) = end.recv_timeout(BOUND) else {
        signal(pid, Signal::SIGKILL);
        waiting.join().unwrap();
        panic!("still running after {BOUND:?}");
    };
    waiting.join().unwrap();
    Done::from(output.unwrap())
}

/// Sends `signal` to a child.
pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// What a finished command left.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// Stdout as the one JSON object that it must be.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

/// A `railgauge reflect` on a free port; ended with its owner.
pub struct Reflector {
    child: Option<Child>,
    stderr: Option<BufReader<ChildStderr>>,
    pub address: SocketAddr,
    pub announced: String,
}

impl Reflector {
    /// Starts one on 127.0.0.1.
    pub fn start(args: &[&str]) -> Self {
        Self::on("127.0.0.1:0", args)
    }

    /// Starts one where `listen` says, and reads the port from what it announces.
    pub fn on(listen: &str, args: &[&str]) -> Self {
        let mut child =
            railgauge(&[&["reflect", "--listen", listen], args].concat()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut announced = String::new();
        stderr.read_line(&mut announced).unwrap();
        let address = announced
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split_once(' ')?.0.parse().ok())
            .unwrap_or_else(|| panic!("no address in {announced:?}"));
        Self { child: Some(child), stderr: Some(stderr), address, announced }
    }

    pub fn target(&self) -> String {
        self.address.to_string()
    }

    /// Ends it as Ctrl-C does, and returns what it said.
    pub fn stop(mut self) -> Done {
        let child = self.child.take().unwrap();
        signal(child.id(), Signal::SIGINT);
        finish(child)
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which its own test finds out.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A socket that takes probes and never answers.
pub fn mute() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let target = socket.local_addr().unwrap().to_string();
    (socket, target)
}

/// A port on which nobody listens.
pub fn closed_port() -> String {
    mute().1
}

/// The repository's root.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A schema of `docs/schema`.
pub fn schema(name: &str) -> jsonschema::Validator {
    let text = std::fs::read_to_string(repository().join("docs/schema").join(name)).unwrap();
    jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// Everything that is wrong with `json`.
pub fn faults(schema: &jsonschema::Validator, json: &Value) -> Vec<String> {
    schema.iter_errors(json).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// A directory of this test's own, removed with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file; returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The path of a file that may not exist.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the build directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
