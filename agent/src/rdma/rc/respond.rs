//! The responder's end of a connection: answers writes with writes and sends with sends. Reads, atomics and bandwidth are the
//! device's own work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use railgauge_core::rdma::endpoint::{Agreed, Offer, RdmaEndpoint};
use railgauge_core::rdma::operation::{Completion, Method, Operation};
use railgauge_fabric::verbs::{Flags, Remote, Work};

use super::engine::reason;
use super::side::{Connected, Rest, Side, SideError};
use crate::WaitMode;
use crate::rdma::port::Port;

/// The longest sleep, so that the end of the session is heard.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// Answers under way at most: the prober waits for each, but may have given one up.
const MOST_SENT: u32 = 2;

/// An end that knows its peer's offer and is ready to receive.
pub(crate) struct Ready {
    side: Side,
    port: Port,
    mode: WaitMode,
    /// What the prober is told.
    pub own: RdmaEndpoint,
}

/// A connected end.
pub(crate) struct Answering {
    pair: Connected,
    method: Method,
    remote: Remote,
    mode: WaitMode,
}

impl Ready {
    /// Makes it.
    pub fn new(port: Port, offer: &Offer, mode: WaitMode) -> Result<Self, SideError> {
        let side = Side::new(&port, offer, false, mode)?;
        let mut own = port.endpoint(side.number());
        // Any number does, as the queue pair is new; the prober's is random, and one of both is enough.
        own.packet_sequence = side.number() & 0xff_ffff;
        own.in_order = side.is_in_order();
        own.region = side.region(offer, false);
        Ok(Self { side, port, mode, own })
    }

    /// The port it is on.
    pub const fn port(&self) -> &Port {
        &self.port
    }

    /// Connects it with the prober.
    pub fn connect(self, offer: &Offer, agreed: &Agreed) -> Result<Answering, SideError> {
        let Self { side, port, mode, own } = self;
        let peer = &offer.endpoint;
        let pair = side.connect(&port, &own, peer, offer, agreed)?;
        let there =
            peer.region.map(|region| Remote { address: region.address, key: region.remote_key });
        let remote = there.unwrap_or(Remote { address: 0, key: 0 });
        Ok(Answering { pair, method: offer.method, remote, mode })
    }
}

impl Answering {
    /// Whether a thread has to answer.
    pub const fn needs_a_thread(&self) -> bool {
        self.method.is_answered_by_program()
    }

    /// Answers until `over`, and counts it.
    ///
    /// # Errors
    /// The word for what ended the queue pair.
    pub fn run(mut self, over: &AtomicBool, answered: &AtomicU64) -> Result<(), &'static str> {
        match self.method.completion {
            Completion::Memory => self.watch_memory(over, answered),
            Completion::Immediate | Completion::Queue => self.watch_queue(over, answered),
        }
    }

    #[inline]
    fn answer(&mut self, tag: u8) -> Result<(), &'static str> {
        let Connected { pair, rest } = &mut self.pair;
        let work = match self.method.operation {
            Operation::Write => {
                let immediate = self.method.completion == Completion::Immediate;
                let immediate = immediate.then_some(u32::from(tag));
                Work::Write { data: rest.message(tag), to: self.remote, immediate }
            }
            _ => Work::Send { data: rest.message(tag), immediate: None },
        };
        pair.post(0, &work, Flags::SIGNALED).map_err(|_| "post_refused")
    }

    /// As perftest's server: looks at the last octet, answers, reaps.
    fn watch_memory(
        &mut self,
        over: &AtomicBool,
        answered: &AtomicU64,
    ) -> Result<(), &'static str> {
        let mut last = 0;
        while !over.load(Ordering::Relaxed) {
            let tag = self.pair.rest.last_octet(0);
            if tag == last {
                // No PAUSE: it can make a hypervisor take the CPU away.
                continue;
            }
            last = tag;
            self.answer(tag)?;
            while !reaped(&mut self.pair.rest)? {
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn watch_queue(&mut self, over: &AtomicBool, answered: &AtomicU64) -> Result<(), &'static str> {
        let (mut under_way, mut armed) = (0, false);
        let mut waiting: Option<(u32, u8)> = None;
        while !over.load(Ordering::Relaxed) {
            let mut idle = true;
            if under_way > 0 && reaped(&mut self.pair.rest)? {
                (under_way, idle) = (under_way - 1, false);
            }
            if waiting.is_none() {
                waiting = received(&mut self.pair.rest)?;
            }
            if under_way < MOST_SENT
                && let Some((place, tag)) = waiting.take()
            {
                self.answer(tag)?;
                (under_way, idle) = (under_way + 1, false);
                answered.fetch_add(1, Ordering::Relaxed);
                self.replenish(place)?;
            }
            if !idle {
                armed = false;
            } else if self.mode == WaitMode::Sleep {
                if armed {
                    self.pair.rest.sleep(LONGEST_SLEEP).map_err(|_| "device_failed")?;
                } else {
                    self.pair.rest.arm().map_err(|_| "device_failed")?;
                }
                // What came before the arming wakes nobody: look again between the two.
                armed = !armed;
            }
        }
        Ok(())
    }

    fn replenish(&mut self, place: u32) -> Result<(), &'static str> {
        let Connected { pair, rest } = &mut self.pair;
        let is_send = self.method.operation == Operation::Send;
        let into = if is_send { rest.landing(place) } else { None };
        pair.post_receive(place.into(), into).map_err(|_| "post_refused")
    }
}

#[inline]
fn reaped(rest: &mut Rest) -> Result<bool, &'static str> {
    match rest.sends.poll() {
        Ok(None) => Ok(false),
        Ok(Some(done)) if done.status.is_success() => Ok(true),
        Ok(Some(done)) => Err(reason(done.status)),
        Err(_) => Err("device_failed"),
    }
}

#[inline]
fn received(rest: &mut Rest) -> Result<Option<(u32, u8)>, &'static str> {
    match rest.receives.poll() {
        Ok(None) => Ok(None),
        Ok(Some(came)) if came.status.is_success() => {
            let place = u32::try_from(came.id).unwrap_or(0);
            let tag =
                came.immediate.map_or_else(|| rest.last_octet(place), |word| word.to_be_bytes()[3]);
            Ok(Some((place, tag)))
        }
        Ok(Some(came)) => Err(reason(came.status)),
        Err(_) => Err("device_failed"),
    }
}
