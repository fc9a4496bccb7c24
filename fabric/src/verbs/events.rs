//! Asynchronous events of a device: links, GIDs, queue pairs in error, the device itself.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::zeroed;

use super::device::Context;
use super::failure::VerbError;
use super::ffi::ibv_async_event;
use super::library::library;
use super::numbers::{
    IBV_EVENT_COMM_EST, IBV_EVENT_CQ_ERR, IBV_EVENT_DEVICE_FATAL, IBV_EVENT_GID_CHANGE,
    IBV_EVENT_LID_CHANGE, IBV_EVENT_PATH_MIG, IBV_EVENT_PATH_MIG_ERR, IBV_EVENT_PKEY_CHANGE,
    IBV_EVENT_PORT_ACTIVE, IBV_EVENT_PORT_ERR, IBV_EVENT_QP_ACCESS_ERR, IBV_EVENT_QP_FATAL,
    IBV_EVENT_QP_LAST_WQE_REACHED, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_SM_CHANGE, IBV_EVENT_SQ_DRAINED,
    IBV_EVENT_SRQ_ERR, IBV_EVENT_SRQ_LIMIT_REACHED, IBV_EVENT_WQ_FATAL,
};

/// What happened, as the library numbers it: a number that is newer than this program is data like any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventCode(pub u32);

impl EventCode {
    /// The device has failed or is being removed.
    pub const DEVICE_FATAL: Self = Self(IBV_EVENT_DEVICE_FATAL);
    /// A link came up.
    pub const PORT_ACTIVE: Self = Self(IBV_EVENT_PORT_ACTIVE);
    /// A link went down.
    pub const PORT_ERROR: Self = Self(IBV_EVENT_PORT_ERR);
    /// A port got another LID.
    pub const LID_CHANGE: Self = Self(IBV_EVENT_LID_CHANGE);
    /// The partition key table changed.
    pub const PARTITION_KEY_CHANGE: Self = Self(IBV_EVENT_PKEY_CHANGE);
    /// Another subnet manager rules.
    pub const SUBNET_MANAGER_CHANGE: Self = Self(IBV_EVENT_SM_CHANGE);
    /// The GID table changed: indexes have moved.
    pub const GID_CHANGE: Self = Self(IBV_EVENT_GID_CHANGE);
    /// A queue pair is in error, whatever its owner did.
    pub const QUEUE_PAIR_FATAL: Self = Self(IBV_EVENT_QP_FATAL);
    /// A completion queue overran: it and its queue pairs are dead.
    pub const COMPLETION_QUEUE_ERROR: Self = Self(IBV_EVENT_CQ_ERR);

    /// Whether GIDs, LIDs or links are to be looked up again.
    pub const fn changes_addresses(self) -> bool {
        matches!(
            self,
            Self::GID_CHANGE
                | Self::LID_CHANGE
                | Self::PARTITION_KEY_CHANGE
                | Self::SUBNET_MANAGER_CHANGE
                | Self::PORT_ACTIVE
                | Self::PORT_ERROR
        )
    }
}

impl fmt::Debug for EventCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventCode({}: {self})", self.0)
    }
}

/// The library's words; `event 23` for a number it does not know.
impl fmt::Display for EventCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(functions) = library() else { return write!(f, "event {}", self.0) };
        // SAFETY: the function reads a table of the library, and checks the number against its length.
        let text = unsafe { (functions.ibv_event_type_str)(self.0) };
        // SAFETY: a constant string of the library.
        let known = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
        match known {
            Some(text) if text != c"unknown" => f.pad(&text.to_string_lossy()),
            _ => write!(f, "event {}", self.0),
        }
    }
}

/// Whom an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A port of the device, or the device itself (port 0 or 1, as the driver likes).
    Port(i32),
    /// The queue pair of this number.
    QueuePair(u32),
    /// A completion queue, by the token of its maker.
    CompletionQueue(u64),
    /// Objects that are not made here.
    Other,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncEvent {
    /// What happened.
    pub code: EventCode,
    /// To whom.
    pub subject: Subject,
}

impl Context {
    /// The next event, if there is one; never waits.
    ///
    /// # Errors
    /// `EIO` when the device has gone.
    pub fn next_event(&self) -> Result<Option<AsyncEvent>, VerbError> {
        let context = self.owner();
        // SAFETY: all-zero octets are valid for this struct of a pointer and an integer.
        let mut raw: ibv_async_event = unsafe { zeroed() };
        // SAFETY: the context is open and `raw` is on our stack. The descriptor does not block.
        let rc = unsafe { (context.functions().ibv_get_async_event)(context.raw(), &raw mut raw) };
        if rc != 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(context.error("ibv_get_async_event", error)),
            };
        }
        let event = AsyncEvent { code: EventCode(raw.event_type), subject: subject(&raw) };
        // SAFETY: acknowledged once, before anybody can wait for it: destroying a queue pair waits for its events.
        unsafe { (context.functions().ibv_ack_async_event)(&raw mut raw) };
        Ok(Some(event))
    }
}

fn subject(raw: &ibv_async_event) -> Subject {
    match raw.event_type {
        IBV_EVENT_QP_FATAL
        | IBV_EVENT_QP_REQ_ERR
        | IBV_EVENT_QP_ACCESS_ERR
        | IBV_EVENT_COMM_EST
        | IBV_EVENT_SQ_DRAINED
        | IBV_EVENT_PATH_MIG
        | IBV_EVENT_PATH_MIG_ERR
        | IBV_EVENT_QP_LAST_WQE_REACHED => {
            // SAFETY: for these events the library fills this member.
            let queue_pair = unsafe { raw.element.qp };
            // SAFETY: it is alive until the event is acknowledged: ibv_destroy_qp waits for that.
            Subject::QueuePair(unsafe { (*queue_pair).qp_num })
        }
        IBV_EVENT_CQ_ERR => {
            // SAFETY: for this event the library fills this member.
            let queue = unsafe { raw.element.cq };
            // SAFETY: it is alive until the event is acknowledged.
            Subject::CompletionQueue(unsafe { (*queue).cq_context }.addr() as u64)
        }
        IBV_EVENT_SRQ_ERR | IBV_EVENT_SRQ_LIMIT_REACHED | IBV_EVENT_WQ_FATAL => Subject::Other,
        // SAFETY: for all others, and for those it does not know, the library fills this member.
        _ => Subject::Port(unsafe { raw.element.port_num }),
    }
}

/// Events are asked for, never waited for: sets `O_NONBLOCK` on a descriptor of libibverbs.
pub(super) fn set_non_blocking(fd: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the descriptor is open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    match unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
