//! An experiment: reflectors and probers as their users start them, read through what they print.

use crate::process::{Ended, Running, wait_for};
use crate::{Failure, command, repo::Repo};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A program that does not say within this time that it listens, does not.
const START_BOUND: Duration = Duration::from_secs(10);

/// Where one row's programs run and what they were called with.
#[derive(Debug)]
pub struct Bench<'a> {
    repo: &'a Repo,
    scratch: PathBuf,
    commands: RefCell<Vec<String>>,
}

impl<'a> Bench<'a> {
    /// An empty bench for the row `row`, with its own directory for what the programs write.
    ///
    /// # Errors
    /// When that directory cannot be made.
    pub fn new(repo: &'a Repo, row: &str) -> Result<Self, Failure> {
        let scratch = repo.target().join("rows").join(row);
        // What an earlier run left could be read as this run's result.
        let _ = std::fs::remove_dir_all(&scratch);
        std::fs::create_dir_all(&scratch).map_err(|error| {
            Failure::because(format!("cannot make {}", scratch.display()), error)
        })?;
        Ok(Self { repo, scratch, commands: RefCell::new(Vec::new()) })
    }

    /// The working tree.
    pub fn repo(&self) -> &Repo {
        self.repo
    }

    /// The directory the programs run in.
    pub fn scratch(&self) -> &PathBuf {
        &self.scratch
    }

    /// Every command line started so far, each kind once, without directories.
    pub fn commands(&self) -> Vec<String> {
        self.commands.borrow().clone()
    }

    /// A program of the release build, pinned to one CPU where `cpu` says so.
    pub fn program(&self, name: &str, cpu: Option<usize>) -> Command {
        pinned(self.repo.release(name).as_os_str(), cpu)
    }

    /// Starts `command` in the scratch directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, mut command: Command, name: &str) -> Result<Running, Failure> {
        self.note(&without_ports(&command::shown(&command)));
        command.current_dir(&self.scratch).env("NO_COLOR", "1");
        Running::start(command, name, &self.scratch.join(name))
    }

    /// Keeps a command line for [`Bench::commands`].
    pub fn note(&self, line: &str) {
        // A record says what ran, not in whose directory.
        let root = format!("{}/", self.repo.root().display());
        let mut shown = line.replace(&root, "");
        if let Some((end, _)) = shown.char_indices().nth(LONGEST_COMMAND) {
            shown.truncate(end);
            shown.push('…');
        }
        let mut commands = self.commands.borrow_mut();
        if !commands.contains(&shown) {
            commands.push(shown);
        }
    }

    /// Starts `command` and waits for its end.
    ///
    /// # Errors
    /// When it cannot be started or is not done after `bound`.
    pub fn complete(
        &self,
        command: Command,
        name: &str,
        bound: Duration,
    ) -> Result<Ended, Failure> {
        self.start(command, name)?.finish(bound)
    }

    /// Starts a program that prints one JSON object and reads it. Status 1 is a verdict on what was measured, as
    /// with `railgauge`, and no failure to measure.
    ///
    /// # Errors
    /// When it does not end with status 0 or 1 within `bound`, or prints something else.
    pub fn json(&self, command: Command, name: &str, bound: Duration) -> Result<Value, Failure> {
        self.read(self.start(command, name)?, name, bound)
    }

    /// The same of one that runs.
    ///
    /// # Errors
    /// As [`Bench::json`].
    pub fn read(&self, running: Running, name: &str, bound: Duration) -> Result<Value, Failure> {
        let ended = running.finish(bound)?;
        if !matches!(ended.code, Some(0 | 1)) {
            let said = ended.stderr.trim();
            return Err(Failure::new(format!("{name} ended with {:?}: {said}", ended.code)));
        }
        parse(name, &ended)
    }

    /// Starts `railgauge reflect` on a free port of loopback with further flags.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn reflector(&self, flags: &[&str]) -> Result<Reflector, Failure> {
        let mut command = self.program("railgauge", None);
        command.args(["reflect", "--listen", "127.0.0.1:0"]).args(flags);
        self.listening(command, "reflect")
    }

    /// Starts a program that says on stderr where it listens, as `railgauge reflect` does.
    ///
    /// # Errors
    /// When it ends, or does not say so within 10 s.
    pub fn listening(&self, command: Command, name: &str) -> Result<Reflector, Failure> {
        let mut running = self.start(command, name)?;
        let address = wait_for(START_BOUND, || {
            let found = listening_address(&running.stderr());
            if found.is_none() && running.exit_code()?.is_some() {
                let said = running.stderr();
                return Err(Failure::new(format!("{name} ended at once: {}", said.trim())));
            }
            Ok(found)
        })?;
        let address = address.ok_or_else(|| {
            Failure::new(format!("{name} did not say `listening on ADDRESS:PORT` within 10 s"))
        })?;
        Ok(Reflector { running, address })
    }

    /// Starts `railgauge ping` against `target`, every sample written out.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn prober(&self, target: &str, flags: &[&str]) -> Result<Prober, Failure> {
        let mut command = self.program("railgauge", None);
        let fixed = ["ping", target, "--output", "json", "--samples", SAMPLES];
        command.args(fixed).args(flags);
        Ok(Prober { running: self.start(command, "ping")?, samples: self.scratch.join(SAMPLES) })
    }

    /// Runs `railgauge ping` to its end.
    ///
    /// # Errors
    /// As [`Bench::prober`] and [`Prober::finish`].
    pub fn ping(&self, target: &str, flags: &[&str], bound: Duration) -> Result<Ping, Failure> {
        self.prober(target, flags)?.finish(bound)
    }
}

