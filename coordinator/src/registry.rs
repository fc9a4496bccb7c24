//! Which nodes there are, and in what state. Rules only: time and messages are arguments.
//!
//! A name belongs to one identity (of the agent's state directory) as long as its lease runs: a second machine of that name is
//! refused until then. A session is one stream; a newer one of the same identity replaces the older.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use railgauge_core::path::NodeName;
use railgauge_core::time::Wall;

use crate::clock::Now;
use crate::hello::{AgentEndpoint, Hello};

/// Names kept at most, those of lost nodes included: far above the largest fleet, so that strangers cannot fill memory.
const MOST_NODES: usize = 16_384;

/// How long a node that is gone stays in the list.
const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);

/// Skew is the largest difference of the last so many messages: what they waited on the way only makes it smaller.
const SKEWS: usize = 8;

/// A skew worth a note, in nanoseconds. Windows are joined over time by agents' clocks, and a window is seconds long.
const NOTABLE_SKEW_NS: u64 = 1_000_000_000;

/// One stream of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a node is to the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its stream is open.
    Connected,
    /// It was, and its lease has not run out.
    Reconnecting,
    /// Gone for longer than that.
    Lost,
    /// It said goodbye.
    Left,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connected, Self::Reconnecting, Self::Lost, Self::Left];

    /// The word used in documents and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Lost => "lost",
            Self::Left => "left",
        }
    }
}

/// Why an agent may not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another machine has the name.
    #[error(
        "the name {node} is in use by another machine, heard {heard_s} s ago: give this one a name of its own, or stop the \
         other and wait {lease_s} s"
    )]
    NameTaken {
        /// The name.
        node: NodeName,
        /// When that machine was heard.
        heard_s: u64,
        /// How long a silent machine keeps its name.
        lease_s: u64,
    },
    /// The identity is alive on another boot of a kernel.
    #[error(
        "the state directory of {node} has been copied: another machine with its identity was heard {heard_s} s ago; remove \
         the copied state directory"
    )]
    IdentityCopied {
        /// The name.
        node: NodeName,
        /// When that machine was heard.
        heard_s: u64,
    },
    /// Another node answers there.
    #[error("the address {address} of {node} is already that of {other}")]
    AddressTaken {
        /// Who asks.
        node: NodeName,
        /// For what.
        address: std::net::SocketAddr,
        /// Who has it.
        other: NodeName,
    },
    /// Too many.
    #[error("{MOST_NODES} nodes are known, and no more can be")]
    Full,
}

/// What a join meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not known before, or forgotten.
    New,
    /// The same process, on a new stream.
    Reconnected,
    /// The same machine and identity, another process.
    Restarted,
    /// The same identity after a boot.
    Rebooted,
    /// Another identity took the name over after it was free.
    TakenOver,
}

/// A join that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What it meant.
    pub arrival: Arrival,
    /// The stream that it replaces, which is to be ended.
    pub replaced: Option<SessionId>,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The plan in force there.
    pub plan_epoch: u64,
    /// Waiting to be delivered.
    pub windows_in_spool: u64,
    /// Dropped as the spool was full.
    pub windows_dropped: u64,
    /// Never recorded.
    pub windows_unrecorded: u64,
    /// Refused by a coordinator.
    pub windows_refused: u64,
    /// Damaged spool skipped.
    pub octets_damaged: u64,
    /// Share of one core, thousandths.
    pub cpu_permille: u32,
    /// Probes not sent because of the agent's budgets.
    pub probes_over_budget: u64,
    /// The newest epoch of keys that its reflector has confirmed on this stream.
    pub probe_key_epoch: u64,
    /// No probe leaves it any more.
    pub probing_ended: bool,
}

/// One node, as known.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it said of itself when it came.
    pub hello: Hello,
    /// Its state.
    pub state: State,
    /// Its open stream.
    pub session: Option<SessionId>,
    /// When that, or the last one, began.
    pub connected_at: Wall,
    /// When anything came from it.
    pub last_heard: Now,
    /// What its last heartbeat said.
    pub health: Health,
    /// Windows stored.
    pub windows_ingested: u64,
    /// Windows refused.
    pub windows_refused: u64,
    /// Processes since it is known, but for the first.
    pub restarts: u32,
    /// Boots since it is known, but for the first.
    pub reboots: u32,
    /// The latest of each kind of event worth a sentence.
    refused_name: Option<Wall>,
    refused_reason: Option<String>,
    skews: VecDeque<i64>,
}

impl Node {
    fn new(hello: Hello, session: SessionId, now: Now) -> Self {
        Self {
            hello,
            state: State::Connected,
            session: Some(session),
            connected_at: now.wall,
            last_heard: now,
            health: Health::default(),
            windows_ingested: 0,
            windows_refused: 0,
            restarts: 0,
            reboots: 0,
            refused_name: None,
            refused_reason: None,
            skews: VecDeque::new(),
        }
    }

