//! The daemon as its operator meets it: started, asked, told to reload, stopped.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use railgauge_proto::v1;
use railgauge_proto::v1::operator_client::OperatorClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_railgauge-coordinator"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAILGAUGE_")) {
        command.env_remove(name);
    }
    command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(dir.join("state"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

struct Daemon {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn start(dir: &Path, with: impl FnOnce(&mut Command)) -> Daemon {
    let addresses = dir.join("addresses");
    let mut command = command(dir);
    command.arg("--insecure").arg("--addresses-file").arg(&addresses);
    with(&mut command);
    let child = command.spawn().unwrap();
    let text = timeout(Duration::from_secs(20), read_when_there(addresses)).await.unwrap();
    let mut lines = text.lines().map(|line| line.split_once('=').unwrap());
    let (grpc, http) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!((grpc.0, http.0), ("grpc", "http"));
    Daemon { child, grpc: grpc.1.parse().unwrap(), http: http.1.parse().unwrap() }
}

async fn read_when_there(path: PathBuf) -> String {
    loop {
        if let Ok(text) = fs::read_to_string(&path) {
            return text;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Its exit code, and what it wrote to stdout and stderr.
    async fn end(&mut self) -> (Option<i32>, String, String) {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let status = timeout(Duration::from_secs(5), ended).await.expect("it ends within 5 s");
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (status.code(), out, err)
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn it_serves_health_reflection_and_its_page_and_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = start(dir.path(), |_| ()).await;
    let mut health = HealthClient::new(daemon.channel().await);
    for service in ["", "railgauge.v1.Agents", "railgauge.v1.Operator"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(daemon.channel().await);
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"railgauge.v1.Agents"), "{names:?}");
    assert!(names.contains(&"railgauge.v1.Operator"), "{names:?}");
    assert!(daemon.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(daemon.get("/").await.contains("coordinator 0."));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end().await, (Some(0), String::new(), String::new()));
}

#[tokio::test]
async fn a_reload_takes_what_it_can_and_says_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("coordinator.toml");
    fs::write(&file, "window = \"10s\"\n").unwrap();
    let mut daemon = start(dir.path(), |command| {
        command.arg("--config").arg(&file);
    })
    .await;
    fs::write(&file, "window = \"5s\"\nprobe_interval = \"50ms\"\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    sleep(Duration::from_millis(300)).await;
    fs::write(&file, "windows = \"5s\"\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    sleep(Duration::from_millis(300)).await;
    daemon.signal(Signal::SIGINT);
    let (code, _, said) = daemon.end().await;
    assert_eq!(code, Some(0));
    assert!(said.contains("window has changed: that takes effect at the next start"), "{said}");
    assert!(!said.contains("probe_interval has changed"), "{said}");
    assert!(said.contains("the configuration stays as it was: "), "{said}");
    assert!(said.contains(":1: unknown key \"windows\"; did you mean \"window\"?"), "{said}");
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("insecure = true does without, on loopback"),
        "{}",
        said(&output)
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut second = command(dir.path());
    second.args(["--insecure", "--http-listen", &address.to_string()]);
    // The last of a flag given twice would win, were it allowed.
    assert_eq!(second.output().unwrap().status.code(), Some(2));
    let file = dir.path().join("c.toml");
    fs::write(&file, format!("insecure = true\nlisten = \"{address}\"\n")).unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_railgauge-coordinator"));
    let output = second.arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let port =
        format!("the port is in use; `ss -ltnp 'sport = :{}'` names who has it", address.port());
    assert!(said(&output).contains(&port), "{}", said(&output));

    let first = start(dir.path(), |_| ()).await;
    let output = command(dir.path()).arg("--insecure").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("is in use by another coordinator"), "{}", said(&output));
    drop(first);

    let output = command(dir.path()).arg("--insecure").arg("--window=10").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("\"10\" is no duration"), "{}", said(&output));
}

#[test]
fn the_configuration_in_force_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut asked = command(dir.path());
    asked.args(["--check-config", "--insecure"]).env("RAILGAUGE_PROBE_INTERVAL", "50ms");
    let output = asked.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "listen = \"127.0.0.1:0\"",
        "probe_interval = \"50ms\"",
        "window = \"10s\"",
        "insecure = true",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    assert!(!dir.path().join("state").exists(), "asking changes nothing");
    let version =
        Command::new(env!("CARGO_BIN_EXE_railgauge-coordinator")).arg("--version").output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    assert!(version.starts_with("railgauge-coordinator 0."), "{version}");
}

/// The switch that stops sweeps is for bad nights, and a full disk is one.
#[tokio::test]
async fn with_a_full_audit_log_sweeps_are_stopped_and_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let full = |command: &mut Command| {
        command.args(["--audit-log", "/dev/full"]);
    };
    let daemon = start(dir.path(), full).await;
    let url = format!("http://{}", daemon.grpc);
    let mut client = OperatorClient::connect(url).await.unwrap();
    let cancelled = client.cancel_sweep(v1::CancelSweepRequest::default()).await.unwrap();
    assert_eq!(cancelled.into_inner().cancelled, Vec::<String>::new());
    assert!(client.list_nodes(v1::ListNodesRequest {}).await.is_ok());
    let request = v1::StartSweepRequest { suite: "quick".into(), ..Default::default() };
    let refused = client.start_sweep(request).await.unwrap_err();
    let says =
        "nothing is changed that cannot be written down: cannot write the audit log /dev/full";
    assert!(refused.message().starts_with(says), "{refused}");
    assert!(refused.message().contains("set audit_log"), "{refused}");
}
