//! The responder: exchanges endpoints by TCP, makes a queue pair for each prober, and frees it when the connection ends.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use railgauge_core::rdma::endpoint::{
    Accept, Agreed, Conversation, Event, Message, Offer, RdmaEndpoint, Reader, RefusalReason,
};
use railgauge_core::rdma::gid::Peer;
use railgauge_core::rdma::operation::{Completion, Service};
use railgauge_core::reflector::{Counters, Reflector, ReflectorConfig};
use railgauge_fabric::clock;
use railgauge_fabric::socket::Waiter;

use super::exchange::{Line, prepare};
use super::port::{Port, PortError, PortWish};
use super::rc::respond::{Answering, Ready};
use super::ud::respond::{Registered, Server};
use super::ud::{self, UdSideError};
use crate::WaitMode;
use crate::reflect::{KeyRing, place};

/// Sessions at once; each costs a queue pair, its memory and one or two threads. Further offers are refused.
const MOST_SESSIONS: usize = 64;

/// Connections at once, those that have offered nothing yet included.
const MOST_CONNECTIONS: usize = 2 * MOST_SESSIONS;

/// Sessions at once whose thread spins: each costs a core.
const MOST_SPINNING: usize = 4;

/// How long a peer may take to offer: the offer is the first thing it sends.
const PATIENCE: Duration = Duration::from_secs(5);

/// A prober that says nothing for so long is dead, and its queue pair freed.
const SILENCE_MS: u32 = 30_000;

/// The most memory that one offer makes us register: what the largest message of a sweep takes.
const MOST_BYTES: u32 = 1 << 26;

const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// How it answers.
#[derive(Clone, Debug)]
pub struct ResponderConfig {
    /// Our port.
    pub port: PortWish,
    /// What is answered; `None`: both.
    pub service: Option<Service>,
    /// Spin or sleep.
    pub mode: WaitMode,
    /// The processor for the threads that answer.
    pub cpu: Option<usize>,
    /// How datagrams are answered.
    pub reflector: ReflectorConfig,
    /// Their keys.
    pub keys: KeyRing,
}

impl ResponderConfig {
    fn answers(&self, service: Service) -> bool {
        self.service.is_none_or(|only| only == service)
    }
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system.
    #[error("cannot wait for connections")]
    Wait(#[from] std::io::Error),
    /// No queue pair for datagrams.
    #[error(transparent)]
    Datagrams(#[from] UdSideError),
}

/// What it has done.
#[derive(Debug, Default)]
pub struct Responded {
    /// Operations answered by this program.
    pub answered: u64,
    /// What became of datagrams.
    pub datagrams: Counters,
    /// Sessions begun.
    pub sessions: u64,
    /// What went wrong, by reason.
    pub trouble: BTreeMap<&'static str, u64>,
}

/// What all connections share.
struct Shared<'a> {
    config: &'a ResponderConfig,
    /// The port while its device is there.
    port: Mutex<Option<Port>>,
    trouble: Mutex<BTreeMap<&'static str, u64>>,
    connections: AtomicUsize,
    sessions: AtomicUsize,
    spinning: AtomicUsize,
    /// How often the device said that addresses changed.
    changes: AtomicU64,
    begun: AtomicU64,
    answered: AtomicU64,
    /// The one that answers datagrams, while it does.
    server: Mutex<Option<Arc<Server>>>,
    datagrams: Mutex<Counters>,
    stop: &'a AtomicBool,
}

impl<'a> Shared<'a> {
    fn trouble(&self, reason: &'static str) {
        *lock(&self.trouble).entry(reason).or_default() += 1;
    }

    fn new(config: &'a ResponderConfig, port: Option<Port>, stop: &'a AtomicBool) -> Self {
        Shared {
            config,
            port: Mutex::new(port),
            trouble: Mutex::default(),
            connections: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            spinning: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            server: Mutex::default(),
            datagrams: Mutex::default(),
            stop,
        }
    }

    /// Lets a device go that has gone, or its driver waits for us for ever; and hears of changed addresses.
    fn tend_port(&self) {
        let mut port = lock(&self.port);
        if port.as_ref().is_some_and(Port::addresses_changed) {
            self.changes.fetch_add(1, Ordering::Release);
        }
        if port.as_ref().is_some_and(|port| !port.context.presence().is_present()) {
            *port = None;
            self.trouble("device_gone");
        }
    }

