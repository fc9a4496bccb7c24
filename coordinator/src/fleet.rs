//! The nodes and their open streams: who is there, how to reach one, and who waits for an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use railgauge_core::path::NodeName;
use railgauge_core::time::Wall;
use railgauge_proto::convert::{self, Batch};
use railgauge_proto::v1;
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Status;

use crate::clock::Now;
use crate::hello::{AgentEndpoint, Hello, printable};
use crate::probe_keys::ProbeKeys;
use crate::registry::{Health, JoinError, Joined, Node, Registry, SessionId, State};

/// Messages that wait for one stream at most. A sweep has one order of a node under way at a time, with its cancellation; an
/// agent for which so many wait does not read.
const WAITING: usize = 64;
/// Validity notes of a result at most, and their length.
const MOST_NOTES: usize = 32;
const LONGEST_NOTE: usize = 300;

/// The node has no open stream, or does not read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not connected")]
pub struct Gone(pub NodeName);

/// What a node measured for a sweep.
#[derive(Clone, Debug, Default)]
pub struct OrderResult {
    /// Windows of one second, in order of time; none when nothing could be measured.
    pub windows: Option<Batch>,
    /// Why nothing, or not everything, was measured; empty when all was.
    pub error: String,
    /// What weakens the numbers.
    pub validity: Vec<String>,
}

/// What leads to one session's task.
#[derive(Debug)]
struct Open {
    orders: mpsc::Sender<v1::CoordinatorMessage>,
    end: mpsc::Sender<Status>,
}

/// The ends of `Open` that the task holds.
#[derive(Debug)]
pub struct Mailbox {
    /// Which session it is.
    pub session: SessionId,
    /// To be sent.
    pub orders: mpsc::Receiver<v1::CoordinatorMessage>,
    /// To end the stream with.
    pub end: mpsc::Receiver<Status>,
}

#[derive(Debug)]
struct Awaited {
    session: SessionId,
    result: oneshot::Sender<OrderResult>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    open: HashMap<SessionId, Open>,
    awaited: HashMap<(String, u64), Awaited>,
    next_session: u64,
    /// Why no new plan can be given out, if so.
    planless: Option<String>,
}

/// All of it, behind one lock that is never held over a wait.
#[derive(Debug)]
pub struct Fleet {
    inner: Mutex<Inner>,
    changed: Notify,
    /// Of its probes.
    pub keys: ProbeKeys,
}

/// An order under way. When it is dropped, its result is no longer awaited.
#[derive(Debug)]
pub struct Awaiting {
    fleet: Arc<Fleet>,
    node: NodeName,
    key: (String, u64),
    result: oneshot::Receiver<OrderResult>,
}

impl Awaiting {
    /// The result.
    ///
    /// # Errors
    /// When the node's stream ends before it: what it measures is lost.
    pub async fn result(mut self) -> Result<OrderResult, Gone> {
        (&mut self.result).await.map_err(|_| Gone(self.node.clone()))
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.fleet.inner().awaited.remove(&self.key);
    }
}

impl Fleet {
    /// Nobody yet, and no keys; a silent node keeps its name for `lease`.
    pub fn new(lease: Duration) -> Self {
        Self::with_keys(lease, ProbeKeys::off())
    }

    /// Nobody yet; a silent node keeps its name for `lease`.
    pub fn with_keys(lease: Duration, keys: ProbeKeys) -> Self {
        let inner = Inner {
            registry: Registry::new(lease),
            open: HashMap::new(),
            awaited: HashMap::new(),
            next_session: 1,
            planless: None,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new(), keys }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The registry has no state between two of its calls, so what a panic left is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the members may have changed since the last wait. For one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Says that they may have.
    pub fn touch(&self) {
        self.changed.notify_one();
    }

    /// Says why no new plan can be given out, or that one was.
    pub fn set_planless(&self, why: Option<String>) {
        self.inner().planless = why;
    }

    /// Why no new plan can be given out, if so.
    pub fn planless(&self) -> Option<String> {
        self.inner().planless.clone()
    }

    /// Another lease from now on.
    pub fn set_lease(&self, lease: Duration) {
        self.inner().registry.set_lease(lease);
    }

    /// An agent says hello on a new stream; the stream that it replaces is ended.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn join(&self, hello: Hello, now: Now) -> Result<(Joined, Mailbox), JoinError> {
        let mut inner = self.inner();
        let session = SessionId(inner.next_session);
        let joined = inner.registry.join(hello.clone(), session, now)?;
        inner.next_session += 1;
        let (orders, orders_in) = mpsc::channel(WAITING);
        let (end, end_in) = mpsc::channel(1);
        inner.open.insert(session, Open { orders, end });
        if let Some(old) = joined.replaced {
            inner.end(old, Status::aborted("replaced by a newer stream of the same agent"));
        }
        drop(inner);
        self.keys.joined(&hello, joined.arrival, now.monotonic);
        self.touch();
        Ok((joined, Mailbox { session, orders: orders_in, end: end_in }))
    }

    /// A stream has ended: by a goodbye, or broken.
    pub fn closed(&self, node: &NodeName, session: SessionId, goodbye: bool) {
        let mut inner = self.inner();
        let was_present = inner.registry.closed(node, session, goodbye);
        inner.open.remove(&session);
        inner.awaited.retain(|_, awaited| awaited.session != session);
        drop(inner);
        if was_present {
            self.keys.gone(node, crate::clock::now().monotonic);
        }
        self.touch();
    }

