//! Completions: what became of work requests, and when the NIC finished them.

use std::ffi::CStr;
use std::fmt;

use super::ffi::ibv_wc;
use super::library::library;
use super::numbers::{
    IBV_WC_COMP_SWAP, IBV_WC_FETCH_ADD, IBV_WC_GENERAL_ERR, IBV_WC_GRH, IBV_WC_LOC_ACCESS_ERR,
    IBV_WC_LOC_LEN_ERR, IBV_WC_LOC_PROT_ERR, IBV_WC_LOC_QP_OP_ERR, IBV_WC_RDMA_READ,
    IBV_WC_RDMA_WRITE, IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM, IBV_WC_REM_ACCESS_ERR,
    IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_OP_ERR, IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR,
    IBV_WC_SEND, IBV_WC_SUCCESS, IBV_WC_WITH_IMM, IBV_WC_WR_FLUSH_ERR,
};

/// How a work request ended, as the library numbers it: unknown numbers are data like any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// Done.
    pub const SUCCESS: Self = Self(IBV_WC_SUCCESS);
    /// The message did not fit a receive, or was too long to send.
    pub const LOCAL_LENGTH: Self = Self(IBV_WC_LOC_LEN_ERR);
    /// The queue pair could not do it.
    pub const LOCAL_OPERATION: Self = Self(IBV_WC_LOC_QP_OP_ERR);
    /// The memory was not registered for it (any more).
    pub const LOCAL_PROTECTION: Self = Self(IBV_WC_LOC_PROT_ERR);
    /// The queue pair had gone to the error state before.
    pub const FLUSHED: Self = Self(IBV_WC_WR_FLUSH_ERR);
    /// A peer wrote where it may not.
    pub const LOCAL_ACCESS: Self = Self(IBV_WC_LOC_ACCESS_ERR);
    /// The peer took the request for invalid.
    pub const REMOTE_INVALID_REQUEST: Self = Self(IBV_WC_REM_INV_REQ_ERR);
    /// The peer does not allow it there.
    pub const REMOTE_ACCESS: Self = Self(IBV_WC_REM_ACCESS_ERR);
    /// The peer could not do it.
    pub const REMOTE_OPERATION: Self = Self(IBV_WC_REM_OP_ERR);
    /// No acknowledgement within all retries: the path or the peer is dead.
    pub const RETRIES_EXCEEDED: Self = Self(IBV_WC_RETRY_EXC_ERR);
    /// The peer had no receive posted within all retries.
    pub const RNR_RETRIES_EXCEEDED: Self = Self(IBV_WC_RNR_RETRY_EXC_ERR);
    /// The driver knows no better word.
    pub const GENERAL: Self = Self(IBV_WC_GENERAL_ERR);

    /// Whether the work was done.
    #[inline]
    pub const fn is_success(self) -> bool {
        self.0 == IBV_WC_SUCCESS
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({}: {self})", self.0)
    }
}

/// The library's words; `status 99` for a number it does not know.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(functions) = library() else { return write!(f, "status {}", self.0) };
        // SAFETY: the function reads a table of the library, and checks the number against its length.
        let text = unsafe { (functions.ibv_wc_status_str)(self.0) };
        // SAFETY: a constant string of the library.
        let known = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
        match known {
            Some(text) if text != c"unknown" => f.pad(&text.to_string_lossy()),
            _ => write!(f, "status {}", self.0),
        }
    }
}

/// What a completed work request was, as the library numbers it. Of a failed one it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opcode(pub u32);

impl Opcode {
    /// A send, with immediate or without.
    pub const SEND: Self = Self(IBV_WC_SEND);
    /// A write, with immediate or without.
    pub const WRITE: Self = Self(IBV_WC_RDMA_WRITE);
    /// A read.
    pub const READ: Self = Self(IBV_WC_RDMA_READ);
    /// An atomic compare and swap.
    pub const COMPARE_SWAP: Self = Self(IBV_WC_COMP_SWAP);
    /// An atomic fetch and add.
    pub const FETCH_ADD: Self = Self(IBV_WC_FETCH_ADD);
    /// A receive of a send.
    pub const RECEIVE: Self = Self(IBV_WC_RECV);
    /// A receive used up by a write with immediate.
    pub const RECEIVE_WRITE: Self = Self(IBV_WC_RECV_RDMA_WITH_IMM);

    /// Whether it used up a receive.
    #[inline]
    pub const fn is_receive(self) -> bool {
        self.0 & IBV_WC_RECV != 0
    }
}

/// When the NIC finished a work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// On the NIC's own wall clock or one derived from it, in nanoseconds. A derived one may step: only differences count.
    Wallclock(u64),
    /// In ticks of the NIC, which wrap at the mask of its [`StampClock`].
    Raw(u64),
}

/// The clock of a completion queue's stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampClock {
    /// Nanoseconds.
    Wallclock,
    /// Ticks: `(b - a) & mask` of them take `1e6 / khz` nanoseconds each.
    Raw {
        /// Where they wrap.
        mask: u64,
        /// How fast they are.
        khz: u64,
    },
    /// There are none; stamps are the program's own, taken when it polls.
    None,
}

/// One completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The number that the work request was given.
    pub id: u64,
    /// How it ended. Unless that is success, only `id`, `queue_pair` and `vendor_error` mean anything beside it.
    pub status: Status,
    /// What it was.
    pub opcode: Opcode,
    /// The maker's own code of a failure.
    pub vendor_error: u32,
    /// Octets received or read. Of UD it includes the 40 of the global route header, there or not.
    pub bytes: u32,
    /// The immediate data that came with it, in host byte order.
    pub immediate: Option<u32>,
    /// The queue pair of ours that it belongs to.
    pub queue_pair: u32,
    /// The queue pair that sent it (UD).
    pub source_queue_pair: u32,
    /// The LID that sent it (UD on InfiniBand).
    pub source_lid: u16,
    /// Its service level.
    pub service_level: u8,
    /// The low bits of our LID that it was sent to (UD on InfiniBand).
    pub path_bits: u8,
    /// Whether a global route header is in front of the data (UD).
    pub has_global_route: bool,
    /// When the NIC finished it.
    pub stamp: Option<Stamp>,
}

impl Completion {
    #[inline]
    pub(super) fn new(wc: &ibv_wc, stamp: Option<Stamp>) -> Self {
        // SAFETY: both members of the union are integers of one size.
        let immediate = unsafe { wc.imm_data_invalidated_rkey_union.imm_data };
        Self {
            id: wc.wr_id,
            status: Status(wc.status),
            opcode: Opcode(wc.opcode),
            vendor_error: wc.vendor_err,
            bytes: wc.byte_len,
            immediate: (wc.wc_flags & IBV_WC_WITH_IMM != 0).then(|| u32::from_be(immediate)),
            queue_pair: wc.qp_num,
            source_queue_pair: wc.src_qp,
            source_lid: wc.slid,
            service_level: wc.sl,
            path_bits: wc.dlid_path_bits,
            has_global_route: wc.wc_flags & IBV_WC_GRH != 0,
            stamp,
        }
    }
}
