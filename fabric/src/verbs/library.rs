//! `libibverbs.so.1`, opened once at run time and never closed.

use std::ffi::CStr;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{c_char, c_int, c_uint, c_void, size_t, ssize_t};

use super::ffi::{
    ibv_ah, ibv_ah_attr, ibv_async_event, ibv_comp_channel, ibv_context, ibv_cq, ibv_device,
    ibv_device_attr, ibv_gid_entry, ibv_mr, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_init_attr,
};
use super::unavailable::Unavailable;

/// The name that every rdma-core installs (the `-dev` package alone has `libibverbs.so`).
pub(super) const SONAME: &CStr = c"libibverbs.so.1";

/// Declares the table of functions and how it is filled.
macro_rules! table {
    (required { $($required:ident: $type:ty,)* } optional { $($optional:ident: $optional_type:ty,)* }) => {
        /// The functions of libibverbs, by their C names. Inline ones go through the context's tables: see `extended`.
        #[derive(Debug)]
        pub(super) struct Functions {
            $(pub $required: $type,)*
            $(pub $optional: Option<$optional_type>,)*
        }

        impl Functions {
            /// # Safety
            /// `handle` is one that dlopen returned for libibverbs and that stays open for ever.
            unsafe fn find(handle: *mut c_void) -> Result<Self, Unavailable> {
                Ok(Self {
                    $($required: {
                        // SAFETY: the handle is good by our contract.
                        let found = unsafe { symbol(handle, concat!(stringify!($required), "\0")) };
                        let found = found
                            .ok_or(Unavailable::SymbolMissing { symbol: stringify!($required) })?;
                        // SAFETY: a function of this name has this signature in every libibverbs.so.1 (the oracle compiles
                        // the prototypes against the header), and data and function pointers have one size on Linux.
                        unsafe { std::mem::transmute::<*mut c_void, $type>(found) }
                    },)*
                    $($optional: {
                        // SAFETY: the handle is good by our contract.
                        let found = unsafe { symbol(handle, concat!(stringify!($optional), "\0")) };
                        // SAFETY: as above.
                        found.map(|found| unsafe {
                            std::mem::transmute::<*mut c_void, $optional_type>(found)
                        })
                    },)*
                })
            }
        }
    };
}

