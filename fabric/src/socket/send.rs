//! Sending: one datagram on a connected socket, a burst of them, or a reply back the way its request came.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};

use super::UdpSocket;
use super::control::{CONTROL_BYTES, ControlBuffer, LocalAddress};
use super::error_queue::refusal;

/// The most datagrams handed over by one call of [`SendBatch::send`].
pub const BURST: usize = 16;

/// Where a reply goes, and as what.
#[derive(Clone, Copy, Debug)]
pub struct ReplyRoute {
    /// The sender of the request.
    pub to: SocketAddr,
    /// Where the request came in: the reply leaves from that address, so that the prober's connected socket takes it.
    pub local: Option<LocalAddress>,
    /// TOS octet of the request, mirrored so that both ways are measured in one class; ECN bits are not ours to set.
    pub tos: Option<u8>,
}

/// The word under which a failed send is counted.
pub fn send_reason(error: &io::Error) -> &'static str {
    error.raw_os_error().map_or("other", refusal)
}

impl UdpSocket {
    /// Sends on a connected socket.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send(packet).map(drop)
    }

    /// Sends a reply.
    pub fn reply(&self, packet: &[u8], route: &ReplyRoute) -> io::Result<()> {
        let to = socket2::SockAddr::from(route.to);
        if route.local.is_none() && route.mirrored_tos().is_none() {
            return self.socket.send_to(packet, &to).map(drop);
        }
        let mut control = ControlBuffer([0; CONTROL_BYTES]);
        let mut part =
            libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        // SAFETY: all-zero octets are a valid header (null pointers, zero lengths).
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES;
        header.msg_controllen = write_control(&header, route);
        // SAFETY: the header points at `to`, `part` and `control`, all alive here; sendmsg only reads through it.
        let sent = unsafe { libc::sendmsg(self.raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl ReplyRoute {
    fn mirrored_tos(&self) -> Option<i32> {
        self.tos.map(|tos| i32::from(tos & 0xfc)).filter(|&tos| tos != 0)
    }
}

/// Writes source address and TOS; returns the octets used.
fn write_control(header: &libc::msghdr, route: &ReplyRoute) -> usize {
    let mut used = 0;
    // SAFETY: the header has a control buffer of CONTROL_BYTES.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    let mut put = |level: i32, kind: i32, data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap_or(0);
        // SAFETY: only computes a length.
        let space = unsafe { libc::CMSG_SPACE(length) } as usize;
        if message.is_null() || used + space > CONTROL_BYTES {
            return;
        }
        // SAFETY: `message` is a header inside the buffer with `space` octets from it on.
        unsafe { write_message(message, level, kind, data) };
        used += space;
        // SAFETY: as for CMSG_FIRSTHDR; the message before it is complete.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    };
    match route.local.map(|local| (local.ip, local.interface)) {
        Some((IpAddr::V4(ip), _)) => {
            // Interface left open: the route decides, as for any other packet from this address.
            let mut info = [0_u8; size_of::<libc::in_pktinfo>()];
            info[4..8].copy_from_slice(&ip.octets());
            put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some((IpAddr::V6(ip), interface)) => {
            let interface = if ip.is_unicast_link_local() { interface } else { 0 };
            let mut info = [0_u8; size_of::<libc::in6_pktinfo>()];
            info[..16].copy_from_slice(&ip.octets());
            info[16..20].copy_from_slice(&interface.to_ne_bytes());
            put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    if let Some(tos) = route.mirrored_tos() {
        let (level, kind) = match route.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        put(level, kind, &tos.to_ne_bytes());
    }
    used
}

/// # Safety
///
/// `message` must point at a control message header with room for `data` behind it.
unsafe fn write_message(message: *mut libc::cmsghdr, level: i32, kind: i32, data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap_or(0);
    // SAFETY: only computes a length.
    let whole = unsafe { libc::CMSG_LEN(length) } as usize;
    // SAFETY: by contract a header is there.
    let header = unsafe { &mut *message };
    header.cmsg_level = level;
    header.cmsg_type = kind;
    header.cmsg_len = whole;
    // SAFETY: by contract the data area follows the header and has room.
    let to = unsafe { libc::CMSG_DATA(message) };
    // SAFETY: as above; `data` is elsewhere.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
}

/// What became of a batch.
#[derive(Debug)]
pub struct Sent {
    /// How many packets the kernel took, from the first on.
    pub taken: usize,
    /// Whether a send was tried twice: the numbering of departure stamps is then unknown.
    pub retried: bool,
    /// What stopped the next one; packets behind it were not tried.
    pub error: Option<io::Error>,
}

fn is_about_an_earlier_packet(error: &io::Error) -> bool {
    let errno = error.raw_os_error().unwrap_or(0);
    matches!(errno, libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EPROTO)
}

/// Packets of equal size, gathered and handed over with one sendmmsg(2).
pub struct SendBatch {
    packets: Box<[u8]>,
    packet_bytes: usize,
    filled: usize,
}

impl SendBatch {
    /// Room for [`BURST`] packets of `packet_bytes`.
    pub fn new(packet_bytes: usize) -> Self {
        Self { packets: vec![0; BURST * packet_bytes].into(), packet_bytes, filled: 0 }
    }

    /// Whether another packet fits.
    pub const fn is_full(&self) -> bool {
        self.filled == BURST
    }

    /// The next packet's bytes, to be written.
    pub fn next_packet(&mut self) -> &mut [u8] {
        let start = self.filled * self.packet_bytes;
        self.filled += 1;
        &mut self.packets[start..start + self.packet_bytes]
    }

    /// Hands the packets over in order and empties the batch.
    ///
    /// An ICMP error that came back for an earlier packet is reported by the kernel in place of the next send (ip(7),
    /// `IP_RECVERR`); that says nothing about this packet, so it is tried once more.
    pub fn send(&mut self, socket: &UdpSocket) -> Sent {
        let filled = std::mem::take(&mut self.filled);
        let mut sent = Sent { taken: 0, retried: false, error: None };
        while sent.taken < filled {
            match self.send_from(socket, sent.taken, filled) {
                Ok(count) => sent.taken += count,
                Err(e) if !sent.retried && is_about_an_earlier_packet(&e) => sent.retried = true,
                Err(e) => {
                    sent.error = Some(e);
                    break;
                }
            }
        }
        sent
    }

    fn send_from(&mut self, socket: &UdpSocket, from: usize, to: usize) -> io::Result<usize> {
        if to - from == 1 {
            let start = from * self.packet_bytes;
            return socket.send(&self.packets[start..start + self.packet_bytes]).map(|()| 1);
        }
        // SAFETY: all-zero octets are valid headers and parts (null pointers, zero lengths).
        let mut parts: [libc::iovec; BURST] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BURST] = unsafe { zeroed() };
        let packets = self.packets.chunks_exact_mut(self.packet_bytes).skip(from).take(to - from);
        for ((packet, part), header) in packets.zip(&mut parts).zip(&mut headers) {
            *part =
                libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: self.packet_bytes };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let count = u32::try_from(to - from).unwrap_or(0);
        // SAFETY: the first `count` headers point at parts that point into `packets`, all alive here.
        let sent = unsafe {
            libc::sendmmsg(socket.raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
