//! The responder's end of all datagrams of a port: one queue pair, one thread, every prober that has exchanged endpoints.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use railgauge_core::rdma::endpoint::{Offer, RdmaEndpoint};
use railgauge_core::rdma::gid::{Gid, Scope};
use railgauge_core::reflector::{Counters, Prepared, Received, Reflector};
use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::verbs::CreateError;

use super::{Arrived, HEADER, SENDS, UdSide, UdSideError, Way, send_place};
use crate::WaitMode;
use crate::rdma::Port;
use crate::reflect::KeyRing;

/// The longest sleep, so that the end is heard.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// A prober that may ask.
struct Peer {
    gid: Gid,
    lid: u16,
    /// What the rules of sessions and rates know it by: its address, and the low half of its queue pair's number as a port.
    source: SocketAddr,
    way: Way,
}

/// What connections and the thread share.
pub(crate) struct Server {
    port: Port,
    queue_pair: u32,
    queue_key: u32,
    /// Probers by the number of their queue pair; numbers of different ports may be the same.
    peers: Mutex<HashMap<u32, Vec<Arc<Peer>>>>,
    /// Rises with every change of them.
    version: AtomicU64,
    over: AtomicBool,
}

/// A registered prober; forgotten when dropped.
pub(crate) struct Registered {
    server: Arc<Server>,
    peer: Arc<Peer>,
    queue_pair: u32,
}

impl Server {
    /// With a queue pair that takes the longest datagram of the port.
    pub fn new(port: Port) -> Result<(Arc<Self>, UdSide), UdSideError> {
        let side = UdSide::new(&port, port.now.mtu.datagram_room() as usize)?;
        let (queue_pair, queue_key) = (side.number(), side.queue_key);
        let server = Self {
            port,
            queue_pair,
            queue_key,
            peers: Mutex::default(),
            version: AtomicU64::new(1),
            over: AtomicBool::new(false),
        };
        Ok((Arc::new(server), side))
    }

    /// The port, as it was when the queue pair was made.
    pub const fn port(&self) -> &Port {
        &self.port
    }

    /// Whether its thread has ended, or shall.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Ends its thread.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// What a prober is told, of the port as it is now.
    pub fn endpoint(&self, port: &Port) -> RdmaEndpoint {
        RdmaEndpoint { queue_key: self.queue_key, ..port.endpoint(self.queue_pair) }
    }

    /// Lets a prober ask. Resolving its address may take the kernel a while, so this is no work for the thread that answers.
    pub fn register(
        self: &Arc<Self>,
        port: &Port,
        offer: &Offer,
    ) -> Result<Registered, CreateError> {
        let endpoint = &offer.endpoint;
        let handle = self.port.domain.address_handle(&port.way(endpoint, offer))?;
        let (queue_pair, queue_key) = (endpoint.queue_pair, endpoint.queue_key);
        let [_, _, high, low] = queue_pair.to_be_bytes();
        let source = SocketAddr::new(endpoint.gid.address(), u16::from_be_bytes([high, low]));
        let way = Way { handle, queue_pair, queue_key };
        let peer = Arc::new(Peer { gid: endpoint.gid, lid: endpoint.lid, source, way });
        self.lock().entry(queue_pair).or_default().push(Arc::clone(&peer));
        self.version.fetch_add(1, Ordering::Release);
        Ok(Registered { server: Arc::clone(self), peer, queue_pair })
    }

    /// A map stays whole if a thread panicked while it held it: each change is one call.
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Vec<Arc<Peer>>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut peers = self.server.lock();
        if let Some(here) = peers.get_mut(&self.queue_pair) {
            here.retain(|peer| !Arc::ptr_eq(peer, &self.peer));
            if here.is_empty() {
                peers.remove(&self.queue_pair);
            }
        }
        drop(peers);
        self.server.version.fetch_add(1, Ordering::Release);
    }
}

/// A reply whose departure is awaited.
struct Awaited {
    prepared: Prepared,
    peer: Arc<Peer>,
}

/// The thread's state.
pub(crate) struct Answering {
    side: UdSide,
    server: Arc<Server>,
    reflector: Reflector,
    keys: KeyRing,
    keys_seen: u64,
    mode: WaitMode,
    peers: HashMap<u32, Vec<Arc<Peer>>>,
    seen: u64,
    next: u64,
    awaited: Vec<Option<Awaited>>,
    replies: Vec<Box<[u8]>>,
    request: Box<[u8]>,
    trouble: BTreeMap<&'static str, u64>,
}

impl Answering {
    pub fn new(
        side: UdSide,
        server: Arc<Server>,
        reflector: Reflector,
        keys: KeyRing,
        mode: WaitMode,
    ) -> Self {
        let room = server.port.now.mtu.datagram_room() as usize;
        Self {
            side,
            server,
            reflector,
            keys,
            keys_seen: 0,
            mode,
            peers: HashMap::new(),
            seen: 0,
            next: 0,
            awaited: (0..SENDS).map(|_| None).collect(),
            replies: vec![vec![0; room].into(); SENDS as usize],
            request: vec![0; room].into(),
            trouble: BTreeMap::new(),
        }
    }

