//! Whether what a coordinator wants probed can be: everything in it comes from outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use railgauge_core::path::{Path, Transport};
use railgauge_core::stamp::Key;
use railgauge_proto::{convert, v1};

pub use super::endpoints::Own;

/// The longest time-out: histograms end there (design D4).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest interval. Slots beyond it would be seldom enough to be no measurement.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);

/// The largest payload of continuous probes: what fits a jumbo frame.
pub const LARGEST_LANE: usize = 8_972;

/// Our endpoints.
pub type Endpoints = [Own];

/// A target that can be probed, as far as it can be told without sending anything.
#[derive(Debug)]
pub struct Checked {
    pub path: Path,
    pub peer: SocketAddr,
    pub local: IpAddr,
    pub interval: Duration,
    pub phase: Duration,
    pub timeout: Duration,
    pub size: usize,
    /// Which of its keys the responder there is to be asked with, and the key.
    pub key: Option<(u64, Key)>,
    /// Our port of an RDMA device, where the path is over verbs.
    pub rdma: Option<Arc<str>>,
}

/// Checks `target`, with intervals of at least `shortest`.
pub fn check(target: &v1::Target, ours: &Endpoints, shortest: Duration) -> Result<Checked, String> {
    let path = target.path.as_ref().ok_or("it names no path")?;
    let path = convert::path(path).map_err(|error| error.to_string())?;
    let own = ours.iter().find(|own| own.endpoint == path.src);
    let own = own.ok_or_else(|| format!("{} is no endpoint here", path.src))?;
    let local = own.address;
    let peer = peer(target, local, ours).map_err(|why| format!("{path}: {why}"))?;
    let wrong = |what: &str| Err(format!("{path}: {what}"));
    let rdma = match (path.transport, &own.rdma) {
        (Transport::Udp, _) => None,
        (Transport::RdmaUd | Transport::RdmaRc, Some(rdma)) => Some(Arc::clone(&rdma.port)),
        (Transport::RdmaUd | Transport::RdmaRc, None) => {
            return wrong("its endpoint here has no rdma_device");
        }
        (Transport::Tcp, _) => return wrong("tcp is no transport of a plan"),
    };
    let interval = Duration::from_nanos(target.interval_ns);
    if !(shortest..=LONGEST_INTERVAL).contains(&interval) {
        return wrong(&format!("an interval of {interval:?} is not from {shortest:?} to an hour"));
    }
    let timeout = Duration::from_nanos(target.timeout_ns);
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        return wrong(&format!("a time-out of {timeout:?} is none, or above 60 s"));
    }
    let size = usize::try_from(target.size_bytes).unwrap_or(usize::MAX);
    let phase = Duration::from_nanos(target.phase_ns);
    let key = match target.probe_key.as_ref().map(v1::ProbeKey::read) {
        None => None,
        Some(Some((epoch, secret))) => Some((epoch, secret.key())),
        Some(None) => return wrong("its key is none"),
    };
    Ok(Checked { path, peer, local, interval, phase, timeout, size, key, rdma })
}

/// One address of one other machine.
fn peer(target: &v1::Target, local: IpAddr, ours: &Endpoints) -> Result<SocketAddr, String> {
    let address = &target.address;
    let ip: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let port = u16::try_from(target.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| format!("{} is no port", target.port))?;
    if ip.is_ipv4() != local.is_ipv4() {
        return Err(format!("{local} cannot reach {ip}, one is IPv4, the other IPv6"));
    }
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!("{ip} is not the address of one machine"));
    }
    let peer = SocketAddr::new(ip, port);
    // Where others reach us is no address of ours behind a translation: what is sent there goes out, and may come back.
    let is_us = |own: &Own| {
        peer == SocketAddr::new(own.address, own.reached.port())
            || own.rdma.as_ref().is_some_and(|rdma| peer == rdma.listen)
    };
    if ours.iter().any(is_us) {
        return Err(format!("{peer} is our own responder"));
    }
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use railgauge_core::path::Endpoint;

    use super::*;

    fn endpoint(node: &str) -> Endpoint {
        convert::endpoint(Some(&v1::Endpoint {
            node: node.to_owned(),
            port: "lo".to_owned(),
            rail: 0,
        }))
        .unwrap()
    }

    type Change = fn(&mut v1::Target);

    fn target(change: impl FnOnce(&mut v1::Target)) -> v1::Target {
        let path = v1::Path {
            src: Some(convert::endpoint_message(&endpoint("a"))),
            dst: Some(convert::endpoint_message(&endpoint("b"))),
            transport: v1::Transport::Udp.into(),
            memory: v1::Memory::Host.into(),
            flow: 0,
            dscp: 0,
        };
        let mut target = v1::Target {
            path: Some(path),
            address: "127.0.0.2".to_owned(),
            port: 862,
            interval_ns: 1_000_000,
            phase_ns: 0,
            timeout_ns: 1_000_000_000,
            size_bytes: 44,
            probe_key: None,
        };
        change(&mut target);
        target
    }

    #[test]
    fn what_cannot_be_probed_is_refused_with_a_sentence() {
        let own: SocketAddr = "127.0.0.1:862".parse().unwrap();
        let ours = [Own::plain(endpoint("a"), own.ip(), own)];
        let shortest = Duration::from_micros(100);
        let checked = |change: Change| check(&target(change), &ours, shortest);
        assert_eq!(checked(|_| ()).unwrap().peer, "127.0.0.2:862".parse().unwrap());
        let refused: &[(Change, &str)] = &[
            (|t| t.path = None, "no path"),
            (
                |t| t.path.as_mut().unwrap().src = Some(convert::endpoint_message(&endpoint("c"))),
                "no endpoint here",
            ),
            (|t| t.address = "nobody".to_owned(), "\"nobody\" is no address"),
            (|t| t.address = "::1".to_owned(), "one is IPv4"),
            (|t| t.address = "0.0.0.0".to_owned(), "one machine"),
            (|t| t.address = "224.0.0.1".to_owned(), "one machine"),
            (|t| t.address = "255.255.255.255".to_owned(), "one machine"),
            (|t| t.address = "127.0.0.1".to_owned(), "our own responder"),
            (
                |t| t.path.as_mut().unwrap().transport = v1::Transport::RdmaRc.into(),
                "its endpoint here has no rdma_device",
            ),
            (
                |t| t.path.as_mut().unwrap().transport = v1::Transport::Tcp.into(),
                "tcp is no transport of a plan",
            ),
            (|t| t.port = 0, "0 is no port"),
            (|t| t.port = 65_536, "65536 is no port"),
            (|t| t.interval_ns = 0, "an interval of 0ns"),
            (|t| t.interval_ns = u64::MAX, "an interval of"),
            (|t| t.timeout_ns = 0, "a time-out of 0ns"),
            (|t| t.timeout_ns = u64::MAX, "a time-out of"),
            (|t| t.probe_key = Some(v1::ProbeKey { epoch: 3, octets: vec![1; 31] }), "key is none"),
        ];
        for (change, said) in refused {
            let why = checked(*change).unwrap_err();
            assert!(why.contains(said), "{why:?} does not say {said:?}");
        }
    }
}
