//! Tries every RPC and every page of a real coordinator as everybody, and compares what comes, and what its audit log says, with a
//! table. Prints one JSON object.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use clap::Parser;
use prost::Message;
use prost_types::FileDescriptorSet;
use railgauge_access::authority::{Authority, Request};
use railgauge_core::access::Role;
use railgauge_proto::{DESCRIPTORS, protocol, v1};
use railgauge_testbed::closed::{
    AGENT_PAGES, Answer, Cell, Client, Hostility, PAGES, Person, RPCS, people,
};
use serde_json::{Value, json};
use tonic::Code;

type Failure = Box<dyn Error + Send + Sync>;

const DAY: Duration = Duration::from_secs(86_400);
const START: Duration = Duration::from_secs(20);

/// What can be typed.
#[derive(Parser)]
struct Args {
    /// `railgauge-coordinator`.
    #[arg(long)]
    coordinator: PathBuf,
    /// `railgauge-agent`.
    #[arg(long)]
    agent: PathBuf,
    /// Connections that are held open and say nothing, on each listener.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Of what is random in what they say.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// An empty directory.
    #[arg(long)]
    scratch: PathBuf,
}

/// A coordinator that is ended with this.
struct Daemon(Child);

impl Daemon {
    /// The most memory it has had.
    fn peak_kib(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("it has ended")?.parse()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, and then has been told about.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates begin and end by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(&args))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{report}")?;
    Ok(())
}

async fn run(args: &Args) -> Result<Value, Failure> {
    let authority = Authority::init(&args.scratch.join("ca"), "matrix.internal", now(), DAY)?;
    let (daemon, grpc, http) = start(args, &authority).await?;
    let audit = args.scratch.join("state/audit.jsonl");
    let mut judge = Judge::of(audit);
    judge.complete()?;
    let people = people(&authority, now())?;
    for person in &people {
        let client = Client { tls: person.tls.clone(), grpc, http };
        for cell in RPCS {
            judge.rpc(person, cell, client.rpc(cell.what).await).await?;
        }
        for cell in PAGES {
            judge.page(person, cell, client.page(cell.what).await).await?;
        }
        if person.name.ends_with("agent") {
            for node in ["agent", "other-agent", "nobody-s-node"] {
                let came = client.hello(hello(node)).await;
                judge.hello(person, node, came).await?;
            }
        }
    }
    let (_agent, agent_http) = start_agent(args, &authority, grpc).await?;
    let mut agents = Judge::of(args.scratch.join("agent/audit.jsonl"));
    for person in &people {
        let client = Client { tls: person.tls.clone(), grpc, http: agent_http };
        for cell in AGENT_PAGES {
            agents.page(person, cell, client.page(cell.what).await).await?;
        }
    }
    judge.take(agents);
    let named = |name: &str| people.iter().find(|person| person.name == name);
    let (viewer, agent) = named("viewer").zip(named("agent")).ok_or("nobody to be served")?;
    let viewer = Client { tls: viewer.tls.clone(), grpc, http };
    let hostility = Hostility::against(&viewer, agent, args.idle, args.seed).await?;
    judge.violations.extend(hostility.violations);
    let peak_kib = daemon.peak_kib()?;
    Ok(json!({
        "hostile": hostility.figures, "idle": args.idle, "coordinator_peak_mib": peak_kib / 1_024, "seed": args.seed,
        "cells": judge.cells, "audited": judge.audited, "rpcs": RPCS.len(), "pages": PAGES.len() + AGENT_PAGES.len(),
        "violations": judge.violations,
    }))
}

