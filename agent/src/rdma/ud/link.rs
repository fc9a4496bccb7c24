//! The prober's end of a flow of datagrams.

use std::net::{IpAddr, SocketAddr};

use railgauge_core::rdma::endpoint::Offer;
use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::operation::{Completion, Measure, Method, Operation, Service};
use railgauge_core::rdma::reliability::Profile;
use railgauge_fabric::verbs::{CreateError, PostError};

use super::{Arrived, HEADER, Sent, UdSide, UdSideError, Way};
use crate::WaitMode;
use crate::rdma::exchange::{Exchange, Held};
use crate::rdma::rc::Connected;
use crate::rdma::{ExchangeError, Port, PortError, PortWish};

/// What a flow of datagrams needs.
#[derive(Clone, Debug)]
pub struct UdOptions {
    /// Our port.
    pub port: PortWish,
    /// Where endpoints are exchanged.
    pub peer: SocketAddr,
    /// And from where, if that matters.
    pub local: Option<IpAddr>,
    /// Which flow: it has a label of its own for both directions, and a queue pair of its own, since some NICs (soft-RoCE) choose
    /// the source port by that alone.
    pub flow: u16,
    /// DSCP times 4.
    pub traffic_class: u8,
    /// Spin or sleep.
    pub mode: WaitMode,
}

/// Why there is no such flow: each a sentence.
#[derive(Debug, thiserror::Error)]
pub enum UdError {
    /// Our port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Our queue pair.
    #[error(transparent)]
    Side(#[from] UdSideError),
    /// The other side.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The way there.
    #[error("{0}: is the peer's address in reach of this port?")]
    Way(#[from] CreateError),
    /// More flows than source ports.
    #[error("flow {0} has no flow label of its own")]
    Flow(u16),
}

/// A flow of datagrams.
pub(crate) struct UdLink {
    side: UdSide,
    way: Way,
    held: Held,
    mode: WaitMode,
    header: [u8; HEADER],
    bytes: Box<[u8]>,
    failed: bool,
    /// What both ends were set to.
    pub connected: Connected,
}

impl UdLink {
    /// Makes a queue pair and exchanges endpoints, for packets of `length` octets.
    pub fn open(options: &UdOptions, length: usize) -> Result<Self, UdError> {
        let port = Port::open(&options.port)?;
        let mut side = UdSide::new(&port, length)?;
        let mut own = port.endpoint(side.number());
        own.queue_key = side.queue_key;
        let flow_label = FlowLabel::of_flow(options.flow).ok_or(UdError::Flow(options.flow))?;
        let offer = Offer {
            method: Method {
                service: Service::Datagram,
                operation: Operation::Send,
                measure: Measure::Latency,
                completion: Completion::Queue,
            },
            size: u32::try_from(length).unwrap_or(u32::MAX),
            outstanding: 1,
            // Of no meaning for datagrams, which nobody sends again.
            reliability: Profile::Continuous.reliability(),
            traffic_class: options.traffic_class,
            service_level: 0,
            flow_label,
            wanted: None,
            endpoint: own,
        };
        let exchange = Exchange::open_from(options.local, options.peer, offer.clone())?;
        let (agreed, peer) = (exchange.agreed, exchange.accept.endpoint.clone());
        let handle = port.domain.address_handle(&port.way(&peer, &offer))?;
        let (queue_pair, queue_key) = (peer.queue_pair, peer.queue_key);
        let way = Way { handle, queue_pair, queue_key };
        if options.mode == WaitMode::Sleep {
            side.arm().map_err(UdSideError::from)?;
        }
        let connected = Connected {
            offer,
            peer,
            mtu: agreed.mtu,
            is_inline: side.is_inline(length),
            gid_index: port.now.gid.index,
            is_unordered: false,
        };
        let held = exchange.keep(port)?;
        let (header, bytes) = ([0; HEADER], vec![0; length].into());
        let (mode, failed) = (options.mode, false);
        Ok(Self { side, way, held, mode, header, bytes, failed, connected })
    }

    pub const fn side(&self) -> &UdSide {
        &self.side
    }

    /// Whether nothing can come any more.
    pub fn is_lost(&self) -> bool {
        self.failed || self.held.is_over()
    }

    /// Sends the packet of probe `number`.
    #[inline]
    pub fn post(&mut self, number: u64, packet: &[u8]) -> Result<(), PostError> {
        self.side.post(number, packet, &self.way)
    }

    /// The next send that has ended; `Err` once, when the device has failed.
    #[inline]
    pub fn sent(&mut self) -> Result<Option<Sent>, &'static str> {
        if self.failed {
            return Ok(None);
        }
        self.side.sent().map_err(|_| self.fail())
    }

    /// Hands what has come to `sink`; returns whether there was nothing, `Err` once, when the device has failed.
    pub fn receive(
        &mut self,
        most: usize,
        mut sink: impl FnMut(Result<(&[u8], &Arrived), &'static str>),
    ) -> Result<bool, &'static str> {
        if self.failed {
            return Ok(true);
        }
        let mut dry = self.take(most, &mut sink)?;
        if self.mode == WaitMode::Sleep {
            // Armed first and looked at again, so that nothing waits unheard.
            self.side.quiet().and_then(|()| self.side.arm()).map_err(|_| self.fail())?;
            dry &= self.take(usize::MAX, &mut sink)?;
        }
        Ok(dry)
    }

    fn take(
        &mut self,
        most: usize,
        sink: &mut impl FnMut(Result<(&[u8], &Arrived), &'static str>),
    ) -> Result<bool, &'static str> {
        let mut count = 0;
        while count < most {
            let came = match self.side.arrived() {
                Ok(Some(came)) => came,
                Ok(None) => break,
                Err(_) => return Err(self.fail()),
            };
            count += 1;
            let arrived = match came {
                Ok(arrived) => arrived,
                // The place is not given back: its queue pair is in error.
                Err(reason) => {
                    sink(Err(reason));
                    continue;
                }
            };
            if arrived.source_queue_pair == self.way.queue_pair {
                let Self { side, header, bytes, .. } = self;
                let length = side.copy(&arrived, header, bytes);
                sink(Ok((&bytes[..length], &arrived)));
            } else {
                sink(Err("foreign_datagram"));
            }
            if self.side.post_receive(arrived.place).is_err() {
                return Err(self.fail());
            }
        }
        Ok(count == 0)
    }

    const fn fail(&mut self) -> &'static str {
        self.failed = true;
        "device_failed"
    }
}
