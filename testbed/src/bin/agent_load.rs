//! What an agent costs: a coordinator, its targets and its probers in one process, around one subject at a time, which is the agent or
//! the C program that does the same work and nothing more (`testbed/bare/bare_node.c`).
//!
//! The agent is measured twice, as it runs in a fleet, which is authenticated, and without, as the C program does.
//!
//! Each subject probes `--targets` responders here and answers as many paths from here, all at `--interval-ms`. What is measured is the
//! processor time of the subject's process over `--seconds`, after a warm-up, by its own CPU clock, and its resident memory. Prints
//! one JSON object.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use railgauge_agent::mesh::{LaneKey, LaneSetup, Mesh, PlannedLane, RawWindow};
use railgauge_agent::reflect::{PlainRequests, ReflectConfig, Responder};
use railgauge_agent::{WaitMode, ping};
use railgauge_core::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
use railgauge_core::probe_keys::{SECRET_LEN, Secret};
use railgauge_proto::v1::agent_message::Message as FromAgent;
use railgauge_proto::v1::agents_server::{Agents, AgentsServer};
use railgauge_proto::v1::coordinator_message::Message as ToAgent;
use railgauge_proto::{convert, protocol, v1};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Failure = Box<dyn Error + Send + Sync>;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TIMEOUT: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const SUBJECT: &str = "subject";

/// What can be typed.
#[derive(Parser)]
struct Args {
    /// `railgauge-agent`.
    #[arg(long)]
    agent: PathBuf,
    /// `bare_node`.
    #[arg(long)]
    bare: PathBuf,
    /// An empty directory for the agents' state.
    #[arg(long)]
    scratch: PathBuf,
    #[arg(long, default_value_t = 64)]
    targets: u32,
    #[arg(long, default_value_t = 100)]
    interval_ms: u64,
    /// Measured of each subject.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Before that.
    #[arg(long, default_value_t = 3)]
    warmup_seconds: u64,
    #[arg(long, default_value_t = 2)]
    pairs: usize,
    /// The subjects' processor.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = AtomicBool::new(false);
    let responder = Responder::open(ReflectConfig {
        transport: ping::Transport::Udp,
        listen: vec![SocketAddr::new(HOME, 0); args.targets as usize],
        mode: WaitMode::Sleep,
        cpu: None,
        max_rate: None,
        keys: (0..args.targets)
            .map(|n| key_of(&target_name(n)))
            .map(|key| Ok(key?.key()))
            .collect::<Result<_, Failure>>()?,
        plain: PlainRequests::Always,
        rdma: railgauge_agent::rdma::PortWish::default(),
    })?;
    let ports: Vec<u16> = responder.listening().iter().map(|at| at.local.port()).collect();
    let pairs = std::thread::scope(|scope| -> Result<Vec<Value>, Failure> {
        let responding = scope.spawn(|| responder.run(&stop));
        let pairs = measure_pairs(&args, &runtime, &ports);
        stop.store(true, Ordering::Relaxed);
        let _ = responding.join();
        pairs
    })?;
    let report = json!({"targets": args.targets, "interval_ms": args.interval_ms, "seconds": args.seconds, "pairs": pairs});
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

/// How the agent probes, and is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Authenticated,
}

const EPOCH: u64 = 1;

/// The key of a node's responder.
fn key_of(node: &str) -> Result<Secret, Failure> {
    Ok(Secret::new([7; SECRET_LEN]).of_node(EPOCH, &NodeName::new(node)?))
}

fn target_name(n: u32) -> String {
    format!("target-{n}")
}

/// In alternating order, so that what else the machine does falls on both alike.
fn measure_pairs(
    args: &Args,
    runtime: &tokio::runtime::Runtime,
    ports: &[u16],
) -> Result<Vec<Value>, Failure> {
    let mut pairs = Vec::new();
    for pair in 0..args.pairs {
        let agent = |mode| runtime.block_on(measure_agent(args, ports, pair, mode));
        let bare = || runtime.block_on(measure_bare(args, ports));
        let (plain, bare) = if pair % 2 == 0 {
            let plain = agent(Mode::Plain)?;
            (plain, bare()?)
        } else {
            let bare = bare()?;
            (agent(Mode::Plain)?, bare)
        };
        let authenticated = agent(Mode::Authenticated)?;
        pairs.push(json!({"agent": plain, "bare": bare, "authenticated": authenticated, "agent_first": pair % 2 == 0}));
    }
    Ok(pairs)
}

