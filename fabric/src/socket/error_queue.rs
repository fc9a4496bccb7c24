//! The error queue: departure stamps, and ICMP errors that came back.

use std::io;

use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;

use super::UdpSocket;
use super::batch::ReceiveBatch;

/// Stamps of one burst of sends, read with one call; more stay queued for the next.
const BATCH: usize = 32;

/// One entry of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedError {
    /// The send with this number (counted from 0 by the kernel) left at this time.
    Transmitted {
        /// The number of the send on this socket.
        number: u32,
        /// When it left.
        stamp: Wall,
        /// Who says so.
        source: StampSource,
    },
    /// A datagram was refused on its way or by its destination.
    Refused {
        /// The reason as it is counted.
        reason: &'static str,
        /// The MTU that did not suffice, for `packet_too_big`.
        mtu: Option<u32>,
    },
    /// The call that sent was refused for its size, and said so already: this is the MTU that did not suffice.
    TooBig {
        /// In octets, with the IP header.
        mtu: u32,
    },
}

/// Buffers for reading the queue, allocated once.
pub struct ErrorQueue {
    one: ReceiveBatch,
    many: ReceiveBatch,
}

impl Default for ErrorQueue {
    fn default() -> Self {
        // Stamps come without payload; of a refused datagram its beginning is enough.
        let bytes = 64;
        Self { one: ReceiveBatch::new(1, bytes), many: ReceiveBatch::new(BATCH, bytes) }
    }
}

impl ErrorQueue {
    /// Hands every queued entry to `sink`; returns how many there were.
    pub fn drain(
        &mut self,
        socket: &UdpSocket,
        mut sink: impl FnMut(QueuedError),
    ) -> io::Result<usize> {
        let mut total = 0;
        loop {
            let count = self.many.fill(socket, libc::MSG_ERRQUEUE)?;
            (0..count).filter_map(|index| entry(&self.many, index)).for_each(&mut sink);
            total += count;
            if count < BATCH {
                return Ok(total);
            }
        }
    }

    /// Hands the first queued entry to `sink`, if there is one: where just one is expected, half the cost of a
    /// [`drain`](Self::drain), which looks for a second.
    pub fn take_one(
        &mut self,
        socket: &UdpSocket,
        sink: impl FnMut(QueuedError),
    ) -> io::Result<usize> {
        let count = self.one.fill(socket, libc::MSG_ERRQUEUE)?;
        (0..count).filter_map(|index| entry(&self.one, index)).for_each(sink);
        Ok(count)
    }
}

fn entry(batch: &ReceiveBatch, index: usize) -> Option<QueuedError> {
    let control = batch.error_of(index);
    let error = control.error?;
    if error.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING {
        let (stamp, source) = control.stamp?;
        return Some(QueuedError::Transmitted { number: error.ee_data, stamp, source });
    }
    let errno = i32::try_from(error.ee_errno).unwrap_or(0);
    if error.ee_origin == libc::SO_EE_ORIGIN_LOCAL {
        return (errno == libc::EMSGSIZE).then_some(QueuedError::TooBig { mtu: error.ee_info });
    }
    let mtu = (errno == libc::EMSGSIZE).then_some(error.ee_info);
    Some(QueuedError::Refused { reason: refusal(errno), mtu })
}

/// The kernel has already turned ICMP and ICMPv6 types into errno values (icmp(7)).
pub(super) const fn refusal(errno: i32) -> &'static str {
    match errno {
        libc::ECONNREFUSED => "port_unreachable",
        libc::EHOSTUNREACH => "host_unreachable",
        libc::ENETUNREACH => "network_unreachable",
        libc::EMSGSIZE => "packet_too_big",
        libc::EACCES | libc::EPERM => "not_permitted",
        libc::ENOBUFS | libc::ENOMEM => "no_buffer_space",
        libc::EAGAIN => "send_queue_full",
        libc::ENETDOWN | libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL => "interface_down",
        libc::EINVAL => "invalid_argument",
        libc::EHOSTDOWN => "host_down",
        libc::EPROTO => "protocol_error",
        libc::ENOPROTOOPT => "protocol_unreachable",
        _ => "other",
    }
}
