//! The prober's side of the endpoint exchange: one connection, as long as the session.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use railgauge_core::rdma::endpoint::{
    self, Accept, Agreed, Conversation, DecodeError, Event, Message, Offer, Reader, Refusal,
    Silence, Unexpected, Wrong,
};
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::verbs::Presence;
use socket2::{Domain, Protocol, Socket, Type};

use super::Port;

/// How long the other side may take to make its queue pair: resolving an address may take the kernel seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// The longest sleep, so that a request to stop is heard.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// How long a peer may leave what was written to it unread: messages are shorter than any socket's buffer.
const WRITE: Duration = Duration::from_secs(1);

/// Why two sides did not come together: each a sentence.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody there.
    #[error(
        "cannot connect to {peer} by TCP to exchange endpoints: is `railgauge reflect --transport {transport}` running there, and is the port open?"
    )]
    Connect {
        /// Where to.
        peer: SocketAddr,
        /// `rdma-ud` or `rdma-rc`.
        transport: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The offer is none.
    #[error("this cannot be offered: {0}")]
    Offer(#[from] Wrong),
    /// The connection ended.
    #[error(
        "{peer} ended the exchange before it answered: is it `railgauge reflect --transport {transport}`?"
    )]
    Closed {
        /// Who.
        peer: SocketAddr,
        /// `rdma-ud` or `rdma-rc`.
        transport: &'static str,
    },
    /// The connection failed.
    #[error("the exchange with {peer} failed")]
    Io {
        /// Who.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not this protocol.
    #[error("{peer}: {source}")]
    Decode {
        /// Who.
        peer: SocketAddr,
        /// What was wrong.
        source: DecodeError,
    },
    /// Not now.
    #[error("{peer}: {source}")]
    Unexpected {
        /// Who.
        peer: SocketAddr,
        /// What was wrong.
        source: Unexpected,
    },
    /// Silence.
    #[error("{peer}: {source}")]
    Silence {
        /// Who.
        peer: SocketAddr,
        /// How long.
        source: Silence,
    },
    /// A no.
    #[error("{peer} refuses: {}", .refusal.sentence)]
    Refused {
        /// Who.
        peer: SocketAddr,
        /// Why.
        refusal: Refusal,
    },
    /// The thread that keeps it could not be made.
    #[error("cannot start the thread that keeps the exchange")]
    Thread(#[source] io::Error),
}

/// A connection and what is said on it.
pub(crate) struct Line {
    pub stream: TcpStream,
    pub reader: Reader,
    pub talk: Conversation,
}

impl Line {
    /// Says it, at once or not at all.
    pub fn say(&mut self, message: &Message) -> io::Result<()> {
        self.stream.write_all(&endpoint::encode(message))
    }

    /// Waits for `limit` at most and reads once; whether anything came. `Ok(None)`: the peer has closed it.
    pub fn listen(&mut self, waiter: &mut Waiter, limit: Duration) -> io::Result<Option<bool>> {
        waiter.wait(limit)?;
        let mut chunk = [0; 2048];
        if !waiter.readiness(0).readable && !waiter.readiness(0).error {
            return Ok(Some(false));
        }
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(None),
            Ok(count) => {
                self.reader.push(&chunk[..count]);
                Ok(Some(true))
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Ok(Some(false))
            }
            Err(e) => Err(e),
        }
    }

    /// How long the next wait may last.
    pub fn until_wake(&self, now: Monotonic) -> Duration {
        let wake = self.talk.wake().map_or(LONGEST_SLEEP, |at| at.saturating_since(now));
        wake.min(LONGEST_SLEEP)
    }
}

fn connect(local: Option<IpAddr>, peer: SocketAddr) -> io::Result<TcpStream> {
    let Some(local) = local else { return TcpStream::connect_timeout(&peer, CONNECT) };
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect_timeout(&peer.into(), CONNECT)?;
    Ok(socket.into())
}

/// Sets a connection up for the exchange.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE))?;
    // Reads follow a wait that found something; the bound is for what was only half there.
    stream.set_read_timeout(Some(LONGEST_SLEEP))
}

/// An exchange that has agreed. Dropped, it is closed, and the other side frees what it made.
pub struct Exchange {
    /// The other side.
    pub accept: Accept,
    /// What both have in common.
    pub agreed: Agreed,
    line: Line,
    peer: SocketAddr,
}