/// A program that is ended when it is dropped.
struct Subject(Child);

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Subject {
    fn start(
        args: &Args,
        program: &PathBuf,
        with: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let mut command = match args.cpu {
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        with(&mut command);
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Of all its threads, those that have ended included.
    fn cpu(&self) -> Result<Duration, Failure> {
        Ok(clock_gettime(clock_getcpuclockid(self.pid())?)?.into())
    }

    /// A line of `/proc/PID/status` that counts kB.
    fn kilobytes(&self, name: &str) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such line")?;
        Ok(value.parse()?)
    }

    /// Ends it as its operator would, and reads what it printed.
    fn end(mut self, stdout: Option<ChildStdout>) -> Result<String, Failure> {
        kill(self.pid(), Signal::SIGTERM)?;
        let text = stdout.map(std::io::read_to_string).transpose()?.unwrap_or_default();
        self.0.wait()?;
        Ok(text)
    }
}

/// Probes the subject at `port`, and reads its processor clock around the measured time.
async fn measure(args: &Args, subject: &Subject, port: u16, mode: Mode) -> Result<Value, Failure> {
    let (windows, received) = sync_channel(4096);
    let inbound = Mesh::start(None, WINDOW, windows)?;
    let lanes = (0..args.targets).map(|n| inbound_lane(args, n, port, mode));
    inbound.plan(1, lanes.collect::<Result<Vec<_>, _>>()?);
    tokio::time::sleep(Duration::from_secs(args.warmup_seconds)).await;
    let before = subject.cpu()?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let cpu = subject.cpu()?.saturating_sub(before);
    let (resident, most) = (subject.kilobytes("VmRSS")?, subject.kilobytes("VmHWM")?);
    tokio::task::spawn_blocking(move || inbound.drain()).await?;
    let (sent, answered) = totals(&received);
    Ok(json!({"cpu_s": cpu.as_secs_f64(), "resident_kib": resident, "most_resident_kib": most,
              "inbound_sent": sent, "inbound_answered": answered}))
}

fn totals(windows: &Receiver<RawWindow>) -> (u64, u64) {
    windows.try_iter().fold((0, 0), |(sent, received), window| {
        (sent + window.account.sent, received + window.account.received)
    })
}

fn endpoint(node: &str) -> Result<Endpoint, Failure> {
    Ok(Endpoint { node: NodeName::new(node)?, port: PortName::new("lo")?, rail: 0 })
}

fn path(src: &str, dst: &str) -> Result<Path, Failure> {
    Ok(Path {
        src: endpoint(src)?,
        dst: endpoint(dst)?,
        transport: Transport::Udp,
        memory: Memory::Host,
        flow: 0,
        dscp: 0,
    })
}

/// Evenly spread over the interval.
fn phase(args: &Args, n: u32) -> Duration {
    Duration::from_millis(args.interval_ms) / args.targets * n
}

fn inbound_lane(args: &Args, n: u32, port: u16, mode: Mode) -> Result<PlannedLane, Failure> {
    let authenticated = mode == Mode::Authenticated;
    let key = LaneKey { epoch: EPOCH, key: key_of(SUBJECT)?.key() };
    let setup = LaneSetup {
        path: Arc::new(path(&format!("peer-{n}"), SUBJECT)?),
        peer: SocketAddr::new(HOME, port),
        local: HOME,
        interval: Duration::from_millis(args.interval_ms),
        // Between the subject's own.
        phase: phase(args, n) + phase(args, 1) / 2,
        timeout: TIMEOUT,
        size: 44,
        rdma: None,
        authenticated,
    };
    Ok(PlannedLane { setup, key: authenticated.then_some(key) })
}

async fn measure_bare(args: &Args, ports: &[u16]) -> Result<Value, Failure> {
    let mut subject = Subject::start(args, &args.bare, |command| {
        command
            .arg((args.interval_ms * 1_000_000).to_string())
            .args(ports.iter().map(u16::to_string));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    })?;
    let stderr = subject.0.stderr.take().ok_or("no stderr")?;
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said)?;
    let port =
        said.trim().rsplit_once(':').ok_or("bare_node did not say where it listens")?.1.parse()?;
    let mut figures = measure(args, &subject, port, Mode::Plain).await?;
    let stdout = subject.0.stdout.take();
    figures["own"] = serde_json::from_str(&subject.end(stdout)?)?;
    Ok(figures)
}

async fn measure_agent(
    args: &Args,
    ports: &[u16],
    pair: usize,
    mode: Mode,
) -> Result<Value, Failure> {
    let listener = tokio::net::TcpListener::bind((HOME, 0)).await?;
    let address = listener.local_addr()?;
    let (greeted, hello) = oneshot::channel();
    let coordinator = Coordinator {
        keys: keys(mode)?,
        plan: plan(args, ports, mode)?,
        greeted: Mutex::new(Some(greeted)),
        seen: Arc::new(Seen::default()),
    };
    let seen = Arc::clone(&coordinator.seen);
    let server = tonic::transport::Server::builder().add_service(
        AgentsServer::new(coordinator).max_decoding_message_size(railgauge_proto::MAX_MESSAGE),
    );
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let home = args.scratch.join(format!("agent-{pair}-{mode:?}").to_lowercase());
    std::fs::create_dir_all(&home)?;
    let config = home.join("agent.toml");
    std::fs::write(
        &config,
        format!(
            "node = {SUBJECT:?}\ninsecure = true\ncoordinator = \"http://{address}\"\nhttp_listen = \"{HOME}:0\"\nstate_dir = {:?}\n\
             [[endpoint]]\nport = \"lo\"\naddress = \"{HOME}\"\nudp_port = 0\n",
            home.join("state")
        ),
    )?;
    let subject = Subject::start(args, &args.agent, |command| {
        command.arg("--config").arg(&config);
    })?;
    let hello = tokio::time::timeout(Duration::from_secs(20), hello).await??;
    let at = hello.endpoints.first().ok_or("the agent has no endpoint")?;
    let mut figures = measure(args, &subject, u16::try_from(at.port)?, mode).await?;
    tokio::task::spawn_blocking(move || subject.end(None)).await??;
    server.abort();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    figures["own"] = json!({"windows": count(&seen.windows), "sent": count(&seen.sent), "received": count(&seen.received),
                            "split": count(&seen.split)});
    Ok(figures)
}

