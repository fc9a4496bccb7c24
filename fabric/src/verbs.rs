//! RDMA by libibverbs: devices, registered memory, queue pairs, completions with the NIC's own stamps.
//!
//! The library is opened at run time ([ADR 10](../../../docs/adr/0010-verbs.md)): a node without it says so in a sentence, [`Unavailable`].
//! What the header defines inline is done here. Rules (which GID, which time-outs, what a completion means for a probe) are in
//! `railgauge-core`.
//!
//! Owners end in order by construction: whatever is made on a device holds what it was made from, so that a queue pair goes before its
//! completion queues and its protection domain, these before the context, whoever drops what when. A device that is gone ends in the same
//! way; what the kernel does not take back then is counted ([`undestroyed`]). To let a removed device go, drop everything that was
//! made from its [`Context`].
//!
//! Status, opcode, event and state numbers are data: a newer library or a driver may say numbers that no enum here knows.
//!
//! Nothing here waits but [`ProtectionDomain::address_handle`] and connecting, where the kernel resolves an address.

#![allow(
    unsafe_code,
    reason = "libibverbs is a C library: its functions and structs are raw interfaces"
)]

mod address;
mod buffer;
mod completion;
mod completion_channel;
mod completion_queue;
mod device;
mod events;
mod extended;
mod extended_poll;
mod failure;
mod ffi;
mod gid_table;
mod library;
mod memory;
mod numbers;
mod post;
mod presence;
mod queue_pair;
mod rc;
mod ud;
mod unavailable;

pub use address::{AddressCache, AddressHandle, AddressVector, GlobalRoute};
pub use buffer::{BufferError, HostBytes, Placement};
pub use completion::{Completion, Opcode, Stamp, StampClock, Status};
pub use completion_channel::CompletionChannel;
pub use completion_queue::{CompletionQueue, CompletionQueueOptions, PollError, Refusal, Stamps};
pub use device::{
    Context, Device, DeviceAttributes, OpenError, PortAttributes, devices, devices_left_out,
};
pub use events::{AsyncEvent, EventCode, Subject};
pub use failure::{CreateError, LockedMemory, Undestroyed, VerbError, undestroyed};
pub use memory::{Access, Dmabuf, MemoryRegion, ProtectionDomain, RegisterError, Route, Slice};
pub use post::{Data, Flags, PostError};
pub use presence::Presence;
pub use queue_pair::{
    Capacity, QueuePairAttributes, QueuePairOptions, QueuePairState, TransitionError,
};
pub use rc::{RcConnection, RcError, RcParameters, RcQueuePair, Remote, UnconnectedRc, Work};
pub use ud::{Datagram, UdError, UdParameters, UdQueuePair};
pub use unavailable::Unavailable;
