//! Opening a UDP socket with everything set, and reading back what the kernel made of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use railgauge_core::timestamp_source::StampSource;
use socket2::{Domain, Protocol, Socket, Type};

use super::{UdpSocket, nic};

/// What a socket should be.
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    /// Where to bind; port 0 lets the kernel choose.
    pub local: SocketAddr,
    /// Connected to this peer: only its datagrams are received, and its ICMP errors come back.
    pub peer: Option<SocketAddr>,
    /// Differentiated services code point of what is sent, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// TTL or hop limit of what is sent.
    pub ttl: u8,
    /// Kernel memory wanted for datagrams not yet read, in bytes.
    pub receive_buffer_bytes: usize,
    /// Whether to ask for stamps: the NIC's where it takes them of every packet already, else the kernel's.
    pub stamps: bool,
}

/// Why a socket could not be opened; each names the address and the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has the port.
    #[error(
        "{local} is in use by another process: choose another port, or stop the one that has it (`ss -ulpn`)"
    )]
    InUse {
        /// The address asked for.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not this host's address.
    #[error("{} is not an address of this machine: `ip address` lists those that are", local.ip())]
    NotOurs {
        /// The address asked for.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A port below the unprivileged range.
    #[error(
        "not allowed to bind {local}: choose a port of 1024 or above, or grant CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// The address asked for.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The peer cannot be reached from here at all.
    #[error("no route to {peer}: check the address, `ip route get {}` and `ip link`", peer.ip())]
    NoRoute {
        /// Where from.
        local: SocketAddr,
        /// Where to.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {step} a UDP socket on {local}")]
    Other {
        /// What was being done.
        step: &'static str,
        /// The address asked for.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl UdpSocket {
    /// Opens a socket. Stamps that cannot be had are no error: [`UdpSocket::stamps`] says why.
    pub fn open(options: &UdpOptions) -> Result<Self, OpenError> {
        let local = options.local;
        let other = |step| move |source| OpenError::Other { step, local, source };
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP));
        let socket = socket.map_err(other("create"))?;
        socket.set_nonblocking(true).map_err(other("make non-blocking"))?;
        if local.is_ipv6() {
            // `[::]` is IPv6 alone, so that a second socket may serve IPv4 on the same port and no address is mapped.
            socket.set_only_v6(true).map_err(other("restrict to IPv6"))?;
        }
        socket.bind(&local.into()).map_err(|source| bind_error(local, source))?;
        set_addressing(&socket, options).map_err(other("set TTL and DSCP of"))?;
        let receive_buffer_bytes = set_receive_buffer(&socket, options.receive_buffer_bytes)
            .map_err(other("set the receive buffer of"))?;
        if let Some(peer) = options.peer {
            socket.connect(&peer.into()).map_err(|source| connect_error(local, peer, source))?;
        }
        let bound = socket.local_addr().map_err(other("read the address of"))?;
        let local = bound.as_socket().unwrap_or(local);
        let stamps = if options.stamps {
            choose_stamps(socket.as_raw_fd(), nic::stamps(local.ip()))
        } else {
            Err("not asked for".to_owned())
        };
        Ok(Self { socket, local, receive_buffer_bytes, stamps })
    }

    /// Asks for the next best stamps, as those of departures do not come: for the kernel's after the NIC's, then for those of
    /// arrivals alone. What is on its way is stamped no more, and the numbering of departures begins anew at 0.
    pub fn give_up_departure_stamps(&mut self) -> io::Result<()> {
        let none = "departures alone, as the network driver stamps none";
        let (stamps, flags) = match self.stamps {
            Ok(StampSource::Hardware) => {
                (Ok(StampSource::Kernel), departures_and_arrivals(StampSource::Kernel))
            }
            Ok(_) => (Err(none.to_owned()), ARRIVALS),
            Err(_) => return Ok(()),
        };
        self.stamps = stamps;
        self.ask_anew(flags)
    }

    /// Begins the numbering of departure stamps anew at 0. After a refused send it is unknown whether the kernel counted
    /// it; what the error queue still holds must be drained first.
    pub fn restart_transmit_numbering(&self) -> io::Result<()> {
        self.ask_anew(self.stamps().map_or(0, departures_and_arrivals))
    }

    fn ask_anew(&self, flags: u32) -> io::Result<()> {
        set_timestamping(self.raw_fd(), 0)?;
        set_timestamping(self.raw_fd(), flags)
    }
}

fn bind_error(local: SocketAddr, source: io::Error) -> OpenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => OpenError::InUse { local, source },
        io::ErrorKind::AddrNotAvailable => OpenError::NotOurs { local, source },
        io::ErrorKind::PermissionDenied => OpenError::NotPermitted { local, source },
        _ => OpenError::Other { step: "bind", local, source },
    }
}

