//! One end of a connection: its queue pair, completions and memory, the same at the prober and the responder.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use railgauge_core::rdma::endpoint::{Agreed, Offer, RdmaEndpoint, Region};
use railgauge_core::rdma::operation::{Completion, Measure, Operation};
use railgauge_fabric::socket::Waiter;
use railgauge_fabric::verbs::{
    Access, Capacity, CompletionChannel, CompletionQueue, CompletionQueueOptions, CreateError,
    Data, MemoryRegion, Placement, PostError, QueuePairOptions, RcConnection, RcError,
    RcParameters, RcQueuePair, RegisterError, Slice, Stamps, TransitionError, UnconnectedRc,
    VerbError,
};

use crate::WaitMode;
use crate::rdma::port::Port;

/// Receives posted: one answer is under way, and the others are there so that one is never missing while the used one is posted
/// again.
pub(super) const RECEIVES: u32 = 8;

/// Messages up to this size travel inside their requests: perftest's limits for writes and sends over RC
/// (src/perftest_parameters.h, DEF_INLINE_WRITE and DEF_INLINE_SEND_RC_UC_XRC).
const INLINE_WRITE: u32 = 220;
const INLINE_SEND: u32 = 236;

/// Nothing in memory is closer together than a cache line.
const LINE: usize = 64;

