//! Memory that a NIC may read and write: our own, and the seam to GPU memory.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use libc::c_void;

use super::buffer::{Buffer, BufferError, HostBytes, Placement};
use super::device::{Context, ContextOwner};
use super::failure::{Kind, LockedMemory, VerbError, destroyed};
use super::ffi::{ibv_mr, ibv_pd};
use super::numbers::{
    IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_RELAXED_ORDERING, IBV_ACCESS_REMOTE_ATOMIC,
    IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_WRITE,
};

/// What belongs together on a device: memory, queue pairs and address handles of one domain know each other. Clones share it.
#[derive(Clone)]
pub struct ProtectionDomain(Arc<DomainOwner>);

pub(super) struct DomainOwner {
    raw: NonNull<ibv_pd>,
    context: Arc<ContextOwner>,
}

// SAFETY: libibverbs is thread safe, and nothing of the domain is read or written here but its handle.
unsafe impl Send for DomainOwner {}
// SAFETY: as above.
unsafe impl Sync for DomainOwner {}

impl Context {
    /// A new protection domain.
    ///
    /// # Errors
    /// When the device has none left, or has gone.
    pub fn protection_domain(&self) -> Result<ProtectionDomain, VerbError> {
        let context = self.owner();
        // SAFETY: the context is open, and the domain keeps it so.
        let raw = unsafe { (context.functions().ibv_alloc_pd)(context.raw()) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(context.error("ibv_alloc_pd", io::Error::last_os_error()));
        };
        Ok(ProtectionDomain(Arc::new(DomainOwner { raw, context: Arc::clone(context) })))
    }
}

impl ProtectionDomain {
    pub(super) const fn owner(&self) -> &Arc<DomainOwner> {
        &self.0
    }
}

impl fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProtectionDomain").field(&self.0.context.name()).finish()
    }
}

impl DomainOwner {
    pub(super) const fn raw(&self) -> *mut ibv_pd {
        self.raw.as_ptr()
    }

    pub(super) const fn context(&self) -> &Arc<ContextOwner> {
        &self.context
    }
}

impl Drop for DomainOwner {
    fn drop(&mut self) {
        // SAFETY: this is the only release, and all that was made in the domain has gone: it held this owner.
        let rc = unsafe { (self.context.functions().ibv_dealloc_pd)(self.raw()) };
        destroyed(Kind::ProtectionDomain, self.context.name(), rc);
    }
}

/// What a NIC may do with a region, beside reading it for its own sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Receives and completed reads may be put here. InfiniBand wants it wherever peers may write, so those imply it.
    pub local_write: bool,
    /// Peers may write.
    pub remote_write: bool,
    /// Peers may read.
    pub remote_read: bool,
    /// Peers may do atomics.
    pub remote_atomic: bool,
    /// PCIe may reorder writes: faster on some hosts, and then nothing may poll memory. Left out where the library is too
    /// old for it.
    pub relaxed_ordering: bool,
}

impl Access {
    /// For sends and receives.
    pub const LOCAL: Self = Self {
        local_write: true,
        remote_write: false,
        remote_read: false,
        remote_atomic: false,
        relaxed_ordering: false,
    };
    /// For everything a peer may do, in order.
    pub const REMOTE: Self =
        Self { remote_write: true, remote_read: true, remote_atomic: true, ..Self::LOCAL };

    pub(super) fn bits(self) -> i32 {
        let local = self.local_write || self.remote_write || self.remote_atomic;
        let bit = |wanted: bool, bit: i32| if wanted { bit } else { 0 };
        bit(local, IBV_ACCESS_LOCAL_WRITE)
            | bit(self.remote_write, IBV_ACCESS_REMOTE_WRITE)
            | bit(self.remote_read, IBV_ACCESS_REMOTE_READ)
            | bit(self.remote_atomic, IBV_ACCESS_REMOTE_ATOMIC)
    }
}

/// How a region's memory came to the NIC; part of every result that was measured with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// Memory of this process.
    Host,
    /// Device memory by a dmabuf descriptor.
    Dmabuf,
    /// Device memory by its pointer, through `nvidia_peermem`.
    PeerMemory,
}

impl Route {
    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Dmabuf => "dmabuf",
            Self::PeerMemory => "peermem",
        }
    }
}

/// Why memory could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No memory of our own to begin with.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The limit of locked memory.
    #[error("cannot register {bytes} bytes")]
    LockedMemory {
        /// How much.
        bytes: usize,
        /// The limit, and the way out.
        #[source]
        source: LockedMemory,
    },
    /// The library is older than rdma-core 34.
    #[error("this libibverbs cannot register a dmabuf: rdma-core 34 or newer can")]
    NoDmabufInLibrary,
    /// The provider or the kernel's driver has no dmabuf.
    #[error("{device} cannot register a dmabuf: neither its driver nor its library has it")]
    NoDmabuf {
        /// The device.
        device: Box<str>,
    },
    /// Nothing would tell the NIC's driver where a device pointer leads.
    #[error("device memory cannot be registered by its pointer: nvidia_peermem is not loaded")]
    NoPeerMemory,
    /// Any other refusal.
    #[error(transparent)]
    Verb(#[from] VerbError),
}

