//! The way to the coordinator: one stream, opened by us and opened again whenever it ends. What is recorded waits in the spool
//! until the coordinator says that it has it.
//!
//! Nothing here waits for the disk, nor for a coordinator that reads nothing: lease, budgets and signals are minded meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use railgauge_access::connector::Connector;
use railgauge_access::credentials::Credentials;
use railgauge_access::files::Material;
use railgauge_proto::v1::agent_message::Message as ToCoordinator;
use railgauge_proto::v1::agents_client::AgentsClient;
use railgauge_proto::v1::coordinator_message::Message as FromCoordinator;
use railgauge_proto::{MAX_MESSAGE, protocol, v1};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::config::Budget;
use super::flight::Flight;
use super::news::{Said, printable};
use super::recorder::Recorded;
use super::state::NodeState;
use crate::spool::{Key, Pending, ReadError};

/// First and longest wait before the next attempt; each is drawn evenly from zero to its bound, so that a thousand agents do
/// not come back at once.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A session that lasted so long was a good one: the next wait is short again, and the next trouble news.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// How long a connection, and the coordinator's first word, may take.
const CONNECT: Duration = Duration::from_secs(5);
const WELCOME: Duration = Duration::from_secs(10);

/// Dead peers are noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

const HEARTBEAT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(500);

/// Windows wait so long, at the beginning of a session, for our word that we have our keys: a node is in no plan before that, and
/// what lies in a spool takes its time on a slow way.
const KEYS_FIRST: Duration = Duration::from_secs(1);

/// Messages that wait for the network: more than may be unacknowledged and come in between. When there are so many, the coordinator
/// has not been reading for long.
const OUTBOUND: usize = 128;

/// Acknowledgements that wait for the disk; more are dropped, and their batches sent again.
const MOST_ACKNOWLEDGED: usize = 4_096;

/// How long the end of the process waits for acknowledgements.
const LAST_WORDS: Duration = Duration::from_millis(1_200);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the coordinator at {url} cannot be reached")]
    Connect { url: String, source: tonic::transport::Error },
    #[error(
        "what answers at the coordinator's URL is no gRPC: its page has another port, by default 7461, agents want 7460"
    )]
    NotGrpc,
    #[error(
        "what answers at the coordinator's URL speaks no plaintext gRPC: if it is a coordinator with TLS, write https:// and take out insecure"
    )]
    NotHttp2,
    #[error("the coordinator refuses this agent: {0}")]
    Refused(String),
    #[error("the coordinator's stream ended: {0}")]
    Stream(String),
    #[error("the coordinator does not answer")]
    Silent,
    #[error("the coordinator reads nothing any more")]
    Stuck,
    #[error("the configuration or the certificate has changed")]
    Changed,
    #[error("shut down")]
    Shutdown,
}

/// The uplink's parts.
pub struct Uplink {
    /// The node, which applies what the coordinator says.
    pub node: NodeState,
    /// By what it is known, where there is TLS.
    pub credentials: Option<Credentials>,
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
    /// Work.
    Run,
    /// All is recorded that will be: send it, and go.
    Flush,
}

/// A coordinator that has welcomed us.
struct Link {
    out: mpsc::Sender<v1::AgentMessage>,
    inbound: Streaming<v1::CoordinatorMessage>,
    welcome: v1::Welcome,
}

/// What is done on the spool at the moment, beside the session: the disk may stand still, and the session must not.
type Job = JoinHandle<Done>;

enum Done {
    /// Pending batches, read in this generation of the flight.
    Read(u64, Result<Vec<Pending>, ReadError>),
    /// Acknowledgements are noted; these refused batches were pending.
    Forgot(Vec<(Key, String)>),
}

/// Acknowledgements that are not yet noted in the spool.
#[derive(Default)]
struct Answers {
    stored: Vec<Key>,
    refused: Vec<(Key, String)>,
}

impl Answers {
    fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.refused.is_empty()
    }

    fn has_room(&self) -> bool {
        self.stored.len() + self.refused.len() < MOST_ACKNOWLEDGED
    }
}

