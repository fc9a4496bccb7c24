//! UDP sockets whose every departure and arrival is stamped, and the TCP stream of the `tcp` transport.
//!
//! Stamps are the NIC's where it stamps every packet already, else the kernel's (`SO_TIMESTAMPING`, Documentation/networking/timestamping.rst): arrival stamps come with
//! the datagram, departure stamps on the error queue, numbered by `SOF_TIMESTAMPING_OPT_ID`. They are read in
//! batches, together with ICMP errors, which arrive on the same queue (`IP_RECVERR`, ip(7)).

#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmsg, control messages and SO_TIMESTAMPING are raw system interfaces"
)]

mod batch;
mod control;
mod error_queue;
mod nic;
mod open;
mod poller;
mod send;
pub mod tcp;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use railgauge_core::timestamp_source::StampSource;

pub use batch::{Datagram, ReceiveBatch};
pub use control::LocalAddress;
pub use error_queue::{ErrorQueue, QueuedError};
pub use open::{OpenError, UdpOptions};
pub use poller::Poller;
pub use send::{BURST, ReplyRoute, SendBatch, Sent, send_reason};

/// A UDP socket, non-blocking.
#[derive(Debug)]
pub struct UdpSocket {
    socket: socket2::Socket,
    local: SocketAddr,
    receive_buffer_bytes: usize,
    stamps: Result<StampSource, String>,
}

impl UdpSocket {
    /// The address it is bound to.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The receive buffer as the kernel granted it, in bytes of kernel memory (a small datagram takes about 832).
    pub const fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    /// Who stamps departures and arrivals here, `Hardware` or `Kernel`, or why nobody does. A packet that this one did not
    /// stamp has no stamp.
    pub fn stamps(&self) -> Result<StampSource, &str> {
        self.stamps.as_ref().copied().map_err(String::as_str)
    }

    /// The path MTU as the kernel knows it (connected IPv4 and IPv6 sockets), in octets with the IP header.
    pub fn path_mtu(&self) -> Option<u32> {
        let (level, name) = match self.local {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let value = open::get_int(self.raw_fd(), level, name).ok()?;
        u32::try_from(value).ok()
    }

    fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sleeps on several sockets at once; the list is made once and reused.
pub struct Waiter {
    fds: Vec<libc::pollfd>,
}

/// What a socket has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// A datagram can be read.
    pub readable: bool,
    /// The error queue is not empty, or an error is pending.
    pub error: bool,
}

impl Waiter {
    /// Waits on these, which are known by their place in the list.
    pub fn new<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) -> Self {
        let fd = |socket: BorrowedFd<'_>| socket.as_raw_fd();
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        Self { fds: sockets.map(fd).map(entry).collect() }
    }

    /// Sleeps until a socket has something or `timeout` has passed. A signal ends the wait early, as a time-out would.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let seconds = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
        let timeout = libc::timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: `fds` are `count` valid entries; the time-out is on our stack; no signal mask is passed. The descriptors may have
        // been closed since: poll then reports POLLNVAL and nothing else.
        let rc = unsafe {
            libc::ppoll(self.fds.as_mut_ptr(), count, &raw const timeout, std::ptr::null())
        };
        if rc >= 0 {
            return Ok(());
        }
        for fd in &mut self.fds {
            fd.revents = 0;
        }
        match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            e => Err(e),
        }
    }

    /// Waits on the socket at `index` no more. A stream whose peer has gone is readable for ever: every wait would end at once.
    pub fn forget(&mut self, index: usize) {
        // poll(2) ignores entries with a negative descriptor, and clears their `revents`.
        self.fds[index].fd = -1;
        self.fds[index].revents = 0;
    }

    /// What the last wait found for the socket at `index`.
    pub fn readiness(&self, index: usize) -> Readiness {
        let events = self.fds[index].revents;
        let error = events & (libc::POLLERR | libc::POLLNVAL) != 0;
        Readiness { readable: events & (libc::POLLIN | libc::POLLHUP) != 0, error }
    }
}
