//! Control messages (cmsg(3)): what the kernel says about a datagram beside its bytes.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;

/// Room for control messages of one datagram: stamps 64, packet info 36, TTL 20, TOS 20, drops 20, extended error 60
/// octets with their headers and padding, in all under 256.
pub(super) const CONTROL_BYTES: usize = 320;

/// Control message space, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
pub(super) struct ControlBuffer(pub [u8; CONTROL_BYTES]);

/// The address and interface a datagram came in on: replies leave from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The destination address of the datagram.
    pub ip: IpAddr,
    /// The index of the interface (needed for link-local addresses).
    pub interface: u32,
}

/// Everything found in the control messages of one datagram; what was not there is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    pub stamp: Option<(Wall, StampSource)>,
    pub ttl: Option<u8>,
    pub tos: Option<u8>,
    pub local: Option<LocalAddress>,
    pub dropped_so_far: Option<u32>,
    pub error: Option<libc::sock_extended_err>,
}

/// Reads the control messages of a received header.
///
/// # Safety
///
/// `header` must have been filled by a successful `recvmsg` or `recvmmsg`, its control buffer still alive and untouched.
pub(super) unsafe fn parse(header: &libc::msghdr) -> Control {
    let mut control = Control::default();
    // SAFETY: by contract the header describes a valid control buffer.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a pointer to a whole cmsghdr in the control buffer.
    while let Some(header_of_message) = unsafe { message.as_ref() } {
        // SAFETY: as above; the data follows the header.
        let data = unsafe { libc::CMSG_DATA(message) };
        // SAFETY: `cmsg_len` counts the octets from the header on, so the data has that many less the header.
        let length = unsafe { data.offset_from_unsigned(message.cast()) };
        let length = header_of_message.cmsg_len.saturating_sub(length);
        // SAFETY: the kernel wrote `length` octets there.
        let data = unsafe { std::slice::from_raw_parts(data, length) };
        control.take(header_of_message.cmsg_level, header_of_message.cmsg_type, data);
        // SAFETY: by contract the header describes a valid control buffer.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    control
}

impl Control {
    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => self.stamp = stamp(data),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.dropped_so_far = read(data),
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.ttl = read::<i32>(data).and_then(|ttl| u8::try_from(ttl).ok());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => self.tos = data.first().copied(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                self.tos = read::<i32>(data).and_then(|class| u8::try_from(class).ok());
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                self.local = read::<libc::in_pktinfo>(data).map(|info| LocalAddress {
                    ip: Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into(),
                    interface: u32::try_from(info.ipi_ifindex).unwrap_or(0),
                });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                self.local = read::<libc::in6_pktinfo>(data).map(|info| LocalAddress {
                    ip: Ipv6Addr::from(info.ipi6_addr.s6_addr).into(),
                    interface: info.ipi6_ifindex,
                });
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                self.error = read(data);
            }
            _ => {}
        }
    }
}

/// `struct scm_timestamping`: three `timespec`s, of which the first is the kernel's, the third the NIC's.
fn stamp(data: &[u8]) -> Option<(Wall, StampSource)> {
    let stamps: [libc::timespec; 3] = read(data)?;
    let at = |index: usize| wall(&stamps[index]);
    at(2).map(|t| (t, StampSource::Hardware)).or_else(|| at(0).map(|t| (t, StampSource::Kernel)))
}

fn wall(time: &libc::timespec) -> Option<Wall> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u64::try_from(time.tv_nsec).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    let total = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    (total > 0).then_some(Wall::from_unix_nanos(total))
}

/// Plain kernel structures that any bytes are a valid value of.
trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for [libc::timespec; 3] {}
impl Plain for libc::in_pktinfo {}
impl Plain for libc::in6_pktinfo {}
impl Plain for libc::sock_extended_err {}

fn read<T: Plain>(data: &[u8]) -> Option<T> {
    if data.len() < size_of::<T>() {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `data` has at least the size of `T`, and the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(data.as_ptr(), value.as_mut_ptr().cast(), size_of::<T>())
    };
    // SAFETY: all octets were written, and any octets are a valid `T` (`Plain`).
    Some(unsafe { value.assume_init() })
}
