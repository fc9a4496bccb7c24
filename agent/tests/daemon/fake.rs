//! A coordinator as small as can be, in the hands of the test, and an agent process beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use railgauge_agent::reflect::{PlainRequests, ReflectConfig, Responder};
use railgauge_agent::{WaitMode, ping};
use railgauge_core::stamp::Key;
use railgauge_proto::convert::{self, Batch};
use railgauge_proto::v1::agent_message::Message as FromAgent;
use railgauge_proto::v1::agents_server::{Agents, AgentsServer};
use railgauge_proto::v1::coordinator_message::Message as ToAgent;
use railgauge_proto::{protocol, v1};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// Nothing takes longer; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(15);

pub const WINDOW_NS: u64 = 200_000_000;

type Out = mpsc::UnboundedSender<Result<v1::CoordinatorMessage, Status>>;

/// One session, after the welcome.
pub struct Session {
    pub hello: v1::Hello,
    out: Out,
    inbound: Streaming<v1::AgentMessage>,
}

pub struct Fake {
    pub address: SocketAddr,
    sessions: mpsc::UnboundedReceiver<Session>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Service(mpsc::UnboundedSender<Session>);

#[tonic::async_trait]
impl Agents for Service {
    type SessionStream = UnboundedReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let (out, outbound) = mpsc::unbounded_channel();
        let Some(FromAgent::Hello(hello)) = inbound.message().await?.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message is no hello"));
        };
        let session = Session { hello, out, inbound };
        session.say(ToAgent::Welcome(v1::Welcome {
            protocol: Some(protocol::OURS),
            software_version: railgauge_agent::VERSION.to_owned(),
            window_ns: WINDOW_NS,
        }));
        // As a coordinator whose fleet is not authenticated.
        session.say(ToAgent::ProbeKeys(v1::ProbeKeys {
            keys: Vec::new(),
            forget_from_epoch: u64::MAX,
        }));
        self.0.send(session).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UnboundedReceiverStream::new(outbound)))
    }
}

impl Fake {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, sessions) = mpsc::unbounded_channel();
        // Tokio listens with SO_REUSEADDR, so that the same port can be had again.
        let listener = {
            let _inside = runtime.enter();
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).unwrap();
            socket.listen(16).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let server =
            tonic::transport::Server::builder().add_service(AgentsServer::new(Service(sender)));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, sessions, runtime: Some(runtime) }
    }

    pub async fn session(&mut self) -> Session {
        timeout(LONG, self.sessions.recv()).await.expect("an agent comes").unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Session {
    pub fn say(&self, message: ToAgent) {
        let _ = self.out.send(Ok(v1::CoordinatorMessage { message: Some(message) }));
    }

    pub fn plan(&self, epoch: u64, lease: Duration, targets: Vec<v1::Target>) {
        let lease_ns = u64::try_from(lease.as_nanos()).unwrap();
        self.say(ToAgent::Plan(v1::Plan { epoch, lease_ns, targets, probe_keys_valid_ns: 0 }));
    }

    /// The next message that `choose` takes.
    pub async fn next<T>(&mut self, choose: impl Fn(FromAgent) -> Option<T>) -> T {
        let find = async {
            loop {
                let message = self.inbound.message().await.unwrap().expect("the agent is there");
                if let Some(found) = message.message.and_then(&choose) {
                    return found;
                }
            }
        };
        timeout(LONG, find).await.expect("the agent says what it should")
    }

    /// The next batch, checked as a coordinator checks it; not acknowledged.
    pub async fn batch(&mut self) -> Batch {
        let batch = self.next(|m| if let FromAgent::Batch(b) = m { Some(b) } else { None }).await;
        convert::batch(&batch).unwrap()
    }

    /// The next batch, acknowledged.
    pub async fn stored(&mut self) -> Batch {
        let batch = self.batch().await;
        self.acknowledge(&batch);
        batch
    }

    pub fn acknowledge(&self, batch: &Batch) {
        let stored = vec![key(batch)];
        self.say(ToAgent::Acknowledgement(v1::Acknowledgement { stored, refused: Vec::new() }));
    }

    pub async fn result(&mut self) -> v1::SweepResult {
        self.next(|m| if let FromAgent::SweepResult(r) = m { Some(r) } else { None }).await
    }

    /// Whether the agent ends the stream.
    pub async fn ended(&mut self) -> bool {
        let drained = async { while let Ok(Some(_)) = self.inbound.message().await {} };
        timeout(LONG, drained).await.is_ok()
    }
}

pub fn key(batch: &Batch) -> v1::BatchKey {
    let windows = u32::try_from(batch.windows.len()).unwrap();
    v1::BatchKey { instance: batch.instance, first_sequence: batch.first_sequence, windows }
}

/// A path from the agent, which is called `a`, to `peer`.
pub fn target(dst: &str, peer: SocketAddr, interval: Duration, of_timeout: Duration) -> v1::Target {
    let at = |node: &str| v1::Endpoint { node: node.to_owned(), port: "lo".to_owned(), rail: 0 };
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap();
    v1::Target {
        path: Some(v1::Path {
            src: Some(at("a")),
            dst: Some(at(dst)),
            transport: v1::Transport::Udp.into(),
            memory: v1::Memory::Host.into(),
            flow: 0,
            dscp: 0,
        }),
        address: peer.ip().to_string(),
        port: peer.port().into(),
        interval_ns: nanos(interval),
        phase_ns: 0,
        timeout_ns: nanos(of_timeout),
        size_bytes: 44,
        probe_key: None,
    }
}

/// Answers probes until dropped.
pub struct Answering {
    pub at: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Answering {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Those who come with one of these keys; without any, everybody.
    pub fn with(keys: &[Key]) -> Self {
        let config = ReflectConfig {
            transport: ping::Transport::Udp,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            mode: WaitMode::Sleep,
            cpu: None,
            max_rate: None,
            keys: keys.to_vec(),
            plain: PlainRequests::default(),
            rdma: railgauge_agent::rdma::PortWish::default(),
        };
        let responder = Responder::open(config).unwrap();
        let (at, stop) = (responder.listening()[0].local, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || responder.run(&stopped));
        Self { at, stop }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An agent process.
pub struct Agent {
    child: Child,
    pub config: PathBuf,
    pub state: PathBuf,
    stderr: PathBuf,
}

impl Agent {
    /// `more` goes into the file before the endpoint, and `with` to the command.
    pub fn start(dir: &Path, at: SocketAddr, more: &str, with: impl FnOnce(&mut Command)) -> Self {
        let (config, state, stderr) =
            (dir.join("agent.toml"), dir.join("state"), dir.join("stderr"));
        write_config(&config, &state, at, more);
        let mut command = command();
        command.arg("--config").arg(&config);
        command.stderr(std::fs::File::create(&stderr).unwrap());
        with(&mut command);
        Self { child: command.spawn().unwrap(), config, state, stderr }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// Its exit code; it must end within 5 s.
    pub async fn end(&mut self) -> Option<i32> {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(5), ended).await.expect("it ends within 5 s")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_railgauge-agent"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAILGAUGE_")) {
        command.env_remove(name);
    }
    command.env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

pub fn write_config(config: &Path, state: &Path, coordinator: SocketAddr, more: &str) {
    let text = format!(
        "node = \"a\"\ninsecure = true\ncoordinator = \"http://{coordinator}\"\nhttp_listen = \"127.0.0.1:0\"\nstate_dir = {state:?}\n{more}\n\
         [[endpoint]]\nport = \"lo\"\naddress = \"127.0.0.1\"\nudp_port = 0\n"
    );
    std::fs::write(config, text).unwrap();
}
