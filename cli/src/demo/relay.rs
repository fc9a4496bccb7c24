//! A link with a fault in it: datagrams to one node pass through here, and some of them late or not at all. It stands between
//! the agents as a network would; none of them is told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// What a relay does to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Added in each direction.
    pub delay: Duration,
    /// Share of requests that vanish.
    pub loss: f64,
}

/// Which packets are impaired.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Of all that go to the node behind the relay.
    pub to_node: Impairment,
    /// Of those from this address.
    pub from: Option<(IpAddr, Impairment)>,
}

/// Senders remembered; each has a socket of its own towards the node. A sweep adds one a measurement.
const MOST_SENDERS: usize = 512;

/// Forgotten when silent for so long.
const SENDER_IDLE: Duration = Duration::from_secs(5);

/// The longest sleep, so that the end is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// A running relay.
pub struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Where senders reach it.
    pub address: SocketAddr,
}

impl Relay {
    /// In front of the responder at `node`, reached at an address of its own on `listen`.
    ///
    /// # Errors
    /// When there is no socket or thread to be had.
    pub fn start(listen: IpAddr, node: SocketAddr, rules: Rules, seed: u64) -> io::Result<Self> {
        let front = UdpSocket::bind((listen, 0))?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let random = Pcg64::seed_from_u64(seed);
        let link = Link {
            front,
            node,
            rules,
            random,
            senders: HashMap::new(),
            queue: BinaryHeap::new(),
            queued: BTreeMap::new(),
            number: 0,
        };
        let name = thread::Builder::new().name("relay".to_owned());
        let thread = name.spawn(move || link.run(&told))?;
        Ok(Self { stop, thread: Some(thread), address })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has been printed; a demo that ends has nothing to add.
            let _ = thread.join();
        }
    }
}

/// A sender's socket towards the node.
struct Sender {
    socket: UdpSocket,
    seen: Instant,
}

enum Way {
    There(SocketAddr),
    Back(SocketAddr),
}

struct Link {
    front: UdpSocket,
    node: SocketAddr,
    rules: Rules,
    random: Pcg64,
    senders: HashMap<SocketAddr, Sender>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    queued: BTreeMap<u64, (Way, Vec<u8>)>,
    number: u64,
}

#[expect(clippy::disallowed_methods, reason = "the relay is a driver: it delays by the clock")]
fn now() -> Instant {
    Instant::now()
}