async fn start(
    args: &Args,
    authority: &Authority,
) -> Result<(Daemon, SocketAddr, SocketAddr), Failure> {
    let at = |name: &str| args.scratch.join(name);
    let hosts = ["127.0.0.1".to_owned()];
    let request =
        Request { role: Role::Coordinator, name: "main", hosts: &hosts, from: now(), valid: DAY };
    authority.issue(&request)?.save(&at("cert.pem"), &at("key.pem"))?;
    let addresses = at("addresses");
    let child = Command::new(&args.coordinator)
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--http-tls", "--ca"])
        .arg(at("ca/ca.pem"))
        .arg("--cert")
        .arg(at("cert.pem"))
        .arg("--key")
        .arg(at("key.pem"))
        .arg("--state-dir")
        .arg(at("state"))
        .arg("--addresses-file")
        .arg(&addresses)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(at("coordinator.log"))?)
        .spawn()?;
    let daemon = Daemon(child);
    let deadline = tokio::time::Instant::now() + START;
    loop {
        let text = std::fs::read_to_string(&addresses).unwrap_or_default();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|address| address.parse().ok())
        };
        if let (Some(grpc), Some(http)) = (of("grpc="), of("http=")) {
            return Ok((daemon, grpc, http));
        }
        if tokio::time::Instant::now() > deadline {
            let log = std::fs::read_to_string(at("coordinator.log"))?;
            return Err(format!("the coordinator does not listen: {log}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn start_agent(
    args: &Args,
    authority: &Authority,
    grpc: SocketAddr,
) -> Result<(Daemon, SocketAddr), Failure> {
    let at = |name: &str| args.scratch.join(name);
    let hosts = ["127.0.0.1".to_owned()];
    let request =
        Request { role: Role::Agent, name: "paged", hosts: &hosts, from: now(), valid: DAY };
    let (cert, key, ca) = (at("paged.pem"), at("paged.key"), at("ca/ca.pem"));
    authority.issue(&request)?.save(&cert, &key)?;
    let state = at("agent");
    let text = format!(
        "node = \"paged\"\ncoordinator = \"https://{grpc}\"\nstate_dir = {state:?}\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n\
         http_listen = \"127.0.0.1:0\"\nhttp_tls = true\n[[endpoint]]\nport = \"lo\"\naddress = \"127.0.0.1\"\nudp_port = 0\n"
    );
    std::fs::write(at("agent.toml"), text)?;
    let addresses = at("agent-addresses");
    let child = Command::new(&args.agent)
        .env_clear()
        .arg("--config")
        .arg(at("agent.toml"))
        .arg("--addresses-file")
        .arg(&addresses)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(at("agent.log"))?)
        .spawn()?;
    let daemon = Daemon(child);
    let deadline = tokio::time::Instant::now() + START;
    loop {
        let text = std::fs::read_to_string(&addresses).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("http="));
        if let Some(http) = line.and_then(|address| address.parse().ok()) {
            return Ok((daemon, http));
        }
        if tokio::time::Instant::now() > deadline {
            let log = std::fs::read_to_string(at("agent.log"))?;
            return Err(format!("the agent does not listen: {log}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn hello(node: &str) -> v1::Hello {
    v1::Hello {
        protocol: Some(protocol::OURS),
        software_version: "matrix".to_owned(),
        node: node.to_owned(),
        identity: node.as_bytes().iter().copied().cycle().take(16).collect(),
        instance: 1,
        boot_id: "boot".to_owned(),
        endpoints: Vec::new(),
        labels: std::collections::HashMap::new(),
        inventory_json: Vec::new(),
        sent_at_unix_ns: 0,
        refuses_unauthenticated: false,
    }
}

struct Judge {
    audit: PathBuf,
    /// Octets of the audit log that have been read.
    read: usize,
    cells: u64,
    audited: u64,
    violations: Vec<String>,
}

impl Judge {
    fn of(audit: PathBuf) -> Self {
        Self { audit, read: 0, cells: 0, audited: 0, violations: Vec::new() }
    }

    fn take(&mut self, other: Self) {
        self.cells += other.cells;
        self.audited += other.audited;
        self.violations.extend(other.violations);
    }

    /// The table has every RPC that there is.
    fn complete(&mut self) -> Result<(), Failure> {
        let set = FileDescriptorSet::decode(DESCRIPTORS)?;
        let mut there = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    there.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        for rpc in there {
            if !RPCS.iter().any(|cell| cell.what == rpc) {
                self.violations.push(format!("{rpc} is not in the table"));
            }
        }
        Ok(())
    }

    async fn rpc(&mut self, person: &Person, cell: &Cell, came: Answer) -> Result<(), Failure> {
        let served = cell.served.contains(&person.name);
        let (right, line) = match &came {
            Answer::Tls(_) => (!person.known, ("refused", "tls")),
            Answer::Rpc(Code::PermissionDenied, _) => {
                (person.known && !served, ("refused", cell.what))
            }
            Answer::Rpc(Code::Unimplemented, said) if said.contains("for nobody") => {
                (person.known && cell.served.is_empty(), ("refused", cell.what))
            }
            Answer::Rpc(
                Code::DeadlineExceeded | Code::Unauthenticated | Code::Unimplemented,
                _,
            )
            | Answer::Page(_) => (false, ("", cell.what)),
            Answer::Rpc(..) => (served, ("allowed", cell.what)),
        };
        self.cell(person, cell.what, &came, right, line).await
    }

    async fn page(&mut self, person: &Person, cell: &Cell, came: Answer) -> Result<(), Failure> {
        let served = cell.served.contains(&person.name);
        // Who has no certificate gets as far as the gate.
        let through = person.known || person.name == "nobody";
        let (right, line) = match &came {
            Answer::Tls(_) => (!through, ("refused", "tls")),
            Answer::Page(401) => (person.name == "nobody" && !served, ("refused", cell.what)),
            Answer::Page(403) => (person.known && !served, ("refused", cell.what)),
            Answer::Page(200) => (served, ("allowed", cell.what)),
            Answer::Page(404) => {
                (served && ["/nowhere", "/sweeps/s1"].contains(&cell.what), ("allowed", cell.what))
            }
            _ => (false, ("", cell.what)),
        };
        if cell.what == "/healthz" && through {
            // Of no interest to an audit.
            self.cells += 1;
            if !right {
                self.violations.push(format!("{} at /healthz: {came:?}", person.name));
            }
            return Ok(());
        }
        self.cell(person, cell.what, &came, right, line).await
    }

    async fn hello(&mut self, person: &Person, node: &str, came: Answer) -> Result<(), Failure> {
        let own = person.name == node;
        let right = match &came {
            Answer::Rpc(Code::PermissionDenied, _) => !own,
            Answer::Rpc(Code::Ok, _) => own,
            _ => false,
        };
        let what = format!("join {node}");
        let verdict = if own { "allowed" } else { "refused" };
        self.cell(person, &what, &came, right, (verdict, &what)).await
    }

    async fn cell(
        &mut self,
        person: &Person,
        what: &str,
        came: &Answer,
        right: bool,
        (verdict, line): (&str, &str),
    ) -> Result<(), Failure> {
        self.cells += 1;
        if !right {
            self.violations.push(format!("{} at {what}: {came:?}", person.name));
            return Ok(());
        }
        if self.has_line(person, verdict, line).await? {
            self.audited += 1;
        } else {
            let who = person.name;
            self.violations.push(format!("{who} at {what}: no audit line {verdict} {line}"));
        }
        Ok(())
    }

    /// Whether the log has such a line since the last cell. A refused handshake is written a moment after the client knows of it.
    async fn has_line(
        &mut self,
        person: &Person,
        verdict: &str,
        what: &str,
    ) -> Result<bool, Failure> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        loop {
            let text = read(&self.audit)?;
            let fresh = text.get(self.read..).unwrap_or_default();
            for line in fresh.lines() {
                let line: Value = serde_json::from_str(line)?;
                let who = line["who"].as_str().unwrap_or_default();
                let named = if what == "tls" || person.name == "nobody" {
                    who == "unknown"
                } else {
                    who.ends_with(&format!("/{}", person.name))
                };
                if line["verdict"] == verdict && line["what"] == what && named {
                    self.read = text.len();
                    return Ok(true);
                }
            }
            if tokio::time::Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whole lines of it.
fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    Ok(text[..whole].to_owned())
}