    /// Answers until the end, or until the device fails; returns what it has done.
    pub fn run(mut self, stop: &AtomicBool) -> (Counters, BTreeMap<&'static str, u64>) {
        let mut waiter = self.side.waiter();
        let mut armed = false;
        while !stop.load(Ordering::Relaxed) && !self.server.is_over() {
            let idle = match self.turn() {
                Ok(idle) => idle,
                Err(reason) => {
                    self.count(reason);
                    break;
                }
            };
            if !idle {
                armed = false;
                continue;
            }
            if self.mode == WaitMode::Sleep {
                // What came before the arming wakes nobody: look again between the two.
                let waited = if armed {
                    waiter.wait(LONGEST_SLEEP).is_ok() && self.side.quiet().is_ok()
                } else {
                    self.side.arm().is_ok()
                };
                armed = !armed;
                if !waited {
                    self.count("device_failed");
                    break;
                }
            }
        }
        self.server.end();
        (self.reflector.counters().clone(), self.trouble)
    }

    fn count(&mut self, reason: &'static str) {
        *self.trouble.entry(reason).or_default() += 1;
    }

    /// Looks once at either queue; returns whether there was nothing.
    fn turn(&mut self) -> Result<bool, &'static str> {
        let mut idle = true;
        while let Some(sent) = self.side.sent().map_err(|_| "device_failed")? {
            idle = false;
            if !sent.left {
                return Err("send_failed");
            }
            self.tell_departure(sent.id, sent.stamp);
        }
        let Some(came) = self.side.arrived().map_err(|_| "device_failed")? else { return Ok(idle) };
        match came {
            Ok(arrived) => {
                self.answer(&arrived);
                self.side.post_receive(arrived.place).map_err(|_| "device_failed")?;
            }
            Err(reason) => return Err(reason),
        }
        Ok(false)
    }

    fn answer(&mut self, arrived: &Arrived) {
        let received = clock::wall();
        let mut header = [0; HEADER];
        let length = self.side.copy(arrived, &mut header, &mut self.request);
        if length < arrived.length {
            return self.count("oversized_datagram");
        }
        let Some(peer) = self.peer(arrived, &header) else {
            return self.count("foreign_datagram");
        };
        let stamped = self.side.is_stamped();
        let (t2, t2_source) = arrived.stamp.unwrap_or((received, StampSource::User));
        let t3_source = if stamped { StampSource::Cqe } else { StampSource::User };
        let rx = Received { t2, t2_source, t3_source, ttl: None };
        self.keys.refresh(&mut self.reflector, &mut self.keys_seen);
        let id = self.next;
        let slot = send_place(id);
        let (now, reply) = (clock::monotonic(), &mut self.replies[slot]);
        let request = &self.request[..length];
        // Why a request gets no reply is counted by the rules.
        let Ok(prepared) = self.reflector.receive(now, peer.source, request, rx, reply) else {
            return;
        };
        let packet = prepared.finish(clock::wall(), reply);
        if self.side.post(id, packet, &peer.way).is_err() {
            return self.count("send_queue_full");
        }
        self.next += 1;
        let asked = stamped && prepared.token().is_some();
        self.awaited[slot] = asked.then_some(Awaited { prepared, peer });
    }

    /// The true departure of a reply, where the NIC knows it and the prober asked, in a second acknowledgement.
    fn tell_departure(&mut self, id: u64, stamp: Option<(Wall, StampSource)>) {
        let slot = send_place(id);
        let Some(Awaited { prepared, peer }) = self.awaited[slot].take() else { return };
        let Some((t3, source)) = stamp else { return };
        let second = prepared.second_acknowledgement(t3, source, &mut self.replies[slot]);
        let Some(packet) = second else { return };
        // Its own slot comes after: nothing waits for its departure.
        if self.side.post(self.next, packet, &peer.way).is_err() {
            return self.count("send_queue_full");
        }
        self.awaited[send_place(self.next)] = None;
        self.next += 1;
    }

    /// Who sent it: known by its queue pair, and by the address in front of the datagram.
    fn peer(&mut self, arrived: &Arrived, header: &[u8; HEADER]) -> Option<Arc<Peer>> {
        let version = self.server.version.load(Ordering::Acquire);
        if version != self.seen {
            self.seen = version;
            self.peers = self.server.lock().clone();
        }
        let here = self.peers.get(&arrived.source_queue_pair)?;
        let is_it = |peer: &&Arc<Peer>| {
            if arrived.has_route {
                is_from(peer.gid, header)
            } else {
                peer.lid == arrived.source_lid
            }
        };
        here.iter().find(is_it).cloned()
    }
}

/// Whether the route header in front of a datagram names `gid` as its source. With IPv4 it is an IP header in the last 20 octets,
/// else it is a global route header (IB spec section 8.3), whose source is in octets 8 to 23.
fn is_from(gid: Gid, header: &[u8; HEADER]) -> bool {
    let octets = gid.octets();
    if gid.scope() == Scope::Ipv4 {
        header[32..36] == octets[12..]
    } else {
        header[8..24] == octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_found_in_either_kind_of_header() {
        let v4 = Gid::from("10.77.0.1".parse::<std::net::IpAddr>().unwrap());
        let v6 = Gid::from("fd77::1".parse::<std::net::IpAddr>().unwrap());
        let mut header = [0; HEADER];
        header[32..36].copy_from_slice(&[10, 77, 0, 1]);
        assert!(is_from(v4, &header) && !is_from(v6, &header));
        let mut header = [0; HEADER];
        header[8..24].copy_from_slice(&v6.octets());
        assert!(is_from(v6, &header) && !is_from(v4, &header));
    }
}
