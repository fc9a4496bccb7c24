//! The inline part of `<infiniband/verbs.h>` that no shared library exports: calls through the context's tables.

use std::io;
use std::mem::{offset_of, size_of, zeroed};

use super::failure::outcome;
use super::ffi::{
    ibv_context, ibv_cq_ex, ibv_cq_init_attr_ex, ibv_device_attr_ex, ibv_port_attr,
    ibv_query_device_ex_input, ibv_values_ex, verbs_context,
};
use super::numbers::IBV_VALUES_MASK_RAW_CLOCK;

/// Reads a function of the extended table, if the library's table has it.
macro_rules! operation {
    ($context:expr, $field:ident) => {{
        // SAFETY: the context is open by our caller's contract.
        let table = unsafe { table($context) };
        table.and_then(|table| {
            // The table grows at its front: it must reach back far enough.
            let needed = size_of::<verbs_context>() - offset_of!(verbs_context, $field);
            // SAFETY: `sz` is behind every field that may be missing.
            let has = unsafe { (*table).sz } >= needed;
            // SAFETY: the table is that long, so the field is inside it.
            if has { unsafe { (*table).$field } } else { None }
        })
    }};
}

/// `verbs_get_ctx` of the header: the marker is pointer-wide (rdma-sys 0.3.0 compares it with `u32::MAX`, and so finds nothing).
///
/// # Safety
/// `context` is open.
unsafe fn table(context: *mut ibv_context) -> Option<*mut verbs_context> {
    // SAFETY: open by our contract.
    let marker = unsafe { (*context).abi_compat };
    if marker.addr() != usize::MAX {
        return None;
    }
    // SAFETY: the marker says that this context is the last member of a `verbs_context`.
    Some(unsafe { context.byte_sub(offset_of!(verbs_context, context)) }.cast())
}

fn unsupported() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}

/// Whether a provider or kernel does not have the call at all.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPROTONOSUPPORT))
}

/// # Safety
/// `context` is open; `attr` is valid.
pub(super) unsafe fn query_device(
    context: *mut ibv_context,
    attr: *mut ibv_device_attr_ex,
) -> io::Result<()> {
    let query = operation!(context, query_device_ex).ok_or_else(unsupported)?;
    let input = ibv_query_device_ex_input { comp_mask: 0 };
    // SAFETY: both structs are valid, and the callee fills no more than the size it is told.
    outcome(unsafe { query(context, &raw const input, attr, size_of::<ibv_device_attr_ex>()) })
}

/// # Safety
/// `context` is open; `attr` is valid.
pub(super) unsafe fn query_port(
    context: *mut ibv_context,
    port: u8,
    attr: *mut ibv_port_attr,
) -> io::Result<()> {
    let query = operation!(context, query_port).ok_or_else(unsupported)?;
    // SAFETY: `attr` is valid, and the callee fills no more than the size it is told.
    outcome(unsafe { query(context, port, attr, size_of::<ibv_port_attr>()) })
}

/// # Safety
/// `context` is open.
pub(super) unsafe fn query_raw_clock(context: *mut ibv_context) -> io::Result<u64> {
    let query = operation!(context, query_rt_values).ok_or_else(unsupported)?;
    // SAFETY: all-zero octets are valid for this struct of integers.
    let mut values: ibv_values_ex = unsafe { zeroed() };
    values.comp_mask = IBV_VALUES_MASK_RAW_CLOCK;
    // SAFETY: `values` is on our stack.
    outcome(unsafe { query(context, &raw mut values) })?;
    if values.comp_mask & IBV_VALUES_MASK_RAW_CLOCK == 0 {
        return Err(unsupported());
    }
    // Providers put the ticks where nanoseconds would be, and leave the seconds at zero (ibv_query_rt_values_ex(3)).
    Ok(values.raw_clock.tv_nsec.cast_unsigned())
}

/// # Safety
/// `context` is open; `attr` is valid, with a channel of the same context or none.
pub(super) unsafe fn create_cq(
    context: *mut ibv_context,
    attr: *mut ibv_cq_init_attr_ex,
) -> io::Result<*mut ibv_cq_ex> {
    let create = operation!(context, create_cq_ex).ok_or_else(unsupported)?;
    // SAFETY: valid by our contract.
    let cq = unsafe { create(context, attr) };
    if cq.is_null() { Err(io::Error::last_os_error()) } else { Ok(cq) }
}