/// Characters of a command line that are kept: some carry whole histograms.
const LONGEST_COMMAND: usize = 800;

/// The file each sample is written to, in the scratch directory.
const SAMPLES: &str = "samples.csv";

/// `program`, under `taskset` where a CPU is given.
pub fn pinned(program: &std::ffi::OsStr, cpu: Option<usize>) -> Command {
    let Some(cpu) = cpu else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program);
    command
}

/// A command line with the ports of loopback, which the kernel chose, as `PORT`.
fn without_ports(line: &str) -> String {
    let mut parts = line.split("127.0.0.1:");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let port = &part[..part.len() - rest.len()];
        // 0 asks for any port, and 7463 is ours: these were typed.
        let port = if matches!(port, "0" | "7463") { port } else { "PORT" };
        shown.push_str(&format!("127.0.0.1:{port}{rest}"));
    }
    shown
}

fn listening_address(stderr: &str) -> Option<String> {
    let after = stderr.lines().find_map(|line| line.split_once("listening on "))?.1;
    let word = after.split_whitespace().next()?.trim_end_matches([',', ';', ':']);
    word.parse::<std::net::SocketAddr>().ok().map(|address| address.to_string())
}

fn parse(name: &str, ended: &Ended) -> Result<Value, Failure> {
    serde_json::from_str(&ended.stdout).map_err(|error| {
        let said = ended.stderr.lines().last().unwrap_or("nothing");
        let code = ended.code;
        Failure::new(format!(
            "{name} (status {code:?}) printed no JSON ({error}); on stderr: {said}"
        ))
    })
}

/// What a program of the testbed found broken: the sentences of `violations` in what it printed.
///
/// # Errors
/// When it printed no such list: nothing said is not nothing wrong.
pub fn violations(name: &str, report: &Value) -> Result<Vec<String>, Failure> {
    let found = report["violations"].as_array();
    let found = found.ok_or_else(|| Failure::new(format!("{name} printed no `violations`")))?;
    Ok(found
        .iter()
        .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .collect())
}

/// A running reflector.
#[derive(Debug)]
pub struct Reflector {
    /// The process.
    pub running: Running,
    /// Where it listens, `address:port`.
    pub address: String,
}

/// A running `railgauge ping`.
#[derive(Debug)]
pub struct Prober {
    /// The process.
    pub running: Running,
    samples: PathBuf,
}

impl Prober {
    /// Ends the run early, as Ctrl-C does.
    ///
    /// # Errors
    /// When it has ended.
    pub fn interrupt(&self, signal: Signal) -> Result<(), Failure> {
        self.running.signal(signal)
    }

    /// Waits for the end of the run and reads what it measured.
    ///
    /// # Errors
    /// When it is not done after `bound` or prints no JSON; the exit status is the caller's to judge.
    pub fn finish(self, bound: Duration) -> Result<Ping, Failure> {
        let ended = self.running.finish(bound)?;
        Ping::read("ping", &ended, &std::fs::read_to_string(&self.samples).unwrap_or_default())
    }
}

/// One probe, as `--samples` writes it; durations in nanoseconds, `None` where not known (a lost probe has no RTT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The slot it was due in, from the start of the run.
    pub slot_ns: i64,
    /// From the slot to the application having the reply.
    pub app_rtt_ns: Option<i64>,
    /// What the wire took.
    pub network_rtt_ns: Option<i64>,
    /// What this host took.
    pub prober_delay_ns: Option<i64>,
    /// What the other host took.
    pub responder_delay_ns: Option<i64>,
}

