//! A coordinator and an agent as packages install them, two agents beside them, and what is seen of them from outside.

use crate::Failure;
use crate::harness::Bench;
use crate::machine::Machine;
use crate::package::Packed;
use crate::process::{Running, pause, wait_for};
use crate::rows::Outcome;
use serde_json::Value;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub const AGENT: &str = "railgauge-agent.service";
pub const COORDINATOR: &str = "railgauge-coordinator.service";
/// Agents beside the installed one: number n is gpu-n at 127.0.0.n.
const PEERS: [u32; 2] = [2, 3];
const ADDRESS: &str = "127.0.0.1";
/// Between two looks at a thing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The daemons in their machine.
pub struct Crew<'a> {
    pub bench: &'a Bench<'a>,
    pub machine: &'a Machine,
    /// Whether times are judged: a miniature only prints them.
    pub is_timed: bool,
    /// Writes down who probes when.
    probes: Option<Running>,
}

/// The wall clock, which the journal and the probes' times are in too.
pub fn wall_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// From one reading to the other.
pub fn seconds(from: i64, to: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a span of seconds")]
    let ns = (to - from) as f64;
    ns / 1e9
}

impl<'a> Crew<'a> {
    /// Installs the packages; nothing is enabled or started by that. Then configures them, and puts the ledger's shim under all agents.
    pub fn install(
        bench: &'a Bench<'a>,
        machine: &'a Machine,
        packages: &[Packed],
        outcome: &mut Outcome,
    ) -> Result<Self, Failure> {
        let mut install = vec!["dpkg".to_owned(), "--install".to_owned()];
        for packed in packages {
            let name = packed.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            copy(&packed.file, &machine.directory().join(&name))?;
            install.push(format!("/machine/{name}"));
        }
        let line: Vec<&str> = install.iter().map(String::as_str).collect();
        machine.must(&line)?;
        for unit in [AGENT, COORDINATOR] {
            let enabled = machine.run(&["systemctl", "is-enabled", unit])?.word().to_owned();
            let active = machine.run(&["systemctl", "is-active", unit])?.word().to_owned();
            outcome.expect(enabled == "disabled" && active == "inactive", || {
                format!("{unit} is {enabled} and {active} after its installation")
            });
        }
        let crew = Self { bench, machine, is_timed: false, probes: None };
        crew.shim()?;
        crew.configure_coordinator("")?;
        crew.configure_agent("")?;
        machine.must(&["systemctl", "daemon-reload"])?;
        Ok(crew)
    }

    fn shim(&self) -> Result<(), Failure> {
        let directory = self.machine.directory();
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-fPIC", "-shared", "-o"]).arg(directory.join("storage.so"));
        cc.arg(self.bench.repo().path("testbed/preload/storage.c")).arg("-ldl");
        crate::command::must(cc)?;
        for script in ["probes.py", "sandbox.py"] {
            copy(
                &self.bench.repo().path(format!("testbed/machine/{script}")),
                &directory.join(script),
            )?;
        }
        // The daemons' user writes its ledgers here.
        self.machine.must(&["chmod", "0777", "/machine"])?;
        let under = |state: &str, name: &str| {
            format!(
                "[Service]\nEnvironment=LD_PRELOAD=/machine/storage.so RAILGAUGE_SHIM_DIR=/var/lib/{state} \
                 RAILGAUGE_SHIM_LEDGER=/machine/{name}.ledger\nReadWritePaths=/machine\n"
            )
        };
        let sandbox = "ExecStartPre=/usr/bin/python3 /machine/sandbox.py /machine/agent.sandbox\n";
        let agent = format!("{}{sandbox}", under("railgauge-agent", "gpu-1"));
        self.machine.write("/etc/systemd/system/railgauge-agent.service.d/test.conf", agent)?;
        let coordinator = sandbox.replace("agent.sandbox", "coordinator.sandbox");
        let coordinator = format!("[Service]\nReadWritePaths=/machine\n{coordinator}");
        self.machine
            .write("/etc/systemd/system/railgauge-coordinator.service.d/test.conf", coordinator)?;
        for n in PEERS {
            let unit = format!(
                "{}Type=notify\nUser=railgauge\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nStateDirectory=peer-{n}\n\
                 StateDirectoryMode=0700\nExecStart=/usr/bin/railgauge-agent --config /etc/railgauge/peer-{n}.toml\n",
                under(&format!("peer-{n}"), &format!("gpu-{n}"))
            );
            self.machine.write(&format!("/etc/systemd/system/peer-{n}.service"), unit)?;
            let state = format!("state_dir = \"/var/lib/peer-{n}\"\n");
            self.machine.write(&format!("/etc/railgauge/peer-{n}.toml"), agent_toml(n, &state))?;
        }
        Ok(())
    }