/// Why there is no queue pair.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// Memory.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A queue.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The pair.
    #[error(transparent)]
    Pair(#[from] RcError),
    /// It does not become ready.
    #[error("{source}: is the peer's address in reach of this port?")]
    Transition {
        /// What did not work.
        #[from]
        source: TransitionError,
    },
    /// Receives.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The channel.
    #[error(transparent)]
    Verb(#[from] VerbError),
    /// More than this machine can address.
    #[error("{0} octets are more than can be registered")]
    TooLarge(u32),
}

/// What is there before the peer is known.
pub(crate) struct Side {
    pair: UnconnectedRc,
    rest: Rest,
}

/// A connected end.
pub(crate) struct Connected {
    pub pair: RcQueuePair,
    pub rest: Rest,
}

/// Everything but the queue pair.
pub(crate) struct Rest {
    /// Where sends complete.
    pub sends: CompletionQueue,
    /// Where receives complete.
    pub receives: CompletionQueue,
    /// Where both say that they have something, where nobody spins.
    pub sleep: Option<Sleep>,
    /// Landing places, then what is sent.
    pub memory: MemoryRegion,
    /// Octets of a message.
    pub size: u32,
    /// From one landing place to the next.
    pub stride: usize,
    /// How many there are.
    pub places: u32,
    /// What is sent inside requests.
    pub payload: Box<[u8]>,
}

/// A channel to sleep on.
pub(crate) struct Sleep {
    channel: CompletionChannel,
    waiter: Waiter,
}

impl Side {
    /// Makes it, with receives posted: a peer may send as soon as it knows of it.
    pub fn new(
        port: &Port,
        offer: &Offer,
        is_prober: bool,
        mode: WaitMode,
    ) -> Result<Self, SideError> {
        let size = offer.size;
        let access = access(offer, is_prober);
        let stride = usize::try_from(size).unwrap_or(usize::MAX).next_multiple_of(LINE);
        let places = if offer.method.operation == Operation::Send { RECEIVES } else { 1 };
        let length = stride.checked_mul(places as usize + 1).ok_or(SideError::TooLarge(size))?;
        let memory = port.domain.register(length, Placement::Anywhere, access)?;
        let sleep = match mode {
            WaitMode::BusyPoll => None,
            WaitMode::Sleep => {
                let channel = port.context.completion_channel()?;
                let waiter = Waiter::new(std::iter::once(channel.fd()));
                Some(Sleep { channel, waiter })
            }
        };
        let channel = sleep.as_ref().map(|sleep| &sleep.channel);
        // Without stamps, so by the plain way of polling: those of RC completions are when the acknowledgement came, on a
        // clock that nothing else of the operation was stamped with.
        let queue = |entries| {
            let stamps = Stamps::None;
            let options = CompletionQueueOptions {
                entries,
                stamps,
                channel,
                ..CompletionQueueOptions::default()
            };
            port.context.completion_queue(&options)
        };
        let outstanding = u32::from(offer.outstanding) + 1;
        let (sends, receives) = (queue(outstanding)?, queue(RECEIVES + 1)?);
        let most_inline =
            if offer.method.operation == Operation::Write { INLINE_WRITE } else { INLINE_SEND };
        let inline_bytes = if size <= most_inline { most_inline } else { 0 };
        let pair = |inline_bytes| {
            let capacity = Capacity { sends: outstanding, receives: RECEIVES, inline_bytes };
            let (send_completions, receive_completions) = (&sends, &receives);
            let options = QueuePairOptions { send_completions, receive_completions, capacity };
            let parameters = RcParameters { port: port.number, partition_key_index: 0, access };
            UnconnectedRc::new(&port.domain, &options, &parameters)
        };
        // A device that carries less inside requests says so by refusing.
        let pair =
            pair(inline_bytes).or_else(|e| if inline_bytes > 0 { pair(0) } else { Err(e) })?;
        let inline_bytes = if inline_bytes > 0 { size as usize } else { 0 };
        let payload = vec![0; inline_bytes].into();
        let rest = Rest { sends, receives, sleep, memory, size, stride, places, payload };
        let mut side = Self { pair, rest };
        side.post_receives(offer)?;
        Ok(side)
    }

    fn post_receives(&mut self, offer: &Offer) -> Result<(), SideError> {
        let Self { pair, rest } = self;
        for place in 0..RECEIVES {
            match (offer.method.operation, offer.method.completion) {
                (Operation::Send, _) => pair.post_receive(place.into(), rest.landing(place))?,
                (Operation::Write, Completion::Immediate) => {
                    pair.post_receive(place.into(), None)?
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.pair.number()
    }

    /// Whether writes to it land in order of their addresses.
    pub fn is_in_order(&self) -> bool {
        self.pair.writes_in_order().unwrap_or(false)
    }

    /// What the peer may do with our memory: nothing, or what the method needs.
    pub fn region(&self, offer: &Offer, is_prober: bool) -> Option<Region> {
        let len = if is_prober { offer.memory_of_prober() } else { offer.memory_of_responder() };
        let memory = &self.rest.memory;
        let (address, remote_key) = (memory.address(), memory.remote_key());
        (len > 0).then_some(Region { address, len, remote_key })
    }

    /// Connects it.
    pub fn connect(
        self,
        port: &Port,
        own: &RdmaEndpoint,
        peer: &RdmaEndpoint,
        offer: &Offer,
        agreed: &Agreed,
    ) -> Result<Connected, SideError> {
        let pair = self.pair.connect(&RcConnection {
            way: port.way(peer, offer),
            queue_pair: peer.queue_pair,
            path_mtu: agreed.mtu,
            packet_sequence: own.packet_sequence,
            peer_packet_sequence: peer.packet_sequence,
            reliability: offer.reliability,
            max_reads_out: own.reads_out.min(peer.reads_in),
            max_reads_in: own.reads_in.min(peer.reads_out),
        })?;
        Ok(Connected { pair, rest: self.rest })
    }
}

impl Rest {
    /// A landing place.
    pub fn landing(&self, place: u32) -> Option<Slice<'_>> {
        self.memory.slice(place as usize * self.stride, self.size)
    }

    /// The last octet of a landing place, as it is now.
    #[inline]
    pub fn last_octet(&self, place: u32) -> u8 {
        let at = place as usize * self.stride + self.size as usize - 1;
        self.memory.host().map_or(0, |bytes| bytes.load(at))
    }

    /// A message whose last octet is `tag`.
    #[inline]
    pub fn message(&mut self, tag: u8) -> Data<'_> {
        if let Some(last) = self.payload.last_mut() {
            *last = tag;
            return Data::Inline(&self.payload);
        }
        let at = self.places as usize * self.stride;
        if let Some(bytes) = self.memory.host() {
            bytes.write(at + self.size as usize - 1, &[tag]);
        }
        self.memory.slice(at, self.size).map_or(Data::Empty, Data::Region)
    }

    /// Sleeps until a completion may be there, for `limit` at most; returns at once where one may have come before.
    pub fn sleep(&mut self, limit: Duration) -> Result<(), SleepError> {
        let Some(sleep) = &mut self.sleep else { return Ok(()) };
        sleep.waiter.wait(limit)?;
        while sleep.channel.next()?.is_some() {}
        Ok(())
    }

    /// For who waits on many at once: the channel, where nobody spins.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sleep.as_ref().map(|sleep| sleep.channel.fd())
    }

    /// Takes what the channel says, so that it is silent until the next.
    pub fn quiet(&mut self) -> Result<(), VerbError> {
        let Some(sleep) = &mut self.sleep else { return Ok(()) };
        while sleep.channel.next()?.is_some() {}
        Ok(())
    }

    /// Has completions end the next sleep. What came before that does not: poll once more.
    pub fn arm(&mut self) -> Result<(), VerbError> {
        self.sends.arm()?;
        self.receives.arm()
    }
}

/// Why nothing can be waited for.
#[derive(Debug, thiserror::Error)]
pub enum SleepError {
    /// The system.
    #[error("cannot wait for completions")]
    Wait(#[from] std::io::Error),
    /// The device.
    #[error(transparent)]
    Verb(#[from] VerbError),
}

/// What the peer and our own operations do with our memory.
fn access(offer: &Offer, is_prober: bool) -> Access {
    let operation = offer.method.operation;
    let is_latency = offer.method.measure == Measure::Latency;
    Access {
        local_write: true,
        // The answer to a write is a write.
        remote_write: operation == Operation::Write && (!is_prober || is_latency),
        remote_read: operation == Operation::Read && !is_prober,
        remote_atomic: operation == Operation::Atomic && !is_prober,
        relaxed_ordering: false,
    }
}
