//! Errors that several verbs share, and the count of objects that could not be given back.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

/// A verb that failed; the cause is the source.
#[derive(Debug, thiserror::Error)]
#[error("{verb} fails on {device}")]
pub struct VerbError {
    /// Its C name.
    pub verb: &'static str,
    /// The device.
    pub device: Box<str>,
    /// What the library or kernel says.
    #[source]
    pub source: io::Error,
}

/// Memory that the kernel does not lock for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel does not lock the memory that the NIC needs: RLIMIT_MEMLOCK is {limit_bytes} bytes; set LimitMEMLOCK=infinity in the unit or `ulimit -l unlimited` in the shell, or give CAP_IPC_LOCK"
)]
pub struct LockedMemory {
    /// The soft limit of this process, in bytes.
    pub limit_bytes: u64,
}

impl LockedMemory {
    /// Whether `error` is the answer to too low a limit.
    pub(super) fn explains(error: &io::Error) -> Option<Self> {
        // ib_umem_get answers ENOMEM both for the limit and for a machine out of memory; without a limit it is the latter.
        let out = matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN));
        let (limit_bytes, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).ok()?;
        (out && limit_bytes != libc::RLIM_INFINITY).then_some(Self { limit_bytes })
    }
}

/// Why an object of the device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Rings are locked memory too.
    #[error(transparent)]
    LockedMemory(#[from] LockedMemory),
    /// Any other refusal.
    #[error(transparent)]
    Verb(#[from] VerbError),
}

impl CreateError {
    pub(super) fn new(verb: &'static str, device: &str, source: io::Error) -> Self {
        match LockedMemory::explains(&source) {
            Some(locked) => locked.into(),
            None => VerbError { verb, device: device.into(), source }.into(),
        }
    }
}

/// What a verb that returns `int` says: zero, a positive errno, or -1 with `errno` (older providers).
#[inline]
pub(super) fn outcome(rc: c_int) -> io::Result<()> {
    match rc {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        rc => Err(io::Error::from_raw_os_error(rc.saturating_abs())),
    }
}

/// Objects whose destruction failed since the process began, by kind. The kernel takes them back when their context is closed,
/// and at the latest when the process ends; until then they are leaked, never freed under the NIC's hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undestroyed {
    /// Contexts.
    pub contexts: u64,
    /// Protection domains.
    pub protection_domains: u64,
    /// Memory regions; their memory stays allocated.
    pub memory_regions: u64,
    /// Completion queues.
    pub completion_queues: u64,
    /// Completion channels.
    pub completion_channels: u64,
    /// Queue pairs.
    pub queue_pairs: u64,
    /// Address handles.
    pub address_handles: u64,
}

/// The kinds of objects, in the order of [`Undestroyed`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Context,
    ProtectionDomain,
    MemoryRegion,
    CompletionQueue,
    CompletionChannel,
    QueuePair,
    AddressHandle,
}

static FAILED: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

/// How many objects could not be given back.
pub fn undestroyed() -> Undestroyed {
    let count = |kind: Kind| FAILED[kind as usize].load(Ordering::Relaxed);
    Undestroyed {
        contexts: count(Kind::Context),
        protection_domains: count(Kind::ProtectionDomain),
        memory_regions: count(Kind::MemoryRegion),
        completion_queues: count(Kind::CompletionQueue),
        completion_channels: count(Kind::CompletionChannel),
        queue_pairs: count(Kind::QueuePair),
        address_handles: count(Kind::AddressHandle),
    }
}

/// Judges the end of an object inside `drop`, where nothing can be returned; true when it is gone.
pub(super) fn destroyed(kind: Kind, device: &str, rc: c_int) -> bool {
    let Err(error) = outcome(rc) else { return true };
    FAILED[kind as usize].fetch_add(1, Ordering::Relaxed);
    tracing::warn!(%device, ?kind, %error, "not destroyed; the kernel takes it back with the context");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_back_is_counted_by_kind() {
        let before = undestroyed().address_handles;
        assert!(destroyed(Kind::AddressHandle, "rxe1", 0));
        assert_eq!(undestroyed().address_handles, before);
        assert!(!destroyed(Kind::AddressHandle, "rxe1", libc::EBUSY));
        assert!(!destroyed(Kind::AddressHandle, "rxe1", -libc::EIO));
        assert_eq!(undestroyed().address_handles, before + 2);
    }

    #[test]
    fn only_a_limit_explains_that_memory_is_not_locked() {
        let errno = io::Error::from_raw_os_error;
        assert_eq!(LockedMemory::explains(&errno(libc::EINVAL)), None);
        let (soft, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).unwrap();
        let expected = (soft != libc::RLIM_INFINITY).then_some(LockedMemory { limit_bytes: soft });
        assert_eq!(LockedMemory::explains(&errno(libc::ENOMEM)), expected);
    }
}
