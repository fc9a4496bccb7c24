//! The way to the coordinator: one stream, opened by us and opened again whenever it ends. What is recorded waits in the spool
//! until the coordinator says that it has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use railgauge_proto::v1::agent_message::Message as ToCoordinator;
use railgauge_proto::v1::agents_client::AgentsClient;
use railgauge_proto::v1::coordinator_message::Message as FromCoordinator;
use railgauge_proto::{MAX_MESSAGE, protocol, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::config::Budget;
use super::recorder::Recorded;
use super::state::NodeState;
use crate::spool::{Cursor, Key};

/// First and longest wait before the next attempt; each is drawn evenly from zero to its bound, so that a thousand agents do
/// not come back at once.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long a connection, and the coordinator's first word, may take.
const CONNECT: Duration = Duration::from_secs(5);
const WELCOME: Duration = Duration::from_secs(10);

/// Dead peers are noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

const HEARTBEAT: Duration = Duration::from_secs(2);

/// Unacknowledged at most; then the spool waits.
const MOST_BATCHES: usize = 32;
const MOST_BYTES: usize = 8 << 20;

/// When nothing is acknowledged for so long, all is sent again: the coordinator could not store it, and knows what it has.
const SEND_AGAIN: Duration = Duration::from_secs(10);

/// How long the end of the process waits for acknowledgements.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the coordinator at {url} cannot be reached")]
    Connect { url: String, source: tonic::transport::Error },
    #[error("the coordinator refuses this agent: {0}")]
    Refused(String),
    #[error("the coordinator's stream ended: {0}")]
    Stream(String),
    #[error("the coordinator does not answer")]
    Silent,
    #[error("the configuration has changed")]
    Changed,
    #[error("shut down")]
    Shutdown,
}

/// The uplink's parts.
pub struct Uplink {
    /// The node, which applies what the coordinator says.
    pub node: NodeState,
    /// What is recorded.
    pub recorded: Arc<Recorded>,
    /// Results of sweep orders.
    pub results: mpsc::UnboundedReceiver<v1::SweepResult>,
    /// What the process wants of us.
    pub phase: watch::Receiver<Phase>,
    /// The configuration was read again.
    pub reconfigured: mpsc::UnboundedReceiver<Reconfigured>,
    /// One line for the service manager.
    pub status: watch::Sender<String>,
}

/// What may change while the process runs.
pub struct Reconfigured {
    /// What operators select nodes by.
    pub labels: BTreeMap<String, String>,
    /// What probing may cost.
    pub budget: Budget,
}

/// What the process wants of the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Work; the number rises when what we say in Hello has changed.
    Run(u64),
    /// All is recorded that will be: send it, and go.
    Flush,
}

impl Uplink {
    /// Keeps a session until told to go.
    pub async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        let mut said = String::new();
        loop {
            let mut welcomed = false;
            let ended = match self.session(&mut welcomed).await {
                Ended::Shutdown => return,
                Ended::Changed => continue,
                ended => ended,
            };
            if *self.phase.borrow() == Phase::Flush {
                return;
            }
            wait = if welcomed { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
            let cause = std::error::Error::source(&ended).map(|c| format!(": {}", innermost(c)));
            let text = format!("{ended}{}", cause.unwrap_or_default());
            // Once for each reason: an agent without coordinator is no news every second.
            if text == said {
                tracing::debug!("{text}");
            } else {
                tracing::warn!("{text}; probing goes on, windows wait in the spool");
                said = text;
            }
            self.node.disconnected();
            let until = Instant::now() + wait.mul_f64(random_share());
            if !self.idle(until).await {
                return;
            }
        }
    }

    fn tick(&mut self) {
        self.node.tick();
        let status = self.node.status();
        self.status.send_if_modified(|said| {
            let news = *said != status;
            *said = status;
            news
        });
    }

