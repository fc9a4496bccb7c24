//! What answers probes over verbs: at each endpoint with an RDMA device, a listener for the exchange of endpoints.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use railgauge_core::rdma::operation::Service;
use railgauge_core::reflector::{DEFAULT_MAX_RATE, PlainRequests, ReflectorConfig};

use super::config::{Config, EndpointSetting};
use super::endpoints::{Own, OwnRdma};
use super::with_cause;
use crate::WaitMode;
use crate::rdma::responder::{self, ResponderConfig};
use crate::rdma::{Port, PortWish};
use crate::reflect::KeyRing;

/// Before what answers is begun again, when it could not go on.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// The exchange cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error(
    "endpoint.exchange_port: cannot listen on {address} by TCP, where endpoints are exchanged for rdma_device {port}: choose another port \
     (`ss -tlnp` shows who has it)"
)]
pub struct ExchangeListenError {
    address: SocketAddr,
    port: Arc<str>,
    source: io::Error,
}

/// What is wrong with the devices that are configured, a sentence each. They are offered all the same: a device may come later.
pub fn complaints(config: &Config) -> Vec<String> {
    let complaint = |endpoint: &EndpointSetting| {
        let device = endpoint.rdma()?;
        let wish = PortWish { device: Some(device.clone()), ..PortWish::default() };
        let why = Port::open(&wish).err()?;
        let port = &endpoint.port;
        Some(format!(
            "endpoint {port}: rdma_device {device} cannot be used now: {}",
            with_cause(&why)
        ))
    };
    config.endpoint.iter().filter_map(complaint).collect()
}

/// Starts answering at each of the endpoints that has a device, until `stop`.
///
/// # Errors
/// When an address cannot be listened on.
pub fn answer(
    endpoints: &[Own],
    keys: &KeyRing,
    plain: PlainRequests,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, ExchangeListenError> {
    let able = endpoints.iter().filter_map(|own| own.rdma.as_ref());
    able.map(|rdma| answer_at(rdma, keys, plain, stop)).collect()
}

fn answer_at(
    OwnRdma { port, listen, .. }: &OwnRdma,
    keys: &KeyRing,
    plain: PlainRequests,
    stop: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, ExchangeListenError> {
    let cannot = |source| ExchangeListenError { address: *listen, port: Arc::clone(port), source };
    let listener = TcpListener::bind(listen).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let config = ResponderConfig {
        port: PortWish { device: Some(port.to_string()), ..PortWish::default() },
        // An offer is not authenticated yet, while datagrams are: a node that answers nothing unauthenticated answers those alone.
        service: (plain == PlainRequests::Never).then_some(Service::Datagram),
        mode: WaitMode::Sleep,
        cpu: None,
        reflector: ReflectorConfig {
            plain,
            max_rate: Some(DEFAULT_MAX_RATE),
            ..ReflectorConfig::default()
        },
        keys: keys.clone(),
    };
    let (stop, port) = (Arc::clone(stop), Arc::clone(port));
    let answer = move || {
        while !stop.load(Ordering::Relaxed) {
            match responder::run(std::slice::from_ref(&listener), None, &config, &stop) {
                Ok(done) => tracing::debug!("{port}: {done:?}"),
                Err(error) => {
                    tracing::warn!(
                        "{port}: probes over verbs are not answered: {}",
                        with_cause(&error)
                    );
                    thread::park_timeout(BEGIN_AGAIN);
                }
            }
        }
    };
    thread::Builder::new().name("rdma-responder".to_owned()).spawn(answer).map_err(cannot)
}
