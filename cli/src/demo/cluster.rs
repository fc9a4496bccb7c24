//! A small fabric on this machine: a coordinator and agents, each a process of its own, on loopback addresses.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fault::Fault;
use super::relay::Relay;

/// How long a process may take to begin, or to end.
const BEGIN: Duration = Duration::from_secs(15);
const END: Duration = Duration::from_secs(6);

/// How often something is looked at that tells nobody when it happens.
const LOOK: Duration = Duration::from_millis(20);

/// Probes of each path a second, as long as the machine can carry all paths.
const RATE: u32 = 200;

/// What a small machine carries beside the agents' other work, probes a second over all paths.
const ALL_PATHS: u32 = 12_000;

/// Nodes of a demo at most: their addresses are 127.0.1.1 to 127.0.1.64.
pub const MOST_NODES: u8 = 64;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A program is not there.
    #[error(
        "{0} is not beside this program: build it with `cargo build --release --workspace`, or install the package"
    )]
    Program(PathBuf),
    /// A directory or file of ours.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A process.
    #[error("cannot start {name}")]
    Start {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A process that ended at once, or never said where it is.
    #[error("{name} did not begin: {said} (all of it in {log})")]
    Ended {
        /// Which.
        name: String,
        /// The last line of its log.
        said: String,
        /// The log.
        log: PathBuf,
    },
    /// An address.
    #[error("no port is free on {address}")]
    Port {
        /// Where.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
}

/// Lets time pass. Where a process does not say when it is done, looking again later is all there is.
pub fn pause(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the demo waits for processes and for time itself"
    )]
    std::thread::sleep(duration);
}

#[expect(clippy::disallowed_methods, reason = "the demo is a driver")]
pub fn now() -> Instant {
    Instant::now()
}