/// Registered memory. Dropped, it is taken back from the NIC first and freed then; where the NIC does not give it back it stays
/// allocated, and is counted in [`super::Undestroyed`].
pub struct MemoryRegion {
    raw: NonNull<ibv_mr>,
    backing: Backing,
    address: u64,
    length: usize,
    local_key: u32,
    remote_key: u32,
    domain: Arc<DomainOwner>,
}

enum Backing {
    Host(Option<Buffer>),
    Device(Route),
}

// SAFETY: libibverbs is thread safe, and the memory behind is reached through volatile accesses of `HostBytes` alone.
unsafe impl Send for MemoryRegion {}
// SAFETY: as above; nothing here has interior state but that memory, which the NIC changes at any time anyway.
unsafe impl Sync for MemoryRegion {}

/// Device memory behind a dmabuf descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Dmabuf<'a> {
    /// The descriptor. The kernel takes a reference of its own; it may be closed after the registration.
    pub fd: BorrowedFd<'a>,
    /// Where the range begins in the dmabuf, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: usize,
    /// The address by which peers know its first byte (the device pointer, as a rule).
    pub address: u64,
}

impl ProtectionDomain {
    /// Registers new memory of our own: zeroed, page-aligned, `length` bytes (at least one).
    ///
    /// # Errors
    /// A sentence with the limit where memory may not be locked.
    pub fn register(
        &self,
        length: usize,
        placement: Placement,
        access: Access,
    ) -> Result<MemoryRegion, RegisterError> {
        let buffer = Buffer::new(length, placement)?;
        let length = buffer.length();
        let start = buffer.start();
        // SAFETY: the buffer is ours, and the region owns it from now on.
        let raw = unsafe { self.register_range(start.as_ptr().cast(), length, access) }?;
        Ok(self.region(raw, Backing::Host(Some(buffer)), start.addr().get() as u64, length))
    }

    /// Registers device memory by dmabuf. Nothing of it is ever copied through the host.
    ///
    /// # Errors
    /// Whether it is the library, the driver or this very descriptor.
    pub fn register_dmabuf(
        &self,
        dmabuf: &Dmabuf<'_>,
        access: Access,
    ) -> Result<MemoryRegion, RegisterError> {
        let raw = self
            .register_dmabuf_fd(dmabuf.fd.as_raw_fd(), dmabuf, access)
            .map_err(|error| self.dmabuf_refused(error))?;
        Ok(self.region(raw, Backing::Device(Route::Dmabuf), dmabuf.address, dmabuf.length))
    }

    /// Whether the library, the driver and the provider could register a dmabuf, asked with a descriptor that is none: they
    /// answer `EBADF` when they could.
    ///
    /// # Errors
    /// What is missing.
    pub fn can_register_dmabuf(&self) -> Result<(), RegisterError> {
        // SAFETY: a descriptor that is borrowed for a call that only looks whether it is one, and never used as one.
        let stdin = unsafe { BorrowedFd::borrow_raw(0) };
        let nothing = Dmabuf { fd: stdin, offset: 0, length: 4096, address: 0 };
        match self.register_dmabuf_fd(-1, &nothing, Access::LOCAL) {
            Err(Some(error)) if error.raw_os_error() == Some(libc::EBADF) => Ok(()),
            Err(error) => Err(self.dmabuf_refused(error)),
            Ok(_) => Ok(()),
        }
    }

