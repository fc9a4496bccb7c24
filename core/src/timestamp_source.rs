//! Where a stamp was taken. Every series names its four, and different ones are never merged (design D2).

use std::fmt;

/// The place that took a stamp, nearest the wire first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StampSource {
    /// The NIC, as the frame passed.
    Hardware,
    /// The completion queue entry of an RDMA operation.
    Cqe,
    /// The kernel: at hand-over to the driver when sending, on entry to the stack when receiving.
    Kernel,
    /// The application, around its system call.
    User,
    /// A GPU.
    Device,
    /// A reflector that does not say (any that is not ours).
    Unknown,
    /// No stamp takes part in this series (t2 and t3 of an app RTT).
    None,
}

impl StampSource {
    /// The word used in tables, JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Cqe => "cqe",
            Self::Kernel => "kernel",
            Self::User => "user",
            Self::Device => "device",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }
}

/// The sources of t1, t2, t3 and t4, written `kernel/kernel/kernel/kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampSource {
    /// Prober transmit.
    pub t1: StampSource,
    /// Responder receive.
    pub t2: StampSource,
    /// Responder transmit.
    pub t3: StampSource,
    /// Prober receive.
    pub t4: StampSource,
}

impl fmt::Display for TimestampSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { t1, t2, t3, t4 } = self;
        write!(f, "{}/{}/{}/{}", t1.as_str(), t2.as_str(), t3.as_str(), t4.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_four_parts() {
        let source = TimestampSource {
            t1: StampSource::Kernel,
            t2: StampSource::Hardware,
            t3: StampSource::User,
            t4: StampSource::Unknown,
        };
        assert_eq!(source.to_string(), "kernel/hardware/user/unknown");
    }
}
