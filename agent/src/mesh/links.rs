//! What carries a path over verbs: made and let go by threads of their own, since exchanging endpoints waits for the peer, and the end of
//! a queue pair for the device.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use railgauge_core::path::Transport;
use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::operation::{
    CompletionStamps, MemoryRoute, Method, Operation, Polling, Service,
};
use railgauge_core::rdma::parameters::RdmaParameters;
use railgauge_core::rdma::reliability::Profile;

use super::LaneSetup;
use crate::WaitMode;
use crate::probe_thread::flow::Flow;
use crate::probe_thread::{FlowError, FlowOptions};
use crate::rdma::PortWish;
use crate::rdma::rc::link::RcLink;
use crate::rdma::rc::{ConnectError, Connected, RcPlan};
use crate::rdma::ud::UdOptions;

/// Links in the making at a time: each may wait for a peer that is not there, some 13 s at most.
const MOST_IN_THE_MAKING: usize = 16;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Datagrams.
    #[error(transparent)]
    Datagrams(#[from] FlowError),
    /// A connection.
    #[error(transparent)]
    Connection(#[from] ConnectError),
    /// The path is over nothing of verbs.
    #[error("{0} is no transport of verbs")]
    Transport(&'static str),
}

/// What carries a path.
pub enum Link {
    /// Packets, each of which is answered by one.
    Packets(Box<Flow>),
    /// Operations on a connection, one at a time.
    Operations(Box<RcLink>),
}

impl Link {
    /// Makes it, for packets of `length` octets; waits for the peer.
    fn make(setup: &LaneSetup, length: usize) -> Result<Self, LinkError> {
        let port = PortWish {
            device: setup.rdma.as_deref().map(ToOwned::to_owned),
            ..PortWish::default()
        };
        let (peer, local) = (setup.peer, Some(setup.local));
        let traffic_class = setup.path.dscp << 2;
        match setup.path.transport {
            Transport::RdmaUd => {
                let (flow, mode) = (setup.path.flow, WaitMode::Sleep);
                let options = UdOptions { port, peer, local, flow, traffic_class, mode };
                let flow = Flow::open(&FlowOptions::RdmaUd(options), length)?;
                Ok(Self::Packets(Box::new(flow)))
            }
            Transport::RdmaRc => {
                let plan = RcPlan {
                    port,
                    peer,
                    local,
                    method: method(Service::Connection),
                    is_forced: false,
                    falls_back: false,
                    size: u32::try_from(setup.size).unwrap_or(u32::MAX),
                    outstanding: 1,
                    reliability: Profile::Continuous.reliability(),
                    traffic_class,
                    service_level: 0,
                    flow_label: FlowLabel::of_flow(setup.path.flow).unwrap_or(FlowLabel::UNSET),
                };
                let link = RcLink::connect(&plan, WaitMode::Sleep)?;
                Ok(Self::Operations(Box::new(link)))
            }
            other => Err(LinkError::Transport(other.as_str())),
        }
    }

    /// Whether the peer, its device or ours is gone.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Packets(flow) => flow.is_lost(),
            Self::Operations(link) => link.is_over(),
        }
    }

    /// What a poller waits on.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Packets(flow) => Some(flow.fd()),
            Self::Operations(link) => link.fd(),
        }
    }

    /// How its path is probed.
    pub fn parameters(&self) -> Option<RdmaParameters> {
        match self {
            Self::Packets(flow) => {
                let stamps = if flow.is_stamped() {
                    CompletionStamps::Wallclock
                } else {
                    CompletionStamps::Software
                };
                flow.connected().map(|connected| parameters(connected, stamps))
            }
            Self::Operations(link) => Some(parameters(&link.connected, CompletionStamps::Software)),
        }
    }
}

/// One-sided reads over a connection: the peer's device answers alone, so that its program, its scheduler and its interrupts have no part in
/// what is measured. A read and not a write, because a read ends when data has come from the peer's memory, where the acknowledgement of
/// a write may leave before it is in any.
const fn method(service: Service) -> Method {
    let operation = match service {
        Service::Connection => Operation::Read,
        Service::Datagram => Operation::Send,
    };
    Method::latency(service, operation, false)
}

/// What is known of a way that was agreed on, for whoever sleeps until completions come.
pub(crate) fn parameters(connected: &Connected, stamps: CompletionStamps) -> RdmaParameters {
    let offer = &connected.offer;
    let is_connection = offer.method.service == Service::Connection;
    RdmaParameters {
        method: offer.method,
        outstanding: offer.outstanding,
        reliability: is_connection.then_some(offer.reliability),
        mtu: connected.mtu,
        service_level: offer.service_level,
        prober_route: MemoryRoute::Host,
        responder_route: connected.peer.route,
        polling: Polling::Event,
        stamps,
    }
}

/// One that was made, or why not, for whom.
pub struct Made {
    /// As asked.
    pub setup: Arc<LaneSetup>,
    /// What came of it.
    pub link: Result<Link, LinkError>,
}

/// Makes links, and lets them go.
pub struct Maker {
    tell: Sender<Made>,
    made: Receiver<Made>,
    wake: UnixStream,
    under_way: usize,
    waiting: Vec<(Arc<LaneSetup>, usize)>,
}

impl Maker {
    /// One that says on `wake` that something was made.
    pub fn new(wake: UnixStream) -> Self {
        let (tell, made) = mpsc::channel();
        Self { tell, made, wake, under_way: 0, waiting: Vec::new() }
    }

    /// Makes one for packets of `length` octets.
    pub fn make(&mut self, setup: Arc<LaneSetup>, length: usize) {
        self.waiting.push((setup, length));
        self.start();
    }

    /// The next that was made.
    pub fn next_made(&mut self) -> Option<Made> {
        let made = self.made.try_recv().ok()?;
        self.under_way -= 1;
        self.start();
        Some(made)
    }

    fn start(&mut self) {
        while self.under_way < MOST_IN_THE_MAKING
            && let Some((setup, length)) = self.waiting.pop()
        {
            let Ok(mut wake) = self.wake.try_clone() else {
                return self.waiting.push((setup, length));
            };
            let (tell, wanted) = (self.tell.clone(), Arc::clone(&setup));
            let make = move || {
                let link = Link::make(&wanted, length);
                // The lane, or the whole mesh, may be gone; a full pipe wakes as well as one octet more would.
                let _ = tell.send(Made { setup: wanted, link });
                let _ = wake.write(&[1]);
            };
            match thread::Builder::new().name("connector".to_owned()).spawn(make) {
                Ok(_) => self.under_way += 1,
                // Tried again with the next that is asked for or made.
                Err(_) => return self.waiting.push((setup, length)),
            }
        }
    }
}

/// Lets a link go on a thread of its own: the end of its exchange, and that of its queue pair, take longer than a slot.
pub fn let_go(link: Link) {
    let spawned = thread::Builder::new().name("connector".to_owned()).spawn(move || drop(link));
    if let Err(error) = spawned {
        tracing::debug!("a link was let go by the probe thread: {error}");
    }
}
