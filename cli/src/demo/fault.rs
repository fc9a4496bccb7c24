//! What can be wrong with a node of the demo, all of it done from outside (design D13): agents and coordinator contain no word of it.

use std::fmt;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

use super::cluster::{MOST_NODES, pause};
use super::relay::{Impairment, Rules};

/// A delay that no loopback has: 2 ms in each direction.
const DELAY: Duration = Duration::from_millis(2);
/// One packet in fifty.
const LOSS: f64 = 0.02;
/// A slow host runs for 120 ms and stands still for 40, as one does whose quota of processor time is used up.
const RUNS: Duration = Duration::from_millis(120);
const STANDS: Duration = Duration::from_millis(40);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The agent's process is stopped a quarter of the time, and a busy loop of low priority runs beside it.
    SlowHost,
    /// Its link is 2 ms longer in each direction.
    Delay,
    /// Its link loses one packet in fifty.
    Loss,
    /// The agent's process is killed a moment after the sweep has begun.
    Dead,
    /// The agent's process stands still from a moment after the sweep has begun.
    Frozen,
}

impl Kind {
    const ALL: [Self; 5] = [Self::SlowHost, Self::Delay, Self::Loss, Self::Dead, Self::Frozen];
    /// What `random` chooses from: what is wrong all the time.
    const LASTING: [Self; 3] = [Self::SlowHost, Self::Delay, Self::Loss];

    /// The word that is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowHost => "slow-host",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Dead => "dead",
            Self::Frozen => "frozen",
        }
    }

    /// Whether packets are touched, and not the host.
    pub const fn is_of_network(self) -> bool {
        matches!(self, Self::Delay | Self::Loss)
    }
}

/// One as typed: kind or node may be `random`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultArgument {
    kind: Option<Kind>,
    node: Option<u8>,
}

impl FromStr for FaultArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, node) = text.split_once('@').unwrap_or((text, "random"));
        let known = Kind::ALL.map(Kind::as_str).join(", ");
        let kind = match kind {
            "random" => None,
            other => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == other);
                Some(kind.ok_or_else(|| {
                    format!("{other:?} is no fault: write {known} or random, as in delay@3 or random@random")
                })?)
            }
        };
        let node = match node {
            "random" => None,
            other => {
                let number = other.strip_prefix("demo-").unwrap_or(other).parse().ok();
                let number = number.filter(|n| (1..=MOST_NODES).contains(n));
                Some(number.ok_or_else(|| {
                    format!(
                        "{other:?} is no node of the demo: write its number, as 3, demo-3 or random"
                    )
                })?)
            }
        };
        Ok(Self { kind, node })
    }
}

/// A fault that is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// With which node, from 1.
    pub node: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind.as_str(), super::cluster::node_name(self.node))
    }
}

impl FaultArgument {
    /// Chooses what was left to chance.
    ///
    /// # Errors
    /// When the node is not among the demo's.
    pub fn choose(self, nodes: u8, random: &mut Pcg64) -> Result<Fault, String> {
        let mut below = |n: u32| random.next_u32() % n;
        let kind = self.kind.unwrap_or_else(|| Kind::LASTING[below(3) as usize]);
        let node = self.node.unwrap_or_else(|| 1 + u8::try_from(below(nodes.into())).unwrap_or(0));
        if node > nodes {
            return Err(format!(
                "node {node} is not among the {nodes} of this demo: --nodes makes more"
            ));
        }
        Ok(Fault { kind, node })
    }
}

/// What the link in front of node `number` does to whom. A fault concerns packets to its node and packets from it.
pub fn rules(faults: &[Fault], number: u8, address: impl Fn(u8) -> IpAddr) -> Rules {
    let mut rules = Rules { to_node: Impairment::default(), from: None };
    for fault in faults {
        let impairment = match fault.kind {
            Kind::Delay => Impairment { delay: DELAY, loss: 0.0 },
            Kind::Loss => Impairment { delay: Duration::ZERO, loss: LOSS },
            Kind::SlowHost | Kind::Dead | Kind::Frozen => continue,
        };
        if fault.node == number {
            rules.to_node = impairment;
        } else {
            rules.from = Some((address(fault.node), impairment));
        }
    }
    rules
}

