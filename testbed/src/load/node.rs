//! One agent: its session, opened again when it ends, and what it has sent and not been told of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use prost::bytes::Bytes;
use railgauge_access::connector::Connector;
use railgauge_proto::v1::agent_message::Message as ToCoordinator;
use railgauge_proto::v1::coordinator_message::Message as FromCoordinator;
use railgauge_proto::{MAX_MESSAGE, protocol, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

use super::Octets;
use crate::fresh::{self, WINDOW_NS};

/// As an agent's uplink does.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Unacknowledged batches at most.
const MOST_IN_FLIGHT: usize = 32;
/// How long after an end of its session it dials again.
const BACK_OFF: Duration = Duration::from_millis(500);

/// What all agents count together.
#[derive(Debug, Default)]
pub struct Tally {
    /// Batches that were sent, once each.
    pub sent: AtomicU64,
    /// Batches that were acknowledged.
    pub stored: AtomicU64,
    /// Acknowledgements of what was not awaited.
    pub unexpected: AtomicU64,
    /// Batches that were refused.
    pub refused: AtomicU64,
    /// Batches sent again after a session ended.
    pub again: AtomicU64,
    /// Sessions that ended before their time.
    pub broken: AtomicU64,
    /// Sessions that were welcomed.
    pub welcomed: AtomicU64,
    /// Plans that came.
    pub plans: AtomicU64,
    /// The longest plan, in targets.
    pub most_targets: AtomicU64,
    /// From a batch's sending to its acknowledgement, in milliseconds.
    pub waits_ms: std::sync::Mutex<Vec<u64>>,
    /// What the last broken session was told.
    pub last_error: std::sync::Mutex<String>,
}

/// When batches are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One each window, so long after its end.
    Windows(Duration),
    /// As soon as the coordinator takes them.
    Flood,
}

/// What all agents have in common.
#[derive(Debug)]
pub struct Shared {
    /// Where the coordinator listens.
    pub url: String,
    /// How many there are.
    pub agents: usize,
    /// Paths of each.
    pub paths: usize,
    /// Encoded windows to choose from.
    pub pool: Vec<Vec<u8>>,
    /// When no more is to be sent.
    pub until: Instant,
    /// When it is over, whatever is missing.
    pub give_up: Instant,
    /// What came of it.
    pub tally: Tally,
}

/// A batch under way.
struct Sent {
    message: Bytes,
    at: Instant,
}

/// One agent.
pub struct Agent {
    shared: Arc<Shared>,
    number: usize,
    pace: Pace,
    instance: u64,
    connector: Connector,
    head: v1::WindowBatch,
    next: u64,
    in_flight: BTreeMap<u64, Sent>,
    /// Epochs of the last plan and of the last keys, which heartbeats confirm.
    told: (u64, u64),
}

/// Why a session is over.
enum Over {
    Done,
    Broken(String),
}

impl Agent {
    /// The agent of a number; `instance` is that of its process.
    pub fn new(
        shared: Arc<Shared>,
        number: usize,
        pace: Pace,
        instance: u64,
        connector: Connector,
    ) -> Self {
        let head = v1::WindowBatch {
            agent: fresh::name(number),
            instance,
            length_ns: WINDOW_NS,
            plan_epoch: 1,
            paths: fresh::paths(number, shared.agents, shared.paths),
            ..v1::WindowBatch::default()
        };
        Self {
            shared,
            number,
            pace,
            instance,
            connector,
            head,
            next: 0,
            in_flight: BTreeMap::new(),
            told: (0, 0),
        }
    }

