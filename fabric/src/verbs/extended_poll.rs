//! Polling by the functions of an extended completion queue, which alone give the NIC's stamps.

use std::io;
use std::mem::zeroed;

use libc::c_int;

use super::completion::{Completion, Stamp};
use super::ffi::{ibv_cq_ex, ibv_poll_cq_attr, ibv_wc};
use super::numbers::{
    IBV_WC_EX_WITH_BYTE_LEN, IBV_WC_EX_WITH_COMPLETION_TIMESTAMP,
    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK, IBV_WC_EX_WITH_DLID_PATH_BITS,
    IBV_WC_EX_WITH_IMM, IBV_WC_EX_WITH_QP_NUM, IBV_WC_EX_WITH_SL, IBV_WC_EX_WITH_SLID,
    IBV_WC_EX_WITH_SRC_QP, IBV_WC_SUCCESS,
};

/// The functions of an extended queue; a provider that leaves one out cannot be polled that way.
#[derive(Clone, Copy)]
pub(super) struct Readers {
    start: unsafe extern "C" fn(*mut ibv_cq_ex, *mut ibv_poll_cq_attr) -> c_int,
    end: unsafe extern "C" fn(*mut ibv_cq_ex),
    opcode: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    vendor_error: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    bytes: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    immediate: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    queue_pair: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    source_queue_pair: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    flags: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    source_lid: unsafe extern "C" fn(*mut ibv_cq_ex) -> u32,
    service_level: unsafe extern "C" fn(*mut ibv_cq_ex) -> u8,
    path_bits: unsafe extern "C" fn(*mut ibv_cq_ex) -> u8,
    stamp: Option<StampReader>,
}

#[derive(Clone, Copy)]
enum StampReader {
    Wallclock(unsafe extern "C" fn(*mut ibv_cq_ex) -> u64),
    Raw(unsafe extern "C" fn(*mut ibv_cq_ex) -> u64),
}

/// One try at making a queue.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Wallclock,
    Raw,
    Plain,
    Unstamped,
}

impl Wanted {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Wallclock => "wallclock",
            Self::Raw => "raw",
            Self::Plain => "none",
            Self::Unstamped => "extended polling",
        }
    }

    /// `None`: not by the extended call.
    pub(super) fn flags(self) -> Option<u64> {
        const FIELDS: u64 = IBV_WC_EX_WITH_BYTE_LEN
            | IBV_WC_EX_WITH_IMM
            | IBV_WC_EX_WITH_QP_NUM
            | IBV_WC_EX_WITH_SRC_QP
            | IBV_WC_EX_WITH_SLID
            | IBV_WC_EX_WITH_SL
            | IBV_WC_EX_WITH_DLID_PATH_BITS;
        match self {
            // Wallclock without the raw flag: with both, mlx5 gives the derived clock and not the NIC's own.
            Self::Wallclock => Some(FIELDS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK),
            Self::Raw => Some(FIELDS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP),
            Self::Unstamped => Some(FIELDS),
            Self::Plain => None,
        }
    }
}

impl Readers {
    pub(super) fn of(queue: &ibv_cq_ex, wanted: Wanted) -> io::Result<Self> {
        let stamp = match wanted {
            Wanted::Wallclock => queue.read_completion_wallclock_ns.map(StampReader::Wallclock),
            Wanted::Raw => queue.read_completion_ts.map(StampReader::Raw),
            Wanted::Plain | Wanted::Unstamped => None,
        };
        let stamped = matches!(wanted, Wanted::Wallclock | Wanted::Raw);
        let readers = || {
            Some(Self {
                start: queue.start_poll?,
                end: queue.end_poll?,
                opcode: queue.read_opcode?,
                vendor_error: queue.read_vendor_err?,
                bytes: queue.read_byte_len?,
                immediate: queue.read_imm_data?,
                queue_pair: queue.read_qp_num?,
                source_queue_pair: queue.read_src_qp?,
                flags: queue.read_wc_flags?,
                source_lid: queue.read_slid?,
                service_level: queue.read_sl?,
                path_bits: queue.read_dlid_path_bits?,
                stamp,
            })
        };
        let missing = "the provider takes the flag and has no function for it";
        readers()
            .filter(|readers| !stamped || readers.stamp.is_some())
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, missing))
    }

    /// One completion by `start_poll` and `end_poll`. `next_poll` is left alone: Debian 12's soft-RoCE provider hands out
    /// completions that do not exist after it.
    ///
    /// # Safety
    /// `raw` is an open extended queue with these functions, and nobody else polls it.
    #[inline]
    pub(super) unsafe fn poll(&self, raw: *mut ibv_cq_ex) -> io::Result<Option<Completion>> {
        let mut attr = ibv_poll_cq_attr { comp_mask: 0 };
        // SAFETY: the queue is open by our contract.
        match unsafe { (self.start)(raw, &raw mut attr) } {
            0 => {}
            // Nothing is there, and nothing was begun: no end_poll.
            libc::ENOENT => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error.saturating_abs())),
        }
        // SAFETY: between start_poll and end_poll the current entry may be read.
        let completion = unsafe { self.read(raw) };
        // SAFETY: start_poll returned 0 and this ends it, once.
        unsafe { (self.end)(raw) };
        Ok(Some(completion))
    }

    /// # Safety
    /// As `poll`, after a start_poll that returned 0.
    #[inline]
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one contract for all readers of one entry"
    )]
    unsafe fn read(&self, raw: *mut ibv_cq_ex) -> Completion {
        // SAFETY: all-zero octets are valid for this struct of integers.
        let mut wc: ibv_wc = unsafe { zeroed() };
        let mut stamp = None;
        // SAFETY: an entry is current by our contract; each function exists because its flag was asked for.
        unsafe {
            wc.wr_id = (*raw).wr_id;
            wc.status = (*raw).status;
            wc.qp_num = (self.queue_pair)(raw);
            if wc.status != IBV_WC_SUCCESS {
                // Of a failed request nothing else may be read (ibv_create_cq_ex(3)).
                wc.vendor_err = (self.vendor_error)(raw);
                return Completion::new(&wc, None);
            }
            wc.opcode = (self.opcode)(raw);
            wc.byte_len = (self.bytes)(raw);
            wc.wc_flags = (self.flags)(raw);
            wc.imm_data_invalidated_rkey_union.imm_data = (self.immediate)(raw);
            wc.src_qp = (self.source_queue_pair)(raw);
            wc.slid = u16::try_from((self.source_lid)(raw)).unwrap_or(0);
            wc.sl = (self.service_level)(raw);
            wc.dlid_path_bits = (self.path_bits)(raw);
            stamp = match self.stamp {
                Some(StampReader::Wallclock(read)) => Some(Stamp::Wallclock(read(raw))),
                Some(StampReader::Raw(read)) => Some(Stamp::Raw(read(raw))),
                None => stamp,
            };
        }
        Completion::new(&wc, stamp)
    }
}