/// A host that is slow as long as this lives.
pub struct SlowHost {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    hog: Option<Child>,
}

impl SlowHost {
    /// Slows the agent with this process id.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(agent: Pid) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let duty_cycle = move || {
            while !told.load(Ordering::Relaxed) {
                let stopped = kill(agent, Signal::SIGSTOP);
                pause(STANDS);
                let continued = kill(agent, Signal::SIGCONT);
                if stopped.is_err() || continued.is_err() {
                    return;
                }
                pause(RUNS);
            }
        };
        let thread = thread::Builder::new().name("slow-host".to_owned()).spawn(duty_cycle)?;
        // Of the lowest priority: the other nodes of the demo share this machine's processors with it.
        let hog = Command::new("nice")
            .args(["-n", "19", "timeout", "600", "sh", "-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Ok(Self { stop, thread: Some(thread), hog: hog.ok() })
    }
}

impl Drop for SlowHost {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has been printed; a demo that ends has nothing to add.
            let _ = thread.join();
        }
        if let Some(hog) = &mut self.hog {
            // `timeout` passes the signal on to the loop.
            let _ = kill(Pid::from_raw(hog.id().cast_signed()), Signal::SIGTERM);
            let _ = hog.wait();
        }
    }
}

/// A moment after the sweep has begun.
const MOMENT: Duration = Duration::from_millis(1_500);

/// A node that leaves the sweep, one way or the other; a frozen one goes on when this is dropped.
pub struct Leaver {
    agent: Pid,
    thread: Option<JoinHandle<()>>,
}

impl Leaver {
    /// Sends `signal` to the agent a moment from now.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(agent: Pid, signal: Signal) -> std::io::Result<Self> {
        let leave = move || {
            pause(MOMENT);
            // An agent that is gone already has left.
            let _ = kill(agent, signal);
        };
        let thread = thread::Builder::new().name("leaver".to_owned()).spawn(leave)?;
        Ok(Self { agent, thread: Some(thread) })
    }
}

impl Drop for Leaver {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Its own panic has been printed; a demo that ends has nothing to add.
            let _ = thread.join();
        }
        let _ = kill(self.agent, Signal::SIGCONT);
    }
}

#[cfg(test)]
mod tests {
    use rand_pcg::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn what_is_typed_is_understood_or_named() {
        let read = |text: &str| text.parse::<FaultArgument>();
        let mut random = Pcg64::seed_from_u64(1);
        let fault = read("delay@3").unwrap().choose(4, &mut random).unwrap();
        assert_eq!(fault, Fault { kind: Kind::Delay, node: 3 });
        assert_eq!(read("slow-host@demo-2").unwrap().node, Some(2));
        assert!(read("delay@5").unwrap().choose(4, &mut random).unwrap_err().contains("--nodes"));
        assert!(
            read("dealy@1").unwrap_err().contains("slow-host, delay, loss, dead, frozen or random")
        );
        assert!(read("delay@x").unwrap_err().contains("no node of the demo"));
        let mut seen: Vec<Fault> =
            (0..100).map(|_| read("random").unwrap().choose(4, &mut random).unwrap()).collect();
        seen.sort_by_key(|fault| (fault.kind.as_str(), fault.node));
        seen.dedup();
        assert_eq!(seen.len(), 12);
    }

    #[test]
    fn a_fault_concerns_both_directions_of_its_node_and_nobody_else() {
        let faults = [Fault { kind: Kind::Delay, node: 2 }];
        let at = |n: u8| IpAddr::from([127, 0, 1, n]);
        let (own, other) = (rules(&faults, 2, at), rules(&faults, 1, at));
        assert_eq!((own.to_node.delay, own.from), (DELAY, None));
        assert_eq!(other.to_node, Impairment::default());
        assert_eq!(other.from.map(|(from, _)| from), Some(at(2)));
    }
}