/// What the subject's reflector is to answer.
fn keys(mode: Mode) -> Result<v1::ProbeKeys, Failure> {
    let key = v1::ProbeKey::of(EPOCH, &key_of(SUBJECT)?);
    let key = v1::AcceptedProbeKey { key: Some(key), valid_ns: u64::MAX };
    let keys = if mode == Mode::Authenticated { vec![key] } else { Vec::new() };
    Ok(v1::ProbeKeys { keys, forget_from_epoch: 0 })
}

fn plan(args: &Args, ports: &[u16], mode: Mode) -> Result<v1::Plan, Failure> {
    let target = |(n, port): (u32, &u16)| -> Result<v1::Target, Failure> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let key = v1::ProbeKey::of(EPOCH, &key_of(&target_name(n))?);
        Ok(v1::Target {
            path: Some(convert::path_message(&path(SUBJECT, &target_name(n))?)),
            address: HOME.to_string(),
            port: (*port).into(),
            interval_ns: args.interval_ms * 1_000_000,
            phase_ns: nanos(phase(args, n)),
            timeout_ns: nanos(TIMEOUT),
            size_bytes: 44,
            probe_key: (mode == Mode::Authenticated).then_some(key),
        })
    };
    let targets = (0..).zip(ports).map(target).collect::<Result<_, _>>()?;
    Ok(v1::Plan { epoch: 1, lease_ns: 3_600_000_000_000, targets, probe_keys_valid_ns: 0 })
}

/// What the agent delivered.
#[derive(Default)]
struct Seen {
    windows: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    split: AtomicU64,
}

impl Seen {
    fn take(&self, batch: &v1::WindowBatch) -> Result<(), Status> {
        let batch = convert::batch(batch).map_err(|e| Status::invalid_argument(e.to_string()))?;
        for (_, window) in &batch.windows {
            self.windows.fetch_add(1, Ordering::Relaxed);
            self.sent.fetch_add(window.account.sent, Ordering::Relaxed);
            self.received.fetch_add(window.account.received, Ordering::Relaxed);
            let split: u64 = window.splits.iter().map(|split| split.network_rtt.replies()).sum();
            self.split.fetch_add(split, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// One plan for one agent; all that comes is acknowledged.
struct Coordinator {
    keys: v1::ProbeKeys,
    plan: v1::Plan,
    greeted: Mutex<Option<oneshot::Sender<v1::Hello>>>,
    seen: Arc<Seen>,
}

#[tonic::async_trait]
impl Agents for Coordinator {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let Some(FromAgent::Hello(hello)) = inbound.message().await?.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (out, outbound) = mpsc::channel(16);
        let welcome = v1::Welcome {
            protocol: Some(protocol::OURS),
            software_version: railgauge_agent::VERSION.to_owned(),
            window_ns: u64::try_from(WINDOW.as_nanos()).unwrap_or(u64::MAX),
        };
        let (keys, plan) = (self.keys.clone(), self.plan.clone());
        for message in [ToAgent::Welcome(welcome), ToAgent::ProbeKeys(keys), ToAgent::Plan(plan)] {
            say(&out, message).await?;
        }
        if let Some(greeted) = self.greeted.lock().ok().and_then(|mut greeted| greeted.take()) {
            let _ = greeted.send(hello);
        }
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let Some(FromAgent::Batch(batch)) = message.message else { continue };
                if let Err(status) = seen.take(&batch) {
                    let _ = out.send(Err(status)).await;
                    return;
                }
                let key = v1::BatchKey {
                    instance: batch.instance,
                    first_sequence: batch.first_sequence,
                    windows: u32::try_from(batch.windows.len()).unwrap_or(u32::MAX),
                };
                let stored = v1::Acknowledgement { stored: vec![key], refused: Vec::new() };
                if say(&out, ToAgent::Acknowledgement(stored)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

async fn say(
    out: &mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    message: ToAgent,
) -> Result<(), Status> {
    let message = v1::CoordinatorMessage { message: Some(message) };
    out.send(Ok(message)).await.map_err(|_| Status::cancelled("the agent has gone"))
}
