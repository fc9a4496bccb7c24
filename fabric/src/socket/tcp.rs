//! The stream of the `tcp` transport: framed packets over a connection that neither blocks nor gathers (`TCP_NODELAY`).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use railgauge_core::frame::{self, FrameReader, FrameTooLong};

/// Octets written but not yet taken by the kernel before a send is refused: a peer that stopped reading.
const MOST_UNSENT: usize = 1 << 20;

/// A connection that carries packets.
#[derive(Debug)]
pub struct PacketStream {
    stream: TcpStream,
    reader: FrameReader,
    unsent: Vec<u8>,
    chunk: Box<[u8]>,
}

/// Why a connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other side closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// Not this protocol.
    #[error(transparent)]
    Frame(#[from] FrameTooLong),
    /// The system refused.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

impl PacketStream {
    /// Connects to `peer` within `timeout`.
    pub fn connect(peer: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&peer, timeout)?)
    }

    /// Takes over an accepted or connected stream.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let chunk = vec![0; 1 << 16].into();
        Ok(Self { stream, reader: FrameReader::default(), unsent: Vec::new(), chunk })
    }

    /// The address of this side.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Sends `packet` as a frame; what the kernel does not take at once is kept and goes first the next time.
    pub fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        if self.unsent.len() > MOST_UNSENT {
            self.flush()?;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        frame::write(packet, &mut self.unsent);
        self.flush()
    }

    /// Offers what is unsent to the kernel once more.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut taken = 0;
        let result = loop {
            if taken == self.unsent.len() {
                break Ok(());
            }
            match self.stream.write(&self.unsent[taken..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.unsent.drain(..taken);
        result
    }

    /// Whether something waits to be sent.
    pub const fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads once what has arrived, without waiting, and hands every whole packet to `sink`. Returns whether anything came.
    pub fn receive(&mut self, mut sink: impl FnMut(&[u8])) -> Result<bool, StreamError> {
        match self.stream.read(&mut self.chunk) {
            Ok(0) => Err(StreamError::Closed),
            Ok(count) => {
                self.reader.push(&self.chunk[..count]);
                while let Some(packet) = self.reader.next_packet()? {
                    sink(packet);
                }
                Ok(true)
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for PacketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