    /// Waits until then, minding the lease; false when it is time to go.
    async fn idle(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = tokio::time::sleep(Duration::from_millis(500)) => self.tick(),
                changed = self.phase.changed() => {
                    if changed.is_err() || *self.phase.borrow() == Phase::Flush {
                        return false;
                    }
                }
                Some(new) = self.reconfigured.recv() => self.node.reconfigured(new.labels, new.budget),
                // Nobody waits for these any more: the sweep has been told that we are gone.
                Some(_) = self.results.recv() => {}
            }
        }
    }

    async fn session(&mut self, welcomed: &mut bool) -> Ended {
        match self.try_session(welcomed).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_session(
        &mut self,
        welcomed: &mut bool,
    ) -> Result<std::convert::Infallible, Ended> {
        let url = self.node.coordinator().to_owned();
        let connect = |source| Ended::Connect { url: url.clone(), source };
        let channel = Endpoint::from_shared(url.clone())
            .map_err(connect)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(connect)?;
        let mut client = AgentsClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let (out, outbound) = mpsc::channel(64);
        let hello = self.node.hello();
        send(&out, ToCoordinator::Hello(hello)).await?;
        let stream = client.session(ReceiverStream::new(outbound));
        let response = tokio::time::timeout(WELCOME, stream).await.map_err(|_| Ended::Silent)?;
        let mut inbound = response.map_err(|status| refusal(&status))?.into_inner();
        let first = tokio::time::timeout(WELCOME, inbound.message());
        let first = first.await.map_err(|_| Ended::Silent)?;
        match first.map_err(|status| refusal(&status))?.and_then(|message| message.message) {
            Some(FromCoordinator::Welcome(welcome)) => self.welcome(&welcome)?,
            _ => return Err(Ended::Stream("its first message was no welcome".to_owned())),
        }
        *welcomed = true;
        self.talk(out, &mut inbound).await
    }

    fn welcome(&mut self, welcome: &v1::Welcome) -> Result<(), Ended> {
        let theirs = (welcome.protocol.as_ref(), welcome.software_version.as_str());
        protocol::fit((Some(&protocol::OURS), crate::VERSION), theirs)
            .map_err(|e| Ended::Refused(e.to_string()))?;
        self.node.connected(welcome);
        Ok(())
    }

    async fn talk(
        &mut self,
        out: mpsc::Sender<v1::AgentMessage>,
        inbound: &mut Streaming<v1::CoordinatorMessage>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut flight = Flight::default();
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let run = *self.phase.borrow_and_update();
        let mut last_words = match run {
            Phase::Run(_) => None,
            Phase::Flush => Some(Instant::now() + LAST_WORDS),
        };
        loop {
            self.pump(&out, &mut flight).await?;
            if last_words.is_some() && flight.is_empty() && self.recorded.is_empty() {
                return Err(Ended::Shutdown);
            }
            let news = self.recorded.news.notified();
            tokio::select! {
                () = news => {}
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.take(message, &mut flight).await,
                    Ok(None) => return Err(Ended::Stream("it was closed".to_owned())),
                    Err(status) => return Err(refusal(&status)),
                },
                _ = beat.tick() => send(&out, ToCoordinator::Heartbeat(self.node.heartbeat(&self.recorded))).await?,
                _ = tick.tick() => {
                    self.tick();
                    flight.forget_if_stale();
                }
                Some(result) = self.results.recv() => send(&out, ToCoordinator::SweepResult(result)).await?,
                Some(new) = self.reconfigured.recv() => self.node.reconfigured(new.labels, new.budget),
                changed = self.phase.changed() => {
                    let now = *self.phase.borrow();
                    match now {
                        Phase::Run(_) if now != run && changed.is_ok() => return Err(Ended::Changed),
                        Phase::Run(_) => {}
                        Phase::Flush => last_words = Some(Instant::now() + LAST_WORDS),
                    }
                }
                () = until(last_words) => return Err(Ended::Shutdown),
            }
        }
    }

    async fn take(&mut self, message: v1::CoordinatorMessage, flight: &mut Flight) {
        match message.message {
            Some(FromCoordinator::Plan(plan)) => self.node.plan(&plan),
            Some(FromCoordinator::LeaseRenewal(renewal)) => self.node.renew(renewal.epoch),
            Some(FromCoordinator::SweepOrder(order)) => self.node.order(&order),
            Some(FromCoordinator::SweepCancel(cancel)) => self.node.cancel(&cancel),
            Some(FromCoordinator::Acknowledgement(ack)) => self.acknowledged(ack, flight).await,
            // A newer coordinator says what we do not know yet, and must not need us to.
            Some(FromCoordinator::Welcome(_)) | None => {}
        }
    }

    async fn acknowledged(&self, ack: v1::Acknowledgement, flight: &mut Flight) {
        let key = |key: &v1::BatchKey| Key {
            instance: key.instance,
            first_sequence: key.first_sequence,
            windows: key.windows,
        };
        let stored: Vec<Key> = ack.stored.iter().map(key).collect();
        let refused: Vec<(Key, String)> = ack
            .refused
            .into_iter()
            .filter_map(|refused| Some((refused.key.as_ref().map(key)?, refused.reason)))
            .collect();
        for key in stored.iter().chain(refused.iter().map(|(key, _)| key)) {
            flight.landed(key);
        }
        let recorded = Arc::clone(&self.recorded);
        // The disk may stand still; the session must not.
        let forget = tokio::task::spawn_blocking(move || {
            let mut spool = recorded.spool();
            spool.acknowledge(&stored);
            for (key, reason) in refused {
                if spool.refuse(key) {
                    let windows = key.windows;
                    tracing::error!("the coordinator refuses {windows} windows: {reason}");
                }
            }
        });
        // A panic in there has been reported by the panic hook; the batches are sent again.
        let _ = forget.await;
    }

    /// Sends what is pending, as far as may be under way at once.
    async fn pump(
        &self,
        out: &mpsc::Sender<v1::AgentMessage>,
        flight: &mut Flight,
    ) -> Result<(), Ended> {
        while flight.has_room() {
            let (recorded, after) = (Arc::clone(&self.recorded), flight.cursor);
            let room = MOST_BYTES - flight.bytes;
            let read = tokio::task::spawn_blocking(move || recorded.spool().pending(after, room));
            let batches = match read.await {
                Ok(Ok(batches)) => batches,
                Ok(Err(error)) => {
                    tracing::error!("{error}: {}", error.source);
                    return Ok(());
                }
                Err(_) => return Ok(()),
            };
            if batches.is_empty() {
                return Ok(());
            }
            for pending in batches {
                let message = prost::Message::decode(pending.payload.as_slice());
                let Ok(batch) = message else {
                    // Its checksum is right, so we wrote it: a later version's, perhaps.
                    tracing::error!("a recorded batch does not decode and is refused here");
                    self.recorded.spool().refuse(pending.key);
                    flight.cursor = Some(pending.cursor);
                    continue;
                };
                flight.departs(pending.key, pending.payload.len(), pending.cursor);
                send(out, ToCoordinator::Batch(batch)).await?;
                if !flight.has_room() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What is sent and not acknowledged.
#[derive(Default)]
struct Flight {
    cursor: Option<Cursor>,
    batches: BTreeMap<(u64, u64), usize>,
    bytes: usize,
    progress: Option<Instant>,
}

impl Flight {
    fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    fn has_room(&self) -> bool {
        self.batches.len() < MOST_BATCHES && self.bytes < MOST_BYTES
    }

    fn departs(&mut self, key: Key, bytes: usize, cursor: Cursor) {
        self.cursor = Some(cursor);
        self.bytes += bytes;
        self.batches.insert((key.instance, key.first_sequence), bytes);
        self.progress.get_or_insert_with(Instant::now);
    }

    fn landed(&mut self, key: &Key) {
        if let Some(bytes) = self.batches.remove(&(key.instance, key.first_sequence)) {
            self.bytes -= bytes;
        }
        self.progress = (!self.batches.is_empty()).then(Instant::now);
    }

    fn forget_if_stale(&mut self) {
        if self.progress.is_some_and(|at| at.elapsed() > SEND_AGAIN) {
            *self = Self::default();
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn send(out: &mpsc::Sender<v1::AgentMessage>, message: ToCoordinator) -> Result<(), Ended> {
    let message = v1::AgentMessage { message: Some(message) };
    let closed = |_| Ended::Stream("it was closed".to_owned());
    out.send(message).await.map_err(closed)
}

fn refusal(status: &tonic::Status) -> Ended {
    use tonic::Code;
    let text = if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    };
    match status.code() {
        Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated => Ended::Refused(text),
        _ => Ended::Stream(text),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Evenly from 0 to 1. Without randomness, the middle.
fn random_share() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}