    /// Its clock minus ours, transit included, nanoseconds.
    pub fn clock_skew_ns(&self) -> i64 {
        self.skews.iter().copied().max().unwrap_or(0)
    }

    /// Whether its clock is too wrong for its windows to be joined with those of others over time.
    pub fn is_skewed(&self) -> bool {
        self.clock_skew_ns().unsigned_abs() > NOTABLE_SKEW_NS
    }

    /// Whether it may be probed and asked.
    pub const fn is_live(&self) -> bool {
        matches!(self.state, State::Connected | State::Reconnecting)
    }

    /// What an operator should know, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let skew = self.clock_skew_ns();
        if self.is_skewed() {
            let way = if skew > 0 { "ahead of" } else { "behind" };
            let seconds = skew.unsigned_abs() / 1_000_000_000;
            notes.push(format!("its clock is {seconds} s {way} the coordinator's"));
        }
        let Health {
            windows_dropped,
            windows_unrecorded,
            windows_refused,
            octets_damaged,
            probes_over_budget,
            ..
        } = self.health;
        if windows_dropped > 0 {
            notes.push(format!("it dropped {windows_dropped} windows as its spool was full"));
        }
        if windows_unrecorded > 0 {
            notes.push(format!("it could not record {windows_unrecorded} windows: see its log"));
        }
        if windows_refused > 0 {
            notes.push(format!("{windows_refused} of its windows were refused: see its log"));
        }
        if octets_damaged > 0 {
            notes.push(format!("{octets_damaged} octets of its spool were damaged and skipped"));
        }
        if probes_over_budget > 0 {
            notes.push(format!("its own budgets kept it from sending {probes_over_budget} probes"));
        }
        if self.hello.endpoints.is_empty() {
            notes.push("it names no endpoint: nothing can be measured there".to_owned());
        }
        if let Some(reason) = &self.refused_reason {
            notes.push(format!("windows were refused, the last because {reason}"));
        }
        if self.refused_name.is_some() {
            notes.push("another machine asked for its name and was refused".to_owned());
        }
        notes
    }

    fn heard(&mut self, sent_at: Option<Wall>, now: Now) {
        self.last_heard = now;
        if let Some(sent_at) = sent_at {
            self.skews.truncate(SKEWS - 1);
            self.skews.push_front(sent_at.minus(now.wall).0);
        }
    }
}

/// All nodes.
#[derive(Clone, Debug)]
pub struct Registry {
    lease: Duration,
    nodes: BTreeMap<NodeName, Node>,
}

impl Registry {
    /// None yet; a silent node keeps its name for `lease`.
    pub const fn new(lease: Duration) -> Self {
        Self { lease, nodes: BTreeMap::new() }
    }

    /// Another lease from now on.
    pub const fn set_lease(&mut self, lease: Duration) {
        self.lease = lease;
    }

    /// An agent says hello on `session`.
    ///
    /// # Errors
    /// When its name or an address of it is another's.
    pub fn join(
        &mut self,
        hello: Hello,
        session: SessionId,
        now: Now,
    ) -> Result<Joined, JoinError> {
        self.check_name(&hello, now)?;
        self.release_former_name(&hello);
        self.check_addresses(&hello)?;
        let (name, sent_at) = (hello.node.clone(), hello.sent_at);
        let full = self.nodes.len() >= MOST_NODES;
        let joined = match self.nodes.get_mut(&name) {
            None if full => return Err(JoinError::Full),
            None => {
                self.nodes.insert(name.clone(), Node::new(hello, session, now));
                Joined { arrival: Arrival::New, replaced: None }
            }
            Some(node) if node.hello.identity != hello.identity => {
                let replaced = node.session;
                *node = Node::new(hello, session, now);
                Joined { arrival: Arrival::TakenOver, replaced }
            }
            Some(node) => {
                Joined { arrival: again(node, hello, now), replaced: node.session.replace(session) }
            }
        };
        if let Some(node) = self.nodes.get_mut(&name) {
            node.heard(Some(sent_at), now);
        }
        Ok(joined)
    }