    /// The port as it is now. A device that went away is let go and opened again when it is back.
    fn port(&self, peer: Option<Peer>) -> Result<Port, PortError> {
        let mut port = lock(&self.port);
        if port.as_ref().is_some_and(|port| !port.context.presence().is_present()) {
            *port = None;
            self.trouble("device_gone");
        }
        let open = match port.take() {
            Some(open) => open,
            None => Port::open(&self.config.port)?,
        };
        port.insert(open).towards(peer)
    }
}

/// Counters stay true if a thread panicked while it held them: each is one addition.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A count that goes back when the value is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn below(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let one = Self(count);
        (count.fetch_add(1, Ordering::AcqRel) < most).then_some(one)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers until `stop` is set; without a `port` for now, as soon as there is one.
///
/// # Errors
/// When waiting for connections fails.
pub fn run(
    listeners: &[TcpListener],
    port: Option<Port>,
    config: &ResponderConfig,
    stop: &AtomicBool,
) -> Result<Responded, RunError> {
    let shared = Shared::new(config, port, stop);
    let mut waiter = Waiter::new(listeners.iter().map(AsFd::as_fd));
    thread::scope(|scope| {
        if config.answers(Service::Datagram) {
            serve_datagrams(scope, &shared)?;
        }
        while !stop.load(Ordering::Relaxed) {
            waiter.wait(LONGEST_SLEEP)?;
            for listener in listeners {
                accept_all(listener, scope, &shared);
            }
            shared.tend_port();
            tend_datagrams(scope, &shared);
        }
        Ok::<_, RunError>(())
    })?;
    let (answered, sessions) = (&shared.answered, &shared.begun);
    Ok(Responded {
        answered: answered.load(Ordering::Relaxed),
        sessions: sessions.load(Ordering::Relaxed),
        datagrams: std::mem::take(&mut *lock(&shared.datagrams)),
        trouble: std::mem::take(&mut *lock(&shared.trouble)),
    })
}

/// Starts the thread that answers datagrams.
fn serve_datagrams<'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared<'_>,
) -> Result<(), UdSideError> {
    let Ok(port) = shared.port(None) else { return Ok(()) };
    let (server, side) = Server::new(port)?;
    let config = shared.config;
    let reflector = Reflector::new(config.reflector.clone());
    let (keys, mode) = (config.keys.clone(), config.mode);
    let answering = ud::respond::Answering::new(side, Arc::clone(&server), reflector, keys, mode);
    let answer = move || {
        if place(config.cpu).is_err() {
            shared.trouble("not_pinned");
        }
        let (counters, trouble) = answering.run(shared.stop);
        lock(&shared.datagrams).add(&counters);
        for (reason, count) in trouble {
            *lock(&shared.trouble).entry(reason).or_default() += count;
        }
    };
    let name = thread::Builder::new().name("responder".to_owned());
    if name.spawn_scoped(scope, answer).is_err() {
        shared.trouble("no_thread");
        return Ok(());
    }
    *lock(&shared.server) = Some(server);
    Ok(())
}

/// Lets a device go that has gone, and answers datagrams again when it is back.
fn tend_datagrams<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared<'_>) {
    if !shared.config.answers(Service::Datagram) {
        return;
    }
    let mut server = lock(&shared.server);
    if let Some(here) = server.take() {
        let port = here.port();
        if port.context.presence().is_present() && !here.is_over() {
            *server = Some(here);
            return;
        }
        here.end();
    }
    drop(server);
    if serve_datagrams(scope, shared).is_err() {
        shared.trouble("no_queue_pair");
    }
}

fn accept_all<'scope, 'env>(
    listener: &TcpListener,
    scope: &'scope Scope<'scope, 'env>,
    shared: &'scope Shared<'_>,
) {
    // Not waiting, so the first error ends the round: mostly that nobody else is there.
    while let Ok((stream, from)) = listener.accept() {
        let Some(counted) = Counted::below(&shared.connections, MOST_CONNECTIONS) else {
            shared.trouble("too_many_connections");
            continue;
        };
        let serve = move || {
            let _counted = counted;
            if let Err(reason) = serve(stream, from, shared) {
                shared.trouble(reason);
            }
        };
        if thread::Builder::new().name("exchange".to_owned()).spawn_scoped(scope, serve).is_err() {
            shared.trouble("no_thread");
        }
    }
}