impl Uplink {
    /// Keeps a session until told to go.
    pub async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        let mut said = Said::default();
        loop {
            let mut welcomed = None;
            let ended = self.session(&mut welcomed).await;
            self.node.disconnected();
            match ended {
                Ended::Shutdown => return,
                _ if *self.phase.borrow() == Phase::Flush => return,
                Ended::Changed => continue,
                _ => {}
            }
            let was_good = welcomed.is_some_and(|at: Instant| at.elapsed() >= GOOD_SESSION);
            wait = if was_good { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
            if was_good {
                said.forget();
            }
            let cause = std::error::Error::source(&ended).map(|c| format!(": {}", innermost(c)));
            let text = format!("{ended}{}", cause.unwrap_or_default());
            // Once for each reason: an agent without coordinator is no news every second.
            if said.is_news(&text) {
                tracing::warn!("{text}; probing goes on, windows wait in the spool");
            } else {
                tracing::debug!("{text}");
            }
            let until = Instant::now() + wait.mul_f64(random_share());
            while Instant::now() < until {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    alone = self.alone() => {
                        // A change of the configuration is in the next hello.
                        if matches!(alone, Some(Ended::Shutdown)) {
                            return;
                        }
                    }
                }
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

    /// What happens without a session, half a second or one event of it; says when there is no point in waiting for one.
    async fn alone(&mut self) -> Option<Ended> {
        if *self.phase.borrow() == Phase::Flush {
            return Some(Ended::Shutdown);
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => self.tick(),
            changed = self.phase.changed() => {
                if changed.is_err() {
                    return Some(Ended::Shutdown);
                }
            }
            Some(new) = self.reconfigured.recv() => {
                return self.node.reconfigured(new.labels, new.budget).then_some(Ended::Changed);
            }
            // Nobody waits for these any more: the sweep has been told that we are gone.
            Some(_) = self.results.recv() => {}
        }
        None
    }

    async fn session(&mut self, welcomed: &mut Option<Instant>) -> Ended {
        let mut renewed = self.credentials.as_ref().map(Credentials::changes);
        if let Some(renewed) = &mut renewed {
            // What is in force now is what this session begins with.
            renewed.mark_unchanged();
        }
        let connector = Connector(self.credentials.clone());
        let establishing =
            establish(self.node.coordinator().to_owned(), connector, self.node.hello());
        let mut establishing = Box::pin(establishing);
        let link = loop {
            tokio::select! {
                link = &mut establishing => break link,
                alone = self.alone() => if let Some(ended) = alone { return ended },
            }
        };
        let link = match link {
            Ok(link) => link,
            Err(ended) => return ended,
        };
        *welcomed = Some(Instant::now());
        self.node.connected(&link.welcome);
        match self.talk(link, renewed).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn talk(
        &mut self,
        link: Link,
        mut renewed: Option<watch::Receiver<Arc<Material>>>,
    ) -> Result<std::convert::Infallible, Ended> {
        let Link { out, mut inbound, welcome } = link;
        let gives_keys = welcome.protocol.is_some_and(|p| p.minor >= protocol::KEYS_SINCE_MINOR);
        let mut keys_first = gives_keys.then(|| Instant::now() + KEYS_FIRST);
        let (mut flight, mut answers, mut said) =
            (Flight::default(), Answers::default(), Said::default());
        let mut job: Option<Job> = None;
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut tick = tokio::time::interval(TICK);
        let mut last_words = None;
        loop {
            if last_words.is_none() && *self.phase.borrow_and_update() == Phase::Flush {
                last_words = Some(Instant::now() + LAST_WORDS);
                flight.is_dry = false;
                self.node.end();
                send(&out, ToCoordinator::Heartbeat(self.node.heartbeat(&self.recorded)))?;
            }
            if last_words.is_some() || self.node.keys_are_settled() {
                keys_first = None;
            }
            if job.is_none() && keys_first.is_none() {
                job = self.next_job(&flight, &mut answers);
            }
            let idle = job.is_none() && flight.is_empty();
            if last_words.is_some() && idle && self.recorded.is_empty() {
                return Err(Ended::Shutdown);
            }
            tokio::select! {
                () = self.recorded.news.notified() => flight.is_dry = false,
                done = finished(&mut job) => {
                    job = None;
                    // A panic in there has been reported by the panic hook; the batches are sent again.
                    if let Some(done) = done {
                        conclude(done, &out, &mut flight, &mut answers, &mut said)?;
                    }
                }
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.take(message, &mut flight, &mut answers),
                    Ok(None) => return Err(Ended::Stream("it was closed".to_owned())),
                    Err(status) => return Err(refusal(&status)),
                },
                () = self.node.news() => {
                    send(&out, ToCoordinator::Heartbeat(self.node.heartbeat(&self.recorded)))?;
                }
                _ = beat.tick() => send(&out, ToCoordinator::Heartbeat(self.node.heartbeat(&self.recorded)))?,
                _ = tick.tick() => {
                    self.tick();
                    flight.send_again_if_stale();
                }
                Some(result) = self.results.recv() => send(&out, ToCoordinator::SweepResult(result))?,
                Some(new) = self.reconfigured.recv() => {
                    if self.node.reconfigured(new.labels, new.budget) {
                        return Err(Ended::Changed);
                    }
                }
                changed = self.phase.changed() => {
                    if changed.is_err() {
                        return Err(Ended::Shutdown);
                    }
                }
                // Before the old certificate ends, and this stream with it.
                () = is_renewed(&mut renewed), if last_words.is_none() => return Err(Ended::Changed),
                () = until(keys_first) => keys_first = None,
                () = until(last_words) => return Err(Ended::Shutdown),
            }
        }
    }

    fn take(
        &mut self,
        message: v1::CoordinatorMessage,
        flight: &mut Flight,
        answers: &mut Answers,
    ) {
        match message.message {
            Some(FromCoordinator::Plan(plan)) => self.node.plan(&plan),
            Some(FromCoordinator::LeaseRenewal(renewal)) => self.node.renew(renewal.epoch),
            Some(FromCoordinator::SweepOrder(order)) => self.node.order(&order),
            Some(FromCoordinator::SweepCancel(cancel)) => self.node.cancel(&cancel),
            Some(FromCoordinator::ProbeKeys(keys)) => self.node.take_keys(&keys),
            Some(FromCoordinator::Acknowledgement(ack)) => acknowledged(ack, flight, answers),
            // A newer coordinator says what we do not know yet, and must not need us to.
            Some(FromCoordinator::Welcome(_)) | None => {}
        }
    }

    /// What is to be done on the spool next: note what was acknowledged, or read what is pending as far as may be under way at once.
    fn next_job(&self, flight: &Flight, answers: &mut Answers) -> Option<Job> {
        let recorded = Arc::clone(&self.recorded);
        if !answers.is_empty() {
            let Answers { stored, refused } = std::mem::take(answers);
            return Some(tokio::task::spawn_blocking(move || {
                let mut spool = recorded.spool();
                spool.acknowledge(&stored);
                let pending = refused.into_iter().filter(|(key, _)| spool.refuse(*key));
                Done::Forgot(pending.collect())
            }));
        }
        let (after, room, generation) = (flight.cursor, flight.room(), flight.generation);
        (!flight.is_dry && room > 0).then(|| {
            tokio::task::spawn_blocking(move || {
                Done::Read(generation, recorded.spool().pending(after, room))
            })
        })
    }
}

/// Waits for another certificate; for ever where there is none.
async fn is_renewed(renewed: &mut Option<watch::Receiver<Arc<Material>>>) {
    if let Some(renewed) = renewed
        && renewed.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Connects, says hello, and reads the welcome.
async fn establish(url: String, connector: Connector, hello: v1::Hello) -> Result<Link, Ended> {
    let connect = |source| Ended::Connect { url: url.clone(), source };
    let channel = Endpoint::from_shared(url.clone())
        .map_err(connect)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(connect)?;
    let mut client = AgentsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (out, outbound) = mpsc::channel(OUTBOUND);
    send(&out, ToCoordinator::Hello(hello))?;
    let stream = client.session(ReceiverStream::new(outbound));
    let response = tokio::time::timeout(WELCOME, stream).await.map_err(|_| Ended::Silent)?;
    let mut inbound = response.map_err(|status| refusal(&status))?.into_inner();
    let first = tokio::time::timeout(WELCOME, inbound.message());
    let first = first.await.map_err(|_| Ended::Silent)?;
    let first = first.map_err(|status| refusal(&status))?.and_then(|message| message.message);
    let Some(FromCoordinator::Welcome(welcome)) = first else {
        return Err(Ended::Stream("its first message was no welcome".to_owned()));
    };
    let theirs = (welcome.protocol.as_ref(), welcome.software_version.as_str());
    protocol::fit((Some(&protocol::OURS), crate::VERSION), theirs)
        .map_err(|e| Ended::Refused(printable(&e.to_string())))?;
    Ok(Link { out, inbound, welcome })
}

fn acknowledged(ack: v1::Acknowledgement, flight: &mut Flight, answers: &mut Answers) {
    let key = |key: &v1::BatchKey| Key {
        instance: key.instance,
        first_sequence: key.first_sequence,
        windows: key.windows,
    };
    for stored in ack.stored.iter().map(key) {
        if answers.has_room() {
            flight.landed(&stored);
            answers.stored.push(stored);
        }
    }
    for refused in ack.refused {
        let Some(key) = refused.key.as_ref().map(key).filter(|_| answers.has_room()) else {
            continue;
        };
        flight.landed(&key);
        answers.refused.push((key, printable(&refused.reason)));
    }
}

/// Applies what was done on the spool.
fn conclude(
    done: Done,
    out: &mpsc::Sender<v1::AgentMessage>,
    flight: &mut Flight,
    answers: &mut Answers,
    said: &mut Said,
) -> Result<(), Ended> {
    match done {
        Done::Forgot(refused) => {
            for (key, reason) in refused {
                let windows = key.windows;
                if said.is_news(&reason) {
                    tracing::error!("the coordinator refuses {windows} windows: {reason}");
                } else {
                    tracing::debug!("the coordinator refuses {windows} windows: {reason}");
                }
            }
        }
        Done::Read(generation, _) if generation != flight.generation => {}
        Done::Read(_, Err(error)) => {
            // The next that is recorded, or the next session, tries again.
            flight.is_dry = true;
            tracing::error!("{error}: {}", error.source);
        }
        Done::Read(_, Ok(batches)) => {
            flight.is_dry = batches.is_empty();
            for pending in batches {
                let Ok(batch) = prost::Message::decode(pending.payload.as_slice()) else {
                    // Its checksum is right, so we wrote it: a later version's, perhaps.
                    flight.cursor = Some(pending.cursor);
                    answers.refused.push((pending.key, "it does not decode here".to_owned()));
                    continue;
                };
                flight.departs(pending.key, pending.payload.len(), pending.cursor);
                send(out, ToCoordinator::Batch(batch))?;
                if flight.room() == 0 {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// What the job brought, `None` when it panicked; waits for ever where there is none.
async fn finished(job: &mut Option<Job>) -> Option<Done> {
    match job {
        Some(job) => job.await.ok(),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn send(out: &mpsc::Sender<v1::AgentMessage>, message: ToCoordinator) -> Result<(), Ended> {
    let message = v1::AgentMessage { message: Some(message) };
    out.try_send(message).map_err(|error| match error {
        TrySendError::Full(_) => Ended::Stuck,
        TrySendError::Closed(_) => Ended::Stream("it was closed".to_owned()),
    })
}

fn refusal(status: &tonic::Status) -> Ended {
    use std::error::Error as _;
    use tonic::Code;
    // What tonic made of a connection that broke has the reason inside.
    let text = match status.source() {
        Some(cause) => innermost(cause),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => printable(status.message()),
    };
    match status.code() {
        Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated => Ended::Refused(text),
        // Tonic's own words: it has no code for an answer that is not gRPC.
        Code::Internal if text.contains("compression flag") => Ended::NotGrpc,
        // What it says in TLS is no frame of HTTP/2.
        _ if text.contains("frame with invalid size") => Ended::NotHttp2,
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
