//! Who measures whom: names, endpoints and paths.

use std::fmt;

use crate::rdma::operation::Service;

/// A name that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, too long, or with a character that is not allowed.
    #[error("{text:?} is no {what}: 1 to {most} of A-Z a-z 0-9 {others}")]
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// As given, cut to 300 characters.
        text: String,
        /// Characters at most.
        most: usize,
        /// What is allowed beside letters and digits.
        others: &'static str,
    },
}

fn check(
    what: &'static str,
    text: &str,
    most: usize,
    others: &'static str,
) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || (c != ' ' && others.contains(c));
    if (1..=most).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    let text = text.chars().take(300).collect();
    Err(NameError::Malformed { what, text, most, others })
}

/// The name of a node: what its operator calls it, usually its host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Box<str>);

impl NodeName {
    /// 1 to 253 of `A-Z a-z 0-9 . _ -` (a DNS name is one).
    ///
    /// # Errors
    /// Where `text` is none.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check("node name", text, 253, ". _ -").map(|()| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a port of a node: `eth0`, `mlx5_0/1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(Box<str>);

impl PortName {
    /// 1 to 64 of `A-Z a-z 0-9 . _ - : /`.
    ///
    /// # Errors
    /// Where `text` is none.
    pub fn new(text: &str) -> Result<Self, NameError> {
        check("port name", text, 64, ". _ - : /").map(|()| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A place where probes leave or arrive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The node.
    pub node: NodeName,
    /// Its port.
    pub port: PortName,
    /// The rail: ports of equal index across nodes.
    pub rail: u16,
}

/// `node/port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.port)
    }
}

/// What carries probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// STAMP datagrams: loss shows as loss.
    Udp,
    /// STAMP packets over a connection: loss shows as delay.
    Tcp,
    /// STAMP packets in unreliable datagrams of verbs: loss shows as loss.
    RdmaUd,
    /// Operations of verbs on a reliable connection, as jobs use it: loss shows as delay.
    RdmaRc,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::RdmaUd, Self::RdmaRc];

    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::RdmaUd => "rdma-ud",
            Self::RdmaRc => "rdma-rc",
        }
    }

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|transport| transport.as_str() == word)
    }

    /// The service of verbs that carries it.
    pub const fn rdma_service(self) -> Option<Service> {
        match self {
            Self::Udp | Self::Tcp => None,
            Self::RdmaUd => Some(Service::Datagram),
            Self::RdmaRc => Some(Service::Connection),
        }
    }

    /// Whether each probe is a packet of its own, whose departure and arrival can be stamped.
    pub const fn has_packets(self) -> bool {
        matches!(self, Self::Udp | Self::RdmaUd)
    }
}

/// Where the probe's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    /// The host's.
    Host,
}

impl Memory {
    /// The word used in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
        }
    }
}

/// An ordered pair of endpoints with what tells its packets from those of other paths between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Where probes leave.
    pub src: Endpoint,
    /// Where they are answered.
    pub dst: Endpoint,
    /// What carries them.
    pub transport: Transport,
    /// Where their memory is.
    pub memory: Memory,
    /// Which of several source ports.
    pub flow: u16,
    /// Differentiated services code point.
    pub dscp: u8,
}

/// `a/eth0 > b/eth0 udp`, with flow and DSCP where they are not 0.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} {}", self.src, self.dst, self.transport.as_str())?;
        if self.flow != 0 {
            write!(f, " flow {}", self.flow)?;
        }
        if self.dscp != 0 {
            write!(f, " dscp {}", self.dscp)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_the_sentence_says_what_is_allowed() {
        assert_eq!(NodeName::new("gpu-07.rack_3").unwrap().as_str(), "gpu-07.rack_3");
        assert_eq!(PortName::new("mlx5_0/1").unwrap().to_string(), "mlx5_0/1");
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(254)] {
            let error = NodeName::new(bad).unwrap_err().to_string();
            assert!(error.contains("is no node name: 1 to 253 of"), "{error}");
        }
        assert!(PortName::new("eth0 ").is_err());
    }
}