/// One connection from its first octet to its last; the error is the word it is counted by.
fn serve(stream: TcpStream, from: SocketAddr, shared: &Shared<'_>) -> Result<(), &'static str> {
    prepare(&stream).map_err(|_| "connection_failed")?;
    let mut waiter = Waiter::new(std::iter::once(stream.as_fd()));
    let talk = Conversation::listen(clock::monotonic(), PATIENCE);
    let mut line = Line { stream, reader: Reader::default(), talk };
    let Some(offer) = next_offer(&mut line, &mut waiter, shared)? else { return Ok(()) };
    let Some(_session) = Counted::below(&shared.sessions, MOST_SESSIONS) else {
        let text = format!("{MOST_SESSIONS} sessions are as many as it has at once: try later");
        return refuse(&mut line, RefusalReason::Busy, &text, "too_many_sessions");
    };
    let spins =
        offer.method.completion == Completion::Memory || shared.config.mode == WaitMode::BusyPoll;
    let spins = spins && offer.method.is_answered_by_program();
    let _spinning = if spins {
        let spinning = Counted::below(&shared.spinning, MOST_SPINNING);
        if spinning.is_none() {
            let text = format!(
                "{MOST_SPINNING} sessions spin, as many as may: use --completion imm without --busy-poll here"
            );
            return refuse(&mut line, RefusalReason::Busy, &text, "too_many_spinning");
        }
        spinning
    } else {
        None
    };
    match begin(&offer, shared) {
        Ok(ready) => converse(ready, &offer, line, &mut waiter, shared),
        Err((reason, text)) => {
            tracing::debug!("refused {from}: {text}");
            refuse(&mut line, reason, &text, reason.as_str())
        }
    }
}

/// The offer; `None` when we stop first.
fn next_offer(
    line: &mut Line,
    waiter: &mut Waiter,
    shared: &Shared<'_>,
) -> Result<Option<Box<Offer>>, &'static str> {
    while !shared.stop.load(Ordering::Relaxed) {
        let now = clock::monotonic();
        line.talk.on_time(now).map_err(|_| "offered_nothing")?;
        let limit = line.until_wake(now);
        if line.listen(waiter, limit).map_err(|_| "connection_failed")?.is_none() {
            return Err("closed_before_offer");
        }
        match line.reader.next_message() {
            Ok(None) => {}
            Ok(Some(message)) => match line.talk.hear(message, clock::monotonic()) {
                Ok(Event::Offered(offer)) => return Ok(Some(offer)),
                Ok(_) => return Err("closed_before_offer"),
                Err(_) => return Err("out_of_order"),
            },
            Err(wrong) => {
                if let Some(refusal) = wrong.refusal() {
                    // It may have gone already.
                    let _ = line.say(&Message::Refuse(refusal));
                }
                return Err(wrong.as_str());
            }
        }
    }
    Ok(None)
}

fn refuse(
    line: &mut Line,
    reason: RefusalReason,
    text: &str,
    counted: &'static str,
) -> Result<(), &'static str> {
    let message = line.talk.refuse(reason, text);
    // Who has gone needs no answer.
    let _ = line.say(&message);
    Err(counted)
}

/// Makes our end, or says why not.
fn begin(offer: &Offer, shared: &Shared<'_>) -> Result<Ours, (RefusalReason, String)> {
    let config = shared.config;
    if let Some(service) = config.service.filter(|service| *service != offer.method.service) {
        let (is, asked) = (service.as_str(), offer.method.service.as_str());
        return Err((RefusalReason::Unsupported, format!("it answers {is}, not {asked}")));
    }
    if offer.size > MOST_BYTES {
        return Err((
            RefusalReason::Unsupported,
            format!("messages have {MOST_BYTES} octets at most"),
        ));
    }
    if offer.method.completion == Completion::Memory && config.mode != WaitMode::BusyPoll {
        let text = "watching memory takes a core: start `reflect` with --busy-poll, or ping with --completion imm";
        return Err((RefusalReason::Unsupported, text.to_owned()));
    }
    let peer = Peer { gid: offer.endpoint.gid, kind: offer.endpoint.gid_kind };
    let port = shared.port(Some(peer)).map_err(|e| {
        let reason = match e {
            PortError::Gid { .. } => RefusalReason::NoAddress,
            PortError::Verb(_) => RefusalReason::Failed,
            _ => RefusalReason::NoPort,
        };
        (reason, crate::sentence(&e))
    })?;
    if offer.method.service == Service::Datagram {
        let server = lock(&shared.server).clone().filter(|server| !server.is_over());
        let none = || (RefusalReason::Failed, "its device has just gone: try again".to_owned());
        let server = server.ok_or_else(none)?;
        return Ok(Ours::Datagrams(server, Box::new(port)));
    }
    let ready = Ready::new(port, offer, config.mode);
    ready
        .map(|ready| Ours::Connection(Box::new(ready)))
        .map_err(|e| (RefusalReason::Failed, crate::sentence(&e)))
}

/// Our end, before it knows the prober's.
enum Ours {
    Connection(Box<Ready>),
    /// The queue pair that all probers share, and the port towards this one.
    Datagrams(Arc<Server>, Box<Port>),
}

