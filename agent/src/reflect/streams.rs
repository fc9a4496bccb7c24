//! The `tcp` transport's responder: a thread a connection, one set of rules for all.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use railgauge_core::reflector::{Received, Reflector};
use railgauge_core::stamp::MAX_UDP_PAYLOAD;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::clock;
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::socket::tcp::{PacketStream, StreamError};

use socket2::{Domain, Protocol, Socket, Type};

use super::{KeyRing, LONGEST_SLEEP, Listening, ReflectConfig, ReflectError, ReflectReport};

/// Connections answered at once; each costs a thread and 64 KiB. Further ones are closed and counted.
const MOST_CONNECTIONS: usize = 64;

/// Connections that wait to be accepted: as many as are answered at once.
const BACKLOG: i32 = 64;

pub fn open(config: &ReflectConfig) -> Result<Vec<TcpListener>, ReflectError> {
    let open = |&address: &SocketAddr| {
        listen(address).map_err(|source| ReflectError::Listen { listen: address, source })
    };
    config.listen.iter().map(open).collect()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` would take IPv4 too, and the port with it: as for datagrams, each family has a socket of its own.
        socket.set_only_v6(true)?;
    }
    // Connections of a reflector that ended a moment ago do not keep its port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

pub fn listening(listener: &TcpListener) -> Option<Listening> {
    let stamps = Err("a byte stream has no packets to stamp".to_owned());
    Some(Listening { local: listener.local_addr().ok()?, stamps })
}

/// What all connections share.
struct Shared<'a> {
    /// With the version of the keys that it has.
    reflector: Mutex<(Reflector, u64)>,
    keys: KeyRing,
    trouble: Mutex<BTreeMap<&'static str, u64>>,
    connections: AtomicUsize,
    stop: &'a AtomicBool,
}

impl Shared<'_> {
    fn trouble(&self, reason: &'static str) {
        *lock(&self.trouble).entry(reason).or_default() += 1;
    }
}

/// Counters stay true if a thread panicked while it held them: each is one addition.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn run(
    listeners: Vec<TcpListener>,
    reflector: Reflector,
    keys: KeyRing,
    stop: &AtomicBool,
) -> Result<ReflectReport, ReflectError> {
    let shared = Shared {
        reflector: Mutex::new((reflector, 0)),
        keys,
        trouble: Mutex::new(BTreeMap::new()),
        connections: AtomicUsize::new(0),
        stop,
    };
    let mut waiter = Waiter::new(listeners.iter().map(AsFd::as_fd));
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            waiter.wait(LONGEST_SLEEP).map_err(ReflectError::Wait)?;
            for listener in &listeners {
                accept_all(listener, scope, &shared);
            }
        }
        Ok::<_, ReflectError>(())
    })?;
    let trouble = std::mem::take(&mut *lock(&shared.trouble));
    let report = ReflectReport::new(lock(&shared.reflector).0.counters(), trouble);
    Ok(report)
}

fn accept_all<'scope, 'env>(
    listener: &TcpListener,
    scope: &'scope Scope<'scope, 'env>,
    shared: &'scope Shared<'_>,
) {
    // Not waiting, so the first error ends the round: mostly that nobody else is there.
    while let Ok((stream, from)) = listener.accept() {
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            shared.trouble("too_many_connections");
            continue;
        }
        let serve = move || {
            if serve(stream, from, shared).is_err() {
                shared.trouble("connection_failed");
            }
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("responder".to_owned()).spawn_scoped(scope, serve).is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            shared.trouble("no_thread");
        }
    }
}

fn serve(stream: TcpStream, from: SocketAddr, shared: &Shared<'_>) -> Result<(), StreamError> {
    let mut stream = PacketStream::new(stream)?;
    let mut waiter = Waiter::new(std::iter::once(stream.as_fd()));
    let mut out = vec![0; MAX_UDP_PAYLOAD];
    let mut replies: Vec<Vec<u8>> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        waiter.wait(LONGEST_SLEEP)?;
        let received = stream.receive(|request| {
            let source = StampSource::User;
            let rx =
                Received { t2: clock::wall(), t2_source: source, t3_source: source, ttl: None };
            let now = clock::monotonic();
            let mut held = lock(&shared.reflector);
            let (reflector, seen) = &mut *held;
            shared.keys.refresh(reflector, seen);
            let prepared = reflector.receive(now, from, request, rx, &mut out);
            drop(held);
            if let Ok(prepared) = prepared {
                replies.push(prepared.finish(clock::wall(), &mut out).to_vec());
            }
        });
        match received {
            Err(StreamError::Closed) => return Ok(()),
            other => other?,
        };
        for reply in replies.drain(..) {
            stream.send(&reply)?;
        }
        stream.flush()?;
    }
    Ok(())
}
