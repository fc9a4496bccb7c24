//! Page-aligned memory of our own, and reading it while a NIC may be writing.

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use libc::{c_int, c_long, c_ulong};

/// Where memory lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Where the kernel puts it: near the CPU that touches it first.
    #[default]
    Anywhere,
    /// On this NUMA node and on no other.
    Node(u32),
}

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The kernel gives none.
    #[error("cannot allocate {length} bytes for the NIC")]
    Map {
        /// How much.
        length: usize,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// Not on that node.
    #[error("cannot put memory on NUMA node {node}")]
    Node {
        /// The node.
        node: u32,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// Zeroed pages, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: plain memory that this value alone owns.
unsafe impl Send for Buffer {}
// SAFETY: it is only reached through `HostBytes`, whose accesses are volatile.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn new(length: usize, placement: Placement) -> Result<Self, BufferError> {
        let length = length.max(1);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: asks for new pages anywhere.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        let mapped = (start != libc::MAP_FAILED).then(|| NonNull::new(start.cast())).flatten();
        let Some(start) = mapped else {
            return Err(BufferError::Map { length, source: io::Error::last_os_error() });
        };
        let buffer = Self { start, length };
        if let Placement::Node(node) = placement {
            buffer.bind(node).map_err(|source| BufferError::Node { node, source })?;
        }
        buffer.touch();
        Ok(buffer)
    }

    /// Asks for pages of `node` alone (mbind(2)), before the first is touched.
    fn bind(&self, node: u32) -> io::Result<()> {
        const BITS: u32 = c_ulong::BITS;
        let mut mask = [0 as c_ulong; 16];
        let word = mask
            .get_mut((node / BITS) as usize)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        *word = 1 << (node % BITS);
        let (start, length) = (self.start.as_ptr(), self.length as c_ulong);
        let bits = c_ulong::from(BITS * 16 + 1);
        let policy: c_long = c_long::from(libc::MPOL_BIND);
        // SAFETY: the range is ours, and the mask has as many bits as we say less one, which is how mbind counts.
        let rc = unsafe {
            libc::syscall(libc::SYS_mbind, start, length, policy, mask.as_ptr(), bits, 0 as c_ulong)
        };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Pages come with the first write; the first probe must not pay for that.
    fn touch(&self) {
        // The smallest page there is.
        for offset in (0..self.length).step_by(4096) {
            // SAFETY: inside the buffer, which nobody else knows yet.
            unsafe { self.start.as_ptr().wrapping_add(offset).write_volatile(0) };
        }
    }

    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) const fn length(&self) -> usize {
        self.length
    }

    pub(super) const fn bytes(&self) -> HostBytes<'_> {
        HostBytes { start: self.start, length: self.length, owner: PhantomData }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the pages are ours, and no NIC has them any more: `MemoryRegion` forgets buffers that one may still have.
        let rc: c_int = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert_eq!(rc, 0, "unmapping our own pages");
    }
}

/// Host memory that a NIC may write to at any time: there are no references to it, only copies in and out.
#[derive(Clone, Copy, Debug)]
pub struct HostBytes<'a> {
    start: NonNull<u8>,
    length: usize,
    owner: PhantomData<&'a [u8]>,
}

// SAFETY: every access is volatile, and the memory lives as long as the borrow.
unsafe impl Send for HostBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for HostBytes<'_> {}

impl HostBytes<'_> {
    /// Its length in bytes.
    #[inline]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Copies `bytes` in, from `offset` on. What is posted afterwards sends them.
    ///
    /// # Panics
    /// When they do not fit, as slices do.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: inside the buffer: checked above.
            unsafe { self.at(offset + at).write_volatile(*byte) };
        }
        fence(Ordering::Release);
    }

    /// Copies bytes out, from `offset` on, as they are now. After a completion they are what the NIC wrote before it.
    ///
    /// # Panics
    /// When there are not as many.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.check(offset, into.len());
        fence(Ordering::Acquire);
        for (at, byte) in into.iter_mut().enumerate() {
            // SAFETY: inside the buffer: checked above.
            *byte = unsafe { self.at(offset + at).read_volatile() };
        }
    }

    /// One byte as it is now, for polling: what is read after it is not older than it.
    ///
    /// # Panics
    /// When there is no such byte.
    #[inline]
    pub fn load(&self, offset: usize) -> u8 {
        self.check(offset, 1);
        // SAFETY: inside the buffer: checked above.
        let byte = unsafe { self.at(offset).read_volatile() };
        fence(Ordering::Acquire);
        byte
    }

    #[inline]
    const fn at(&self, offset: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(offset)
    }

    #[inline]
    fn check(&self, offset: usize, length: usize) {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        assert!(fits, "{length} bytes at {offset} of a region of {}", self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_come_out_at_their_place() {
        let buffer = Buffer::new(10_000, Placement::Anywhere).unwrap();
        assert_eq!(buffer.start().addr().get() % 4096, 0, "page-aligned");
        let bytes = buffer.bytes();
        let mut all = [1; 10_000];
        bytes.read(0, &mut all);
        assert_eq!(all, [0; 10_000], "zeroed");
        bytes.write(9_996, &[1, 2, 3, 4]);
        let mut tail = [0; 5];
        bytes.read(9_995, &mut tail);
        assert_eq!(tail, [0, 1, 2, 3, 4]);
        assert_eq!(bytes.load(9_999), 4);
    }

    #[test]
    #[should_panic(expected = "4 bytes at 7 of a region of 10")]
    fn nothing_is_written_behind_the_end() {
        Buffer::new(10, Placement::Anywhere).unwrap().bytes().write(7, &[0; 4]);
    }

    #[test]
    fn memory_is_on_the_node_that_was_asked_for_or_refused() {
        // Every machine has node 0; none has the last that the kernel could number.
        let on_zero = Buffer::new(4096, Placement::Node(0));
        let refused = Buffer::new(4096, Placement::Node(1023)).unwrap_err();
        assert!(refused.to_string().contains("NUMA node 1023"), "{refused}");
        // A kernel without NUMA refuses node 0 by name as well.
        if let Err(error) = on_zero {
            assert!(error.to_string().contains("NUMA node 0"), "{error}");
        }
    }
}