/// A process of ours. Dropping it ends it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self, ClusterError> {
        let file = File::create(&log)
            .map_err(|source| ClusterError::Write { path: log.clone(), source })?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .env_remove("NOTIFY_SOCKET")
            .spawn()
            .map_err(|source| ClusterError::Start { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// An error when it has ended.
    pub fn check(&mut self) -> Result<(), ClusterError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    fn ended(&self) -> ClusterError {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let said = text.lines().last().unwrap_or("it said nothing").to_owned();
        ClusterError::Ended { name: self.name.clone(), said, log: self.log.clone() }
    }

    /// Asks it to end.
    fn terminate(&self) {
        let _ = kill(self.pid(), Signal::SIGCONT);
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    fn wait(&mut self, deadline: Instant) {
        while now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            pause(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a cluster is made of.
pub struct Plan<'a> {
    /// Nodes.
    pub nodes: u8,
    /// What is wrong, and where.
    pub faults: &'a [Fault],
    /// Results and logs.
    pub out: &'a Path,
    /// Of all randomness.
    pub seed: u64,
}

/// A running cluster.
pub struct Cluster {
    agents: Vec<Process>,
    coordinator: Process,
    /// The coordinator's URL.
    pub url: String,
    /// Its page.
    pub page: String,
    state: PathBuf,
    _relays: Vec<Relay>,
}

/// Probes a second of each path between so many nodes.
pub fn rate(nodes: u8) -> u32 {
    let nodes = u32::from(nodes);
    RATE.min(ALL_PATHS / (nodes * (nodes - 1)).max(1)).max(1)
}

/// What a node of the demo is called.
pub fn node_name(number: u8) -> String {
    format!("demo-{number}")
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, number).into()
}

impl Cluster {
    /// Starts it.
    pub fn start(plan: &Plan<'_>) -> Result<Self, ClusterError> {
        let (logs, state) = (plan.out.join("logs"), plan.out.join("state"));
        // What an earlier demo that was killed left there.
        let _ = fs::remove_dir_all(&state);
        for directory in [&logs, &state] {
            fs::create_dir_all(directory)
                .map_err(|source| ClusterError::Write { path: directory.clone(), source })?;
        }
        let (coordinator, url, page) = start_coordinator(plan, &logs, &state)?;
        let ports = (1..=plan.nodes).map(free_port).collect::<Result<Vec<_>, _>>()?;
        let relays = relays(plan, &ports)?;
        let mut agents = Vec::new();
        for (number, at) in (1..=plan.nodes).zip(&ports) {
            let advertise = relays.get(agents.len()).map(|relay| relay.address);
            agents.push(start_agent(number, *at, advertise, &url, &logs, &state)?);
        }
        Ok(Self { agents, coordinator, url, page, state, _relays: relays })
    }

    /// The agent's process of node `number`, from 1.
    pub fn agent(&self, number: u8) -> Option<Pid> {
        self.agents.get(usize::from(number) - 1).map(Process::pid)
    }

    /// An error when a process of it has ended.
    pub fn check(&mut self) -> Result<(), ClusterError> {
        self.coordinator.check()?;
        self.agents.iter_mut().try_for_each(Process::check)
    }

    /// Ends all, agents first, and removes what they kept.
    pub fn stop(mut self) {
        let deadline = now() + END;
        self.agents.iter().for_each(Process::terminate);
        self.agents.iter_mut().for_each(|agent| agent.wait(deadline));
        self.coordinator.terminate();
        self.coordinator.wait(deadline + END);
        // What is left is a directory in the user's own, with a name that says what it is.
        let _ = fs::remove_dir_all(&self.state);
    }
}

fn program(name: &str) -> Result<PathBuf, ClusterError> {
    let own = std::env::current_exe().unwrap_or_default();
    let path = own.with_file_name(name);
    if path.is_file() { Ok(path) } else { Err(ClusterError::Program(path)) }
}

fn start_coordinator(
    plan: &Plan<'_>,
    logs: &Path,
    state: &Path,
) -> Result<(Process, String, String), ClusterError> {
    let addresses = state.join("addresses");
    let mut command = Command::new(program("railgauge-coordinator")?);
    command
        .args(["--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--probe-interval", &format!("{}us", 1_000_000 / rate(plan.nodes))])
        .args(["--window", "2s"])
        .args(["--inbound-per-second", "100000"])
        .arg("--config")
        .arg(empty_config(state)?)
        .arg("--state-dir")
        .arg(state.join("coordinator"))
        .arg("--addresses-file")
        .arg(&addresses);
    let mut coordinator = Process::start("the coordinator", command, logs.join("coordinator.log"))?;
    let deadline = now() + BEGIN;
    loop {
        let text = fs::read_to_string(&addresses).unwrap_or_default();
        let find = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.map(|address| format!("http://{address}"))
        };
        if let (Some(url), Some(page)) = (find("grpc"), find("http")) {
            return Ok((coordinator, url, page));
        }
        coordinator.check()?;
        if now() > deadline {
            return Err(coordinator.ended());
        }
        pause(LOOK);
    }
}

/// So that no configuration of this machine's own takes part.
fn empty_config(state: &Path) -> Result<PathBuf, ClusterError> {
    let path = state.join("coordinator.toml");
    fs::write(&path, "").map_err(|source| ClusterError::Write { path: path.clone(), source })?;
    Ok(path)
}

/// A UDP port on the node's address that nobody has.
fn free_port(number: u8) -> Result<SocketAddr, ClusterError> {
    let address = address(number);
    let socket = UdpSocket::bind((address, 0)).and_then(|socket| socket.local_addr());
    socket.map_err(|source| ClusterError::Port { address, source })
}

/// With a fault of the network, a link in front of every node, so that the one with the fault stands out by nothing else.
fn relays(plan: &Plan<'_>, ports: &[SocketAddr]) -> Result<Vec<Relay>, ClusterError> {
    if !plan.faults.iter().any(|fault| fault.kind.is_of_network()) {
        return Ok(Vec::new());
    }
    let start = |(number, node): (u8, &SocketAddr)| {
        let rules = super::fault::rules(plan.faults, number, address);
        let seed = plan.seed.wrapping_add(number.into());
        Relay::start([127, 0, 0, 1].into(), *node, rules, seed).map_err(|source| {
            ClusterError::Start { name: format!("the link of {}", node_name(number)), source }
        })
    };
    (1..=plan.nodes).zip(ports).map(start).collect()
}

fn start_agent(
    number: u8,
    at: SocketAddr,
    advertise: Option<SocketAddr>,
    url: &str,
    logs: &Path,
    state: &Path,
) -> Result<Process, ClusterError> {
    let name = node_name(number);
    let mut text = format!("insecure = true\nnode = \"{name}\"\ncoordinator = \"{url}\"\n");
    // Writing to a String cannot fail.
    // All on one machine: each at its own address, at a port that nobody has.
    let _ = writeln!(text, "http_listen = \"{}:0\"", at.ip());
    let _ = writeln!(text, "labels = {{ rack = \"r{}\" }}", number.div_ceil(4));
    let _ = writeln!(text, "[[endpoint]]\nport = \"lo\"\nrail = 0");
    let _ = writeln!(text, "address = \"{}\"\nudp_port = {}", at.ip(), at.port());
    if let Some(advertise) = advertise {
        let _ = writeln!(text, "advertise = \"{advertise}\"");
    }
    let config = state.join(format!("{name}.toml"));
    fs::write(&config, text)
        .map_err(|source| ClusterError::Write { path: config.clone(), source })?;
    let mut command = Command::new(program("railgauge-agent")?);
    command.arg("--config").arg(&config).arg("--state-dir").arg(state.join(&name));
    Process::start(&name, command, logs.join(format!("{name}.log")))
}
