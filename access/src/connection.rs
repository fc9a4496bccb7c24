//! A connection that was let in: with whom, and until when.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use railgauge_core::access::Identity;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

use crate::door::Place;
use crate::files::Material;
use crate::{certificate, now};

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody on this machine: there is no TLS, as the operator wants it.
    Insecure,
    /// Somebody who showed no certificate.
    Stranger,
    /// Somebody whose certificate our authority vouches for.
    Known(Arc<Identity>),
}

impl Who {
    /// The identity, where there is one.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Insecure | Self::Stranger => None,
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Insecure => f.write_str("insecure"),
            Self::Stranger => f.write_str("unknown"),
            Self::Known(identity) => identity.fmt(f),
        }
    }
}

/// Who is at the other end, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where.
    pub address: SocketAddr,
    /// Who.
    pub who: Who,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: Peer,
    bounds: Bounds,
    _place: Place,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What ends it.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Whatever happens.
    pub longest: Option<Pin<Box<Sleep>>>,
    /// Somebody else needs the place: then the other end of this is gone.
    pub evicted: oneshot::Receiver<Infallible>,
    /// It is over.
    pub over: bool,
    /// The certificate's.
    pub vouched: Option<Vouched>,
}

/// A certificate is good until it ends, and while the authorities that we know vouch for it.
pub struct Vouched {
    chain: Vec<CertificateDer<'static>>,
    /// Of a server, what it is to be called; a client has no name to be called by.
    name: Option<ServerName<'static>>,
    ends: SystemTime,
    look: Pin<Box<Sleep>>,
    changes: WatchStream<Arc<Material>>,
}

impl std::fmt::Debug for Vouched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vouched").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// The clock may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(30);

impl Vouched {
    /// For the certificate of a client, at the head of its chain.
    pub(crate) fn client(
        chain: Vec<CertificateDer<'static>>,
        changes: watch::Receiver<Arc<Material>>,
    ) -> Self {
        Self::new(chain, None, changes)
    }

    /// For that of a server of this name.
    pub(crate) fn server(
        chain: Vec<CertificateDer<'static>>,
        name: ServerName<'static>,
        changes: watch::Receiver<Arc<Material>>,
    ) -> Self {
        Self::new(chain, Some(name), changes)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        name: Option<ServerName<'static>>,
        changes: watch::Receiver<Arc<Material>>,
    ) -> Self {
        let ends = chain.first().and_then(|leaf| certificate::validity(leaf).ok());
        let ends = ends.map_or(SystemTime::UNIX_EPOCH, |validity| validity.ends);
        let look = Box::pin(sleep(until(ends)));
        Self { chain, name, ends, look, changes: WatchStream::from_changes(changes) }
    }

    /// Fails once it is over.
    pub(crate) fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.look.as_mut().poll(cx).is_ready() {
            if now() >= self.ends {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its certificate has ended"));
            }
            self.look.set(sleep(until(self.ends)));
        }
        while let Poll::Ready(Some(material)) = Pin::new(&mut self.changes).poll_next(cx) {
            if !material.vouches_for(&self.chain, self.name.as_ref(), now()) {
                let why = "no authority vouches for its certificate any more";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        Ok(())
    }
}

fn until(ends: SystemTime) -> Duration {
    ends.duration_since(now()).unwrap_or_default().min(LOOK)
}

impl Bounds {
    /// Fails once it is over.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let kept = if self.over { Err(io::ErrorKind::NotConnected.into()) } else { self.look(cx) };
        self.over = kept.is_err();
        kept
    }

    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(longest) = &mut self.longest
            && longest.as_mut().poll(cx).is_ready()
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if Pin::new(&mut self.evicted).poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "others need its place"));
        }
        self.vouched.as_mut().map_or(Ok(()), |vouched| vouched.check(cx))
    }
}

impl Connection {
    pub(crate) fn plain(stream: TcpStream, peer: Peer, bounds: Bounds, place: Place) -> Self {
        Self { io: Io::Plain(stream), peer, bounds, _place: place }
    }

    pub(crate) fn tls(
        stream: TlsStream<TcpStream>,
        peer: Peer,
        bounds: Bounds,
        place: Place,
    ) -> Self {
        Self { io: Io::Tls(Box::new(stream)), peer, bounds, _place: place }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.bounds.check(cx)?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bounds.check(cx)?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounds.check(cx)?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, octets),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, octets),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
