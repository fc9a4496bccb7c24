//! Datagrams: STAMP packets from one queue pair to another, with the completions' own stamps where the device has them.

pub(crate) mod link;
pub(crate) mod respond;
mod stamps;

use railgauge_core::rdma::mtu::GRH_OCTETS;
use railgauge_core::time::Wall;
use railgauge_core::timestamp_source::StampSource;
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::verbs::{
    Access, AddressHandle, Capacity, Completion, CompletionChannel, CompletionQueue,
    CompletionQueueOptions, CreateError, Data, Datagram, Flags, MemoryRegion, Placement, PollError,
    PostError, QueuePairOptions, RegisterError, Stamps, UdError, UdParameters, UdQueuePair,
    VerbError,
};

use super::port::Port;
pub use link::{UdError as UdFlowError, UdOptions};
use stamps::Unwrapped;

/// Receives posted: a datagram that finds none is dropped in silence, so these are for what comes while nobody looks, half a
/// second at 1,000/s.
const RECEIVES: u32 = 512;

/// Sends under way.
const SENDS: u32 = 256;

/// Octets of the route header in front of each datagram, or room for one.
const HEADER: usize = GRH_OCTETS as usize;

/// Datagrams up to this size travel inside their requests: perftest's limit (src/perftest_parameters.h, DEF_INLINE_SEND_UD).
const INLINE: u32 = 188;

/// Nothing in memory is closer together than a cache line.
const LINE: usize = 64;

/// Why there is no queue pair for datagrams.
#[derive(Debug, thiserror::Error)]
pub enum UdSideError {
    /// Memory.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A queue.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The pair.
    #[error(transparent)]
    Pair(#[from] UdError),
    /// Receives.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The channel.
    #[error(transparent)]
    Verb(#[from] VerbError),
    /// No key.
    #[error("the system gives no randomness for a queue key")]
    NoRandomness,
}

/// One queue pair for datagrams, the same at the prober and the responder.
pub(crate) struct UdSide {
    pair: UdQueuePair,
    sends: CompletionQueue,
    receives: CompletionQueue,
    channel: CompletionChannel,
    memory: MemoryRegion,
    /// Octets of the longest datagram.
    room: usize,
    stride: usize,
    sends_out: u32,
    clock: Unwrapped,
    /// What datagrams to it must carry.
    pub queue_key: u32,
}

/// Where datagrams go.
pub(crate) struct Way {
    pub handle: AddressHandle,
    pub queue_pair: u32,
    pub queue_key: u32,
}

/// A datagram that came.
pub(crate) struct Arrived {
    /// Where it lies.
    pub place: u32,
    /// Its octets, without the route header.
    pub length: usize,
    /// Who sent it.
    pub source_queue_pair: u32,
    /// Its LID (InfiniBand).
    pub source_lid: u16,
    /// Whether a route header is in front of it.
    pub has_route: bool,
    /// When the NIC had it, where it stamps.
    pub stamp: Option<(Wall, StampSource)>,
}

/// A send that has ended.
pub(crate) struct Sent {
    /// As it was posted.
    pub id: u64,
    /// Whether it left.
    pub left: bool,
    /// When, where the NIC stamps.
    pub stamp: Option<(Wall, StampSource)>,
}

impl UdSide {
    /// Makes it for datagrams of `room` octets at most, with receives posted.
    pub fn new(port: &Port, room: usize) -> Result<Self, UdSideError> {
        let stride = (HEADER + room).next_multiple_of(LINE);
        let places = (RECEIVES + SENDS) as usize;
        let memory = port.domain.register(stride * places, Placement::Anywhere, Access::LOCAL)?;
        let channel = port.context.completion_channel()?;
        let queue = |entries| {
            let (stamps, channel) = (Stamps::Best, Some(&channel));
            let options = CompletionQueueOptions {
                entries,
                stamps,
                channel,
                ..CompletionQueueOptions::default()
            };
            port.context.completion_queue(&options)
        };
        let (sends, receives) = (queue(SENDS)?, queue(RECEIVES)?);
        let queue_key = queue_key()?;
        let pair = |inline_bytes| {
            let capacity = Capacity { sends: SENDS, receives: RECEIVES, inline_bytes };
            let (send_completions, receive_completions) = (&sends, &receives);
            let options = QueuePairOptions { send_completions, receive_completions, capacity };
            let parameters = UdParameters {
                port: port.number,
                partition_key_index: 0,
                queue_key,
                packet_sequence: 0,
            };
            UdQueuePair::new(&port.domain, &options, &parameters)
        };
        // A device that carries less inside requests says so by refusing.
        let pair = pair(INLINE).or_else(|_| pair(0))?;
        let clock = Unwrapped::new(sends.clock());
        let mut side = Self {
            pair,
            sends,
            receives,
            channel,
            memory,
            room,
            stride,
            sends_out: 0,
            clock,
            queue_key,
        };
        for place in 0..RECEIVES {
            side.post_receive(place)?;
        }
        Ok(side)
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.pair.number()
    }

    /// Whether packets of `length` octets travel inside their requests.
    pub fn is_inline(&self, length: usize) -> bool {
        length <= self.pair.max_inline_bytes() as usize
    }

    /// Whether the NIC stamps departures and arrivals.
    pub fn is_stamped(&self) -> bool {
        self.clock.is_stamped()
    }

    /// Why it does not.
    pub fn why_unstamped(&self) -> String {
        let refusals = self.sends.refusals();
        let told: Vec<String> = refusals.iter().map(|r| format!("{}: {}", r.what, r.why)).collect();
        format!("the device has no completion stamps ({})", told.join("; "))
    }

    /// Sleeps can wait on this, once armed.
    pub fn waiter(&self) -> Waiter {
        Waiter::new(std::iter::once(self.channel.fd()))
    }

    /// See [`waiter`](Self::waiter).
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.channel.fd()
    }

    /// Sends `packet` as `id`. It is copied.
    #[inline]
    pub fn post(&mut self, id: u64, packet: &[u8], to: &Way) -> Result<(), PostError> {
        if self.sends_out >= SENDS {
            return Err(PostError::Full);
        }
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let data = if length <= self.pair.max_inline_bytes() {
            Data::Inline(packet)
        } else {
            // As many places as sends can be out, and they complete in order.
            let place = RECEIVES as usize + send_place(id);
            let at = place * self.stride;
            match (self.memory.host(), self.memory.slice(at, length)) {
                (Some(bytes), Some(slice)) if packet.len() <= self.stride => {
                    bytes.write(at, packet);
                    Data::Region(slice)
                }
                _ => return Err(PostError::Full),
            }
        };
        let datagram = Datagram {
            to: &to.handle,
            queue_pair: to.queue_pair,
            queue_key: to.queue_key,
            data,
            immediate: None,
        };
        self.pair.post_send(id, &datagram, Flags::SIGNALED)?;
        self.sends_out += 1;
        Ok(())
    }

    /// The next send that has ended.
    #[inline]
    pub fn sent(&mut self) -> Result<Option<Sent>, PollError> {
        let Some(done) = self.sends.poll()? else { return Ok(None) };
        self.sends_out = self.sends_out.saturating_sub(1);
        let left = done.status.is_success();
        let stamp = if left { self.stamp(&done) } else { None };
        Ok(Some(Sent { id: done.id, left, stamp }))
    }

    /// The next datagram that has come; [`post_receive`](Self::post_receive) gives its place back. `Ok(Err)`: it is none.
    #[inline]
    pub fn arrived(&mut self) -> Result<Option<Result<Arrived, &'static str>>, PollError> {
        let Some(came) = self.receives.poll()? else { return Ok(None) };
        let place = u32::try_from(came.id).unwrap_or(0);
        if !came.status.is_success() {
            return Ok(Some(Err("receive_failed")));
        }
        let length = (came.bytes as usize).saturating_sub(HEADER);
        let stamp = self.stamp(&came);
        Ok(Some(Ok(Arrived {
            place,
            length,
            source_queue_pair: came.source_queue_pair,
            source_lid: came.source_lid,
            has_route: came.has_global_route,
            stamp,
        })))
    }

