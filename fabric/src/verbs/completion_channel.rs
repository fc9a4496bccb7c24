//! Channels: where armed completion queues say that they have something, for those who sleep.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use libc::c_int;

use super::device::{Context, ContextOwner};
use super::events::set_non_blocking;
use super::failure::{Kind, VerbError, destroyed};
use super::ffi::ibv_comp_channel;

/// Where armed completion queues say that they have something. Clones share it.
#[derive(Clone)]
pub struct CompletionChannel(Arc<ChannelOwner>);

pub(super) struct ChannelOwner {
    raw: NonNull<ibv_comp_channel>,
    context: Arc<ContextOwner>,
}

// SAFETY: libibverbs is thread safe; our own fields are never changed.
unsafe impl Send for ChannelOwner {}
// SAFETY: as above.
unsafe impl Sync for ChannelOwner {}

impl Context {
    /// A new channel.
    ///
    /// # Errors
    /// When there is no descriptor left, or the device has gone.
    pub fn completion_channel(&self) -> Result<CompletionChannel, VerbError> {
        let context = self.owner();
        let failed = |source| context.error("ibv_create_comp_channel", source);
        // SAFETY: the context is open, and the channel keeps it so.
        let raw = unsafe { (context.functions().ibv_create_comp_channel)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| failed(io::Error::last_os_error()))?;
        let channel = ChannelOwner { raw, context: Arc::clone(context) };
        set_non_blocking(channel.fd()).map_err(failed)?;
        Ok(CompletionChannel(Arc::new(channel)))
    }
}

impl CompletionChannel {
    pub(super) const fn owner(&self) -> &Arc<ChannelOwner> {
        &self.0
    }

    /// Sleeps can wait on this: readable when an armed queue has something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the channel, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw(self.0.fd()) }
    }

    /// The token of a queue that had something since it was armed; never waits.
    ///
    /// # Errors
    /// When the device has gone.
    pub fn next(&self) -> Result<Option<u64>, VerbError> {
        let context = &self.0.context;
        let (mut queue, mut token) = (null_mut(), null_mut());
        let functions = context.functions();
        // SAFETY: the channel is open, and both places are on our stack. The descriptor does not block.
        let rc = unsafe {
            (functions.ibv_get_cq_event)(self.0.raw.as_ptr(), &raw mut queue, &raw mut token)
        };
        if rc != 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(context.error("ibv_get_cq_event", error)),
            };
        }
        // SAFETY: the queue is alive: destroying it waits for this acknowledgement.
        unsafe { (functions.ibv_ack_cq_events)(queue, 1) };
        Ok(Some(token.addr() as u64))
    }
}

impl fmt::Debug for CompletionChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompletionChannel").field(&self.0.context.name()).finish()
    }
}

impl ChannelOwner {
    pub(super) const fn raw(&self) -> *mut ibv_comp_channel {
        self.raw.as_ptr()
    }

    fn fd(&self) -> c_int {
        // SAFETY: the channel is open; libibverbs sets the field once.
        unsafe { (*self.raw.as_ptr()).fd }
    }
}

impl Drop for ChannelOwner {
    fn drop(&mut self) {
        // SAFETY: this is the only release; the queues that speak here have gone: they held this owner.
        let rc = unsafe { (self.context.functions().ibv_destroy_comp_channel)(self.raw.as_ptr()) };
        destroyed(Kind::CompletionChannel, self.context.name(), rc);
    }
}
