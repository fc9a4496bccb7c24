//! What an agent says first, checked: everything in it comes from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use railgauge_core::path::{Endpoint, NameError, NodeName, Transport};
use railgauge_core::plan::Offers;
use railgauge_core::time::Wall;
use railgauge_proto::convert::{self, ConvertError};
use railgauge_proto::protocol::KEYS_SINCE_MINOR;
use railgauge_proto::v1;

/// Ports of a node at most: twice that of any machine known.
const MOST_ENDPOINTS: usize = 64;
/// Labels of a node at most.
const MOST_LABELS: usize = 64;
/// Octets of a label's name or value at most.
const LONGEST_LABEL: usize = 256;
/// Octets of an inventory at most: that of the largest machine in the test data is 30 KiB.
const LARGEST_INVENTORY: usize = 1 << 20;
/// Octets of an identity: 16 random ones; room for longer.
const IDENTITY: std::ops::RangeInclusive<usize> = 8..=64;

/// Where a node answers probes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentEndpoint {
    /// The port.
    pub endpoint: Endpoint,
    /// Its responder.
    pub address: SocketAddr,
    /// What it answers over verbs.
    pub rdma: Option<RdmaOffer>,
}

/// What an endpoint answers over verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RdmaOffer {
    /// Where endpoints are exchanged, by TCP.
    pub exchange: SocketAddr,
    /// Which transports.
    pub offers: Offers,
}

impl AgentEndpoint {
    /// Where probes of a transport are sent, or endpoints exchanged before they are; `None` where it does not answer them.
    pub fn reached_by(&self, transport: Transport) -> Option<SocketAddr> {
        match transport {
            Transport::Udp => Some(self.address),
            Transport::Tcp => None,
            Transport::RdmaUd | Transport::RdmaRc => {
                self.rdma.filter(|rdma| rdma.offers.has(transport)).map(|rdma| rdma.exchange)
            }
        }
    }

    /// Which transports it offers beside UDP.
    pub fn offers(&self) -> Offers {
        self.rdma.map_or_else(Offers::default, |rdma| rdma.offers)
    }
}

/// A hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node's name.
    pub node: NodeName,
    /// Of the agent's state directory.
    pub identity: Vec<u8>,
    /// Of its process.
    pub instance: u64,
    /// Of its kernel.
    pub boot_id: String,
    /// Where it answers probes; no name and no address twice.
    pub endpoints: Vec<AgentEndpoint>,
    /// As configured there.
    pub labels: BTreeMap<String, String>,
    /// Of its software, printable.
    pub software_version: String,
    /// What it is, as JSON; empty when it did not say.
    pub inventory_json: Vec<u8>,
    /// By its clock.
    pub sent_at: Wall,
    /// Its agent knows of keys of probes.
    pub knows_keys: bool,
    /// Its reflector answers nothing that is not authenticated.
    pub refuses_unauthenticated: bool,
}

/// Why a hello is none.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The node's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An endpoint's name or rail.
    #[error("endpoint {index}: {source}")]
    Endpoint {
        /// From 0.
        index: usize,
        /// What is wrong.
        source: ConvertError,
    },
    /// An endpoint of another node.
    #[error("endpoint {endpoint} is not one of {node}")]
    NotOurs {
        /// As sent.
        endpoint: Endpoint,
        /// Who sent it.
        node: NodeName,
    },
    /// Nothing that can be sent to.
    #[error(
        "endpoint {endpoint} has the address {address:?} and port {port}, where no probe can be sent"
    )]
    Address {
        /// Which.
        endpoint: Endpoint,
        /// As sent, cut.
        address: String,
        /// As sent.
        port: u32,
    },
    /// Twice the same.
    #[error("two endpoints have the {what} {which}")]
    Twice {
        /// Name or address.
        what: &'static str,
        /// As sent.
        which: String,
    },
    /// Larger than anything sensible.
    #[error("{what}: {got}, where {allowed} are allowed")]
    Size {
        /// Which field.
        what: &'static str,
        /// How much there is.
        got: usize,
        /// What may be.
        allowed: String,
    },
}

/// Checks a hello.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(from: v1::Hello) -> Result<Hello, HelloError> {
    let node = NodeName::new(&from.node)?;
    within("octets of identity", from.identity.len(), *IDENTITY.start(), *IDENTITY.end())?;
    within("octets of boot id", from.boot_id.len(), 1, 64)?;
    within("endpoints", from.endpoints.len(), 0, MOST_ENDPOINTS)?;
    within("labels", from.labels.len(), 0, MOST_LABELS)?;
    for (name, value) in &from.labels {
        within("octets of a label's name", name.len(), 1, LONGEST_LABEL)?;
        within("octets of a label's value", value.len(), 0, LONGEST_LABEL)?;
    }
    within("octets of inventory", from.inventory_json.len(), 0, LARGEST_INVENTORY)?;
    Ok(Hello {
        endpoints: endpoints(&node, &from.endpoints)?,
        node,
        identity: from.identity,
        instance: from.instance,
        boot_id: printable(&from.boot_id),
        labels: from.labels.iter().map(|(n, v)| (printable(n), printable(v))).collect(),
        software_version: printable(&from.software_version).chars().take(80).collect(),
        inventory_json: from.inventory_json,
        sent_at: Wall::from_unix_nanos(from.sent_at_unix_ns),
        knows_keys: from.protocol.is_some_and(|theirs| theirs.minor >= KEYS_SINCE_MINOR),
        refuses_unauthenticated: from.refuses_unauthenticated,
    })
}

