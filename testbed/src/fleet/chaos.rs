//! One run: a coordinator and agents as processes, the network between them, and what is done to all of these, by a seed.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use prost::Message;
use railgauge_fabric::clock;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::Trouble;
use super::process::{Daemon, daemon, is_orderly, now, pause};
use super::proxy::Proxy;
use crate::ledger::{BatchKey, Ledger};
use crate::preload::Shim;

/// Agents of a run.
const AGENTS: u8 = 3;
/// Ports, so rails, of each; with small spools more, so that they are full again soon.
const RAILS: u8 = 2;
const MANY_RAILS: u8 = 4;
/// How long windows are: the shortest that a coordinator allows.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Probes of a path in a window: one each 10 ms.
pub const SLOTS: u64 = 100;

const TICK: Duration = Duration::from_millis(10);
/// How long the fleet may take to begin, and to be whole again after all.
const BEGIN: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(20);
/// How long disturbances happen.
const CHAOS_MS: u64 = 4_500;
/// A small spool, and what is put into it before the agents start: more than it holds.
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 64 << 20;
const PREFILL: usize = 1_200 << 10;
/// What still passes of a connection when the network holds agents back: their hello.
const HELLO: u64 = 40 << 10;

/// What is to be run.
pub struct Scene {
    /// Of all that is random.
    pub seed: u64,
    /// An empty directory for state, logs and ledgers.
    pub out: PathBuf,
    /// Where the daemons are.
    pub programs: PathBuf,
    /// This program, which has a `prefill` command.
    pub own: PathBuf,
}

/// What happened in a run.
#[derive(Debug, Default)]
pub struct Happened {
    /// How often, by word.
    pub counts: BTreeMap<&'static str, u64>,
    /// The agent killed while nothing else was wrong, its process' instance and when, by the wall clock.
    pub clean_kill: Option<(String, u64, u64)>,
    /// The spools were small and full before the start.
    pub small: bool,
    /// All was drained at the end; else agents were killed with something in their spools.
    pub drained: bool,
    /// What went wrong with the daemons themselves.
    pub violations: Vec<String>,
    /// Of each agent: name, state directory, ledger.
    pub agents: Vec<(String, PathBuf, PathBuf)>,
    /// The bound of their spools.
    pub spool_bytes: u64,
    /// The coordinator's store.
    pub store: PathBuf,
    /// Where logs and ledgers are.
    pub out: PathBuf,
}

/// What may be done.
#[derive(Clone, Copy, Debug)]
enum Action {
    KillAgent(usize, u64),
    KillCoordinator(u64),
    Cut(usize),
    /// Acknowledgements are held back, and then lost with the connection.
    LoseAcknowledgements(usize, u64),
    HoldBack(usize, u64),
    AgentFaults(usize, &'static str, u64),
    CoordinatorFaults(&'static str, u64),
    StartAgent(usize),
    StartCoordinator,
    CutAndPass(usize),
    Pass(usize),
    EndAgentFaults(usize),
    EndCoordinatorFaults,
}

/// Of a thousand; an agent writes a few times a second.
const FAULTS: [&str; 5] = [
    "write=500 sync=500",
    "sync=800",
    "short=500 io=500",
    "open=500 write=300 sync=300",
    "write=300 sync=500 truncate=500 unlink=500",
];
/// The coordinator writes some twenty times as often.
const STORE_FAULTS: [&str; 5] = [
    "write=50 sync=50",
    "sync=300",
    "io=100 short=100",
    "write=900",
    "open=300 write=10 sync=100 truncate=300 rename=300",
];

struct Agent {
    name: String,
    config: PathBuf,
    state: PathBuf,
    shim: Shim,
    proxy: Proxy,
    daemon: Option<Daemon>,
}

struct Fleet<'a> {
    scene: &'a Scene,
    random: Pcg64Mcg,
    agents: Vec<Agent>,
    coordinator: Option<Daemon>,
    shim: Shim,
    rails: u8,
    /// The coordinator has not said yet where it is.
    waits_for_address: bool,
    due: Vec<(Instant, Action)>,
    happened: Happened,
}

/// Runs it to the end, when no process is left.
///
/// # Errors
/// When it cannot be run, or does not come to its end.
pub fn run(scene: &Scene) -> Result<Happened, Trouble> {
    let mut fleet = Fleet::prepare(scene)?;
    fleet.start_coordinator()?;
    for n in 0..fleet.agents.len() {
        fleet.start_agent(n)?;
    }
    fleet.clean_kill()?;
    fleet.chaos()?;
    fleet.settle()?;
    fleet.end()?;
    Ok(fleet.happened)
}

impl<'a> Fleet<'a> {
    fn prepare(scene: &'a Scene) -> Result<Self, Trouble> {
        let out = &scene.out;
        fs::create_dir_all(out.join("state"))?;
        let mut random = Pcg64Mcg::seed_from_u64(scene.seed);
        let small = scene.seed.is_multiple_of(3);
        let drained = scene.seed.is_multiple_of(2);
        let rails = if small { MANY_RAILS } else { RAILS };
        let spool_bytes = if small { SMALL } else { LARGE };
        let store = out.join("state/coordinator");
        let mut happened = Happened { small, drained, spool_bytes, ..Happened::default() };
        let shim = Shim::build(out, &store)?;
        let shim = shim.for_another("coordinator", &store, random.next_u64());
        happened.store = store.join("store");
        happened.out = out.clone();
        let mut agents = Vec::new();
        for number in 1..=AGENTS {
            let name = format!("node-{number}");
            let state = out.join("state").join(&name);
            let shim = shim.for_another(&name, &state, random.next_u64());
            let proxy = Proxy::start()?;
            let config = out.join(format!("{name}.toml"));
            fs::write(&config, configuration(&name, (number, rails), proxy.address, spool_bytes)?)?;
            happened.agents.push((name.clone(), state.clone(), shim.ledger.clone()));
            let agent = Agent { name, config, state, shim, proxy, daemon: None };
            if small {
                agent.prefill(scene, random.next_u64())?;
                agent.proxy.most_up(HELLO);
            }
            agents.push(agent);
        }
        fs::write(out.join("coordinator.toml"), "")?;
        let (due, waits_for_address) = (Vec::new(), false);
        let coordinator = None;
        Ok(Self {
            scene,
            random,
            agents,
            coordinator,
            shim,
            rails,
            waits_for_address,
            due,
            happened,
        })
    }

