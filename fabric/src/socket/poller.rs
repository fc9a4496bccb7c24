//! Sleeping on many sockets that come and go: the cost of a wait does not grow with their number.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::Readiness;

/// Events taken with one call.
const EVENTS: usize = 64;

/// Waits on sockets (epoll(7), level-triggered), each known by a token.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    /// Waits on nothing yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above returned this descriptor to us alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    /// Waits on `socket` too, which is `token` from now on. It is forgotten when its last descriptor is closed.
    ///
    /// # Errors
    /// When it is waited on already, or the user's limit of watches is reached.
    pub fn add(&self, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let interest = libc::EPOLLIN.cast_unsigned();
        let mut event = libc::epoll_event { events: interest, u64: token };
        let (epoll, socket) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: both descriptors are open; the event is on our stack and only read.
        let rc = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits on `socket` no more, though it stays open.
    ///
    /// # Errors
    /// When it was not waited on.
    pub fn remove(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (epoll, socket) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: both descriptors are open; no event is read for this operation (Linux since 2.6.9).
        let rc =
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, socket, std::ptr::null_mut()) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sleeps until a socket has something or `timeout` has passed, to the nanosecond. A signal ends the wait early, as a
    /// time-out would. What was found is read with [`ready`](Self::ready).
    ///
    /// # Errors
    /// When the kernel has no memory for it.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.events.clear();
        let seconds = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
        let timeout = libc::timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
        let mut fd = libc::pollfd { fd: self.epoll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // epoll_wait counts milliseconds, and epoll_pwait2 came with Linux 5.11: ppoll on the epoll descriptor sleeps exactly.
        // SAFETY: one valid entry and a time-out, both on our stack; no signal mask is passed.
        let rc = unsafe { libc::ppoll(&raw mut fd, 1, &raw const timeout, std::ptr::null()) };
        if rc < 0 {
            return match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => Ok(()),
                e => Err(e),
            };
        }
        if rc == 0 {
            return Ok(());
        }
        let most = libc::c_int::try_from(EVENTS).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer has room for `most` events.
        let rc =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), most, 0) };
        let Ok(count) = usize::try_from(rc) else { return Err(io::Error::last_os_error()) };
        // SAFETY: the kernel wrote this many events.
        unsafe { self.events.set_len(count) };
        Ok(())
    }

    /// What the last wait found: tokens, each at most once. Where more than 64 sockets are ready, the others are found next time.
    pub fn ready(&self) -> impl Iterator<Item = (u64, Readiness)> {
        self.events.iter().map(|event| {
            let (events, token) = (event.events, event.u64);
            let has = |flags: libc::c_int| events & flags.cast_unsigned() != 0;
            let readable = has(libc::EPOLLIN | libc::EPOLLHUP);
            (token, Readiness { readable, error: has(libc::EPOLLERR) })
        })
    }

    /// Whether the last wait may have left ready sockets out.
    pub fn is_full(&self) -> bool {
        self.events.len() == EVENTS
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn finds_who_has_something_and_forgets_who_is_closed() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (a, b) = (bind(), bind());
        let mut poller = Poller::new().unwrap();
        poller.add(a.as_fd(), 1).unwrap();
        poller.add(b.as_fd(), 2).unwrap();
        poller.wait(Duration::ZERO).unwrap();
        assert_eq!(poller.ready().count(), 0);
        a.send_to(b"x", b.local_addr().unwrap()).unwrap();
        poller.wait(Duration::from_secs(5)).unwrap();
        let ready = Readiness { readable: true, error: false };
        assert_eq!(poller.ready().collect::<Vec<_>>(), [(2, ready)]);
        poller.remove(b.as_fd()).unwrap();
        poller.wait(Duration::ZERO).unwrap();
        assert_eq!(poller.ready().count(), 0);
        poller.add(b.as_fd(), 2).unwrap();
        poller.wait(Duration::from_secs(5)).unwrap();
        assert_eq!(poller.ready().count(), 1);
        drop(b);
        poller.wait(Duration::ZERO).unwrap();
        assert_eq!(poller.ready().count(), 0);
    }
}
