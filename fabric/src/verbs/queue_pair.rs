//! What UD and RC queue pairs have in common: making one, its states, receives, its end.

use std::fmt;
use std::io;
use std::mem::zeroed;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use libc::c_int;

use super::completion_queue::{CompletionQueue, QueueOwner};
use super::failure::{CreateError, Kind, VerbError, destroyed, outcome};
use super::ffi::{ibv_qp, ibv_qp_attr, ibv_qp_init_attr, ibv_recv_wr, ibv_send_wr, ibv_sge};
use super::memory::{DomainOwner, ProtectionDomain, Slice};
use super::numbers::{
    IBV_QP_PATH_MTU, IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY, IBV_QP_STATE, IBV_QP_TIMEOUT, IBV_QPS_ERR,
    IBV_QPS_INIT, IBV_QPS_RESET, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_SQE,
};
use super::post::PostError;

/// How much a queue pair holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Send requests outstanding at most.
    pub sends: u32,
    /// Receives posted at most.
    pub receives: u32,
    /// Octets that a send can carry inside its request, asked for; less is granted where the device has less. See
    /// `max_inline_bytes` of the queue pairs.
    pub inline_bytes: u32,
}

/// Where a queue pair's completions go, and how much it holds.
#[derive(Clone, Copy, Debug)]
pub struct QueuePairOptions<'a> {
    /// Where sends complete.
    pub send_completions: &'a CompletionQueue,
    /// Where receives complete; may be the same.
    pub receive_completions: &'a CompletionQueue,
    /// How much it holds.
    pub capacity: Capacity,
}

/// The state of a queue pair, as InfiniBand numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct QueuePairState(pub u32);

impl QueuePairState {
    /// Made.
    pub const RESET: Self = Self(IBV_QPS_RESET);
    /// Receives can be posted.
    pub const INITIALISED: Self = Self(IBV_QPS_INIT);
    /// It answers.
    pub const READY_TO_RECEIVE: Self = Self(IBV_QPS_RTR);
    /// It asks too.
    pub const READY_TO_SEND: Self = Self(IBV_QPS_RTS);
    /// Its work is flushed; it is of no more use.
    pub const ERROR: Self = Self(IBV_QPS_ERR);
}

impl fmt::Display for QueuePairState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            IBV_QPS_RESET => "reset",
            IBV_QPS_INIT => "initialised",
            IBV_QPS_RTR => "ready to receive",
            IBV_QPS_RTS => "ready to send",
            IBV_QPS_SQD => "draining",
            IBV_QPS_SQE => "send queue in error",
            IBV_QPS_ERR => "in error",
            other => return write!(f, "state {other}"),
        })
    }
}

impl fmt::Debug for QueuePairState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueuePairState({self})")
    }
}

/// A queue pair that does not go on. Drop it and make another.
#[derive(Debug, thiserror::Error)]
#[error("a queue pair of {device} cannot become {to}")]
pub struct TransitionError {
    /// The device.
    pub device: Box<str>,
    /// The state that it should have.
    pub to: QueuePairState,
    /// What the driver says: `EINVAL` for a parameter, `ETIMEDOUT` and its like where the peer's address does not resolve.
    #[source]
    pub source: io::Error,
}

/// What the driver says of a queue pair: drivers round time-outs, and results carry what was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePairAttributes {
    /// Its state.
    pub state: QueuePairState,
    /// The path MTU as the InfiniBand number (RC).
    pub path_mtu: u32,
    /// The acknowledgement time-out (RC): 4.096 us times two to this.
    pub ack_timeout: u8,
    /// Retries without an acknowledgement (RC).
    pub retries: u8,
    /// Retries while the peer has no receive (RC); 7 is for ever.
    pub rnr_retries: u8,
}