    /// The installed agent's configuration, with more lines at its beginning or tables at its end.
    pub fn configure_agent(&self, more: &str) -> Result<(), Failure> {
        let (keys, tables) = if more.starts_with('[') { ("", more) } else { (more, "") };
        self.machine.write("/etc/railgauge/agent.toml", format!("{}{tables}", agent_toml(1, keys)))
    }

    /// The coordinator's: short windows, so that much happens in a minute.
    pub fn configure_coordinator(&self, more: &str) -> Result<(), Failure> {
        let text = "insecure = true\nwindow = \"1s\"\nprobe_timeout = \"200ms\"\n";
        let interval = if more.is_empty() { "probe_interval = \"50ms\"\n" } else { more };
        self.machine.write("/etc/railgauge/coordinator.toml", format!("{text}{interval}"))
    }

    /// Starts the agents beside the installed one, and watches who probes.
    pub fn start_peers(&mut self) -> Result<(), Failure> {
        let watch = self.machine.command(&["python3", "/machine/probes.py", "/machine/probes"]);
        self.probes = Some(self.bench.start(watch, "probes")?);
        for n in PEERS {
            self.machine.must(&["systemctl", "start", &format!("peer-{n}.service")])?;
        }
        Ok(())
    }

    /// Looks until `seen`, for `bound` at most.
    pub fn wait_until(
        &self,
        bound: Duration,
        mut seen: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let found = wait_for(bound, || {
            let there = seen(self)?;
            if !there {
                pause(LOOK_EVERY);
            }
            Ok(there.then_some(()))
        })?;
        Ok(found.is_some())
    }

    /// What `railgauge nodes` prints; null while no coordinator answers.
    pub fn nodes(&self) -> Result<Value, Failure> {
        let said = self.machine.run(&["railgauge", "nodes", "--output", "json"])?;
        Ok(serde_json::from_str(&said.stdout).unwrap_or(Value::Null))
    }

