//! Reliable connections: writes, reads, atomics and sends to one peer, acknowledged and retried by the NICs.

use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::rdma::reliability::Reliability;

use super::address::AddressVector;
use super::failure::{CreateError, VerbError};
use super::ffi::{atomic_t, ibv_send_wr, rdma_t};
use super::memory::{Access, ProtectionDomain, Slice};
use super::numbers::{
    IBV_QP_ACCESS_FLAGS, IBV_QP_AV, IBV_QP_DEST_QPN, IBV_QP_MAX_DEST_RD_ATOMIC,
    IBV_QP_MAX_QP_RD_ATOMIC, IBV_QP_MIN_RNR_TIMER, IBV_QP_PATH_MTU, IBV_QP_PKEY_INDEX, IBV_QP_PORT,
    IBV_QP_RETRY_CNT, IBV_QP_RNR_RETRY, IBV_QP_RQ_PSN, IBV_QP_SQ_PSN, IBV_QP_TIMEOUT, IBV_QPT_RC,
    IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE,
    IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, IBV_WR_SEND_WITH_IMM,
};
use super::post::{Data, Flags, PostError, request};
use super::queue_pair::{
    Pair, QueuePairAttributes, QueuePairOptions, QueuePairState, TransitionError, attributes,
};

/// How an RC queue pair is set up before its peer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RcParameters {
    /// Our port, from 1.
    pub port: u8,
    /// Which partition, by index.
    pub partition_key_index: u16,
    /// What the peer may do by this queue pair; the region has to allow it too. `relaxed_ordering` has no meaning here.
    pub access: Access,
}

/// The connection of an RC queue pair. Every parameter is the caller's, and travels with what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RcConnection {
    /// The way to the peer.
    pub way: AddressVector,
    /// The peer's queue pair.
    pub queue_pair: u32,
    /// The path MTU, one that both ends have.
    pub path_mtu: PathMtu,
    /// The number of our first packet, 24 bits.
    pub packet_sequence: u32,
    /// The number of the peer's first packet, 24 bits.
    pub peer_packet_sequence: u32,
    /// What is done about loss.
    pub reliability: Reliability,
    /// Reads and atomics outstanding that we ask for at most.
    pub max_reads_out: u8,
    /// Reads and atomics outstanding that we answer at most.
    pub max_reads_in: u8,
}

/// An RC queue pair without a peer: receives can be posted, and that is better done before the peer can send.
#[derive(Debug)]
pub struct UnconnectedRc {
    pair: Pair,
    port: u8,
}

/// Why there is no such queue pair.
#[derive(Debug, thiserror::Error)]
pub enum RcError {
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It could not be made ready.
    #[error(transparent)]
    Transition(#[from] TransitionError),
}

/// An RC queue pair with its peer, ready to send and to receive. After the first completion that failed it is of no more use:
/// drop it and connect another.
#[derive(Debug)]
pub struct RcQueuePair(Pair);

/// Memory of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The address by which the peer's NIC knows it.
    pub address: u64,
    /// The key that the peer gave for it.
    pub key: u32,
}

/// What an RC queue pair can be asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// Uses up a receive of the peer.
    Send {
        /// What.
        data: Data<'a>,
        /// Four octets that come with the completion at the peer.
        immediate: Option<u32>,
    },
    /// Writes to the peer's memory; its CPU hears of it only where there is an immediate, which uses up a receive.
    Write {
        /// What.
        data: Data<'a>,
        /// Where to.
        to: Remote,
        /// Four octets that come with the completion at the peer.
        immediate: Option<u32>,
    },
    /// Reads the peer's memory.
    Read {
        /// Where to, and how much.
        into: Slice<'a>,
        /// Where from.
        from: Remote,
    },
    /// Adds to eight aligned octets at the peer.
    FetchAdd {
        /// Where the value before goes: eight octets.
        into: Slice<'a>,
        /// Which.
        at: Remote,
        /// How much.
        add: u64,
    },
    /// Sets eight aligned octets at the peer, if they are as expected.
    CompareSwap {
        /// Where the value before goes: eight octets.
        into: Slice<'a>,
        /// Which.
        at: Remote,
        /// As they are to be found.
        expected: u64,
        /// As they are to be left.
        new: u64,
    },
}

impl UnconnectedRc {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no room, or the driver does not take a parameter.
    pub fn new(
        domain: &ProtectionDomain,
        options: &QueuePairOptions<'_>,
        parameters: &RcParameters,
    ) -> Result<Self, RcError> {
        let mut pair = Pair::new(domain, options, IBV_QPT_RC)?;
        let mut attr = attributes();
        attr.pkey_index = parameters.partition_key_index;
        attr.port_num = parameters.port;
        attr.qp_access_flags = parameters.access.bits().cast_unsigned();
        let mask = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
        pair.become_(QueuePairState::INITIALISED, &mut attr, mask)?;
        Ok(Self { pair, port: parameters.port })
    }

    /// Its number, which the peer needs to connect to it.
    pub const fn number(&self) -> u32 {
        self.pair.number()
    }

    /// As [`RcQueuePair::writes_in_order`], for those who have to know before they tell the peer.
    pub fn writes_in_order(&self) -> Option<bool> {
        self.pair.is_in_order(IBV_WR_RDMA_WRITE)
    }

    /// Gives the NIC room for one message; `None` for a write with immediate, which only uses the receive up.
    ///
    /// # Errors
    /// When the queue is full.
    pub fn post_receive(&mut self, id: u64, into: Option<Slice<'_>>) -> Result<(), PostError> {
        self.pair.post_receive(id, into)
    }

