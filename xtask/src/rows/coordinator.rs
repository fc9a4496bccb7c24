//! A coordinator of the release build with a load on it, for the rows about it.

use crate::Failure;
use crate::harness::{Bench, violations};
use crate::process::{Running, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const START_BOUND: Duration = Duration::from_secs(20);
const STOP_BOUND: Duration = Duration::from_secs(20);
const STATE: &str = "state";
const ADDRESSES: &str = "addresses";
const AUTHORITY: &str = "authority";

/// One that runs, with its state on the disk of the scratch directory.
pub struct Coordinator {
    running: Running,
    /// Where it answers gRPC.
    pub address: String,
    /// Where it serves pages.
    pub http: String,
    scratch: PathBuf,
    authority: Option<PathBuf>,
}

impl Coordinator {
    /// Starts one with nothing in its store, in plaintext.
    pub fn start(bench: &Bench<'_>) -> Result<Self, Failure> {
        Self::start_with(bench, &[])
    }

    /// The same with further flags.
    pub fn start_with(bench: &Bench<'_>, flags: &[&str]) -> Result<Self, Failure> {
        Self::begin(bench, &[&["--insecure"], flags].concat(), None)
    }

    /// The same with certificates of an authority of its own.
    pub fn start_with_tls(bench: &Bench<'_>) -> Result<Self, Failure> {
        let dir = bench.scratch().join(AUTHORITY);
        let _ = std::fs::remove_dir_all(&dir);
        for words in [&["init"][..], &["issue", "coordinator", "main"]] {
            let mut certs = bench.program("railgauge", None);
            certs.arg("certs").args(words).args(["--dir", AUTHORITY]);
            let made = bench.complete(certs, "certs", START_BOUND)?;
            if made.code != Some(0) {
                return Err(Failure::new(format!("railgauge certs: {}", made.stderr.trim())));
            }
        }
        let files = [
            ("--ca", "ca.pem"),
            ("--cert", "coordinator-main.pem"),
            ("--key", "coordinator-main.key"),
        ];
        let files = files.map(|(flag, file)| [flag.to_owned(), format!("{AUTHORITY}/{file}")]);
        let flags: Vec<&str> = files.iter().flatten().map(String::as_str).collect();
        Self::begin(bench, &flags, Some(dir))
    }

    fn begin(
        bench: &Bench<'_>,
        flags: &[&str],
        authority: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let scratch = bench.scratch().clone();
        // What an earlier one left would be merged beside what comes.
        let _ = std::fs::remove_dir_all(scratch.join(STATE));
        let _ = std::fs::remove_file(scratch.join(ADDRESSES));
        let mut command = bench.program("railgauge-coordinator", None);
        command.args(flags).args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.args(["--state-dir", STATE, "--addresses-file", ADDRESSES]);
        let mut running = bench.start(command, "coordinator")?;
        let file = scratch.join(ADDRESSES);
        let address = wait_for(START_BOUND, || {
            if running.exit_code()?.is_some() {
                let said = running.stderr();
                return Err(Failure::new(format!("the coordinator ended: {}", said.trim())));
            }
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let line =
                |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            Ok(line("grpc=").zip(line("http=")).filter(|_| text.ends_with('\n')))
        })?;
        let (address, http) =
            address.ok_or_else(|| Failure::new("the coordinator did not say where it listens"))?;
        Ok(Self { running, address, http, scratch, authority })
    }

    /// Puts a load on it; a batch that is missing or counted twice is a failure at every scale.
    pub fn load(&self, bench: &Bench<'_>, flags: &[&str]) -> Result<Value, Failure> {
        self.finish_load(bench, self.begin_load(bench, flags)?)
    }

    /// Begins to put a load on it.
    pub fn begin_load(&self, bench: &Bench<'_>, flags: &[&str]) -> Result<Running, Failure> {
        let mut command = bench.program("fleet_load", None);
        let pid = self.running.pid().to_string();
        command.args([self.address.as_str(), "--pid", &pid]).args(flags);
        if let Some(dir) = &self.authority {
            command.arg("--authority").arg(dir);
        }
        bench.start(command, "fleet_load")
    }

    /// Waits for the end of a load; a batch that is missing or counted twice is a failure at every scale.
    pub fn finish_load(&self, bench: &Bench<'_>, load: Running) -> Result<Value, Failure> {
        let report = bench.read(load, "fleet_load", Duration::from_secs(600))?;
        match violations("fleet_load", &report)?.as_slice() {
            [] => Ok(report),
            found => {
                let error = report["last_error"].as_str().unwrap_or_default();
                Err(Failure::new(format!("{} ({error})", found.join("; "))))
            }
        }
    }

    /// Ends it, and deletes what it kept: gigabytes.
    pub fn stop(self) -> Result<(), Failure> {
        self.running.signal(Signal::SIGTERM)?;
        let ended = self.running.finish(STOP_BOUND)?;
        let removed = std::fs::remove_dir_all(self.scratch.join(STATE));
        removed.map_err(|error| Failure::because("cannot delete the store", error))?;
        if ended.code == Some(0) {
            return Ok(());
        }
        let said = ended.stderr.lines().last().unwrap_or("nothing").to_owned();
        Err(Failure::new(format!("the coordinator ended with {:?} and said {said}", ended.code)))
    }
}

/// A number of a report.
pub fn number(report: &Value, key: &str) -> Result<f64, Failure> {
    let found = report.pointer(key).and_then(Value::as_f64);
    found.ok_or_else(|| Failure::new(format!("the report has no number at {key}")))
}
