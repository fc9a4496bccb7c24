//! What must be known of a probe over verbs before its histogram means anything. It travels with the windows: with other
//! parameters they are another series, and never merged.

use super::mtu::PathMtu;
use super::operation::{CompletionStamps, Impossible, MemoryRoute, Method, Polling, Service};
use super::reliability::Reliability;

/// How a path was probed over verbs, beside what every path has (interval, time-out, size).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RdmaParameters {
    /// By what, and how its end was seen.
    pub method: Method,
    /// Operations outstanding at a time.
    pub outstanding: u16,
    /// What the queue pair did about loss; `None` for datagrams, which do nothing.
    pub reliability: Option<Reliability>,
    /// What one packet carried at most.
    pub mtu: PathMtu,
    /// Service level; on Ethernet the priority.
    pub service_level: u8,
    /// How the prober's device reached its memory.
    pub prober_route: MemoryRoute,
    /// How the responder's did.
    pub responder_route: MemoryRoute,
    /// How the prober waited for completions.
    pub polling: Polling,
    /// The clock of the prober's completions.
    pub stamps: CompletionStamps,
}

/// Parameters that no probe has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    /// Method and memory do not go together.
    #[error(transparent)]
    Method(#[from] Impossible),
    /// A datagram with retry settings, or a connection without.
    #[error("{} {}", .0.as_str(), if *.1 { "has retry settings" } else { "has no retry settings" })]
    Reliability(Service, bool),
    /// Beyond 4 bits.
    #[error("service level {0} is beyond 15")]
    ServiceLevel(u8),
    /// None.
    #[error("no operation may be outstanding")]
    Outstanding,
}

impl RdmaParameters {
    /// Whether a probe can have them.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), ParametersError> {
        self.method.check(self.prober_route)?;
        self.method.check(self.responder_route)?;
        let connected = self.method.service == Service::Connection;
        if self.reliability.is_some() != connected {
            return Err(ParametersError::Reliability(self.method.service, !connected));
        }
        if self.service_level > 15 {
            return Err(ParametersError::ServiceLevel(self.service_level));
        }
        if self.outstanding == 0 {
            return Err(ParametersError::Outstanding);
        }
        Ok(())
    }

    /// Whether memory of a GPU took part, at either end.
    pub fn touches_gpu(&self) -> bool {
        [self.prober_route, self.responder_route].iter().any(|route| *route != MemoryRoute::Host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdma::operation::Operation;
    use crate::rdma::reliability::Profile;

    #[test]
    fn contradictions_are_named() {
        let good = RdmaParameters {
            method: Method::latency(Service::Connection, Operation::Write, true),
            outstanding: 1,
            reliability: Some(Profile::Nccl.reliability()),
            mtu: PathMtu::B4096,
            service_level: 3,
            prober_route: MemoryRoute::Host,
            responder_route: MemoryRoute::Host,
            polling: Polling::Busy,
            stamps: CompletionStamps::Software,
        };
        assert_eq!(good.check(), Ok(()));
        let why = |change: fn(&mut RdmaParameters)| {
            let mut wrong = good;
            change(&mut wrong);
            wrong.check().unwrap_err().to_string()
        };
        assert_eq!(why(|p| p.reliability = None), "rdma-rc has no retry settings");
        assert_eq!(why(|p| p.service_level = 16), "service level 16 is beyond 15");
        assert_eq!(why(|p| p.outstanding = 0), "no operation may be outstanding");
        assert!(
            why(|p| p.responder_route = MemoryRoute::Dmabuf).contains("not watched by the CPU")
        );
        let datagrams = Method::latency(Service::Datagram, Operation::Send, true);
        let wrong = RdmaParameters { method: datagrams, ..good };
        assert_eq!(wrong.check().unwrap_err().to_string(), "rdma-ud has retry settings");
        assert!(!good.touches_gpu());
    }
}
