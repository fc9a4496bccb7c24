//! Devices: which there are, opening one, what it and its ports can do.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::zeroed;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use libc::{c_char, c_int};
use railgauge_core::rdma::gid::LinkLayer;
use railgauge_core::rdma::mtu::PathMtu;

use super::events::set_non_blocking;
use super::extended;
use super::failure::{Kind, VerbError, destroyed, outcome};
use super::ffi::{ibv_context, ibv_device, ibv_device_attr_ex, ibv_port_attr};
use super::library::{Functions, library};
use super::numbers::IBV_PORT_ACTIVE;
use super::presence::{Identity, Presence};
use super::unavailable::{Listing, Unavailable, devices_in_kernel, judge, list};

/// A device that can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `mlx5_0`, `rxe1`.
    pub name: String,
    /// Its character device below `/dev/infiniband`: `uverbs0`.
    pub uverbs: String,
}

/// The devices of this machine that libibverbs can drive, in its order.
///
/// # Errors
/// Why there is none.
pub fn devices() -> Result<Vec<Device>, Unavailable> {
    let devices = DeviceList::read(library()?)?;
    Ok(devices.iter().map(describe).collect())
}

/// Devices that the kernel has and [`devices`] leaves out, which libibverbs does not say: their provider library is not installed, or
/// their node is not here. Empty where all is well; [`Context::open`] of such a name says which of the two it is.
pub fn devices_left_out() -> Vec<String> {
    let known = devices().unwrap_or_default();
    let in_kernel = devices_in_kernel(Path::new("/")).into_iter().map(|device| device.name);
    in_kernel.filter(|name| known.iter().all(|device| device.name != *name)).collect()
}

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing can be opened.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// There are others.
    #[error("no RDMA device is called {name}; there is {}", list(there))]
    NotFound {
        /// As asked for.
        name: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// The kernel has it; libibverbs leaves it out.
    #[error(
        "no library drives the RDMA device {name}: install its provider (ibverbs-providers on Debian and Ubuntu, rdma-core elsewhere)"
    )]
    ProviderMissing {
        /// The device.
        name: String,
    },
    /// Its node is not for us.
    #[error(
        "no permission on /dev/infiniband/{uverbs} of {name}: it wants to be readable and writable for this user (group rdma on some systems; in a container, its device list too)"
    )]
    Permission {
        /// The device.
        name: String,
        /// The file.
        uverbs: String,
    },
    /// There is no node.
    #[error(
        "{name} has no node in /dev/infiniband: load ib_uverbs, or give the container its /dev/infiniband/uverbs*"
    )]
    NoNode {
        /// The device.
        name: String,
    },
    /// Anything else.
    #[error("cannot open {name}")]
    Other {
        /// The device.
        name: String,
        /// What the library or kernel says.
        #[source]
        source: io::Error,
    },
}

/// An open device. Clones share it; it is closed when the last of them, and of everything made from them, has gone.
#[derive(Clone)]
pub struct Context(Arc<ContextOwner>);

/// Closes the device when dropped; each owner of something on it keeps this alive.
pub(super) struct ContextOwner {
    raw: NonNull<ibv_context>,
    functions: &'static Functions,
    device: Device,
    identity: Identity,
}

// SAFETY: libibverbs is thread safe ("all functions are", its README and ibv_open_device's users): the context may be used
// from any thread, and our own fields are never changed.
unsafe impl Send for ContextOwner {}
// SAFETY: as above.
unsafe impl Sync for ContextOwner {}