impl Exchange {
    /// Connects to `peer`, offers, and waits for the answer.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn open(peer: SocketAddr, offer: Offer) -> Result<Self, ExchangeError> {
        Self::begin(None, peer, offer, PATIENCE)
    }

    /// The same from an address of ours, where that is given.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_from(
        local: Option<IpAddr>,
        peer: SocketAddr,
        offer: Offer,
    ) -> Result<Self, ExchangeError> {
        Self::begin(local, peer, offer, PATIENCE)
    }

    #[cfg(test)]
    fn open_within(
        peer: SocketAddr,
        offer: Offer,
        patience: Duration,
    ) -> Result<Self, ExchangeError> {
        Self::begin(None, peer, offer, patience)
    }

    fn begin(
        local: Option<IpAddr>,
        peer: SocketAddr,
        offer: Offer,
        patience: Duration,
    ) -> Result<Self, ExchangeError> {
        let transport = offer.method.service.as_str();
        let io_error = |source| ExchangeError::Io { peer, source };
        let (talk, first) = Conversation::offer(offer, clock::monotonic(), patience)?;
        let stream = connect(local, peer).map_err(|source| ExchangeError::Connect {
            peer,
            transport,
            source,
        })?;
        prepare(&stream).map_err(io_error)?;
        let mut waiter = Waiter::new(std::iter::once(stream.as_fd()));
        let mut line = Line { stream, reader: Reader::default(), talk };
        line.say(&first).map_err(io_error)?;
        loop {
            let now = clock::monotonic();
            line.talk.on_time(now).map_err(|source| ExchangeError::Silence { peer, source })?;
            let limit = line.until_wake(now);
            if line.listen(&mut waiter, limit).map_err(io_error)?.is_none() {
                return Err(ExchangeError::Closed { peer, transport });
            }
            let decode = |source| ExchangeError::Decode { peer, source };
            while let Some(message) = line.reader.next_message().map_err(decode)? {
                let heard = line.talk.hear(message, clock::monotonic());
                match heard.map_err(|source| ExchangeError::Unexpected { peer, source })? {
                    Event::Accepted(accept, agreed) => {
                        return Ok(Self { accept: *accept, agreed, line, peer });
                    }
                    Event::Refused(refusal) => {
                        return Err(ExchangeError::Refused { peer, refusal });
                    }
                    Event::Closed => return Err(ExchangeError::Closed { peer, transport }),
                    _ => {}
                }
            }
        }
    }

    /// Keeps it on a thread of its own, so that the one that probes makes no system calls for it. It is over, too, when the
    /// device of `port` has gone, or the port's address has moved.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn keep(self, port: Port) -> Result<Held, ExchangeError> {
        let over = Arc::new(AtomicBool::new(false));
        let leave = Arc::new(AtomicBool::new(false));
        let (mut line, peer) = (self.line, self.peer);
        let (told, asked) = (Arc::clone(&over), Arc::clone(&leave));
        let tend = move || {
            if let Err(why) = tend(&mut line, &asked, &port) {
                tracing::debug!("the exchange with {peer} ended: {why}");
            }
            told.store(true, Ordering::Release);
        };
        let name = thread::Builder::new().name("exchange".to_owned());
        let thread = name.spawn(tend).map_err(ExchangeError::Thread)?;
        Ok(Held { over, leave, thread: Some(thread) })
    }
}

/// Says that we live, until asked to leave or told that the peer has; the text is for a log.
fn tend(line: &mut Line, leave: &AtomicBool, port: &Port) -> Result<(), String> {
    let mut waiter = Waiter::new(std::iter::once(line.stream.as_fd()));
    while !leave.load(Ordering::Acquire) {
        if let Presence::Gone(why) = port.context.presence() {
            return Err(why);
        }
        if port.addresses_changed() && port.has_moved() {
            return Err(format!("{} is no longer at its place", port.now.gid));
        }
        let now = clock::monotonic();
        if let Some(message) = line.talk.on_time(now).map_err(|e| e.to_string())? {
            line.say(&message).map_err(|e| e.to_string())?;
        }
        let limit = line.until_wake(now);
        if line.listen(&mut waiter, limit).map_err(|e| e.to_string())?.is_none() {
            return Err("closed".to_owned());
        }
        while let Some(message) = line.reader.next_message().map_err(|e| e.to_string())? {
            match line.talk.hear(message, clock::monotonic()).map_err(|e| e.to_string())? {
                Event::Alive => {}
                other => return Err(format!("{other:?}")),
            }
        }
    }
    let last = line.talk.close();
    // The end of the connection says the same.
    let _ = line.say(&last);
    Ok(())
}

/// An exchange that a thread keeps.
pub struct Held {
    over: Arc<AtomicBool>,
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Held {
    /// Whether the other side is gone.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leave.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It ends within its longest sleep; a panic there was told by its hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