table! {
    required {
        ibv_get_device_list: unsafe extern "C" fn(*mut c_int) -> *mut *mut ibv_device,
        ibv_free_device_list: unsafe extern "C" fn(*mut *mut ibv_device),
        ibv_open_device: unsafe extern "C" fn(*mut ibv_device) -> *mut ibv_context,
        ibv_close_device: unsafe extern "C" fn(*mut ibv_context) -> c_int,
        ibv_fork_init: unsafe extern "C" fn() -> c_int,
        ibv_query_device: unsafe extern "C" fn(*mut ibv_context, *mut ibv_device_attr) -> c_int,
        ibv_get_async_event: unsafe extern "C" fn(*mut ibv_context, *mut ibv_async_event) -> c_int,
        ibv_ack_async_event: unsafe extern "C" fn(*mut ibv_async_event),
        ibv_alloc_pd: unsafe extern "C" fn(*mut ibv_context) -> *mut ibv_pd,
        ibv_dealloc_pd: unsafe extern "C" fn(*mut ibv_pd) -> c_int,
        ibv_reg_mr: unsafe extern "C" fn(*mut ibv_pd, *mut c_void, size_t, c_int) -> *mut ibv_mr,
        ibv_dereg_mr: unsafe extern "C" fn(*mut ibv_mr) -> c_int,
        ibv_create_comp_channel: unsafe extern "C" fn(*mut ibv_context) -> *mut ibv_comp_channel,
        ibv_destroy_comp_channel: unsafe extern "C" fn(*mut ibv_comp_channel) -> c_int,
        ibv_get_cq_event: unsafe extern "C" fn(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int,
        ibv_ack_cq_events: unsafe extern "C" fn(*mut ibv_cq, c_uint),
        ibv_create_cq: unsafe extern "C" fn(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq,
        ibv_destroy_cq: unsafe extern "C" fn(*mut ibv_cq) -> c_int,
        ibv_create_qp: unsafe extern "C" fn(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp,
        ibv_modify_qp: unsafe extern "C" fn(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int,
        ibv_query_qp: unsafe extern "C" fn(*mut ibv_qp, *mut ibv_qp_attr, c_int, *mut ibv_qp_init_attr) -> c_int,
        ibv_destroy_qp: unsafe extern "C" fn(*mut ibv_qp) -> c_int,
        ibv_create_ah: unsafe extern "C" fn(*mut ibv_pd, *mut ibv_ah_attr) -> *mut ibv_ah,
        ibv_destroy_ah: unsafe extern "C" fn(*mut ibv_ah) -> c_int,
        ibv_query_pkey: unsafe extern "C" fn(*mut ibv_context, u8, c_int, *mut u16) -> c_int,
        ibv_wc_status_str: unsafe extern "C" fn(c_uint) -> *const c_char,
        ibv_event_type_str: unsafe extern "C" fn(c_uint) -> *const c_char,
    }
    optional {
        // IBVERBS_1.8 (rdma-core 29), 1.11 (32), 1.12 (34), 1.14 (38).
        ibv_reg_mr_iova2: unsafe extern "C" fn(*mut ibv_pd, *mut c_void, size_t, u64, c_uint) -> *mut ibv_mr,
        _ibv_query_gid_table: unsafe extern "C" fn(*mut ibv_context, *mut ibv_gid_entry, size_t, u32, size_t) -> ssize_t,
        ibv_reg_dmabuf_mr: unsafe extern "C" fn(*mut ibv_pd, u64, size_t, u64, c_int, c_int) -> *mut ibv_mr,
        ibv_query_qp_data_in_order: unsafe extern "C" fn(*mut ibv_qp, c_uint, u32) -> c_int,
    }
}

/// The library of this process.
///
/// # Errors
/// Why it cannot be used. Asked again, it is looked for again: it may have been installed since.
pub(super) fn library() -> Result<&'static Functions, Unavailable> {
    static LIBRARY: OnceLock<Functions> = OnceLock::new();
    static LOADING: Mutex<()> = Mutex::new(());
    if let Some(loaded) = LIBRARY.get() {
        return Ok(loaded);
    }
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = LIBRARY.get() {
        return Ok(loaded);
    }
    let functions = open(SONAME)?;
    protect_forks(&functions);
    Ok(LIBRARY.get_or_init(|| functions))
}

/// Opens `name` for ever: providers register atfork handlers and thread-local state, so closing it could crash later.
fn open(name: &CStr) -> Result<Functions, Unavailable> {
    // SAFETY: takes no pointer; it clears this thread's message.
    unsafe { libc::dlerror() };
    // SAFETY: the name ends with NUL. The library's constructors run; libibverbs has none that relies on us.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(Unavailable::LibraryMissing { reason: dlerror() });
    }
    // SAFETY: the handle came from dlopen just now, and nobody here ever closes it.
    unsafe { Functions::find(handle) }
}

/// Before the first registration, as ibv_fork_init(3) wants: pages that a NIC writes to must stay the parent's own when the
/// process forks. Kernels from 5.12 on copy pinned pages for the child; there the call costs nothing and later ones neither.
fn protect_forks(functions: &Functions) {
    // SAFETY: takes no pointer.
    let rc = unsafe { (functions.ibv_fork_init)() };
    if rc != 0 {
        let error = io::Error::from_raw_os_error(rc);
        tracing::warn!(%error, "ibv_fork_init fails: a child process may take pages that the NIC writes to");
    }
}

/// # Safety
/// `handle` is an open one; `name` ends with NUL.
unsafe fn symbol(handle: *mut c_void, name: &'static str) -> Option<*mut c_void> {
    // SAFETY: both are good by our contract. dlsym returns the default (`@@`) version, which is the current one.
    let found = unsafe { libc::dlsym(handle, name.as_ptr().cast()) };
    (!found.is_null()).then_some(found)
}

fn dlerror() -> String {
    // SAFETY: takes no pointer.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "dlopen fails and does not say why".to_owned();
    }
    // SAFETY: dlerror's text ends with NUL and is good until this thread's next dl call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = open(c"libibverbs-is-not-here.so.1").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("libibverbs-is-not-here.so.1"), "{text}");
        assert!(text.contains("install"), "{text}");
    }

    #[test]
    fn a_library_without_verbs_is_refused_by_the_symbol() {
        let error = open(c"libc.so.6").unwrap_err();
        assert!(
            matches!(error, Unavailable::SymbolMissing { symbol: "ibv_get_device_list" }),
            "{error}"
        );
    }
}