/// Reads what `--samples` wrote: `seq,slot_ns,app_rtt_ns,network_rtt_ns,prober_delay_ns,responder_delay_ns`.
fn read_samples(csv: &str) -> Result<Vec<Sample>, Failure> {
    let rows = csv.lines().enumerate().filter(|(_, line)| !line.starts_with(['s', '#']));
    rows.map(|(at, line)| {
        read_sample(line).ok_or_else(|| {
            Failure::new(format!("line {} of the samples is no sample: {line}", at + 1))
        })
    })
    .collect()
}

fn read_sample(line: &str) -> Option<Sample> {
    let cells: Vec<&str> = line.split(',').collect();
    let [_, slot, durations @ ..] = cells.as_slice() else { return None };
    let known = |cell: &str| if cell.is_empty() { Some(None) } else { cell.parse().ok().map(Some) };
    let [app, network, prober, responder] = durations else { return None };
    Some(Sample {
        slot_ns: slot.parse().ok()?,
        app_rtt_ns: known(app)?,
        network_rtt_ns: known(network)?,
        prober_delay_ns: known(prober)?,
        responder_delay_ns: known(responder)?,
    })
}

/// A finished `railgauge ping`.
#[derive(Debug, Clone)]
pub struct Ping {
    /// Exit status.
    pub code: Option<i32>,
    /// The result object.
    pub json: Value,
    /// Every sample.
    pub samples: Vec<Sample>,
    /// User and system time of the whole process.
    pub cpu: Duration,
}

impl Ping {
    /// The result of a program that ran `ping --output json`; `samples` is what `--samples` wrote, if anything.
    ///
    /// # Errors
    /// When it printed no JSON, or a line of `samples` is no sample.
    pub fn read(name: &str, ended: &Ended, samples: &str) -> Result<Self, Failure> {
        let (json, samples) = (parse(name, ended)?, read_samples(samples)?);
        Ok(Self { code: ended.code, json, samples, cpu: ended.cpu })
    }

    /// A whole number of the result, by JSON pointer (`/sent`, `/app_rtt/sum_ns`).
    ///
    /// # Errors
    /// When the result has no such number: a renamed field must not read as 0.
    pub fn number(&self, pointer: &str) -> Result<i64, Failure> {
        let found = self.json.pointer(pointer).and_then(Value::as_i64);
        found.ok_or_else(|| {
            Failure::new(format!("the ping result has no whole number at {pointer}"))
        })
    }

    /// The median of a series, ns.
    ///
    /// # Errors
    /// When the series is absent or its median withheld.
    pub fn p50(&self, series: &str) -> Result<f64, Failure> {
        let quantiles = self.json[series]["quantiles"].as_array().into_iter().flatten();
        let mut medians = quantiles.filter(|quantile| quantile["q"].as_f64() == Some(0.5));
        medians.next().and_then(|median| median["value_ns"].as_f64()).ok_or_else(|| {
            let reason = &self.json[format!("{series}_reason")];
            Failure::new(format!("the ping result has no p50 of {series} (reason: {reason})"))
        })
    }

    /// The result without what is long and has no place in a record.
    pub fn summary(&self) -> Value {
        let mut json = self.json.clone();
        for series in ["network_rtt", "app_rtt", "prober_delay", "responder_delay"] {
            if let Some(series) = json[series].as_object_mut() {
                series.remove("hdr_v2");
            }
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_what_reflect_says() {
        let said =
            "note: x\nlistening on 127.0.0.1:40123, kernel stamps\nmeasure with: railgauge ping …";
        assert_eq!(listening_address(said).unwrap(), "127.0.0.1:40123");
        assert_eq!(listening_address("listening on [::1]:862").unwrap(), "[::1]:862");
        assert_eq!(listening_address("listening on nothing"), None);
    }

    #[test]
    fn chosen_ports_are_not_part_of_a_command() {
        assert_eq!(without_ports("ping 127.0.0.1:4711 -n 3"), "ping 127.0.0.1:PORT -n 3");
        assert_eq!(without_ports("reflect --listen 127.0.0.1:0"), "reflect --listen 127.0.0.1:0");
    }

    #[test]
    fn unknown_parts_of_a_sample_stay_unknown() {
        let samples =
            read_samples("seq,slot_ns,a,b,c,d\n1,1000,50,20,20,10\n2,2000,,,,\n").unwrap();
        assert_eq!(samples[0].responder_delay_ns, Some(10));
        assert_eq!((samples[1].slot_ns, samples[1].app_rtt_ns), (2000, None));
    }

    #[test]
    fn a_broken_sample_is_an_error() {
        assert!(read_samples("1,2,3\n").is_err());
        assert!(read_samples("1,2,x,,,\n").is_err());
    }
}
