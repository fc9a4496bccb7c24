//! The Agents service: one stream of one agent, from hello to goodbye.
//!
//! Bounds: at most 16 batches of a stream are decoded and not yet settled; until one is, the stream is not read, and
//! HTTP/2 flow control holds the agent back. A message above `proto::MAX_MESSAGE` ends the stream that brought it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use railgauge_access::audit::{Audit, Decision, Verdict};
use railgauge_access::connection::Peer;
use railgauge_core::path::NodeName;
use railgauge_core::settings::Span;
use railgauge_core::time::Wall;
use railgauge_proto::v1::agent_message::Message as From;
use railgauge_proto::v1::coordinator_message::Message as To;
use railgauge_proto::{convert, protocol, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::{Fleet, Mailbox};
use crate::hello::Hello;
use crate::ingest::{Closed, Delivery, Incoming, Ingest, Outcome, Settled};
use crate::planning::Plans;
use crate::registry::{Health, JoinError, Joined, SessionId};
use crate::{VERSION, clock, hello, sentence};

/// Batches of one stream that wait for the store. One comes every 10 s; more when an agent empties its spool.
const IN_FLIGHT: usize = 16;
/// Messages on their way out of one stream, beyond what flow control lets out.
const OUTGOING: usize = 4;
/// An agent that takes no message for so long does not read its stream.
const UNREAD: Duration = Duration::from_secs(10);

/// What a test may want otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a stream may be silent before its hello.
    pub hello: Duration,
    /// The protocol spoken.
    pub protocol: v1::Protocol,
}

impl Default for Limits {
    fn default() -> Self {
        Self { hello: Duration::from_secs(10), protocol: protocol::OURS }
    }
}

/// The service. Each stream has a clone.
#[derive(Clone, Debug)]
pub struct Agents {
    /// Who is there.
    pub fleet: Arc<Fleet>,
    /// Where windows go.
    pub ingest: Ingest,
    /// What to hand out.
    pub plans: watch::Receiver<Arc<Plans>>,
    /// Becomes true when the coordinator stops.
    pub stopping: watch::Receiver<bool>,
    /// How long windows are.
    pub window: Span,
    /// Bounds of a stream.
    pub limits: Limits,
    /// Where it is written who came as whom.
    pub audit: Audit,
}

type Outgoing = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