impl Link {
    fn run(mut self, stop: &AtomicBool) {
        let mut octets = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let due = self.queue.peek().map(|Reverse((at, _))| *at);
            let wait = due.map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(now()));
            let (front, senders) = self.wait(wait.min(LONGEST_SLEEP));
            if front {
                self.take_requests(&mut octets);
            }
            for sender in senders {
                self.take_replies(sender, &mut octets);
            }
            self.release();
        }
    }

    /// Whether the front has something, and which senders' sockets.
    fn wait(&self, wait: Duration) -> (bool, Vec<SocketAddr>) {
        let mut names = Vec::with_capacity(self.senders.len());
        let mut fds: Vec<PollFd<'_>> = vec![interest(self.front.as_fd())];
        for (name, sender) in &self.senders {
            names.push(*name);
            fds.push(interest(sender.socket.as_fd()));
        }
        let millis = u16::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let _ = poll(&mut fds, PollTimeout::from(millis));
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let senders = names.iter().zip(&fds[1..]).filter(|(_, fd)| ready(fd));
        (ready(&fds[0]), senders.map(|(name, _)| *name).collect())
    }

    fn take_requests(&mut self, octets: &mut [u8]) {
        while let Ok((length, from)) = self.front.recv_from(octets) {
            let impairments = self.impairments(from.ip());
            let lost = impairments.iter().any(|i| i.loss > 0.0 && self.share() < i.loss);
            if !lost && self.know(from) {
                let delay = impairments.iter().map(|i| i.delay).sum();
                self.put(Way::There(from), &octets[..length], delay);
            }
        }
    }

    fn take_replies(&mut self, sender: SocketAddr, octets: &mut [u8]) {
        while let Some(Ok(length)) = self.senders.get(&sender).map(|s| s.socket.recv(octets)) {
            let delay = self.impairments(sender.ip()).iter().map(|i| i.delay).sum();
            self.put(Way::Back(sender), &octets[..length], delay);
        }
    }

    fn impairments(&self, from: IpAddr) -> [Impairment; 2] {
        let by_sender = self.rules.from.filter(|(ip, _)| *ip == from);
        [self.rules.to_node, by_sender.map_or_else(Impairment::default, |(_, i)| i)]
    }

    fn share(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }

    /// Makes a socket for a new sender; false when none can be had.
    fn know(&mut self, from: SocketAddr) -> bool {
        let at = now();
        if let Some(sender) = self.senders.get_mut(&from) {
            sender.seen = at;
            return true;
        }
        if self.senders.len() >= MOST_SENDERS {
            self.senders.retain(|_, s| at.saturating_duration_since(s.seen) < SENDER_IDLE);
        }
        let open = || -> io::Result<UdpSocket> {
            // From the sender's own address, so that the node sees who asks.
            let socket = UdpSocket::bind((from.ip(), 0))?;
            socket.connect(self.node)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        match open() {
            Ok(socket) if self.senders.len() < MOST_SENDERS => {
                self.senders.insert(from, Sender { socket, seen: at });
                true
            }
            _ => false,
        }
    }

    fn put(&mut self, way: Way, octets: &[u8], delay: Duration) {
        if delay.is_zero() {
            return self.send(&way, octets);
        }
        self.number += 1;
        self.queue.push(Reverse((now() + delay, self.number)));
        self.queued.insert(self.number, (way, octets.to_vec()));
    }

    fn release(&mut self) {
        let at = now();
        while let Some(Reverse((due, number))) = self.queue.peek().copied() {
            if due > at {
                return;
            }
            self.queue.pop();
            if let Some((way, octets)) = self.queued.remove(&number) {
                self.send(&way, &octets);
            }
        }
    }

    /// A datagram that cannot be sent is lost, as on any link.
    fn send(&self, way: &Way, octets: &[u8]) {
        let _ = match way {
            Way::There(sender) => match self.senders.get(sender) {
                Some(sender) => sender.socket.send(octets),
                None => Ok(0),
            },
            Way::Back(sender) => self.front.send_to(octets, sender),
        };
    }
}

fn interest(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn asked(rules: Rules) -> (usize, Duration) {
        let (node, at) = echo();
        let relay = Relay::start([127, 0, 0, 1].into(), at, rules, 7).unwrap();
        let (sender, _) = echo();
        sender.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        sender.connect(relay.address).unwrap();
        node.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (mut arrived, mut fastest) = (0, Duration::MAX);
        for _ in 0..50 {
            let start = now();
            sender.send(b"hello").unwrap();
            let mut octets = [0; 16];
            if let Ok((length, from)) = node.recv_from(&mut octets) {
                node.send_to(&octets[..length], from).unwrap();
                assert_eq!(sender.recv(&mut octets).unwrap(), 5);
                arrived += 1;
                fastest = fastest.min(start.elapsed());
            }
        }
        (arrived, fastest)
    }

    #[test]
    fn what_it_is_told_to_do_is_done_to_whom_it_is_told() {
        let clean = Impairment::default();
        let slow = Impairment { delay: Duration::from_millis(5), loss: 0.0 };
        let (arrived, _) = asked(Rules { to_node: clean, from: None });
        assert_eq!(arrived, 50);
        let (arrived, fastest) = asked(Rules { to_node: slow, from: None });
        assert!(arrived == 50 && fastest >= Duration::from_millis(10), "{arrived} {fastest:?}");
        let us: IpAddr = [127, 0, 0, 1].into();
        let (_, fastest) = asked(Rules { to_node: slow, from: Some((us, slow)) });
        assert!(fastest >= Duration::from_millis(20), "{fastest:?}");
        let lossy = Impairment { delay: Duration::ZERO, loss: 0.5 };
        let (arrived, _) = asked(Rules { to_node: lossy, from: None });
        assert!((10..=40).contains(&arrived), "{arrived}");
    }
}