    fn stamp(&mut self, completion: &Completion) -> Option<(Wall, StampSource)> {
        self.clock.stamp(completion.stamp?)
    }

    /// Copies a datagram out, behind its route header.
    #[inline]
    pub fn copy(&self, arrived: &Arrived, header: &mut [u8; HEADER], into: &mut [u8]) -> usize {
        let length = arrived.length.min(self.room).min(into.len());
        let at = arrived.place as usize * self.stride;
        if let Some(bytes) = self.memory.host() {
            bytes.read(at, header);
            bytes.read(at + HEADER, &mut into[..length]);
        }
        length
    }

    /// Gives a place back to the NIC.
    #[inline]
    pub fn post_receive(&mut self, place: u32) -> Result<(), PostError> {
        let length = u32::try_from(HEADER + self.room).unwrap_or(u32::MAX);
        let at = place as usize * self.stride;
        match self.memory.slice(at, length) {
            Some(slice) => self.pair.post_receive(place.into(), slice),
            None => Err(PostError::Full),
        }
    }

    /// Has completions wake the waiter. What came before does not: poll once more.
    pub fn arm(&mut self) -> Result<(), VerbError> {
        if self.is_stamped() {
            self.sends.arm()?;
        }
        self.receives.arm()
    }

    /// Takes what the channel says, so that it is silent until the next.
    pub fn quiet(&mut self) -> Result<(), VerbError> {
        while self.channel.next()?.is_some() {}
        Ok(())
    }
}

/// The place that send `id` has, of as many as can be out.
fn send_place(id: u64) -> usize {
    usize::try_from(id % u64::from(SENDS)).unwrap_or(0)
}

/// Random, so that nobody sends by chance; the top bit would name the sender's own key.
fn queue_key() -> Result<u32, UdSideError> {
    let mut octets = [0; 4];
    getrandom::fill(&mut octets).map_err(|_| UdSideError::NoRandomness)?;
    Ok((u32::from_be_bytes(octets) & 0x7fff_ffff).max(1))
}