    /// Registers device memory by its pointer, which `nvidia_peermem` lets the NIC's driver understand.
    ///
    /// # Errors
    /// When that module is not loaded, or the driver does not take the pointer.
    ///
    /// # Safety
    /// `address` is the start of `length` bytes of device memory that stay allocated as long as the region.
    pub unsafe fn register_device_pointer(
        &self,
        address: u64,
        length: usize,
        access: Access,
    ) -> Result<MemoryRegion, RegisterError> {
        if !Path::new("/sys/module/nvidia_peermem").exists() {
            return Err(RegisterError::NoPeerMemory);
        }
        let start = std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0));
        // SAFETY: device memory that stays, by our own contract.
        let raw = unsafe { self.register_range(start, length, access) }?;
        Ok(self.region(raw, Backing::Device(Route::PeerMemory), address, length))
    }

    /// # Safety
    /// The range is the caller's, and stays as long as the region: peers may write to it.
    unsafe fn register_range(
        &self,
        start: *mut c_void,
        length: usize,
        access: Access,
    ) -> Result<NonNull<ibv_mr>, RegisterError> {
        let (domain, bits) = (&self.0, access.bits());
        let functions = domain.context.functions();
        let raw = match functions.ibv_reg_mr_iova2 {
            Some(register) if access.relaxed_ordering => {
                let bits = (bits | IBV_ACCESS_RELAXED_ORDERING).cast_unsigned();
                // SAFETY: the domain is alive, and the range is the caller's.
                unsafe { register(domain.raw(), start, length, start.addr() as u64, bits) }
            }
            // SAFETY: as above.
            _ => unsafe { (functions.ibv_reg_mr)(domain.raw(), start, length, bits) },
        };
        NonNull::new(raw).ok_or_else(|| {
            let error = io::Error::last_os_error();
            match LockedMemory::explains(&error) {
                Some(source) => RegisterError::LockedMemory { bytes: length, source },
                None => domain.context.error("ibv_reg_mr", error).into(),
            }
        })
    }

    /// `Err(None)`: the library has no such function.
    fn register_dmabuf_fd(
        &self,
        fd: i32,
        dmabuf: &Dmabuf<'_>,
        access: Access,
    ) -> Result<NonNull<ibv_mr>, Option<io::Error>> {
        let domain = &self.0;
        let register = domain.context.functions().ibv_reg_dmabuf_mr.ok_or(None)?;
        let (offset, length, address) = (dmabuf.offset, dmabuf.length, dmabuf.address);
        // SAFETY: takes no pointer but the domain's, which is alive.
        let raw = unsafe { register(domain.raw(), offset, length, address, fd, access.bits()) };
        NonNull::new(raw).ok_or_else(|| Some(io::Error::last_os_error()))
    }

    fn dmabuf_refused(&self, error: Option<io::Error>) -> RegisterError {
        let Some(error) = error else { return RegisterError::NoDmabufInLibrary };
        if super::extended::is_unsupported(&error) {
            return RegisterError::NoDmabuf { device: self.0.context.name().into() };
        }
        self.0.context.error("ibv_reg_dmabuf_mr", error).into()
    }

    fn region(
        &self,
        raw: NonNull<ibv_mr>,
        backing: Backing,
        address: u64,
        length: usize,
    ) -> MemoryRegion {
        // SAFETY: the region was registered just now; libibverbs set its keys.
        let mr = unsafe { raw.as_ref() };
        let (local_key, remote_key) = (mr.lkey, mr.rkey);
        let domain = Arc::clone(&self.0);
        MemoryRegion { raw, backing, address, length, local_key, remote_key, domain }
    }
}

impl MemoryRegion {
    /// The address by which queue pairs and peers know its first byte.
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Its length in bytes.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The key that a peer needs for it.
    pub const fn remote_key(&self) -> u32 {
        self.remote_key
    }

    /// How its memory came to the NIC.
    pub const fn route(&self) -> Route {
        match self.backing {
            Backing::Host(_) => Route::Host,
            Backing::Device(route) => route,
        }
    }

    /// Its bytes, where they are the host's. Device memory has none here: nothing can poll it by mistake.
    pub fn host(&self) -> Option<HostBytes<'_>> {
        match &self.backing {
            Backing::Host(buffer) => buffer.as_ref().map(Buffer::bytes),
            Backing::Device(_) => None,
        }
    }

    /// A part of it for a work request; `None` where it has no such part.
    #[inline]
    pub fn slice(&self, offset: usize, length: u32) -> Option<Slice<'_>> {
        let end = offset.checked_add(length as usize)?;
        (end <= self.length).then_some(Slice { region: self, offset, length })
    }
}

impl fmt::Debug for MemoryRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegion")
            .field("device", &self.domain.context.name())
            .field("length", &self.length)
            .field("route", &self.route())
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        let context = &self.domain.context;
        // SAFETY: this is the only release of the region.
        let rc = unsafe { (context.functions().ibv_dereg_mr)(self.raw.as_ptr()) };
        let gone = destroyed(Kind::MemoryRegion, context.name(), rc);
        if let (false, Backing::Host(buffer)) = (gone, &mut self.backing) {
            // The NIC may still write to it.
            std::mem::forget(buffer.take());
        }
    }
}

/// A part of a region. The region outlives the posting, not the work request: one that is dropped earlier ends the request
/// with an error, never in foreign memory.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    region: &'a MemoryRegion,
    offset: usize,
    length: u32,
}

impl Slice<'_> {
    /// The address by which queue pairs and peers know its first byte.
    #[inline]
    pub const fn address(&self) -> u64 {
        self.region.address + self.offset as u64
    }

    /// Its length in bytes.
    #[inline]
    pub const fn length(&self) -> u32 {
        self.length
    }

    #[inline]
    pub(super) const fn local_key(&self) -> u32 {
        self.region.local_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_may_write_may_be_written_locally() {
        // "If IBV_ACCESS_REMOTE_WRITE or IBV_ACCESS_REMOTE_ATOMIC is set, then IBV_ACCESS_LOCAL_WRITE must be set too" (ibv_reg_mr(3)).
        let only = Access { remote_write: true, ..Access::default() };
        assert_eq!(only.bits(), IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE);
        assert_eq!(
            Access { remote_read: true, ..Access::default() }.bits(),
            IBV_ACCESS_REMOTE_READ
        );
        assert_eq!(Access::REMOTE.bits(), 0b1111);
        assert_eq!(Access::default().bits(), 0);
    }
}
