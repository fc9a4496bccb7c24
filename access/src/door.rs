//! A listener that knows who comes in, and lets nobody keep the others out.
//!
//! Handshakes are made beside each other, each within a bounded time, a bounded number of them: when there are more, the oldest is
//! given up, which is never one of somebody who means it, for those take milliseconds. So it is with connections: who has been here
//! longest without saying who he is goes first, and where all have said it, whoever has most.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use railgauge_core::access::Identity;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;

use crate::audit::{Audit, Decision, HANDSHAKE as HANDSHAKE_DECISION, Verdict, stranger};
use crate::certificate;
use crate::connection::{Bounds, Connection, Peer, Vouched, Who};
use crate::credentials::Credentials;

/// Handshakes at a time, and how long one may take.
const HANDSHAKES: usize = 1_024;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long, and how much, of what a refused one still sends is thrown away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 64 << 10;

/// Connections that wait to be served.
const WAITING: usize = 64;

/// Without file descriptors there is nothing to accept: some come free.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// How it is guarded.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Not at all: for loopback, when the operator says so.
    Insecure,
    /// Not at all, and who comes is nobody: for pages that all may see.
    Plain,
    /// By TLS, to holders of a certificate alone.
    Closed(Credentials),
    /// By TLS, and who shows no certificate is nobody.
    Open(Credentials),
}

/// What a listener is for.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// The protocol in TLS: `h2`, `http/1.1`.
    pub alpn: &'static [u8],
    /// Connections at a time.
    pub most: usize,
    /// How long one may last.
    pub longest: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub struct Door {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Door {
    /// Opens it on a bound listener. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn open(
        listener: TcpListener,
        guard: Guard,
        purpose: Use,
        audit: Audit,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (let_in, connections) = mpsc::channel(WAITING);
        let places = Places::new(purpose.most);
        let porter = Porter { guard, purpose, audit, places, let_in };
        let task = tokio::spawn(porter.work(listener)).abort_handle();
        Ok(Self { connections, address, task })
    }
}

impl Stream for Door {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => {
                let address = connection.peer().address;
                (connection, address)
            }
            // The porter ends with the door.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Door>) -> Self {
        stream.io().peer().clone()
    }
}

/// Whoever stands at the door.
#[derive(Clone)]
struct Porter {
    guard: Guard,
    purpose: Use,
    audit: Audit,
    places: Places,
    let_in: mpsc::Sender<Connection>,
}

/// Why somebody was not let in.
struct Refused {
    peer: Peer,
    why: String,
    /// What there was of a connection, to tell them.
    rest: Option<TcpStream>,
}

impl Porter {
    async fn work(self, listener: TcpListener) {
        let mut handshakes: VecDeque<(SocketAddr, AbortHandle)> = VecDeque::new();
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if is_about_us(&error) {
                        tracing::warn!("no connection can be accepted: {error}");
                        sleep(OUT_OF_FILES).await;
                    }
                    continue;
                }
            };
            handshakes.retain(|(_, handshake)| !handshake.is_finished());
            if handshakes.len() >= HANDSHAKES
                && let Some((whose, oldest)) = handshakes.pop_front()
            {
                oldest.abort();
                self.refuse(&Refused {
                    peer: stranger(whose),
                    why: "too many are at the door".to_owned(),
                    rest: None,
                });
            }
            let porter = self.clone();
            let handshake = tokio::spawn(async move {
                match porter.receive(stream, address).await {
                    // Where nobody serves any more, it is closed.
                    Ok(connection) => drop(porter.let_in.send(connection).await),
                    Err(refused) => {
                        porter.refuse(&refused);
                        linger(refused.rest).await;
                    }
                }
            });
            handshakes.push_back((address, handshake.abort_handle()));
        }
    }

    fn refuse(&self, refused: &Refused) {
        let decision = Decision {
            peer: &refused.peer,
            what: HANDSHAKE_DECISION,
            verdict: Verdict::Refused,
            detail: &refused.why,
        };
        // It has been said, and nothing is done that should not be.
        drop(self.audit.record(&decision));
    }

    async fn receive(&self, stream: TcpStream, address: SocketAddr) -> Result<Connection, Refused> {
        // Without it a small answer waits for an acknowledgement; where it is refused, it is only later.
        drop(stream.set_nodelay(true));
        let (credentials, closed) = match &self.guard {
            Guard::Insecure => return Ok(self.plain(stream, Peer { address, who: Who::Insecure })),
            Guard::Plain => return Ok(self.plain(stream, stranger(address))),
            Guard::Closed(credentials) => (credentials, true),
            Guard::Open(credentials) => (credentials, false),
        };
        let refused = |why: String| Refused { peer: stranger(address), why, rest: None };
        let changes = credentials.changes();
        let material = credentials.current();
        let config = material.server(self.purpose.alpn, closed);
        let config = config.map_err(|error| refused(format!("our certificate: {error}")))?;
        let shaken = TlsAcceptor::from(Arc::new(config)).accept(stream).into_fallible();
        let stream = match timeout(HANDSHAKE, shaken).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                return Err(Refused { rest: Some(stream), ..refused(why(&error)) });
            }
            Err(_) => return Err(refused(format!("no handshake within {HANDSHAKE:?}"))),
        };
        let chain = chain(&stream);
        if chain.is_empty() {
            let bounds = self.bounds(None, None);
            return Ok(Connection::tls(stream, stranger(address), bounds.0, bounds.1));
        }
        let identity = certificate::identity(&chain[0])
            .map_err(|error| refused(format!("its certificate: {error}")))?;
        let ours = material.identity.trust_domain();
        if identity.trust_domain() != ours {
            return Err(refused(format!("{identity} is not of the trust domain {ours}")));
        }
        let identity = Arc::new(identity);
        let vouched = Vouched::client(chain, changes);
        let (bounds, place) = self.bounds(Some(vouched), Some(Arc::clone(&identity)));
        let peer = Peer { address, who: Who::Known(identity) };
        Ok(Connection::tls(stream, peer, bounds, place))
    }

    fn plain(&self, stream: TcpStream, peer: Peer) -> Connection {
        let (bounds, place) = self.bounds(None, None);
        Connection::plain(stream, peer, bounds, place)
    }

    fn bounds(&self, vouched: Option<Vouched>, who: Option<Arc<Identity>>) -> (Bounds, Place) {
        let (place, evicted) = self.places.take(who);
        let longest = self.purpose.longest.map(|longest| Box::pin(sleep(longest)));
        (Bounds { longest, evicted, over: false, vouched }, place)
    }
}