impl Context {
    /// Opens the device called `name`.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        let functions = library()?;
        let devices = DeviceList::read(functions)?;
        let Some(raw_device) = devices.iter().find(|device| describe(device).name == name) else {
            return Err(not_found(name, &devices));
        };
        let device = describe(raw_device);
        let identity = Identity::of(&device.uverbs);
        // SAFETY: the device is from a list that is still alive; the context outlives the list (ibv_get_device_list(3)).
        let raw = unsafe { (functions.ibv_open_device)(std::ptr::from_ref(raw_device).cast_mut()) };
        let Some(raw) = NonNull::new(raw) else {
            let error = io::Error::last_os_error();
            let node = Path::new("/dev/infiniband").join(&device.uverbs);
            let node = std::fs::File::options().read(true).write(true).open(node).map(drop);
            return Err(not_opened(device, error, node));
        };
        let context = ContextOwner { raw, functions, device, identity };
        set_non_blocking(context.async_fd())
            .map_err(|source| OpenError::Other { name: name.to_owned(), source })?;
        Ok(Self(Arc::new(context)))
    }

    /// Its name and node.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Whether the device is still there; costs one stat(2). A device that goes away while it is open tells nobody on some
    /// drivers: soft-RoCE's `rdma link delete` waits, for ever if need be, until every context is closed. So ask a few times a
    /// second, and when it is gone drop everything that was made from this.
    pub fn presence(&self) -> Presence {
        self.0.identity.look()
    }

    /// What the device can do.
    ///
    /// # Errors
    /// When it does not say.
    pub fn attributes(&self) -> Result<DeviceAttributes, VerbError> {
        let context = &self.0;
        // SAFETY: all-zero octets are valid for this struct of integers.
        let mut attr: ibv_device_attr_ex = unsafe { zeroed() };
        // SAFETY: the context is open and `attr` is on our stack, of the size that the call is told.
        let mut result = unsafe { extended::query_device(context.raw(), &raw mut attr) };
        if result.as_ref().is_err_and(extended::is_unsupported) {
            // SAFETY: as above; the plain query fills the head.
            let rc = unsafe {
                (context.functions.ibv_query_device)(context.raw(), &raw mut attr.orig_attr)
            };
            result = outcome(rc);
        }
        result.map_err(|source| context.error("ibv_query_device", source))?;
        Ok(DeviceAttributes::new(&attr))
    }

    /// What a port (from 1) is and does now.
    ///
    /// # Errors
    /// When there is no such port, or the device has gone.
    pub fn port(&self, port: u8) -> Result<PortAttributes, VerbError> {
        // SAFETY: all-zero octets are valid for this struct of integers.
        let mut attr: ibv_port_attr = unsafe { zeroed() };
        // SAFETY: the context is open and `attr` is on our stack, of the size that the call is told.
        let result = unsafe { extended::query_port(self.0.raw(), port, &raw mut attr) };
        result.map_err(|source| self.0.error("ibv_query_port", source))?;
        Ok(PortAttributes::new(&attr))
    }

    /// The partition key at `index` of a port's table, in host byte order.
    ///
    /// # Errors
    /// When there is no such entry.
    pub fn partition_key(&self, port: u8, index: u16) -> Result<u16, VerbError> {
        let mut key = 0_u16;
        // SAFETY: the context is open and `key` is on our stack.
        let rc = unsafe {
            (self.0.functions.ibv_query_pkey)(self.0.raw(), port, index.into(), &raw mut key)
        };
        outcome(rc).map_err(|source| self.0.error("ibv_query_pkey", source))?;
        Ok(u16::from_be(key))
    }

    /// The NIC's clock now, in the ticks of raw completion stamps.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the device has none (soft-RoCE).
    pub fn raw_clock(&self) -> Result<u64, VerbError> {
        // SAFETY: the context is open.
        let ticks = unsafe { extended::query_raw_clock(self.0.raw()) };
        ticks.map_err(|source| self.0.error("ibv_query_rt_values_ex", source))
    }

    /// Sleeps can wait on this for [`Context::next_event`]: readable when there is an event, and for ever when the device has gone.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the context, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw(self.0.async_fd()) }
    }

    pub(super) const fn owner(&self) -> &Arc<ContextOwner> {
        &self.0
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.0.device).finish()
    }
}

impl ContextOwner {
    pub(super) const fn raw(&self) -> *mut ibv_context {
        self.raw.as_ptr()
    }

    pub(super) const fn functions(&self) -> &'static Functions {
        self.functions
    }

    pub(super) fn name(&self) -> &str {
        &self.device.name
    }

    pub(super) fn async_fd(&self) -> c_int {
        // SAFETY: the context is open; libibverbs sets the field once, before it hands the context out.
        unsafe { (*self.raw()).async_fd }
    }

    pub(super) fn error(&self, verb: &'static str, source: io::Error) -> VerbError {
        VerbError { verb, device: self.name().into(), source }
    }
}