    fn check_name(&mut self, hello: &Hello, now: Now) -> Result<(), JoinError> {
        let Some(node) = self.nodes.get_mut(&hello.node).filter(|node| node.is_live()) else {
            return Ok(());
        };
        let silent = now.monotonic.saturating_since(node.last_heard.monotonic);
        let heard_s = silent.as_secs();
        if node.hello.identity != hello.identity {
            if silent > self.lease {
                return Ok(());
            }
            node.refused_name = Some(now.wall);
            let lease_s = self.lease.as_secs();
            return Err(JoinError::NameTaken { node: hello.node.clone(), heard_s, lease_s });
        }
        // A machine that has just been heard cannot have booted since; one that was cut off may have.
        let other_boot = node.hello.boot_id != hello.boot_id;
        if other_boot && node.session.is_some() && silent < self.lease / 3 {
            return Err(JoinError::IdentityCopied { node: hello.node.clone(), heard_s });
        }
        Ok(())
    }

    /// A machine that comes with another name than before has left under the old one.
    fn release_former_name(&mut self, hello: &Hello) {
        for (name, node) in &mut self.nodes {
            let same = node.hello.identity == hello.identity && *name != hello.node;
            if same && node.state == State::Reconnecting {
                node.state = State::Left;
            }
        }
    }

    fn check_addresses(&self, hello: &Hello) -> Result<(), JoinError> {
        let others =
            self.nodes.iter().filter(|(name, node)| **name != hello.node && node.is_live());
        for (name, node) in others {
            let theirs = &node.hello.endpoints;
            let same = |own: &&AgentEndpoint| theirs.iter().any(|e| e.address == own.address);
            if let Some(own) = hello.endpoints.iter().find(same) {
                return Err(JoinError::AddressTaken {
                    node: hello.node.clone(),
                    address: own.address,
                    other: name.clone(),
                });
            }
        }
        Ok(())
    }

    fn of_session(&mut self, name: &NodeName, session: SessionId) -> Option<&mut Node> {
        self.nodes.get_mut(name).filter(|node| node.session == Some(session))
    }

    /// Anything came on `session`; `sent_at` where it says when it was sent. `false` when the session is not the node's any more.
    pub fn heard(
        &mut self,
        name: &NodeName,
        session: SessionId,
        sent_at: Option<Wall>,
        now: Now,
    ) -> bool {
        self.of_session(name, session).map(|node| node.heard(sent_at, now)).is_some()
    }

    /// A heartbeat came on `session`. `false` when that is not the node's any more.
    pub fn heartbeat(&mut self, name: &NodeName, session: SessionId, health: Health) -> bool {
        self.of_session(name, session).map(|node| node.health = health).is_some()
    }

    /// The stream ended: by a goodbye, or broken. `true` when that was the node's present stream.
    pub fn closed(&mut self, name: &NodeName, session: SessionId, goodbye: bool) -> bool {
        let Some(node) = self.of_session(name, session) else { return false };
        node.session = None;
        node.state = if goodbye { State::Left } else { State::Reconnecting };
        true
    }

    /// Windows of the node were stored, or refused for the reason given.
    pub fn counted(&mut self, name: &NodeName, ingested: u64, refused: u64, reason: Option<&str>) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.windows_ingested = node.windows_ingested.saturating_add(ingested);
            node.windows_refused = node.windows_refused.saturating_add(refused);
            if let Some(reason) = reason {
                node.refused_reason = Some(reason.chars().take(300).collect());
            }
        }
    }

    /// Time passes: nodes whose lease ran out are lost. Returns them, with a stream that is still open and silent.
    pub fn tick(&mut self, now: Now) -> Vec<(NodeName, Option<SessionId>)> {
        let mut lost = Vec::new();
        for (name, node) in &mut self.nodes {
            let silent = now.monotonic.saturating_since(node.last_heard.monotonic);
            if node.is_live() && silent > self.lease {
                node.state = State::Lost;
                lost.push((name.clone(), node.session.take()));
            }
        }
        self.nodes.retain(|_, node| {
            let silent = now.monotonic.saturating_since(node.last_heard.monotonic);
            node.is_live() || silent < REMEMBERED
        });
        lost
    }

    /// Whom the plan is for: every endpoint of the nodes that are there or may be back within their lease. In order.
    pub fn members(&self) -> Vec<AgentEndpoint> {
        let live = self.nodes.values().filter(|node| node.is_live());
        live.flat_map(|node| node.hello.endpoints.iter().cloned()).collect()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &Node)> {
        self.nodes.iter()
    }

    /// One of them.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name)
    }
}

/// A known identity comes again.
fn again(node: &mut Node, hello: Hello, now: Now) -> Arrival {
    let arrival = if node.hello.boot_id != hello.boot_id {
        node.reboots = node.reboots.saturating_add(1);
        Arrival::Rebooted
    } else if node.hello.instance != hello.instance {
        node.restarts = node.restarts.saturating_add(1);
        Arrival::Restarted
    } else {
        Arrival::Reconnected
    };
    node.hello = hello;
    node.state = State::Connected;
    node.connected_at = now.wall;
    arrival
}

#[cfg(test)]
mod tests;