fn within(what: &'static str, got: usize, least: usize, most: usize) -> Result<(), HelloError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(HelloError::Size { what, got, allowed: format!("{least} to {most}") })
}

/// Without what could command a terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn endpoints(
    node: &NodeName,
    from: &[v1::AgentEndpoint],
) -> Result<Vec<AgentEndpoint>, HelloError> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    let mut all = Vec::with_capacity(from.len());
    for (index, each) in from.iter().enumerate() {
        let endpoint = convert::endpoint(each.endpoint.as_ref())
            .map_err(|source| HelloError::Endpoint { index, source })?;
        if endpoint.node != *node {
            return Err(HelloError::NotOurs { endpoint, node: node.clone() });
        }
        let Some(address) = probeable(&each.address, each.port) else {
            let address = printable(&each.address).chars().take(60).collect();
            return Err(HelloError::Address { endpoint, address, port: each.port });
        };
        if !names.insert(endpoint.port.clone()) {
            return Err(HelloError::Twice { what: "name", which: endpoint.port.to_string() });
        }
        if !addresses.insert(address) {
            return Err(HelloError::Twice { what: "address", which: address.to_string() });
        }
        let rdma = rdma_offer(&endpoint, each.rdma.as_ref())?;
        all.push(AgentEndpoint { endpoint, address, rdma });
    }
    Ok(all)
}

/// What a newer agent offers that is no transport known here is left out.
fn rdma_offer(
    endpoint: &Endpoint,
    from: Option<&v1::RdmaOffer>,
) -> Result<Option<RdmaOffer>, HelloError> {
    let Some(from) = from else { return Ok(None) };
    let offers = Offers { datagrams: from.datagrams, connections: from.connections };
    if offers == Offers::default() {
        return Ok(None);
    }
    let exchange = probeable(&from.address, from.port).ok_or_else(|| {
        let address = printable(&from.address).chars().take(60).collect();
        HelloError::Address { endpoint: endpoint.clone(), address, port: from.port }
    })?;
    Ok(Some(RdmaOffer { exchange, offers }))
}

/// An address to which one machine can send to one other.
fn probeable(address: &str, port: u32) -> Option<SocketAddr> {
    let ip: IpAddr = address.parse().ok()?;
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    (!ip.is_unspecified() && !ip.is_multicast() && !broadcast).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A hello that is right: node `name` with the port eth0 at 127.0.0.`last`:862.
    pub fn example(name: &str, last: u8) -> v1::Hello {
        let endpoint = v1::Endpoint { node: name.into(), port: "eth0".into(), rail: 0 };
        v1::Hello {
            protocol: Some(railgauge_proto::protocol::OURS),
            software_version: "0.1.0".into(),
            node: name.into(),
            identity: vec![last; 16],
            instance: 1,
            boot_id: "boot-1".into(),
            endpoints: vec![v1::AgentEndpoint {
                endpoint: Some(endpoint),
                address: format!("127.0.0.{last}"),
                port: 862,
                rdma: None,
            }],
            labels: [("rack".to_owned(), "r1".to_owned())].into(),
            inventory_json: b"{}".to_vec(),
            sent_at_unix_ns: 1_000_000_000,
            refuses_unauthenticated: false,
        }
    }

    fn refused(change: impl FnOnce(&mut v1::Hello)) -> String {
        let mut hello = example("a", 1);
        change(&mut hello);
        check(hello).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(check(example("a", 1)).is_ok());
        let twice = |m: &mut v1::Hello| m.endpoints.push(m.endpoints[0].clone());
        let cases = [
            ("\"a b\" is no node name", refused(|m| m.node = "a b".into())),
            ("is not one of b", refused(|m| m.node = "b".into())),
            ("octets of identity: 0, where 8 to 64", refused(|m| m.identity.clear())),
            ("two endpoints have the name eth0", refused(twice)),
            (
                "two endpoints have the address 127.0.0.1:862",
                refused(|m| {
                    twice(m);
                    m.endpoints[1].endpoint.as_mut().unwrap().port = "eth1".into();
                }),
            ),
            ("has the address \"0.0.0.0\"", refused(|m| m.endpoints[0].address = "0.0.0.0".into())),
            ("where no probe can be sent", refused(|m| m.endpoints[0].port = 0)),
            ("endpoint 0: endpoint is missing", refused(|m| m.endpoints[0].endpoint = None)),
            (
                "labels: 65",
                refused(|m| m.labels = (0..65).map(|n| (n.to_string(), String::new())).collect()),
            ),
            ("octets of inventory", refused(|m| m.inventory_json = vec![0; (1 << 20) + 1])),
        ];
        for (expected, said) in cases {
            assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        }
    }
}