impl Drop for ContextOwner {
    fn drop(&mut self) {
        // SAFETY: this is the only close, and all that was made from the context has gone: it held this owner.
        let rc = unsafe { (self.functions.ibv_close_device)(self.raw()) };
        destroyed(Kind::Context, self.name(), rc);
    }
}

/// Limits of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAttributes {
    /// Firmware, as the maker writes it.
    pub firmware: String,
    /// Ports, numbered from 1.
    pub ports: u8,
    /// Queue pairs at most.
    pub max_queue_pairs: u32,
    /// Work requests in one queue at most.
    pub max_work_requests: u32,
    /// Completion queue entries at most.
    pub max_completions: u32,
    /// RDMA reads and atomics outstanding at a responder at most, a queue pair.
    pub max_reads_as_responder: u32,
    /// RDMA reads and atomics outstanding as initiator at most, a queue pair.
    pub max_reads_as_initiator: u32,
    /// Whether 8-byte atomics work at all (`atomic_cap` is not `IBV_ATOMIC_NONE`).
    pub has_atomics: bool,
    /// Raw completion stamps wrap here; zero where there are none.
    pub completion_stamp_mask: u64,
    /// How fast raw completion stamps tick, in kHz; zero where there are none.
    pub core_clock_khz: u64,
}

impl DeviceAttributes {
    fn new(attr: &ibv_device_attr_ex) -> Self {
        let head = &attr.orig_attr;
        let count = |value: c_int| u32::try_from(value).unwrap_or(0);
        Self {
            firmware: text(&head.fw_ver),
            ports: head.phys_port_cnt,
            max_queue_pairs: count(head.max_qp),
            max_work_requests: count(head.max_qp_wr),
            max_completions: count(head.max_cqe),
            max_reads_as_responder: count(head.max_qp_rd_atom),
            max_reads_as_initiator: count(head.max_qp_init_rd_atom),
            has_atomics: head.atomic_cap != 0,
            completion_stamp_mask: attr.completion_timestamp_mask,
            core_clock_khz: attr.hca_core_clock,
        }
    }
}

/// A port as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAttributes {
    /// Logical state as the driver numbers it; 4 is active.
    pub state: u32,
    /// Physical state as the driver numbers it; 5 is link up.
    pub physical_state: u8,
    /// What carries it; `None`: something that this program does not know.
    pub link_layer: Option<LinkLayer>,
    /// Its LID; zero on Ethernet.
    pub lid: u16,
    /// Low bits of the LID that may differ.
    pub lid_mask_bits: u8,
    /// The largest path MTU that the hardware does; `None`: a code that this program does not know.
    pub max_mtu: Option<PathMtu>,
    /// The path MTU of now.
    pub active_mtu: Option<PathMtu>,
    /// Entries of its GID table.
    pub gid_table_length: u32,
    /// Entries of its partition key table.
    pub partition_keys: u16,
    /// The largest message in octets.
    pub max_message_bytes: u32,
    /// Lanes as the driver numbers them (1, 2, 4, 8: 1x, 4x, 8x, 12x; 16: 2x).
    pub width: u8,
    /// Speed of a lane as the driver numbers it (32: EDR, 64: HDR, 128: NDR).
    pub speed: u8,
    /// Whether sending on InfiniBand needs a global route all the same (`IBV_QPF_GRH_REQUIRED`).
    pub needs_global_route: bool,
}

impl PortAttributes {
    fn new(attr: &ibv_port_attr) -> Self {
        Self {
            state: attr.state,
            physical_state: attr.phys_state,
            link_layer: LinkLayer::from_verbs(attr.link_layer),
            lid: attr.lid,
            lid_mask_bits: attr.lmc,
            max_mtu: PathMtu::from_code(attr.max_mtu),
            active_mtu: PathMtu::from_code(attr.active_mtu),
            gid_table_length: u32::try_from(attr.gid_tbl_len).unwrap_or(0),
            partition_keys: attr.pkey_tbl_len,
            max_message_bytes: attr.max_msg_sz,
            width: attr.active_width,
            speed: attr.active_speed,
            needs_global_route: attr.flags & 1 != 0,
        }
    }

    /// Whether traffic can pass.
    pub const fn is_active(&self) -> bool {
        self.state == IBV_PORT_ACTIVE
    }
}

