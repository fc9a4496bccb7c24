//! Completion queues: polled with stamps of the NIC where there are any, plainly elsewhere.

use std::fmt;
use std::io;
use std::mem::zeroed;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use libc::c_int;

use super::completion::{Completion, StampClock};
use super::completion_channel::{ChannelOwner, CompletionChannel};
use super::device::{Context, ContextOwner};
use super::extended;
use super::extended_poll::{Readers, Wanted};
use super::failure::{CreateError, Kind, VerbError, destroyed, outcome};
use super::ffi::{ibv_comp_channel, ibv_cq, ibv_cq_init_attr_ex, ibv_wc};

/// Which stamps a completion queue shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamps {
    /// Wallclock, else raw, else none, as the device can.
    #[default]
    Best,
    /// Wallclock or an error.
    Wallclock,
    /// Raw or an error.
    Raw,
    /// None: `ibv_poll_cq`.
    None,
    /// None, by extended polling all the same. Slower than plain, and only for checking that way of polling where no device
    /// has stamps.
    NoneExtended,
}

/// How a completion queue shall be.
#[derive(Clone, Copy, Debug)]
pub struct CompletionQueueOptions<'a> {
    /// Entries, at least; the device may make more. More completions than entries kill the queue and its queue pairs, so make it
    /// as large as all queues that complete here together.
    pub entries: u32,
    /// Its stamps.
    pub stamps: Stamps,
    /// Where it says that it has something, once armed.
    pub channel: Option<&'a CompletionChannel>,
    /// By which the channel and events name it.
    pub token: u64,
    /// Which interrupt it uses with a channel, below [`Context::completion_vectors`].
    pub vector: u32,
}

impl Default for CompletionQueueOptions<'_> {
    fn default() -> Self {
        Self { entries: 256, stamps: Stamps::Best, channel: None, token: 0, vector: 0 }
    }
}

/// A kind of stamps that a device refused.
#[derive(Debug)]
pub struct Refusal {
    /// `wallclock` or `raw`.
    pub what: &'static str,
    /// Why.
    pub why: io::Error,
}

/// A completion queue. It lives as long as the queue pairs that use it, though nobody polls it any more.
pub struct CompletionQueue {
    owner: Arc<QueueOwner>,
    polling: Polling,
    clock: StampClock,
    refusals: Vec<Refusal>,
}

pub(super) struct QueueOwner {
    raw: NonNull<ibv_cq>,
    context: Arc<ContextOwner>,
    /// Only held: it may not go before the queue.
    _channel: Option<Arc<ChannelOwner>>,
}

// SAFETY: libibverbs is thread safe. The extended fields that polling changes are only used through `CompletionQueue`, by
// `&mut`; queue pairs hold this owner for its end alone.
unsafe impl Send for QueueOwner {}
// SAFETY: as above.
unsafe impl Sync for QueueOwner {}

#[derive(Clone, Copy)]
enum Polling {
    Plain(PlainPoll),
    Extended(Readers),
}

type PlainPoll = unsafe extern "C" fn(*mut ibv_cq, c_int, *mut ibv_wc) -> c_int;

/// A queue that cannot be polled: a device that has gone, or a provider's defect.
#[derive(Debug, thiserror::Error)]
#[error("the completion queue of {device} cannot be polled")]
pub struct PollError {
    /// The device.
    pub device: Box<str>,
    /// What the provider says.
    #[source]
    pub source: io::Error,
}

impl Context {
    /// How many interrupts completion queues can be spread over.
    pub fn completion_vectors(&self) -> u32 {
        // SAFETY: the context is open; libibverbs sets the field once.
        let count = unsafe { (*self.owner().raw()).num_comp_vectors };
        u32::try_from(count).unwrap_or(0)
    }

    /// A completion queue with the best stamps that were asked for.
    ///
    /// # Errors
    /// When there is no room, or the device has not the stamps that were demanded.
    pub fn completion_queue(
        &self,
        options: &CompletionQueueOptions<'_>,
    ) -> Result<CompletionQueue, CreateError> {
        let tries: &[Wanted] = match options.stamps {
            Stamps::Best => &[Wanted::Wallclock, Wanted::Raw, Wanted::Plain],
            Stamps::Wallclock => &[Wanted::Wallclock],
            Stamps::Raw => &[Wanted::Raw],
            Stamps::None => &[Wanted::Plain],
            Stamps::NoneExtended => &[Wanted::Unstamped],
        };
        let mut refusals = Vec::new();
        for wanted in tries {
            match self.make_queue(*wanted, options) {
                Ok((owner, polling, clock)) => {
                    return Ok(CompletionQueue { owner, polling, clock, refusals });
                }
                Err(why) => refusals.push(Refusal { what: wanted.as_str(), why }),
            }
        }
        let why = refusals.pop().map_or_else(io::Error::last_os_error, |refusal| refusal.why);
        Err(CreateError::new("ibv_create_cq", self.owner().name(), why))
    }