    fn count(&mut self, what: &'static str) {
        *self.happened.counts.entry(what).or_default() += 1;
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    fn any_agent(&mut self) -> usize {
        usize::try_from(self.below(u64::from(AGENTS))).unwrap_or(0)
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        let at = self.below(words.len() as u64);
        words[usize::try_from(at).unwrap_or(0)]
    }

    fn start_coordinator(&mut self) -> Result<(), Trouble> {
        let out = &self.scene.out;
        let addresses = out.join("addresses");
        let _ = fs::remove_file(&addresses);
        let mut command = daemon(&self.scene.programs.join("railgauge-coordinator"));
        command
            .args(["--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--window", "1s", "--probe-interval", "10ms", "--probe-timeout", "200ms"])
            .args(["--inbound-per-second", "100000", "--lease", "60s", "--config"])
            .arg(out.join("coordinator.toml"))
            .arg("--state-dir")
            .arg(out.join("state/coordinator"))
            .arg("--addresses-file")
            .arg(&addresses);
        self.shim.under(&mut command);
        self.coordinator = Some(Daemon::start(command, &out.join("coordinator.log"))?);
        self.waits_for_address = true;
        Ok(())
    }

    fn start_agent(&mut self, n: usize) -> Result<(), Trouble> {
        let agent = &mut self.agents[n];
        let mut command = daemon(&self.scene.programs.join("railgauge-agent"));
        command.arg("--config").arg(&agent.config).arg("--state-dir").arg(&agent.state);
        agent.shim.under(&mut command);
        let log = self.scene.out.join(format!("{}.log", agent.name));
        agent.daemon = Some(Daemon::start(command, &log)?);
        Ok(())
    }

    /// Does what is due, and looks after the processes as a service manager would.
    fn step(&mut self) -> Result<(), Trouble> {
        self.due.sort_by_key(|(at, _)| *at);
        while self.due.first().is_some_and(|(at, _)| *at <= now()) {
            let (_, action) = self.due.remove(0);
            self.act(action)?;
        }
        if self.waits_for_address
            && let Some(address) = read_address(&self.scene.out.join("addresses"))
        {
            self.waits_for_address = false;
            self.agents.iter().for_each(|agent| agent.proxy.lead_to(Some(address)));
        }
        for n in 0..self.agents.len() {
            let ended = self.agents[n].daemon.as_mut().map(Daemon::ended).transpose()?.flatten();
            if let Some(status) = ended {
                self.agents[n].daemon = None;
                self.ended(&self.agents[n].name.clone(), status);
                self.after(200, Action::StartAgent(n));
            }
        }
        let ended = self.coordinator.as_mut().map(Daemon::ended).transpose()?.flatten();
        if let Some(status) = ended {
            self.coordinator = None;
            self.agents.iter().for_each(|agent| agent.proxy.lead_to(None));
            self.ended("the coordinator", status);
            self.after(200, Action::StartCoordinator);
        }
        pause(TICK);
        Ok(())
    }

    fn ended(&mut self, who: &str, status: std::process::ExitStatus) {
        self.count("ended by themselves");
        if !is_orderly(status) {
            self.happened.violations.push(format!("{who} ended with {status}"));
        }
    }

    fn after(&mut self, milliseconds: u64, action: Action) {
        self.due.push((now() + Duration::from_millis(milliseconds), action));
    }

    fn act(&mut self, action: Action) -> Result<(), Trouble> {
        match action {
            Action::KillAgent(n, down) => {
                if let Some(daemon) = self.agents[n].daemon.take() {
                    daemon.kill()?;
                    self.count("agents killed");
                    self.after(down, Action::StartAgent(n));
                }
            }
            Action::KillCoordinator(down) => {
                if let Some(daemon) = self.coordinator.take() {
                    self.waits_for_address = false;
                    self.agents.iter().for_each(|agent| agent.proxy.lead_to(None));
                    daemon.kill()?;
                    self.count("coordinator killed");
                    self.after(down, Action::StartCoordinator);
                }
            }
            Action::Cut(n) => {
                self.agents[n].proxy.cut();
                self.count("connections cut");
            }
            Action::LoseAcknowledgements(n, time) => {
                self.agents[n].proxy.hold_down(true);
                self.count("acknowledgements held and lost");
                self.after(time, Action::CutAndPass(n));
            }
            Action::CutAndPass(n) => {
                self.agents[n].proxy.cut();
                self.agents[n].proxy.hold_down(false);
            }
            Action::HoldBack(n, time) => {
                self.agents[n].proxy.hold_down(true);
                self.count("acknowledgements late");
                self.after(time, Action::Pass(n));
            }
            Action::Pass(n) => self.agents[n].proxy.hold_down(false),
            Action::AgentFaults(n, faults, time) => {
                self.agents[n].shim.begin_faults(faults)?;
                self.count("agent faults");
                self.after(time, Action::EndAgentFaults(n));
            }
            Action::EndAgentFaults(n) => drop(self.agents[n].shim.end_faults()),
            Action::CoordinatorFaults(faults, time) => {
                self.shim.begin_faults(faults)?;
                self.count("coordinator faults");
                self.after(time, Action::EndCoordinatorFaults);
            }
            Action::EndCoordinatorFaults => drop(self.shim.end_faults()),
            Action::StartAgent(n) if self.agents[n].daemon.is_none() => self.start_agent(n)?,
            Action::StartCoordinator if self.coordinator.is_none() => self.start_coordinator()?,
            Action::StartAgent(_) | Action::StartCoordinator => {}
        }
        Ok(())
    }

    /// Waits until every agent has recorded under this coordinator's plan, and kills one while nothing else is wrong.
    fn clean_kill(&mut self) -> Result<(), Trouble> {
        let until = now() + BEGIN;
        let mut instances = Vec::new();
        while instances.len() < self.agents.len() {
            if now() > until {
                return Err("the agents recorded nothing".into());
            }
            for _ in 0..20 {
                self.step()?;
            }
            instances.clear();
            for agent in &self.agents {
                instances.extend(recording(&agent.shim.ledger, self.rails)?);
            }
        }
        let moment = now() + Duration::from_millis(800 + self.below(1_200));
        while now() < moment {
            self.step()?;
        }
        let n = self.any_agent();
        let down = 50 + self.below(500);
        self.act(Action::KillAgent(n, down))?;
        let name = self.agents[n].name.clone();
        self.happened.clean_kill = Some((name, instances[n], clock::wall().as_unix_nanos()));
        Ok(())
    }

    /// Does everything at least once, and some things more often.
    fn chaos(&mut self) -> Result<(), Trouble> {
        let end = now() + Duration::from_millis(CHAOS_MS);
        for n in 0..12 {
            let kind = if n < 7 { n } else { self.below(7) };
            let (agent, brief, long) =
                (self.any_agent(), 30 + self.below(600), 500 + self.below(2_000));
            let action = match kind {
                0 => Action::KillAgent(agent, brief),
                1 => Action::KillCoordinator(brief),
                2 => Action::Cut(agent),
                3 => Action::LoseAcknowledgements(agent, long),
                4 => Action::AgentFaults(agent, self.one_of(&FAULTS), long),
                5 => Action::CoordinatorFaults(self.one_of(&STORE_FAULTS), long),
                _ => Action::HoldBack(agent, long),
            };
            let at = self.below(CHAOS_MS);
            self.after(at, action);
        }
        while now() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Ends all disturbances, and waits until every agent has been connected for a while.
    fn settle(&mut self) -> Result<(), Trouble> {
        let until = now() + SETTLE;
        let starts = |(_, action): &(Instant, Action)| {
            matches!(action, Action::StartAgent(_) | Action::StartCoordinator)
        };
        self.due.retain(starts);
        let _ = self.shim.end_faults();
        for agent in &self.agents {
            let _ = agent.shim.end_faults();
            agent.proxy.hold_down(false);
            agent.proxy.most_up(u64::MAX);
        }
        let steady = Duration::from_millis(1_200);
        while !self
            .agents
            .iter()
            .all(|agent| agent.proxy.connected_for().is_some_and(|time| time > steady))
        {
            if now() > until {
                return Err("the fleet did not come together again".into());
            }
            self.step()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Trouble> {
        if !self.happened.drained {
            // Without a coordinator, so that something is in the spools.
            if let Some(coordinator) = self.coordinator.take() {
                coordinator.kill()?;
            }
            self.agents.iter().for_each(|agent| agent.proxy.lead_to(None));
            let until = now() + Duration::from_millis(1_200 + self.below(1_200));
            while now() < until {
                pause(TICK);
            }
            for agent in &mut self.agents {
                if let Some(daemon) = agent.daemon.take() {
                    daemon.kill()?;
                }
            }
            return Ok(());
        }
        let bound = Duration::from_secs(10);
        let daemons = self.agents.iter_mut().filter_map(|agent| agent.daemon.take());
        for daemon in daemons.chain(self.coordinator.take()) {
            match daemon.terminate(bound)? {
                Some(status) if status.success() => {}
                other => self.happened.violations.push(format!("told to end, a daemon: {other:?}")),
            }
        }
        Ok(())
    }
}

impl Agent {
    /// Fills the spool to its bound, under the eyes of the ledger.
    fn prefill(&self, scene: &Scene, seed: u64) -> Result<(), Trouble> {
        let minutes_ago = clock::wall().as_unix_nanos().saturating_sub(200_000_000_000);
        let from = minutes_ago - minutes_ago % 1_000_000_000;
        let mut command = Command::new(&scene.own);
        command.args(["prefill", "--agent", &self.name, "--state-dir"]).arg(&self.state);
        command.args(["--most-bytes", &SMALL.to_string(), "--octets", &PREFILL.to_string()]);
        command.args(["--from-unix-ns", &from.to_string(), "--seed", &seed.to_string()]);
        let ended = self.shim.under(&mut command).status()?;
        if ended.success() { Ok(()) } else { Err(format!("prefill ended with {ended}").into()) }
    }
}

fn configuration(
    name: &str,
    (number, rails): (u8, u8),
    coordinator: SocketAddr,
    spool_bytes: u64,
) -> std::io::Result<String> {
    let mut text = format!(
        "insecure = true\nnode = \"{name}\"\ncoordinator = \"http://{coordinator}\"\nhttp_listen = \"127.0.0.1:0\"\nspool_bytes = \"{}MiB\"\n",
        spool_bytes >> 20
    );
    for rail in 0..rails {
        let address = Ipv4Addr::new(127, 0, 2, number);
        // Held for a moment to know that it is free; an agent that finds it taken says so, ends, and the run fails.
        let at = UdpSocket::bind((address, 0))?.local_addr()?;
        text.push_str(&format!(
            "[[endpoint]]\nport = \"p{rail}\"\nrail = {rail}\naddress = \"{}\"\nudp_port = {}\n",
            at.ip(),
            at.port()
        ));
    }
    Ok(text)
}

fn read_address(file: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("grpc="))?.parse().ok()
}

/// The instance that has recorded two windows of every path of its last plan, if one has. A plan from before all had joined may have had
/// paths that are in no later one.
fn recording(ledger: &Path, rails: u8) -> Result<Option<u64>, Trouble> {
    // From each port to the other agents' on its rail, and to one on another rail.
    let paths = usize::from(AGENTS) * usize::from(rails);
    let mut seen = BTreeMap::<u64, BTreeMap<Vec<u8>, u32>>::new();
    let messages = Ledger::read(ledger)?.messages()?;
    let mut last = BTreeMap::<u64, u64>::new();
    for (BatchKey { instance, .. }, batch) in &messages {
        let epoch = last.entry(*instance).or_default();
        *epoch = batch.plan_epoch.max(*epoch);
    }
    for (BatchKey { instance, .. }, batch) in messages {
        let current = batch.plan_epoch > 1 && last.get(&instance) == Some(&batch.plan_epoch);
        for window in batch.windows.iter().filter(|_| current) {
            let path = batch.paths.get(usize::try_from(window.path)?);
            let path = path.ok_or("a window without a path")?.encode_to_vec();
            *seen.entry(instance).or_default().entry(path).or_default() += 1;
        }
    }
    let whole = |windows: &BTreeMap<Vec<u8>, u32>| {
        windows.values().filter(|count| **count >= 2).count() >= paths
    };
    Ok(seen.into_iter().find(|(_, windows)| whole(windows)).map(|(instance, _)| instance))
}