    /// Sends until it is time, and waits for what is not acknowledged.
    pub async fn run(mut self) {
        let mut due = self.first_due();
        while Instant::now() < self.shared.give_up {
            match self.session(&mut due).await {
                Over::Done => return,
                Over::Broken(why) => {
                    let tally = &self.shared.tally;
                    tally.broken.fetch_add(1, Relaxed);
                    if let Ok(mut last) = tally.last_error.lock() {
                        *last = why;
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn first_due(&self) -> Instant {
        let now = unix_ns();
        match self.pace {
            Pace::Windows(after) => {
                let after = u64::try_from(after.as_nanos()).unwrap_or(0) % WINDOW_NS;
                let wait = (WINDOW_NS + after - now % WINDOW_NS) % WINDOW_NS;
                Instant::now() + Duration::from_nanos(wait)
            }
            Pace::Flood => Instant::now(),
        }
    }

    async fn session(&mut self, due: &mut Instant) -> Over {
        match self.try_session(due).await {
            Ok(()) => Over::Done,
            Err(error) => Over::Broken(error),
        }
    }

    async fn try_session(&mut self, due: &mut Instant) -> Result<(), String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let endpoint = Endpoint::from_shared(self.shared.url.clone()).map_err(|e| said(&e))?;
        let endpoint = endpoint.connect_timeout(Duration::from_secs(10));
        let channel =
            endpoint.connect_with_connector(self.connector.clone()).await.map_err(|e| said(&e))?;
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|e| said(&e))?;
        let (out, outbound) = mpsc::channel(4);
        send(&out, encoded(ToCoordinator::Hello(self.hello()))).await?;
        let path = PathAndQuery::from_static("/railgauge.v1.Agents/Session");
        let request = tonic::Request::new(ReceiverStream::new(outbound));
        let response = grpc.streaming(request, path, Octets).await;
        let mut inbound = response.map_err(|status| status.message().to_owned())?.into_inner();
        self.talk(&out, &mut inbound, due).await
    }

    fn hello(&self) -> v1::Hello {
        let octets: [u8; 4] = u32::try_from(self.number).unwrap_or(0).to_be_bytes();
        let node = fresh::name(self.number);
        v1::Hello {
            protocol: Some(protocol::OURS),
            software_version: "load".into(),
            identity: [octets; 4].concat(),
            instance: self.instance,
            boot_id: "load".into(),
            endpoints: vec![v1::AgentEndpoint {
                endpoint: self.head.paths.first().and_then(|path| path.src.clone()),
                address: format!("10.{}.{}.{}", octets[1], octets[2], octets[3]),
                port: 862,
                rdma: None,
            }],
            node,
            labels: [("rack".to_owned(), format!("r{}", self.number / 32))].into(),
            inventory_json: b"{}".to_vec(),
            sent_at_unix_ns: unix_ns(),
            refuses_unauthenticated: false,
        }
    }

    async fn talk(
        &mut self,
        out: &mpsc::Sender<Bytes>,
        inbound: &mut Streaming<v1::CoordinatorMessage>,
        due: &mut Instant,
    ) -> Result<(), String> {
        let again: Vec<Bytes> = self.in_flight.values().map(|sent| sent.message.clone()).collect();
        self.shared.tally.again.fetch_add(again.len() as u64, Relaxed);
        let mut again = again.into_iter();
        let (mut welcome, mut told) = (false, (0, 0));
        let mut beat = tokio::time::interval(HEARTBEAT);
        loop {
            let over = Instant::now() >= self.shared.until;
            if over && self.in_flight.is_empty() {
                return Ok(());
            }
            if welcome && let Some(message) = again.next() {
                send(out, message).await?;
                continue;
            }
            let sends = welcome && !over && self.in_flight.len() < MOST_IN_FLIGHT;
            tokio::select! {
                biased;
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        welcome |= self.take(message);
                        if told != self.told {
                            told = self.told;
                            send(out, encoded(ToCoordinator::Heartbeat(heartbeat(told.0, told.1)))).await?;
                        }
                    }
                    Ok(None) => return Err("the stream was closed".to_owned()),
                    Err(status) => return Err(status.message().to_owned()),
                },
                _ = beat.tick(), if welcome => send(out, encoded(ToCoordinator::Heartbeat(heartbeat(told.0, told.1)))).await?,
                () = tokio::time::sleep_until(*due), if sends => {
                    let message = self.batch();
                    send(out, message).await?;
                    if self.pace != Pace::Flood {
                        *due += Duration::from_nanos(WINDOW_NS);
                    }
                }
                () = tokio::time::sleep_until(self.shared.until), if !over => {}
                () = tokio::time::sleep_until(self.shared.give_up) => return Err("it took too long".to_owned()),
            }
        }
    }

    /// The next batch: the window that ended last, or when flooding one of its own each time.
    fn batch(&mut self) -> Bytes {
        let pool = &self.shared.pool;
        self.head.first_sequence = self.next * self.shared.paths as u64;
        self.head.start_unix_ns = (unix_ns() / WINDOW_NS - 1) * WINDOW_NS;
        let at = (self.number * 7 + usize::try_from(self.next).unwrap_or(0)) % pool.len();
        let batch = fresh::batch(&self.head, &pool[at]);
        // Field 2 of AgentMessage, length-delimited.
        let mut message = Vec::with_capacity(batch.len() + 6);
        message.push(2 << 3 | 2);
        prost::encode_length_delimiter(batch.len(), &mut message).expect("a vector grows");
        message.extend_from_slice(&batch);
        let message = Bytes::from(message);
        let sent = Sent { message: message.clone(), at: Instant::now() };
        self.in_flight.insert(self.head.first_sequence, sent);
        self.next += 1;
        self.shared.tally.sent.fetch_add(1, Relaxed);
        message
    }

    /// Measures the planned paths from now on, and as many others as make up its number.
    fn obey(&mut self, plan: &v1::Plan) {
        let mut paths: Vec<v1::Path> = plan.targets.iter().filter_map(|t| t.path.clone()).collect();
        let own = fresh::paths(self.number, self.shared.agents, self.shared.paths);
        let more: Vec<v1::Path> = own.into_iter().filter(|path| !paths.contains(path)).collect();
        paths.extend(more);
        paths.truncate(self.shared.paths);
        self.head.paths = paths;
    }

    /// Whether it was the welcome.
    fn take(&mut self, message: v1::CoordinatorMessage) -> bool {
        let tally = &self.shared.tally;
        match message.message {
            Some(FromCoordinator::Welcome(_)) => {
                tally.welcomed.fetch_add(1, Relaxed);
                return true;
            }
            Some(FromCoordinator::Plan(plan)) => {
                tally.plans.fetch_add(1, Relaxed);
                tally.most_targets.fetch_max(plan.targets.len() as u64, Relaxed);
                self.told.0 = plan.epoch;
                self.obey(&plan);
            }
            Some(FromCoordinator::ProbeKeys(keys)) => {
                let epochs = keys.keys.iter().filter_map(|given| given.key.as_ref());
                self.told.1 = epochs.map(|key| key.epoch).max().unwrap_or(0);
            }
            Some(FromCoordinator::Acknowledgement(told)) => {
                for key in told.stored {
                    let landed = self.in_flight.remove(&key.first_sequence);
                    let ours = landed.filter(|_| key.instance == self.instance);
                    match ours {
                        Some(sent) => {
                            tally.stored.fetch_add(1, Relaxed);
                            let waited = u64::try_from(sent.at.elapsed().as_millis()).unwrap_or(0);
                            if let Ok(mut waits) = tally.waits_ms.lock() {
                                waits.push(waited);
                            }
                        }
                        None => drop(tally.unexpected.fetch_add(1, Relaxed)),
                    }
                }
                for refused in told.refused {
                    tally.refused.fetch_add(1, Relaxed);
                    if let Some(key) = refused.key {
                        self.in_flight.remove(&key.first_sequence);
                    }
                    if let Ok(mut last) = tally.last_error.lock() {
                        *last = refused.reason;
                    }
                }
            }
            _ => {}
        }
        false
    }
}

async fn send(out: &mpsc::Sender<Bytes>, message: Bytes) -> Result<(), String> {
    out.send(message).await.map_err(|_| "the stream was closed".to_owned())
}

fn encoded(message: ToCoordinator) -> Bytes {
    v1::AgentMessage { message: Some(message) }.encode_to_vec().into()
}

fn heartbeat(plan_epoch: u64, probe_key_epoch: u64) -> v1::Heartbeat {
    v1::Heartbeat {
        sent_at_unix_ns: unix_ns(),
        plan_epoch,
        spool: Some(v1::SpoolState::default()),
        cpu_permille: 1,
        probes_over_budget: 0,
        probe_key_epoch,
        probing_ended: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the driver that reads the clock")]
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