type PostSend = unsafe extern "C" fn(*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int;
type PostReceive =
    unsafe extern "C" fn(*mut ibv_qp, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int;

/// A queue pair of either kind.
pub(super) struct Pair {
    raw: NonNull<ibv_qp>,
    number: u32,
    max_inline_bytes: u32,
    post_send: PostSend,
    post_receive: PostReceive,
    domain: Arc<DomainOwner>,
    /// Only held: they may not go before the pair.
    _completions: [Arc<QueueOwner>; 2],
}

// SAFETY: libibverbs is thread safe; posting is by `&mut` all the same.
unsafe impl Send for Pair {}
// SAFETY: as above; `&Pair` only asks the kernel.
unsafe impl Sync for Pair {}

impl Pair {
    pub(super) fn new(
        domain: &ProtectionDomain,
        options: &QueuePairOptions<'_>,
        kind: u32,
    ) -> Result<Self, CreateError> {
        let domain = domain.owner();
        let context = domain.context();
        let failed = |error| CreateError::new("ibv_create_qp", context.name(), error);
        let completions = [options.send_completions.owner(), options.receive_completions.owner()];
        if !completions.iter().all(|queue| Arc::ptr_eq(queue.context(), context)) {
            let why = "its completion queue is of another device";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        // SAFETY: the context is open; its table does not change.
        let operations = unsafe { &(*context.raw()).ops };
        let (Some(post_send), Some(post_receive)) = (operations.post_send, operations.post_recv)
        else {
            return Err(failed(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        };
        // SAFETY: all-zero octets are valid for this struct of integers and pointers.
        let mut attr: ibv_qp_init_attr = unsafe { zeroed() };
        attr.send_cq = completions[0].raw();
        attr.recv_cq = completions[1].raw();
        attr.qp_type = kind;
        attr.cap.max_send_wr = options.capacity.sends;
        attr.cap.max_recv_wr = options.capacity.receives;
        attr.cap.max_send_sge = 1;
        attr.cap.max_recv_sge = 1;
        attr.cap.max_inline_data = options.capacity.inline_bytes;
        // SAFETY: domain and queues are alive and of one context.
        let raw = unsafe { (context.functions().ibv_create_qp)(domain.raw(), &raw mut attr) };
        let raw = NonNull::new(raw).ok_or_else(|| failed(io::Error::last_os_error()))?;
        // SAFETY: made just now; libibverbs set its number.
        let number = unsafe { raw.as_ref() }.qp_num;
        Ok(Self {
            raw,
            number,
            max_inline_bytes: attr.cap.max_inline_data,
            post_send,
            post_receive,
            domain: Arc::clone(domain),
            _completions: completions.map(Arc::clone),
        })
    }

    #[inline]
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    #[inline]
    pub(super) const fn max_inline_bytes(&self) -> u32 {
        self.max_inline_bytes
    }

    #[inline]
    pub(super) const fn domain(&self) -> &Arc<DomainOwner> {
        &self.domain
    }

    pub(super) const fn raw(&self) -> *mut ibv_qp {
        self.raw.as_ptr()
    }

    /// Moves it to `to`, with the attributes that `mask` names beside the state.
    pub(super) fn become_(
        &mut self,
        to: QueuePairState,
        attr: &mut ibv_qp_attr,
        mask: c_int,
    ) -> Result<(), TransitionError> {
        attr.qp_state = to.0;
        let context = self.domain.context();
        let modify = context.functions().ibv_modify_qp;
        // SAFETY: the pair is alive and `attr` is valid.
        outcome(unsafe { modify(self.raw(), attr, mask | IBV_QP_STATE) })
            .map_err(|source| TransitionError { device: context.name().into(), to, source })
    }

    pub(super) fn fail(&mut self) -> Result<(), TransitionError> {
        self.become_(QueuePairState::ERROR, &mut attributes(), 0)
    }

    pub(super) fn query(&self) -> Result<QueuePairAttributes, VerbError> {
        let mut attr = attributes();
        // SAFETY: all-zero octets are valid for this struct of integers and pointers.
        let mut init: ibv_qp_init_attr = unsafe { zeroed() };
        let mask =
            IBV_QP_STATE | IBV_QP_PATH_MTU | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY;
        let context = self.domain.context();
        let query = context.functions().ibv_query_qp;
        // SAFETY: the pair is alive, and both structs are on our stack.
        outcome(unsafe { query(self.raw(), &raw mut attr, mask, &raw mut init) })
            .map_err(|source| context.error("ibv_query_qp", source))?;
        Ok(QueuePairAttributes {
            state: QueuePairState(attr.qp_state),
            path_mtu: attr.path_mtu,
            ack_timeout: attr.timeout,
            retries: attr.retry_cnt,
            rnr_retries: attr.rnr_retry,
        })
    }

    /// Whether data of `opcode` lands in order of its addresses; `None` where the library does not know the question.
    pub(super) fn is_in_order(&self, opcode: u32) -> Option<bool> {
        let query = self.domain.context().functions().ibv_query_qp_data_in_order?;
        // SAFETY: the pair is alive. Without flags the answer is 0 or 1.
        Some(unsafe { query(self.raw(), opcode, 0) } == 1)
    }

    #[inline]
    pub(super) fn post_receive(
        &mut self,
        id: u64,
        into: Option<Slice<'_>>,
    ) -> Result<(), PostError> {
        let mut part = into.as_ref().map_or(NO_DATA, registered);
        let mut request = ibv_recv_wr {
            wr_id: id,
            next: null_mut(),
            sg_list: &raw mut part,
            num_sge: c_int::from(into.is_some()),
        };
        let mut bad = null_mut();
        // SAFETY: the pair is alive; the request and its part are on our stack and read before the call returns.
        let rc = unsafe { (self.post_receive)(self.raw(), &raw mut request, &raw mut bad) };
        PostError::of(rc)
    }

    /// # Safety
    /// The pointers in `request` are good for the call, its address handle (UD) is of this pair's domain and outlives the call.
    #[inline]
    pub(super) unsafe fn post_send(&mut self, request: &mut ibv_send_wr) -> Result<(), PostError> {
        let mut bad = null_mut();
        // SAFETY: the pair is alive; the rest is our contract.
        let rc = unsafe { (self.post_send)(self.raw(), request, &raw mut bad) };
        PostError::of(rc)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.domain.context().name())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let context = self.domain.context();
        // SAFETY: this is the only release. Events were all acknowledged when they were taken.
        let rc = unsafe { (context.functions().ibv_destroy_qp)(self.raw()) };
        destroyed(Kind::QueuePair, context.name(), rc);
    }
}

/// No attribute set.
pub(super) fn attributes() -> ibv_qp_attr {
    // SAFETY: all-zero octets are valid for this struct of integers.
    unsafe { zeroed() }
}

pub(super) const NO_DATA: ibv_sge = ibv_sge { addr: 0, length: 0, lkey: 0 };

#[inline]
pub(super) const fn registered(slice: &Slice<'_>) -> ibv_sge {
    ibv_sge { addr: slice.address(), length: slice.length(), lkey: slice.local_key() }
}