fn connect_error(local: SocketAddr, peer: SocketAddr, source: io::Error) -> OpenError {
    match source.raw_os_error() {
        // EACCES: a broadcast address, or a route that prohibits; EINVAL: a route that drops.
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EADDRNOTAVAIL
            | libc::EACCES
            | libc::EINVAL
            | libc::ENETDOWN
            | libc::ENODEV,
        ) => OpenError::NoRoute { local, peer, source },
        _ => OpenError::Other { step: "connect", local, source },
    }
}

/// TTL and DSCP out, no fragmentation, drops counted; a socket that answers also learns TTL and DSCP of what comes in and,
/// when it is bound to every address, to which one it came. Each costs the receiving side some 30 ns a packet.
fn set_addressing(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    let (fd, ttl, tos) = (socket.as_raw_fd(), i32::from(options.ttl), i32::from(options.dscp) << 2);
    let answers = i32::from(options.peer.is_none());
    let everywhere = i32::from(options.peer.is_none() && options.local.ip().is_unspecified());
    let settings: &[(i32, i32, i32)] = match options.local {
        SocketAddr::V4(_) => &[
            (libc::IPPROTO_IP, libc::IP_TTL, ttl),
            (libc::IPPROTO_IP, libc::IP_TOS, tos),
            (libc::IPPROTO_IP, libc::IP_RECVTTL, answers),
            (libc::IPPROTO_IP, libc::IP_RECVTOS, answers),
            (libc::IPPROTO_IP, libc::IP_PKTINFO, everywhere),
            (libc::IPPROTO_IP, libc::IP_RECVERR, 1),
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        ],
        SocketAddr::V6(_) => &[
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, ttl),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, answers),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, answers),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, everywhere),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
        ],
    };
    for &(level, name, value) in settings {
        set_int(fd, level, name, value)?;
    }
    set_int(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
}

/// Past `net.core.rmem_max` only with CAP_NET_ADMIN (`SO_RCVBUFFORCE`, socket(7)). Returns what was granted.
fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    // The kernel doubles the number to make room for its own bookkeeping; `bytes` counts that in already.
    let half = i32::try_from(bytes / 2).unwrap_or(i32::MAX);
    let fd = socket.as_raw_fd();
    if set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, half).is_err() {
        set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, half)?;
    }
    socket.recv_buffer_size()
}

/// Asks for the NIC's stamps where they can be had, else for the kernel's.
fn choose_stamps(fd: RawFd, hardware: bool) -> Result<StampSource, String> {
    let ask = |source| set_timestamping(fd, departures_and_arrivals(source)).map(|()| source);
    let asked = if hardware { ask(StampSource::Hardware) } else { ask(StampSource::Kernel) };
    asked.or_else(|_| ask(StampSource::Kernel)).map_err(|e| format!("SO_TIMESTAMPING refused: {e}"))
}

/// The kernel's stamps of what arrives.
const ARRIVALS: u32 = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;

/// Stamps on arrival and departure by one clock, never by both: what the NIC missed is not stamped by the kernel instead.
/// Departures are numbered, and come without a copy of their payload.
const fn departures_and_arrivals(source: StampSource) -> u32 {
    let by = match source {
        StampSource::Hardware => {
            libc::SOF_TIMESTAMPING_TX_HARDWARE
                | libc::SOF_TIMESTAMPING_RX_HARDWARE
                | libc::SOF_TIMESTAMPING_RAW_HARDWARE
        }
        _ => libc::SOF_TIMESTAMPING_TX_SOFTWARE | ARRIVALS,
    };
    by | libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY
}

fn set_timestamping(fd: RawFd, flags: u32) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags.cast_signed())
}

fn set_int(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the option value is one `i32` on our stack, whose size is given.
    let rc = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn get_int(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the kernel writes at most `length` bytes into one `i32` on our stack.
    let rc = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) };
    if rc == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
