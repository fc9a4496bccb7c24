//! TARGET as typed: `host`, `host:port`, `192.0.2.1:862`, `[2001:db8::1]:862`, `fe80::1%eth0`.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use nix::net::if_::{if_nameindex, if_nametoindex};

/// Which address family may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whatever the name resolves to first.
    #[default]
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// Why a target means nothing; each names it and the way out.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The text has no reading.
    #[error("{0:?} is no target: write host, host:port, or [IPv6 address]:port")]
    Malformed(String),
    /// The port is not one.
    #[error("{port:?} in {target:?} is no port: write a number from 1 to 65535")]
    Port {
        /// As typed.
        target: String,
        /// The part after the colon.
        port: String,
    },
    /// The scope names no interface.
    #[error("{zone:?} in {target:?} is no network interface of this machine: `ip link` lists them")]
    Zone {
        /// As typed.
        target: String,
        /// The part after the percent sign.
        zone: String,
    },
    /// A link-local address says nothing without its link.
    #[error("{0} is link-local: add the interface, as in [{0}%eth0]:862")]
    ScopeMissing(Ipv6Addr),
    /// Not the address of one host.
    #[error("{address} is {kind}: a probe needs the address of one host")]
    NotOneHost {
        /// The address.
        address: IpAddr,
        /// What it is instead.
        kind: &'static str,
    },
    /// The name does not resolve.
    #[error("cannot resolve {host:?}: check the name, or give an address")]
    Unknown {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name resolves, but to the other family.
    #[error("{host:?} has no {family} address: leave out {flag}")]
    Family {
        /// The name.
        host: String,
        /// The family asked for.
        family: &'static str,
        /// The flag that asked for it.
        flag: &'static str,
    },
}

impl TargetError {
    /// Whether the text itself is wrong, as against the world it points into.
    pub const fn is_usage(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

/// Resolves `text`; a port left out is `default_port`. May ask a name server.
pub fn resolve(text: &str, default_port: u16, family: Family) -> Result<SocketAddr, TargetError> {
    let (host, port) = split(text)?;
    let port = port.map_or(Ok(default_port), |port| parse_port(text, port))?;
    let candidates = addresses(text, host, port)?;
    let fits = |addr: &&SocketAddr| match family {
        Family::Any => true,
        Family::V4 => addr.is_ipv4(),
        Family::V6 => addr.is_ipv6(),
    };
    let Some(&found) = candidates.iter().find(fits) else {
        let (family, flag) = if family == Family::V4 { ("IPv4", "-4") } else { ("IPv6", "-6") };
        return Err(TargetError::Family { host: host.to_owned(), family, flag });
    };
    if let Some(kind) = many_hosts(found.ip()) {
        return Err(TargetError::NotOneHost { address: found.ip(), kind });
    }
    match found {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            Err(TargetError::ScopeMissing(*v6.ip()))
        }
        _ => Ok(found),
    }
}

/// What `address` is, when it is not one host's. Broadcast addresses of subnets cannot be told from here.
fn many_hosts(address: IpAddr) -> Option<&'static str> {
    match address {
        ip if ip.is_unspecified() => Some("where a reflector listens, not where it is"),
        ip if ip.is_multicast() => Some("a multicast group"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    }
}

/// Splits host and port. An address with several colons and no brackets is all host.
fn split(text: &str) -> Result<(&str, Option<&str>), TargetError> {
    let malformed = || TargetError::Malformed(text.to_owned());
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(malformed)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(malformed()),
        }
    } else {
        match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '/') {
        Err(malformed())
    } else {
        Ok((host, port))
    }
}

fn parse_port(text: &str, port: &str) -> Result<u16, TargetError> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { port.parse().ok() } else { None };
    number
        .filter(|&port| port != 0)
        .ok_or_else(|| TargetError::Port { target: text.to_owned(), port: port.to_owned() })
}

fn addresses(text: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, TargetError> {
    if let Some((address, zone)) = host.split_once('%') {
        let ip: Ipv6Addr = address.parse().map_err(|_| TargetError::Malformed(text.to_owned()))?;
        let scope = scope_of(zone)
            .ok_or_else(|| TargetError::Zone { target: text.to_owned(), zone: zone.to_owned() })?;
        return Ok(vec![SocketAddrV6::new(ip, port, 0, scope).into()]);
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if host.contains(':') {
        return Err(TargetError::Malformed(text.to_owned()));
    }
    let unknown = |source| TargetError::Unknown { host: host.to_owned(), source };
    Ok((host, port).to_socket_addrs().map_err(unknown)?.collect())
}

/// The index of the interface called `zone`, or with that number.
fn scope_of(zone: &str) -> Option<u32> {
    let number: Option<u32> = zone.parse().ok();
    number.map_or_else(
        || if_nametoindex(zone).ok(),
        |number| if_nameindex().ok()?.iter().any(|i| i.index() == number).then_some(number),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(text: &str) -> Result<SocketAddr, String> {
        resolve(text, 862, Family::Any).map_err(|e| e.to_string())
    }

    #[test]
    fn every_way_to_write_a_target() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:862"),
            ("127.0.0.1:7463", "127.0.0.1:7463"),
            ("::1", "[::1]:862"),
            ("[::1]", "[::1]:862"),
            ("[::1]:7463", "[::1]:7463"),
        ] {
            assert_eq!(any(text), Ok(address.parse().unwrap()), "{text}");
        }
        let scoped = any("[fe80::1%lo]:5").unwrap();
        assert!(
            matches!(scoped, SocketAddr::V6(v6) if v6.scope_id() == if_nametoindex("lo").unwrap())
        );
    }

    #[test]
    fn what_has_no_reading_says_what_to_write() {
        for (text, part) in [
            ("", "is no target"),
            ("[::1", "is no target"),
            ("a b", "is no target"),
            ("host:", "is no port"),
            ("host:0", "is no port"),
            ("host:70000", "is no port"),
            ("host:+7", "is no port"),
            ("fe80::1%nosuch0", "is no network interface"),
            ("fe80::1", "add the interface"),
            ("fe80::1%4294967295", "is no network interface"),
            ("http://host/", "is no target"),
            ("a:b:c", "is no target"),
            ("0.0.0.0:862", "where a reflector listens"),
            ("[::]:862", "where a reflector listens"),
            ("255.255.255.255", "the broadcast address"),
            ("ff02::1%lo", "a multicast group"),
        ] {
            let error = any(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_family_that_is_not_there_is_named() {
        let error = resolve("127.0.0.1", 862, Family::V6).unwrap_err().to_string();
        assert_eq!(error, "\"127.0.0.1\" has no IPv6 address: leave out -6");
    }
}