/// Lets the other end read why: a connection closed with something unread in it is reset, and what was written last is lost.
async fn linger(stream: Option<TcpStream>) {
    let Some(mut stream) = stream else { return };
    let mut unread = vec![0; 4_096];
    let rest = async {
        stream.shutdown().await?;
        let mut read = 0;
        while read < LINGER_OCTETS {
            match stream.read(&mut unread).await? {
                0 => break,
                octets => read += octets,
            }
        }
        io::Result::Ok(())
    };
    // It is over in any case.
    drop(timeout(LINGER, rest).await);
}

fn why(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => "it speaks no TLS".to_owned(),
        Some(rustls::Error::AlertReceived(alert)) => format!("it does not want us: {alert:?}"),
        _ => error.to_string(),
    }
}

fn chain(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    chain.iter().map(|each| each.clone().into_owned()).collect()
}

/// Whether accepting failed for want of something of ours, and not because the other end has gone.
fn is_about_us(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The places there are.
#[derive(Clone, Debug)]
struct Places(Arc<Mutex<Taken>>);

/// Those of one holder, in order of age.
type Held = BTreeMap<u64, oneshot::Sender<Infallible>>;

#[derive(Debug)]
struct Taken {
    most: usize,
    next: u64,
    count: usize,
    /// All strangers are one: any of them may be any other.
    held: HashMap<Option<Arc<Identity>>, Held>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    who: Option<Arc<Identity>>,
    places: Places,
}

impl Taken {
    /// The oldest of the strangers, or of whoever has most: one stolen key must not keep a fleet out.
    fn evict(&mut self) {
        let none = self.held.get(&None).is_none_or(BTreeMap::is_empty);
        let whose = if none {
            let most = self.held.iter().max_by_key(|(_, held)| held.len());
            most.map(|(who, _)| who.clone())
        } else {
            Some(None)
        };
        let oldest = whose.and_then(|who| {
            let number = *self.held.get(&who)?.first_key_value()?.0;
            Some((who, number))
        });
        if let Some((who, number)) = oldest {
            self.give_back(&who, number);
        }
    }

    /// Its connection sees that its sender is gone.
    fn give_back(&mut self, who: &Option<Arc<Identity>>, number: u64) {
        let Some(held) = self.held.get_mut(who) else { return };
        self.count -= usize::from(held.remove(&number).is_some());
        if held.is_empty() {
            self.held.remove(who);
        }
    }
}

impl Places {
    fn new(most: usize) -> Self {
        let taken = Taken { most: most.max(1), next: 0, count: 0, held: HashMap::new() };
        Self(Arc::new(Mutex::new(taken)))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, and what tells when it is needed by another: its sender is gone.
    fn take(&self, who: Option<Arc<Identity>>) -> (Place, oneshot::Receiver<Infallible>) {
        let mut taken = self.taken();
        if taken.count >= taken.most {
            taken.evict();
        }
        let number = taken.next;
        taken.next += 1;
        taken.count += 1;
        let (here, evicted) = oneshot::channel();
        taken.held.entry(who.clone()).or_default().insert(number, here);
        (Place { number, who, places: self.clone() }, evicted)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().give_back(&self.who, self.number);
    }
}