    fn each_node(&self, holds: impl Fn(&Value) -> bool) -> Result<bool, Failure> {
        let nodes = self.nodes()?;
        let nodes = nodes["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(nodes.len() == PEERS.len() + 1 && nodes.iter().all(holds))
    }

    /// Whether all are there.
    pub fn all_connected(&self) -> Result<bool, Failure> {
        self.each_node(|node| node["state"] == "connected")
    }

    /// Whether windows of all have come.
    pub fn all_ingested(&self) -> Result<bool, Failure> {
        self.each_node(|node| {
            node["state"] == "connected" && node["windows_ingested"].as_u64() > Some(0)
        })
    }

    /// Whether a coordinator that was started again has all agents, and more windows of all than when it first had them.
    pub fn serving(&self, first: &mut Option<Vec<u64>>) -> Result<bool, Failure> {
        if !self.all_connected()? {
            return Ok(false);
        }
        let nodes = self.nodes()?;
        let nodes = nodes["nodes"].as_array().into_iter().flatten();
        let stored: Vec<u64> = nodes.filter_map(|node| node["windows_ingested"].as_u64()).collect();
        let first = first.get_or_insert_with(|| stored.clone());
        Ok(stored.iter().zip(first.iter()).all(|(now, first)| now > first))
    }

    /// When the installed agent sent its first probe after `from`, by the packets on the wire.
    pub fn first_probe_after(&self, from: i64) -> Result<Option<i64>, Failure> {
        let file = self.machine.directory().join("probes");
        let lines = std::fs::read_to_string(&file)
            .map_err(|error| Failure::because(format!("cannot read {}", file.display()), error))?;
        let sent: Vec<(i64, &str)> =
            lines.lines().filter_map(|line| sent_by(ADDRESS, line)).collect();
        // A probe may be on its way when its process is killed: the next process has other sockets.
        let before: HashSet<&str> =
            sent.iter().filter(|(time, _)| *time <= from).map(|(_, port)| *port).collect();
        Ok(sent.iter().filter(|(_, port)| !before.contains(port)).map(|(time, _)| *time).min())
    }

    /// When the journal of a unit first said such a thing after `from`, by the wall clock.
    pub fn journal_time(&self, unit: &str, words: &str, from: i64) -> Result<Option<i64>, Failure> {
        let text = self.machine.must(&[
            "journalctl",
            "--quiet",
            "--no-pager",
            "--output=json",
            "--unit",
            unit,
        ])?;
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let times = entries
            .filter(|entry| entry["MESSAGE"].as_str().is_some_and(|said| said.contains(words)))
            .filter_map(|entry| {
                let micros: i64 = entry["__REALTIME_TIMESTAMP"].as_str()?.parse().ok()?;
                Some(micros * 1_000)
            });
        Ok(times.filter(|time| *time > from).min())
    }

    /// Whether it did.
    pub fn journal_says(&self, unit: &str, words: &str, from: i64) -> Result<bool, Failure> {
        Ok(self.journal_time(unit, words, from)?.is_some())
    }

    /// Stops all, agents first, so that everything is delivered; then the program that judges what is left of it.
    pub fn end(&mut self, outcome: &mut Outcome) -> Result<Command, Failure> {
        self.probes = None;
        for unit in [AGENT, "peer-2.service", "peer-3.service", COORDINATOR] {
            self.machine.must(&["systemctl", "stop", unit])?;
            let result = self.machine.property(unit, "Result")?;
            outcome.expect(result == "success", || {
                format!("{unit} ended with {result} when it was stopped")
            });
        }
        let left = self.bench.scratch().join("left");
        let mut judge = self.bench.program("service_conservation", None);
        judge.arg("--out").arg(&left).arg("--store").arg(left.join("railgauge-coordinator/store"));
        for (name, state) in
            [("gpu-1", "railgauge-agent"), ("gpu-2", "peer-2"), ("gpu-3", "peer-3")]
        {
            let ledger = self.machine.directory().join(format!("{name}.ledger"));
            judge.arg(format!("{name}={}={}", left.join(state).display(), ledger.display()));
        }
        self.copy_states(&left)?;
        Ok(judge)
    }

    /// As ours: who judges is not the daemons' user.
    fn copy_states(&self, to: &PathBuf) -> Result<(), Failure> {
        std::fs::create_dir_all(to)
            .map_err(|error| Failure::because(format!("cannot make {}", to.display()), error))?;
        for state in ["railgauge-coordinator", "railgauge-agent", "peer-2", "peer-3"] {
            let mut copy = Command::new("cp");
            copy.arg("--recursive").arg(self.machine.path(format!("/var/lib/{state}"))).arg(to);
            crate::command::must(copy)?;
        }
        Ok(())
    }
}

fn agent_toml(n: u32, more: &str) -> String {
    format!(
        "{more}node = \"gpu-{n}\"\ninsecure = true\nhttp_listen = \"127.0.0.{n}:7462\"\n[[endpoint]]\nport = \"eth0\"\naddress = \"127.0.0.{n}\"\n"
    )
}

fn copy(from: &PathBuf, to: &PathBuf) -> Result<(), Failure> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|error| Failure::because(format!("cannot copy {}", from.display()), error))
}

/// When it left and from which port, where a line of `probes.py` is of a probe from that address.
fn sent_by<'l>(address: &str, line: &'l str) -> Option<(i64, &'l str)> {
    let (time, sender) = line.split_once(' ')?;
    let (from, port) = sender.split_once(' ')?;
    (from == address).then(|| time.parse().ok().map(|time| (time, port))).flatten()
}