    /// Time passes: streams that are silent for longer than the lease are ended.
    pub fn tick(&self, now: Now) {
        let mut inner = self.inner();
        let lost = inner.registry.tick(now);
        for (node, session) in &lost {
            tracing::warn!("{node} is lost: nothing was heard from it within its lease");
            if let Some(session) = session {
                let why = "nothing was heard within the lease: connect again";
                inner.end(*session, Status::deadline_exceeded(why));
            }
        }
        drop(inner);
        lost.iter().for_each(|(node, _)| self.keys.gone(node, now.monotonic));
        if !lost.is_empty() {
            self.touch();
        }
    }

    /// A message came. `false` when the session has been replaced.
    pub fn heard(
        &self,
        node: &NodeName,
        session: SessionId,
        sent_at: Option<Wall>,
        now: Now,
    ) -> bool {
        self.inner().registry.heard(node, session, sent_at, now)
    }

    /// A heartbeat came.
    pub fn heartbeat(&self, node: &NodeName, session: SessionId, health: Health) {
        let is_present = self.inner().registry.heartbeat(node, session, health);
        if is_present {
            self.keys.heard(node, &health);
        }
    }

    /// Windows were stored or refused.
    pub fn counted(&self, node: &NodeName, ingested: u64, refused: u64, reason: Option<&str>) {
        self.inner().registry.counted(node, ingested, refused, reason);
    }

    /// Whether the node's clock is too wrong for its windows to be joined with those of others over time.
    pub fn is_skewed(&self, node: &NodeName) -> bool {
        self.inner().registry.node(node).is_some_and(Node::is_skewed)
    }

    /// Whom the plan is for.
    pub fn members(&self) -> Vec<AgentEndpoint> {
        self.inner().registry.members()
    }

    /// All nodes as they are now, by name.
    pub fn nodes(&self) -> Vec<Node> {
        self.inner().registry.nodes().map(|(_, node)| node.clone()).collect()
    }

    /// Nodes in a state.
    pub fn in_state(&self, state: State) -> usize {
        self.inner().registry.nodes().filter(|(_, node)| node.state == state).count()
    }

    /// Open streams.
    pub fn open(&self) -> usize {
        self.inner().open.len()
    }

    /// Sends a message to a node.
    ///
    /// # Errors
    /// When it has no open stream or does not read.
    pub fn send(
        &self,
        node: &NodeName,
        message: v1::coordinator_message::Message,
    ) -> Result<(), Gone> {
        self.inner().send(node, message).map(drop)
    }

    /// Orders a measurement. One order and sweep has one waiter.
    ///
    /// # Errors
    /// When the node has no open stream or does not read.
    pub fn order(
        self: &Arc<Self>,
        node: &NodeName,
        order: v1::SweepOrder,
    ) -> Result<Awaiting, Gone> {
        let key = (order.sweep_id.clone(), order.order);
        let (result, awaiting) = oneshot::channel();
        let mut inner = self.inner();
        let session = inner.send(node, v1::coordinator_message::Message::SweepOrder(order))?;
        inner.awaited.insert(key.clone(), Awaited { session, result });
        drop(inner);
        let fleet = Arc::clone(self);
        Ok(Awaiting { fleet, node: node.clone(), key, result: awaiting })
    }

    /// Tells a node to abandon an order of a sweep, or all. One that is gone has.
    pub fn cancel(&self, node: &NodeName, sweep_id: &str, order: Option<u64>) {
        let cancel = v1::SweepCancel { sweep_id: sweep_id.to_owned(), order };
        // A node that cannot be reached abandons the order at its time limit.
        drop(self.send(node, v1::coordinator_message::Message::SweepCancel(cancel)));
    }

    /// A result came on a session. `false` when nobody waits for it there.
    pub fn result(&self, node: &NodeName, session: SessionId, result: v1::SweepResult) -> bool {
        let mut inner = self.inner();
        let key = (result.sweep_id.clone(), result.order);
        let Some(awaited) = inner.awaited.remove(&key) else { return false };
        if awaited.session != session {
            // Not from whom it was ordered: that one may still answer.
            inner.awaited.insert(key, awaited);
            return false;
        }
        drop(inner);
        awaited.result.send(checked(node, result)).is_ok()
    }
}

impl Inner {
    fn send(
        &self,
        node: &NodeName,
        message: v1::coordinator_message::Message,
    ) -> Result<SessionId, Gone> {
        let gone = || Gone(node.clone());
        let session = self.registry.node(node).and_then(|node| node.session).ok_or_else(gone)?;
        let open = self.open.get(&session).ok_or_else(gone)?;
        let message = v1::CoordinatorMessage { message: Some(message) };
        open.orders.try_send(message).map_err(|_| gone())?;
        Ok(session)
    }

    fn end(&mut self, session: SessionId, status: Status) {
        if let Some(open) = self.open.remove(&session) {
            // Full: it is being ended already.
            drop(open.end.try_send(status));
        }
        self.awaited.retain(|_, awaited| awaited.session != session);
    }
}

/// A result with only what can be true; what is not, is said in its error.
fn checked(node: &NodeName, from: v1::SweepResult) -> OrderResult {
    let cut = |text: &str| printable(text).chars().take(LONGEST_NOTE).collect::<String>();
    let mut result = OrderResult {
        windows: None,
        error: cut(&from.error),
        validity: from.validity.iter().take(MOST_NOTES).map(|note| cut(note)).collect(),
    };
    let Some(windows) = from.windows.filter(|windows| !windows.windows.is_empty()) else {
        return result;
    };
    match convert::batch(&windows) {
        Ok(batch) if batch.agent == *node => result.windows = Some(batch),
        Ok(batch) => result.error = format!("{node} sent a result in the name of {}", batch.agent),
        Err(error) => {
            result.error = format!("the result of {node} is unusable: {}", crate::sentence(&error))
        }
    }
    result
}