/// Our end of a session.
enum Session {
    Connection(Box<Answering>),
    /// Held for its end, which strikes the prober off.
    Datagrams {
        _registered: Registered,
    },
}

impl Ours {
    fn endpoint(&self) -> RdmaEndpoint {
        match self {
            Self::Connection(ready) => ready.own.clone(),
            Self::Datagrams(server, port) => server.endpoint(port),
        }
    }

    fn port(&self) -> &Port {
        match self {
            Self::Connection(ready) => ready.port(),
            Self::Datagrams(_, port) => port,
        }
    }

    fn connect(self, offer: &Offer, agreed: &Agreed) -> Result<Session, String> {
        match self {
            Self::Connection(ready) => match ready.connect(offer, agreed) {
                Ok(answering) => Ok(Session::Connection(Box::new(answering))),
                Err(e) => Err(crate::sentence(&e)),
            },
            Self::Datagrams(server, port) => {
                let registered = server.register(&port, offer);
                let session = |registered| Session::Datagrams { _registered: registered };
                registered.map(session).map_err(|e| crate::sentence(&e))
            }
        }
    }
}

/// Accepts, answers, and listens until either side ends it.
fn converse(
    ours: Ours,
    offer: &Offer,
    mut line: Line,
    waiter: &mut Waiter,
    shared: &Shared<'_>,
) -> Result<(), &'static str> {
    let accept = Accept { most_per_second: 0, silence_ms: SILENCE_MS, endpoint: ours.endpoint() };
    let agreed = match offer.agree(&accept.endpoint) {
        Ok(agreed) => agreed,
        Err(e) => return refuse(&mut line, e.reason(), &e.to_string(), e.reason().as_str()),
    };
    let port = ours.port().clone();
    let mut changes = shared.changes.load(Ordering::Acquire);
    let session = match ours.connect(offer, &agreed) {
        Ok(session) => session,
        Err(text) => return refuse(&mut line, RefusalReason::Failed, &text, "failed"),
    };
    let (message, _) = line.talk.accept(accept, clock::monotonic()).map_err(|_| "unsupported")?;
    shared.begun.fetch_add(1, Ordering::Relaxed);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Ready to receive before the prober may send.
        let (over, cpu) = (&over, shared.config.cpu);
        let held = match session {
            Session::Connection(answering) if answering.needs_a_thread() => {
                let answer = move || {
                    if place(cpu).is_err() {
                        shared.trouble("not_pinned");
                    }
                    if let Err(reason) = answering.run(over, &shared.answered) {
                        shared.trouble(reason);
                    }
                    over.store(true, Ordering::Release);
                };
                let name = thread::Builder::new().name("responder".to_owned());
                name.spawn_scoped(scope, answer).map_err(|_| "no_thread")?;
                None
            }
            other => Some(other),
        };
        let said = line.say(&message).map_err(|_| "connection_failed");
        let ended = said.and_then(|()| {
            listen(&mut line, waiter, || {
                let now = shared.changes.load(Ordering::Acquire);
                let moved = std::mem::replace(&mut changes, now) != now && port.has_moved();
                moved
                    || over.load(Ordering::Acquire)
                    || shared.stop.load(Ordering::Relaxed)
                    || !port.context.presence().is_present()
            })
        });
        over.store(true, Ordering::Release);
        drop(held);
        ended
    })
}

/// Keeps the conversation until the prober ends it, or `is_over` says that we do.
fn listen(
    line: &mut Line,
    waiter: &mut Waiter,
    mut is_over: impl FnMut() -> bool,
) -> Result<(), &'static str> {
    loop {
        if is_over() {
            let last = line.talk.close();
            // The end of the connection says the same.
            let _ = line.say(&last);
            return Ok(());
        }
        let now = clock::monotonic();
        match line.talk.on_time(now) {
            Ok(None) => {}
            Ok(Some(message)) => line.say(&message).map_err(|_| "connection_failed")?,
            Err(_) => return Err("prober_silent"),
        }
        let limit = line.until_wake(now);
        if line.listen(waiter, limit).map_err(|_| "connection_failed")?.is_none() {
            return Ok(());
        }
        while let Some(message) = line.reader.next_message().map_err(|wrong| wrong.as_str())? {
            match line.talk.hear(message, clock::monotonic()) {
                Ok(Event::Alive) => {}
                Ok(Event::Closed) => return Ok(()),
                // A prober that has moved makes a new session: its queue pair is another, too.
                Ok(_) => return Ok(()),
                Err(_) => return Err("out_of_order"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