/// libibverbs' list of devices, given back when dropped.
struct DeviceList {
    raw: NonNull<*mut ibv_device>,
    count: usize,
    functions: &'static Functions,
}

impl DeviceList {
    fn read(functions: &'static Functions) -> Result<Self, Unavailable> {
        let mut count: c_int = 0;
        // SAFETY: `count` is on our stack.
        let raw = unsafe { (functions.ibv_get_device_list)(&raw mut count) };
        let error = io::Error::last_os_error();
        let list = NonNull::new(raw).map(|raw| Self {
            raw,
            count: usize::try_from(count).unwrap_or(0),
            functions,
        });
        let listing =
            list.as_ref().map_or(Listing::Failed(error), |list| Listing::Count(list.count));
        match (judge(listing, devices_in_kernel(Path::new("/"))), list) {
            (None, Some(list)) => Ok(list),
            (Some(why), _) => Err(why),
            (None, None) => Err(Unavailable::NoDevice),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &ibv_device> {
        // SAFETY: the list has `count` pointers and lives as long as `self`.
        let pointers = unsafe { std::slice::from_raw_parts(self.raw.as_ptr(), self.count) };
        // SAFETY: each leads to a device that the library keeps as long as the list.
        pointers.iter().map(|pointer| unsafe { &**pointer })
    }
}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: this is the only release of the list, and no reference into it is left: they borrow from it.
        unsafe { (self.functions.ibv_free_device_list)(self.raw.as_ptr()) };
    }
}

fn describe(device: &ibv_device) -> Device {
    Device { name: text(&device.name), uverbs: text(&device.dev_name) }
}

/// Text up to NUL, or all of it where there is none.
fn text(chars: &[c_char]) -> String {
    // SAFETY: `c_char` and `u8` have one layout; the slice is the same memory for as long.
    let bytes = unsafe { std::slice::from_raw_parts(chars.as_ptr().cast::<u8>(), chars.len()) };
    let until_nul = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    String::from_utf8_lossy(until_nul).into_owned()
}

fn not_found(name: &str, devices: &DeviceList) -> OpenError {
    let name = name.to_owned();
    let in_kernel = devices_in_kernel(Path::new("/"));
    match in_kernel.into_iter().find(|device| device.name == name) {
        Some(device) if device.has_node => return OpenError::ProviderMissing { name },
        Some(_) => return OpenError::NoNode { name },
        None => {}
    }
    let there = devices.iter().map(|device| describe(device).name).collect();
    OpenError::NotFound { name, there }
}

/// `node` is what opening the node ourselves says: without udev libibverbs looks for a second name of it last, and answers that
/// there is none.
fn not_opened(device: Device, source: io::Error, node: io::Result<()>) -> OpenError {
    let Device { name, uverbs } = device;
    let denied = node.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    match source.raw_os_error() {
        _ if denied => OpenError::Permission { name, uverbs },
        Some(libc::EACCES | libc::EPERM) => OpenError::Permission { name, uverbs },
        Some(libc::ENOENT) => OpenError::NoNode { name },
        _ => OpenError::Other { name, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(errno: i32, node: Option<i32>) -> String {
        let device = Device { name: "mlx5_0".to_owned(), uverbs: "uverbs3".to_owned() };
        let node = node.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)));
        not_opened(device, io::Error::from_raw_os_error(errno), node).to_string()
    }

    #[test]
    fn what_keeps_a_device_shut_is_named() {
        let denied = "no permission on /dev/infiniband/uverbs3";
        assert!(opening(libc::EACCES, None).contains(denied));
        assert!(opening(libc::EPERM, None).contains(denied));
        assert!(opening(libc::ENOENT, Some(libc::EACCES)).contains(denied), "without udev");
        assert!(opening(libc::ENOENT, Some(libc::ENOENT)).contains("has no node"));
        assert_eq!(opening(libc::EIO, None), "cannot open mlx5_0");
    }

    #[test]
    fn text_of_the_library_ends_at_nul_or_at_its_end() {
        let chars = |text: &[u8]| text.iter().map(|b| b.cast_signed()).collect::<Vec<c_char>>();
        assert_eq!(text(&chars(b"rxe1\0old")), "rxe1");
        assert_eq!(text(&chars(b"full")), "full");
    }
}
