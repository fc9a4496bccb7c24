//! The prober's end of a connection: posts operations and sees them end.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use railgauge_core::rdma::operation::{Completion, Measure, Method, Operation as Op};
use railgauge_fabric::verbs::{Flags, PostError, Remote, Slice, Status, VerbError, Work};

use super::side::{self, Rest, Side, SleepError};
use super::{ConnectError, Connected, RcPlan};
use crate::WaitMode;
use crate::rdma::exchange::{Exchange, Held};
use crate::rdma::port::Port;

/// A connection that probes.
pub(crate) struct RcLink {
    pair: side::Connected,
    method: Method,
    remote: Option<Remote>,
    held: Held,
    /// The landing place whose receive the last answer used up.
    used: Option<u32>,
    /// What both ends were set to.
    pub connected: Connected,
}

/// Something that happened to the operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Our own request completed: a reliable connection's has been acknowledged.
    Completed {
        /// As it was posted.
        id: u64,
    },
    /// The other side answered, with this tag.
    Answered(u8),
    /// The queue pair is of no more use.
    Failed(Status),
}

impl RcLink {
    /// Makes a queue pair, exchanges endpoints, and connects.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn connect(plan: &RcPlan, mode: WaitMode) -> Result<Self, ConnectError> {
        match Self::try_to(plan, mode) {
            Err(ConnectError::Unordered) if plan.falls_back => {
                let method = Method { completion: Completion::Immediate, ..plan.method };
                Self::try_to(&RcPlan { method, ..plan.clone() }, mode)
            }
            tried => tried,
        }
    }

    fn try_to(plan: &RcPlan, mode: WaitMode) -> Result<Self, ConnectError> {
        let port = Port::open(&plan.port)?;
        let offer = plan.offer(port.endpoint(2));
        let side = Side::new(&port, &offer, true, mode)?;
        let mut own = port.endpoint(side.number());
        own.packet_sequence = packet_sequence();
        own.in_order = side.is_in_order();
        own.region = side.region(&offer, true);
        let offer = plan.offer(own.clone());
        let is_watched = plan.method.completion == Completion::Memory;
        if is_watched && !own.in_order && !plan.is_forced {
            return Err(ConnectError::Unordered);
        }
        let exchange = Exchange::open_from(plan.local, plan.peer, offer.clone())?;
        let (agreed, peer) = (exchange.agreed, exchange.accept.endpoint.clone());
        if agreed.unordered && !plan.is_forced {
            return Err(ConnectError::Unordered);
        }
        let pair = side.connect(&port, &own, &peer, &offer, &agreed)?;
        let connected = Connected {
            offer,
            mtu: agreed.mtu,
            is_inline: !pair.rest.payload.is_empty(),
            gid_index: port.now.gid.index,
            is_unordered: agreed.unordered,
            peer,
        };
        let remote = connected.peer.region;
        let remote =
            remote.map(|region| Remote { address: region.address, key: region.remote_key });
        let held = exchange.keep(port)?;
        Ok(Self { pair, method: plan.method, remote, held, used: None, connected })
    }

    /// Whether the other side or our device is gone.
    pub fn is_over(&self) -> bool {
        self.held.is_over()
    }

    /// Posts the next operation; `tag` is in its last octet, and in its immediate data.
    #[inline]
    pub fn post(&mut self, id: u64, tag: u8, flags: Flags) -> Result<(), PostError> {
        let Self { pair, method, remote, .. } = self;
        let side::Connected { pair, rest } = pair;
        let nowhere = Remote { address: 0, key: 0 };
        let there = remote.unwrap_or(nowhere);
        let work = match method.operation {
            Op::Write => {
                let immediate = method.completion == Completion::Immediate;
                let immediate = immediate.then_some(u32::from(tag));
                Work::Write { data: rest.message(tag), to: there, immediate }
            }
            Op::Send => Work::Send { data: rest.message(tag), immediate: None },
            Op::Read => Work::Read { into: landing(rest)?, from: there },
            Op::Atomic => Work::FetchAdd { into: landing(rest)?, at: there, add: 1 },
        };
        pair.post(id, &work, flags)
    }

    /// Posts one of many, whose content does not matter.
    #[inline]
    pub fn post_bulk(&mut self, id: u64, flags: Flags) -> Result<(), PostError> {
        debug_assert_eq!(self.method.measure, Measure::Bandwidth);
        self.post(id, 0, flags)
    }

    /// Looks once, without waiting. The completion first: the acknowledgement comes before the answer, as a rule.
    #[inline]
    pub fn look(&mut self, completed: bool, last: &mut u8) -> Option<Seen> {
        if !completed && let Some(seen) = self.look_at_sends() {
            return Some(seen);
        }
        match self.method.completion {
            Completion::Memory => {
                let tag = self.pair.rest.last_octet(0);
                (tag != *last).then(|| {
                    *last = tag;
                    Seen::Answered(tag)
                })
            }
            Completion::Immediate => self.look_at_receives(),
            Completion::Queue if self.method.operation == Op::Send => self.look_at_receives(),
            Completion::Queue => None,
        }
    }

    /// Looks at memory, and nowhere else, `times` at most.
    #[inline]
    pub fn watch(&self, last: u8, times: u32) {
        if self.method.completion != Completion::Memory {
            return;
        }
        for _ in 0..times {
            if self.pair.rest.last_octet(0) != last {
                return;
            }
        }
    }

    /// The next completion of what we posted.
    #[inline]
    pub fn look_at_sends(&mut self) -> Option<Seen> {
        match self.pair.rest.sends.poll() {
            Ok(None) => None,
            Ok(Some(done)) if done.status.is_success() => Some(Seen::Completed { id: done.id }),
            Ok(Some(done)) => Some(Seen::Failed(done.status)),
            Err(_) => Some(Seen::Failed(Status::GENERAL)),
        }
    }

    fn look_at_receives(&mut self) -> Option<Seen> {
        match self.pair.rest.receives.poll() {
            Ok(None) => None,
            Ok(Some(came)) if came.status.is_success() => {
                let place = u32::try_from(came.id).unwrap_or(0);
                let tag = match came.immediate {
                    Some(immediate) => immediate.to_be_bytes()[3],
                    None => self.pair.rest.last_octet(place),
                };
                self.used = Some(place);
                Some(Seen::Answered(tag))
            }
            Ok(Some(came)) => Some(Seen::Failed(came.status)),
            Err(_) => Some(Seen::Failed(Status::GENERAL)),
        }
    }

    /// Posts the receive again that the last answer used up; not needed before the next answer, so done while that is awaited.
    #[inline]
    pub fn replenish(&mut self) -> Result<(), PostError> {
        let Some(place) = self.used.take() else { return Ok(()) };
        let side::Connected { pair, rest } = &mut self.pair;
        let into = if self.method.operation == Op::Send { rest.landing(place) } else { None };
        pair.post_receive(place.into(), into)
    }

    /// What it says that something has completed on, where nobody spins.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pair.rest.fd()
    }

    /// See [`Rest::quiet`].
    pub fn quiet(&mut self) -> Result<(), VerbError> {
        self.pair.rest.quiet()
    }

    /// See [`Rest::arm`].
    pub fn arm(&mut self) -> Result<(), VerbError> {
        self.pair.rest.arm()
    }

    /// See [`Rest::sleep`].
    pub fn sleep(&mut self, limit: Duration) -> Result<(), SleepError> {
        self.pair.rest.sleep(limit)
    }
}

fn landing(rest: &Rest) -> Result<Slice<'_>, PostError> {
    rest.landing(0).ok_or(PostError::Full)
}

/// Not the one of the connection before, whose packets may still be on their way.
fn packet_sequence() -> u32 {
    let mut octets = [0; 3];
    // Without randomness a fixed one does: the peer's queue pair is new, too.
    let _ = getrandom::fill(&mut octets);
    u32::from_be_bytes([0, octets[0], octets[1], octets[2]])
}
