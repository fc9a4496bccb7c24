//! Receiving many datagrams with one system call, each with its stamp.

use std::io;
use std::mem::zeroed;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;

use super::UdpSocket;
use super::control::{self, CONTROL_BYTES, ControlBuffer, LocalAddress};

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its bytes.
    pub payload: &'a [u8],
    /// Who sent it; `None` for an address family that is not IP.
    pub from: Option<SocketAddr>,
    /// When it arrived, near the wire.
    pub stamp: Option<(Wall, StampSource)>,
    /// TTL or hop limit on arrival.
    pub ttl: Option<u8>,
    /// TOS or traffic class octet on arrival.
    pub tos: Option<u8>,
    /// Where it came in.
    pub local: Option<LocalAddress>,
    /// Datagrams this socket had to drop for want of buffer since it was opened.
    pub dropped_so_far: Option<u32>,
    /// Whether it was longer than the buffer.
    pub truncated: bool,
}

struct Slot {
    name: libc::sockaddr_storage,
    control: ControlBuffer,
    part: libc::iovec,
    /// Only the kernel writes here, and `payload` reads.
    buffer: Box<[u8]>,
}

/// Buffers for up to a fixed number of datagrams, allocated once.
pub struct ReceiveBatch {
    /// Boxed, and neither slice is ever resized: the headers point into the slots.
    slots: Box<[Slot]>,
    headers: Box<[libc::mmsghdr]>,
    filled: usize,
}

// SAFETY: the raw pointers in the headers point into boxes that this very value owns, so they move with it.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Room for `count` datagrams of up to `bytes` octets.
    pub fn new(count: usize, bytes: usize) -> Self {
        let mut slots: Box<[Slot]> = (0..count).map(|_| Slot::new(bytes)).collect();
        let headers = slots.iter_mut().map(Slot::header).collect();
        Self { slots, headers, filled: 0 }
    }

    /// The datagrams of the last [`UdpSocket::receive`].
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.slots.iter().zip(&self.headers).take(self.filled).map(|(slot, header)| {
            // SAFETY: the first `filled` headers were filled by recvmmsg, and nothing touched their buffers since.
            let control = unsafe { control::parse(&header.msg_hdr) };
            let length = usize::try_from(header.msg_len).unwrap_or(usize::MAX);
            Datagram {
                payload: &slot.buffer[..length.min(slot.buffer.len())],
                from: socket_addr(&slot.name),
                stamp: control.stamp,
                ttl: control.ttl,
                tos: control.tos,
                local: control.local,
                dropped_so_far: control.dropped_so_far,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            }
        })
    }

    pub(super) fn error_of(&self, index: usize) -> control::Control {
        // SAFETY: callers pass an index below the count that recvmmsg returned.
        unsafe { control::parse(&self.headers[index].msg_hdr) }
    }

    /// Calls recvmmsg; only headers that the last call used need their lengths reset.
    pub(super) fn fill(&mut self, socket: &UdpSocket, flags: i32) -> io::Result<usize> {
        for header in &mut self.headers[..self.filled] {
            header.msg_hdr.msg_namelen = name_bytes();
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        self.filled = 0;
        let flags = flags | libc::MSG_DONTWAIT;
        let result = match &mut *self.headers {
            // recvmmsg would look for a second datagram first.
            [only] => receive_one(socket, only, flags),
            several => receive_several(socket, several, flags),
        };
        match result {
            Ok(filled) => {
                self.filled = filled;
                Ok(filled)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(e) => Err(e),
        }
    }
}

fn receive_one(socket: &UdpSocket, header: &mut libc::mmsghdr, flags: i32) -> io::Result<usize> {
    // SAFETY: the header is valid and its pointers lead into the slot that it was made from.
    let length = unsafe { libc::recvmsg(socket.raw_fd(), &raw mut header.msg_hdr, flags) };
    header.msg_len = u32::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(1)
}

fn receive_several(
    socket: &UdpSocket,
    headers: &mut [libc::mmsghdr],
    flags: i32,
) -> io::Result<usize> {
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    let no_timeout = std::ptr::null_mut();
    // SAFETY: `headers` are `count` valid headers whose pointers lead into the slots that they were made from.
    let filled =
        unsafe { libc::recvmmsg(socket.raw_fd(), headers.as_mut_ptr(), count, flags, no_timeout) };
    usize::try_from(filled).map_err(|_| io::Error::last_os_error())
}

impl UdpSocket {
    /// Reads what has arrived, without waiting; returns the number of datagrams now in `batch`. An ICMP error pending on
    /// the socket is returned as the error it stands for; the datagrams behind it come with the next call.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.fill(self, 0)
    }
}

impl Slot {
    fn new(bytes: usize) -> Self {
        // SAFETY: all-zero octets are a valid `sockaddr_storage` (family unspecified).
        let name = unsafe { zeroed() };
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let control = ControlBuffer([0; CONTROL_BYTES]);
        Self { name, control, part, buffer: vec![0; bytes].into() }
    }

    /// A header that points into this slot, which must not move any more.
    fn header(&mut self) -> libc::mmsghdr {
        self.part.iov_base = self.buffer.as_mut_ptr().cast();
        self.part.iov_len = self.buffer.len();
        // SAFETY: all-zero octets are a valid header (null pointers, zero lengths).
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        header.msg_hdr.msg_name = (&raw mut self.name).cast();
        header.msg_hdr.msg_namelen = name_bytes();
        header.msg_hdr.msg_iov = &raw mut self.part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = self.control.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL_BYTES;
        header
    }
}

fn name_bytes() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(128)
}

fn socket_addr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a `sockaddr_in`, which is smaller and less aligned.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = v4.sin_addr.s_addr.to_ne_bytes().into();
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for `sockaddr_in6`.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = v6.sin6_addr.s6_addr.into();
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}