    /// Connects it with its peer, which does the same with this one.
    ///
    /// # Errors
    /// When the driver does not take a parameter, or the peer's address does not resolve. The queue pair has gone then.
    pub fn connect(mut self, connection: &RcConnection) -> Result<RcQueuePair, TransitionError> {
        let [ack_timeout, retries, rnr_retries, rnr_timer] = connection.reliability.codes();
        let mut attr = attributes();
        attr.ah_attr = connection.way.attributes();
        attr.ah_attr.port_num = self.port;
        attr.path_mtu = connection.path_mtu.code().into();
        attr.dest_qp_num = connection.queue_pair;
        attr.rq_psn = connection.peer_packet_sequence & 0xff_ffff;
        attr.max_dest_rd_atomic = connection.max_reads_in;
        attr.min_rnr_timer = rnr_timer;
        let receive = IBV_QP_AV
            | IBV_QP_PATH_MTU
            | IBV_QP_DEST_QPN
            | IBV_QP_RQ_PSN
            | IBV_QP_MAX_DEST_RD_ATOMIC
            | IBV_QP_MIN_RNR_TIMER;
        self.pair.become_(QueuePairState::READY_TO_RECEIVE, &mut attr, receive)?;
        attr.timeout = ack_timeout;
        attr.retry_cnt = retries;
        attr.rnr_retry = rnr_retries;
        attr.sq_psn = connection.packet_sequence & 0xff_ffff;
        attr.max_rd_atomic = connection.max_reads_out;
        let send = IBV_QP_TIMEOUT
            | IBV_QP_RETRY_CNT
            | IBV_QP_RNR_RETRY
            | IBV_QP_SQ_PSN
            | IBV_QP_MAX_QP_RD_ATOMIC;
        self.pair.become_(QueuePairState::READY_TO_SEND, &mut attr, send)?;
        Ok(RcQueuePair(self.pair))
    }
}

impl RcQueuePair {
    /// Its number.
    #[inline]
    pub const fn number(&self) -> u32 {
        self.0.number()
    }

    /// Octets that a send or write can carry inside its request.
    #[inline]
    pub const fn max_inline_bytes(&self) -> u32 {
        self.0.max_inline_bytes()
    }

    /// Gives the NIC room for one message; `None` for a write with immediate, which only uses the receive up.
    ///
    /// # Errors
    /// When the queue is full, or in error.
    #[inline]
    pub fn post_receive(&mut self, id: u64, into: Option<Slice<'_>>) -> Result<(), PostError> {
        self.0.post_receive(id, into)
    }

    /// Asks for one piece of work. Its memory is to stay until the completion.
    ///
    /// # Errors
    /// When the queue is full or in error, or the data does not fit inside the request.
    #[inline]
    pub fn post(&mut self, id: u64, work: &Work<'_>, flags: Flags) -> Result<(), PostError> {
        let data = match *work {
            Work::Send { data, .. } | Work::Write { data, .. } => data,
            Work::Read { into, .. }
            | Work::FetchAdd { into, .. }
            | Work::CompareSwap { into, .. } => Data::Region(into),
        };
        let (mut request, mut part) = request(id, &data, flags, self.0.max_inline_bytes())?;
        request.sg_list = &raw mut part;
        fill(&mut request, work);
        // SAFETY: the part is on our stack, and inline data is borrowed for the call.
        unsafe { self.0.post_send(&mut request) }
    }

    /// Whether writes land in order of their addresses, so that the last byte may be polled for: `None` where the library is
    /// older than rdma-core 38, which means no.
    pub fn writes_in_order(&self) -> Option<bool> {
        self.0.is_in_order(IBV_WR_RDMA_WRITE)
    }

    /// What the driver says of it: time-outs as it rounded them.
    ///
    /// # Errors
    /// When the device has gone.
    pub fn query(&self) -> Result<QueuePairAttributes, VerbError> {
        self.0.query()
    }

    /// Ends it: everything posted completes as flushed.
    ///
    /// # Errors
    /// When the device has gone.
    pub fn fail(&mut self) -> Result<(), TransitionError> {
        self.0.fail()
    }
}

#[inline]
fn fill(request: &mut ibv_send_wr, work: &Work<'_>) {
    let with = |request: &mut ibv_send_wr, immediate: Option<u32>, [without, with]: [u32; 2]| {
        request.opcode = if immediate.is_some() { with } else { without };
        // Zero where there is none: the NIC does not look then.
        request.imm_data_invalidated_rkey_union.imm_data = immediate.unwrap_or(0).to_be();
    };
    let atomic = |at: Remote, compare_add, swap| atomic_t {
        remote_addr: at.address,
        compare_add,
        swap,
        rkey: at.key,
    };
    match *work {
        Work::Send { immediate, .. } => {
            with(request, immediate, [IBV_WR_SEND, IBV_WR_SEND_WITH_IMM]);
        }
        Work::Write { to, immediate, .. } => {
            with(request, immediate, [IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM]);
            request.wr.rdma = rdma_t { remote_addr: to.address, rkey: to.key };
        }
        Work::Read { from, .. } => {
            request.opcode = IBV_WR_RDMA_READ;
            request.wr.rdma = rdma_t { remote_addr: from.address, rkey: from.key };
        }
        Work::FetchAdd { at, add, .. } => {
            request.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
            request.wr.atomic = atomic(at, add, 0);
        }
        Work::CompareSwap { at, expected, new, .. } => {
            request.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
            request.wr.atomic = atomic(at, expected, new);
        }
    }
}