    fn make_queue(
        &self,
        wanted: Wanted,
        options: &CompletionQueueOptions<'_>,
    ) -> io::Result<(Arc<QueueOwner>, Polling, StampClock)> {
        let context = self.owner();
        let channel = options.channel.map(|channel| Arc::clone(channel.owner()));
        let raw_channel = channel.as_ref().map_or(null_mut(), |channel| channel.raw());
        let Some(flags) = wanted.flags() else {
            let raw = self.make_plain(options, raw_channel)?;
            let poll = plain_poll(context)?;
            let owner = QueueOwner { raw, context: Arc::clone(context), _channel: channel };
            return Ok((Arc::new(owner), Polling::Plain(poll), StampClock::None));
        };
        // SAFETY: all-zero octets are valid for this struct of integers and pointers.
        let mut attr: ibv_cq_init_attr_ex = unsafe { zeroed() };
        attr.cqe = options.entries;
        attr.cq_context = token_pointer(options.token);
        attr.channel = raw_channel;
        attr.comp_vector = options.vector;
        attr.wc_flags = flags;
        // SAFETY: the context is open; the channel is of the same context, or the kernel refuses it.
        let raw = unsafe { extended::create_cq(context.raw(), &raw mut attr) }?;
        let raw = NonNull::new(raw).ok_or_else(io::Error::last_os_error)?;
        // From here on the queue is destroyed with its owner, whatever follows.
        let owner = QueueOwner { raw: raw.cast(), context: Arc::clone(context), _channel: channel };
        let owner = Arc::new(owner);
        // SAFETY: the queue was made just now and is ours.
        let readers = Readers::of(unsafe { raw.as_ref() }, wanted)?;
        let clock = self.stamp_clock(wanted)?;
        Ok((owner, Polling::Extended(readers), clock))
    }

    fn make_plain(
        &self,
        options: &CompletionQueueOptions<'_>,
        channel: *mut ibv_comp_channel,
    ) -> io::Result<NonNull<ibv_cq>> {
        let context = self.owner();
        let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
        let entries = c_int::try_from(options.entries).map_err(invalid)?;
        let vector = c_int::try_from(options.vector).map_err(invalid)?;
        let create = context.functions().ibv_create_cq;
        let token = token_pointer(options.token);
        // SAFETY: the context is open; the channel is of the same context, or the kernel refuses it. The token is never followed.
        let raw = unsafe { create(context.raw(), entries, token, channel, vector) };
        NonNull::new(raw).ok_or_else(io::Error::last_os_error)
    }

    fn stamp_clock(&self, wanted: Wanted) -> io::Result<StampClock> {
        match wanted {
            Wanted::Wallclock => Ok(StampClock::Wallclock),
            Wanted::Plain | Wanted::Unstamped => Ok(StampClock::None),
            Wanted::Raw => {
                let attributes = self.attributes().map_err(|error| error.source)?;
                let (mask, khz) = (attributes.completion_stamp_mask, attributes.core_clock_khz);
                if mask == 0 || khz == 0 {
                    let why = "the device does not say how fast its clock ticks or where it wraps";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                Ok(StampClock::Raw { mask, khz })
            }
        }
    }
}

impl CompletionQueue {
    /// The clock of its stamps.
    pub const fn clock(&self) -> StampClock {
        self.clock
    }

    /// Stamps that would have been better, and why the device does not give them.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// The next completion, if there is one; never waits.
    ///
    /// # Errors
    /// When the device has gone, or its provider fails.
    #[inline]
    pub fn poll(&mut self) -> Result<Option<Completion>, PollError> {
        let raw = self.owner.raw.as_ptr();
        let result = match self.polling {
            Polling::Plain(poll) => {
                // Zeroed: providers leave out what they have no value for.
                // SAFETY: all-zero octets are valid for this struct of integers.
                let mut wc: ibv_wc = unsafe { zeroed() };
                // SAFETY: the queue is open, and `wc` has room for the one that is asked for.
                match unsafe { poll(raw, 1, &raw mut wc) } {
                    0 => Ok(None),
                    1 => Ok(Some(Completion::new(&wc, None))),
                    error => Err(io::Error::from_raw_os_error(error.saturating_abs())),
                }
            }
            // SAFETY: the queue is open and extended, and `&mut self` is the only one who polls.
            Polling::Extended(readers) => unsafe { readers.poll(raw.cast()) },
        };
        result.map_err(|source| PollError { device: self.owner.context.name().into(), source })
    }

    /// Makes its channel say when the next completion comes. Poll until empty, arm, poll until empty again, sleep: what came
    /// before the arming says nothing.
    ///
    /// # Errors
    /// When the device has gone.
    pub fn arm(&mut self) -> Result<(), VerbError> {
        let context = &self.owner.context;
        // SAFETY: the context is open; its table does not change.
        let arm = unsafe { (*context.raw()).ops.req_notify_cq };
        let result = match arm {
            // SAFETY: the queue is open.
            Some(arm) => outcome(unsafe { arm(self.owner.raw.as_ptr(), 0) }),
            None => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        };
        result.map_err(|source| context.error("ibv_req_notify_cq", source))
    }

    pub(super) const fn owner(&self) -> &Arc<QueueOwner> {
        &self.owner
    }
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionQueue")
            .field("device", &self.owner.context.name())
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl QueueOwner {
    pub(super) const fn context(&self) -> &Arc<ContextOwner> {
        &self.context
    }

    pub(super) const fn raw(&self) -> *mut ibv_cq {
        self.raw.as_ptr()
    }
}

impl Drop for QueueOwner {
    fn drop(&mut self) {
        // SAFETY: this is the only release; the queue pairs that complete here have gone: they held this owner. Events were all
        // acknowledged when they were taken.
        let rc = unsafe { (self.context.functions().ibv_destroy_cq)(self.raw()) };
        destroyed(Kind::CompletionQueue, self.context.name(), rc);
    }
}

fn plain_poll(context: &ContextOwner) -> io::Result<PlainPoll> {
    // SAFETY: the context is open; its table does not change.
    let poll = unsafe { (*context.raw()).ops.poll_cq };
    poll.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

fn token_pointer(token: u64) -> *mut libc::c_void {
    // Linux on x86_64 and aarch64: a pointer has 64 bits. The library only hands it back.
    std::ptr::without_provenance_mut(usize::try_from(token).unwrap_or(usize::MAX))
}
