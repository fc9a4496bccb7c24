//! What runs on a node: the probe thread, the responder, and the commands of the tool that need no coordinator.

use std::time::Duration;

use railgauge_core::time::Wall;

pub mod daemon;
mod departures;
pub mod inventory;
pub mod mesh;
pub mod ping;
mod probe_thread;
mod pulse;
pub mod rdma;
pub mod reflect;
pub mod spool;
pub mod target;

/// Whether a thread spins or sleeps between packets. Never mixed in one series: sleeping adds its wake-up to app RTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// Polls without pause: one core, the least delay.
    BusyPoll,
    /// Sleeps in the kernel until the next slot or packet.
    Sleep,
}

impl WaitMode {
    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BusyPoll => "busy-poll",
            Self::Sleep => "sleep",
        }
    }

    /// How many datagrams to read with one call. Spinning, one: a call for more looks for a second before it hands over the
    /// first. Sleeping, many, because each call follows a wake-up that costs ten times as much.
    pub(crate) const fn batch(self, many: usize) -> usize {
        match self {
            Self::BusyPoll => 1,
            Self::Sleep => many,
        }
    }
}

/// Kernel memory that a small datagram takes in a receive queue: 256 of them fill the default 212,992 bytes.
const SMALL_DATAGRAM: usize = 832;

/// The receive buffer, in bytes of kernel memory, that holds one second of packets of `size` octets, `interval` apart
/// (or all that can be outstanding, where the time-out is longer).
pub(crate) fn receive_buffer_for(interval: Duration, timeout: Duration, size: usize) -> usize {
    let span = timeout.max(Duration::from_secs(1)).as_nanos();
    let packets = usize::try_from(span / interval.as_nanos().max(1)).unwrap_or(usize::MAX);
    // The kernel rounds a packet's memory up to a power of two and adds its own header.
    let each = SMALL_DATAGRAM.max(size.next_power_of_two() + 512);
    packets.saturating_mul(each).clamp(1 << 18, 1 << 28)
}

/// The version that results name: package version and commit.
pub const VERSION: &str = env!("RAILGAUGE_VERSION");

/// An error with its causes, in one line, without saying anything twice.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A time as RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(at: Wall) -> String {
    let nanos = i128::from(at.as_unix_nanos());
    jiff::Timestamp::from_nanosecond(nanos)
        .map_or_else(|_| "unknown".to_owned(), |t| format!("{t:.3}"))
}

/// Whole nanoseconds; durations here are all far below the 584 years that fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
