//! Unreliable datagrams: one queue pair reaches every peer, and a send completes when the packet has left.

use super::address::AddressHandle;
use super::failure::{CreateError, VerbError};
use super::ffi::ud_t;
use super::memory::{ProtectionDomain, Slice};
use super::numbers::{
    IBV_QP_PKEY_INDEX, IBV_QP_PORT, IBV_QP_QKEY, IBV_QP_SQ_PSN, IBV_QPT_UD, IBV_WR_SEND,
    IBV_WR_SEND_WITH_IMM,
};
use super::post::{Data, Flags, PostError, request};
use super::queue_pair::{
    Pair, QueuePairAttributes, QueuePairOptions, QueuePairState, TransitionError, attributes,
};
use std::sync::Arc;

/// How a UD queue pair is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdParameters {
    /// Our port, from 1.
    pub port: u8,
    /// Which partition, by index.
    pub partition_key_index: u16,
    /// The key that datagrams to us must carry. Its top bit is for the privileged.
    pub queue_key: u32,
    /// The number of the first packet, 24 bits.
    pub packet_sequence: u32,
}

/// Why there is no such queue pair.
#[derive(Debug, thiserror::Error)]
pub enum UdError {
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It could not be made ready.
    #[error(transparent)]
    Transition(#[from] TransitionError),
}

/// A UD queue pair that is ready to send and to receive.
#[derive(Debug)]
pub struct UdQueuePair(Pair);

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The way to the peer's port.
    pub to: &'a AddressHandle,
    /// The queue pair there.
    pub queue_pair: u32,
    /// Its queue key. With the top bit set the one of our own queue pair goes out instead.
    pub queue_key: u32,
    /// At most a path MTU of them.
    pub data: Data<'a>,
    /// Four octets that come with the completion at the peer.
    pub immediate: Option<u32>,
}

impl UdQueuePair {
    /// Makes one and brings it to where it sends.
    ///
    /// # Errors
    /// When there is no room, or the driver does not take a parameter.
    pub fn new(
        domain: &ProtectionDomain,
        options: &QueuePairOptions<'_>,
        parameters: &UdParameters,
    ) -> Result<Self, UdError> {
        let mut pair = Pair::new(domain, options, IBV_QPT_UD)?;
        let mut attr = attributes();
        attr.pkey_index = parameters.partition_key_index;
        attr.port_num = parameters.port;
        attr.qkey = parameters.queue_key;
        attr.sq_psn = parameters.packet_sequence & 0xff_ffff;
        let initial = IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY;
        pair.become_(QueuePairState::INITIALISED, &mut attr, initial)?;
        pair.become_(QueuePairState::READY_TO_RECEIVE, &mut attr, 0)?;
        pair.become_(QueuePairState::READY_TO_SEND, &mut attr, IBV_QP_SQ_PSN)?;
        Ok(Self(pair))
    }

    /// Its number, which peers need to reach it.
    #[inline]
    pub const fn number(&self) -> u32 {
        self.0.number()
    }

    /// Octets that a send can carry inside its request.
    #[inline]
    pub const fn max_inline_bytes(&self) -> u32 {
        self.0.max_inline_bytes()
    }

    /// Gives the NIC room for one datagram: [`GRH_OCTETS`](railgauge_core::rdma::mtu::GRH_OCTETS) more than its data. One that arrives while there is
    /// none is dropped in silence.
    ///
    /// # Errors
    /// When the queue is full, or in error.
    #[inline]
    pub fn post_receive(&mut self, id: u64, into: Slice<'_>) -> Result<(), PostError> {
        self.0.post_receive(id, Some(into))
    }

    /// Sends one datagram. Its address handle and its memory are to stay until the completion.
    ///
    /// # Errors
    /// When the queue is full or in error, or the data does not fit inside the request.
    #[inline]
    pub fn post_send(
        &mut self,
        id: u64,
        datagram: &Datagram<'_>,
        flags: Flags,
    ) -> Result<(), PostError> {
        if !Arc::ptr_eq(datagram.to.domain(), self.0.domain()) {
            return Err(PostError::ForeignAddressHandle);
        }
        let (mut request, mut part) =
            request(id, &datagram.data, flags, self.0.max_inline_bytes())?;
        request.sg_list = &raw mut part;
        request.opcode = IBV_WR_SEND;
        if let Some(immediate) = datagram.immediate {
            request.opcode = IBV_WR_SEND_WITH_IMM;
            request.imm_data_invalidated_rkey_union.imm_data = immediate.to_be();
        }
        request.wr.ud = ud_t {
            ah: datagram.to.raw(),
            remote_qpn: datagram.queue_pair,
            remote_qkey: datagram.queue_key,
        };
        // SAFETY: the part is on our stack, inline data is borrowed for the call, and the handle is of this domain.
        unsafe { self.0.post_send(&mut request) }
    }

    /// What the driver says of it.
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