#[tonic::async_trait]
impl v1::agents_server::Agents for Agents {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let agents = self.clone();
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("it is not known who asks"))?;
        tokio::spawn(async move {
            if let Err(status) = agents.serve(&peer, request.into_inner(), &out).await {
                tracing::info!("a stream ends: {}", status.message());
                // Nobody may be there to read it.
                drop(out.send_timeout(Err(status), UNREAD).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Agents {
    /// An agent speaks for the node that its certificate names, and for no other.
    fn check_name(peer: &Peer, node: &NodeName) -> Result<(), Status> {
        let other = peer.who.identity().filter(|identity| identity.name() != node.as_str());
        other.map_or(Ok(()), |identity| {
            Err(Status::permission_denied(format!(
                "the certificate is of {identity}, which may not speak for {node}: set node = \"{}\" there, or give it its own certificate",
                identity.name()
            )))
        })
    }

    /// Who may speak for the node, and is not in the way of another.
    fn join(&self, peer: &Peer, hello: Hello) -> Result<(Joined, Mailbox), Status> {
        let node = hello.node.clone();
        let joined = Self::check_name(peer, &node).and_then(|()| {
            self.fleet.join(hello, clock::now()).map_err(|error| {
                tracing::warn!("an agent was refused: {error}");
                match error {
                    JoinError::Full => Status::resource_exhausted(error.to_string()),
                    _ => Status::already_exists(error.to_string()),
                }
            })
        });
        let (verdict, detail) = match &joined {
            Ok(_) => (Verdict::Allowed, ""),
            Err(status) => (Verdict::Refused, status.message()),
        };
        // A full disk keeps nobody from measuring; that it was not written is counted and said.
        let decision = Decision { peer, what: &format!("join {node}"), verdict, detail };
        drop(self.audit.record_read(&decision));
        joined
    }

    async fn serve(
        mut self,
        peer: &Peer,
        mut incoming: Streaming<v1::AgentMessage>,
        out: &Outgoing,
    ) -> Result<(), Status> {
        if *self.stopping.borrow_and_update() {
            return Err(stopping());
        }
        let first = timeout(self.limits.hello, incoming.next()).await.map_err(|_| {
            let waited = Span::new(self.limits.hello);
            Status::deadline_exceeded(format!("no hello came within {waited}"))
        })?;
        let Some(first) = first else { return Ok(()) };
        let Some(From::Hello(first)) = first?.message else {
            return Err(Status::invalid_argument("the first message of a stream must be a hello"));
        };
        protocol::fit(
            (first.protocol.as_ref(), &first.software_version),
            (Some(&self.limits.protocol), VERSION),
        )
        .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let hello = hello::check(first)
            .map_err(|error| Status::invalid_argument(format!("malformed hello: {error}")))?;
        let node = hello.node.clone();
        let (joined, mailbox) = self.join(peer, hello)?;
        tracing::info!("{node}: {:?}", joined.arrival);
        let (settle, settled) = mpsc::channel(IN_FLIGHT);
        let session = mailbox.session;
        let renewal = renewal(&self.plans.borrow_and_update());
        let keys = self.fleet.keys.news();
        let mut stream = Stream {
            renewal,
            keys,
            agents: self,
            node: node.clone(),
            session,
            out,
            settle,
            in_flight: 0,
            delivering: None,
            epoch: 0,
        };
        let ended = stream.run(incoming, mailbox, settled).await;
        let goodbye = matches!(ended, Ok(()));
        stream.agents.fleet.closed(&node, session, goodbye);
        ended
    }
}

fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping: connect again when it is back")
}

/// A third of the lease apart: two renewals may be late.
fn renewal(plans: &Plans) -> Interval {
    let every = Duration::from_nanos(plans.lease_ns / 3).max(Duration::from_millis(100));
    let mut renewal = interval(every);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewal.reset();
    renewal
}

type Delivering = Pin<Box<dyn Future<Output = Result<(), Closed>> + Send>>;

/// A stream after its hello.
struct Stream<'a> {
    agents: Agents,
    node: NodeName,
    session: SessionId,
    out: &'a Outgoing,
    settle: mpsc::Sender<Settled>,
    /// Batches that are not settled yet.
    in_flight: usize,
    /// One of them that has not found room in the backlog yet.
    delivering: Option<Delivering>,
    renewal: Interval,
    /// Tells when the keys change that its reflector is to answer.
    keys: watch::Receiver<u64>,
    /// Of the plan last sent; 0 before the first.
    epoch: u64,
}

impl Stream<'_> {
    /// Serves until the agent says goodbye (`Ok`), or something ends the stream.
    async fn run(
        &mut self,
        mut incoming: Streaming<v1::AgentMessage>,
        mut mailbox: Mailbox,
        mut settled: mpsc::Receiver<Settled>,
    ) -> Result<(), Status> {
        self.send(To::Welcome(v1::Welcome {
            protocol: Some(self.agents.limits.protocol),
            software_version: VERSION.to_owned(),
            window_ns: self.agents.window.as_nanos(),
        }))
        .await?;
        self.send_keys().await?;
        self.send_plan().await?;
        // Why it is not read any more.
        let mut over: Option<Result<(), Status>> = None;
        loop {
            if self.in_flight == 0
                && let Some(why) = over
            {
                return why;
            }
            let reads = over.is_none() && self.in_flight < IN_FLIGHT && self.delivering.is_none();
            tokio::select! {
                biased;
                Some(status) = mailbox.end.recv() => return Err(status),
                Ok(()) = self.agents.stopping.changed(), if over.is_none() => over = Some(Err(stopping())),
                Some(first) = settled.recv() => self.acknowledge(first, &mut settled).await?,
                delivered = deliver(&mut self.delivering) => {
                    delivered.map_err(|error| Status::unavailable(format!("windows cannot be stored now: {error}")))?;
                }
                Some(order) = mailbox.orders.recv() => self.send_message(order).await?,
                Ok(()) = self.keys.changed() => self.send_keys().await?,
                Ok(()) = self.agents.plans.changed() => {
                    self.send_plan().await?;
                    self.renewal = renewal(&self.agents.plans.borrow());
                }
                _ = self.renewal.tick(), if self.epoch > 0 => {
                    self.send(To::LeaseRenewal(v1::LeaseRenewal { epoch: self.epoch })).await?;
                }
                message = incoming.next(), if reads => match message {
                    None => over = Some(Ok(())),
                    // What came before is still stored, though nobody may be there to hear of it.
                    Some(Err(status)) => over = Some(Err(status)),
                    Some(Ok(message)) => self.take(message).await?,
                },
            }
        }
    }

    async fn send(&mut self, message: To) -> Result<(), Status> {
        self.send_message(v1::CoordinatorMessage { message: Some(message) }).await
    }

    async fn send_message(&mut self, message: v1::CoordinatorMessage) -> Result<(), Status> {
        let sent = self.out.send_timeout(Ok(message), UNREAD).await;
        sent.map_err(|_| Status::cancelled("the agent does not read its stream"))
    }

    async fn send_keys(&mut self) -> Result<(), Status> {
        self.keys.mark_unchanged();
        let told = self.agents.fleet.keys.told(&self.node, clock::now().monotonic);
        match told {
            Some(keys) => self.send(To::ProbeKeys(keys)).await,
            None => Ok(()),
        }
    }

    async fn send_plan(&mut self) -> Result<(), Status> {
        let plan = self.agents.plans.borrow_and_update().of(&self.node);
        let Some(plan) = plan.filter(|plan| plan.epoch > self.epoch) else { return Ok(()) };
        self.epoch = plan.epoch;
        self.send(To::Plan(plan)).await
    }

    async fn take(&mut self, message: v1::AgentMessage) -> Result<(), Status> {
        let sent_at = match &message.message {
            Some(From::Heartbeat(heartbeat)) => {
                Some(Wall::from_unix_nanos(heartbeat.sent_at_unix_ns))
            }
            _ => None,
        };
        if !self.agents.fleet.heard(&self.node, self.session, sent_at, clock::now()) {
            return Err(Status::aborted("this stream is not the node's any more"));
        }
        match message.message {
            Some(From::Hello(_)) => Err(Status::invalid_argument("a stream has one hello")),
            Some(From::Batch(batch)) => self.take_batch(&batch).await,
            Some(From::SweepResult(result)) => {
                // Nobody waits for it when its sweep was cancelled or has run out of time.
                self.agents.fleet.result(&self.node, self.session, result);
                Ok(())
            }
            Some(From::Heartbeat(heartbeat)) => {
                self.agents.fleet.heartbeat(&self.node, self.session, health(&heartbeat));
                Ok(())
            }
            // Of a newer minor version: it adds only what may be ignored.
            None => Ok(()),
        }
    }

    async fn take_batch(&mut self, message: &v1::WindowBatch) -> Result<(), Status> {
        let windows = u32::try_from(message.windows.len()).unwrap_or(u32::MAX);
        let key = v1::BatchKey {
            instance: message.instance,
            first_sequence: message.first_sequence,
            windows,
        };
        if message.agent != self.node.as_str() {
            let claimed: String = hello::printable(&message.agent).chars().take(60).collect();
            let reason =
                format!("it names {claimed:?} as its recorder, and came from {}", self.node);
            return self.refuse(key, reason).await;
        }
        let batch = match convert::batch(message) {
            Ok(batch) => batch,
            Err(error) => return self.refuse(key, sentence(&error)).await,
        };
        let encoded = message.encode_to_vec();
        let skewed = self.agents.fleet.is_skewed(&self.node);
        let incoming = Incoming { encoded, batch, skewed };
        let delivery = Delivery { incoming, settled: self.settle.clone() };
        self.in_flight += 1;
        self.delivering = Some(Box::pin(self.agents.ingest.clone().deliver(delivery)));
        Ok(())
    }

    async fn refuse(&mut self, key: v1::BatchKey, reason: String) -> Result<(), Status> {
        tracing::warn!("{}: {} windows are refused: {reason}", self.node, key.windows);
        self.agents.fleet.counted(&self.node, 0, key.windows.into(), Some(&reason));
        let refused = vec![v1::RefusedBatch { key: Some(key), reason }];
        self.send(To::Acknowledgement(v1::Acknowledgement { stored: Vec::new(), refused })).await
    }

    /// Tells the agent what became of a batch, and of those that are settled at the same time.
    async fn acknowledge(
        &mut self,
        first: Settled,
        more: &mut mpsc::Receiver<Settled>,
    ) -> Result<(), Status> {
        let mut told = v1::Acknowledgement::default();
        let mut failed = None;
        let mut next = Some(first);
        while let Some(Settled { instance, first_sequence, windows, outcome }) = next {
            self.in_flight = self.in_flight.saturating_sub(1);
            let key = v1::BatchKey { instance, first_sequence, windows };
            let fleet = &self.agents.fleet;
            match outcome {
                Outcome::Stored => {
                    fleet.counted(&self.node, windows.into(), 0, None);
                    told.stored.push(key);
                }
                Outcome::Duplicate => told.stored.push(key),
                Outcome::Refused(reason) => {
                    tracing::warn!("{}: {windows} windows are refused: {reason}", self.node);
                    fleet.counted(&self.node, 0, windows.into(), Some(&reason));
                    told.refused.push(v1::RefusedBatch { key: Some(key), reason });
                }
                Outcome::Failed(error) => failed = Some(error),
            }
            next = more.try_recv().ok();
        }
        if !(told.stored.is_empty() && told.refused.is_empty()) {
            self.send(To::Acknowledgement(told)).await?;
        }
        // The agent keeps what is not acknowledged and sends it again on its next stream, after its back-off.
        failed.map_or(Ok(()), |error| {
            Err(Status::unavailable(format!("windows cannot be stored now: {error}")))
        })
    }
}

async fn deliver(delivering: &mut Option<Delivering>) -> Result<(), Closed> {
    let Some(delivery) = delivering else { return pending().await };
    let delivered = delivery.await;
    *delivering = None;
    delivered
}

fn health(from: &v1::Heartbeat) -> Health {
    let spool = from.spool.unwrap_or_default();
    Health {
        plan_epoch: from.plan_epoch,
        windows_in_spool: spool.windows,
        windows_dropped: spool.windows_dropped,
        windows_unrecorded: spool.windows_unrecorded,
        windows_refused: spool.windows_refused,
        octets_damaged: spool.octets_damaged,
        cpu_permille: from.cpu_permille,
        probes_over_budget: from.probes_over_budget,
        probe_key_epoch: from.probe_key_epoch,
        probing_ended: from.probing_ended,
    }
}

#[cfg(test)]
pub(crate) mod tests;
