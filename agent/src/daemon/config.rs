//! What an operator can set: flags over the environment over the file over defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use railgauge_access::authorize::Shown;
use railgauge_access::files::Files;
use railgauge_core::path::{Endpoint, NameError, NodeName, PortName};
use railgauge_core::settings::{self, SettingsError, Size};
use serde::{Deserialize, Serialize};

/// Where the file is when nobody says.
pub const DEFAULT_FILE: &str = "/etc/railgauge/agent.toml";

/// The port of STAMP (RFC 8762 section 4.1).
const STAMP_PORT: u16 = 862;

/// The port of the exchange, the same as that of `railgauge reflect`.
pub const EXCHANGE_PORT: u16 = 7463;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named and cannot be read, or is there and cannot be.
    #[error("cannot read {file}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Its contents.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A name.
    #[error("{key}")]
    Name {
        /// Of which key.
        key: &'static str,
        /// Why.
        source: NameError,
    },
    /// Nobody says what this node is called.
    #[error("this host has no name to go by: set node = \"NAME\", or give --node NAME")]
    NoNode,
    /// A value outside what makes sense.
    #[error("{key} = {value}: {what}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// As it would be in force.
        value: String,
        /// What is allowed.
        what: &'static str,
    },
    /// Plaintext to another machine.
    #[error(
        "coordinator = {0}: insecure = true means plaintext, which goes to an address on loopback only; take it out and give ca, cert and \
         key, or use http://127.0.0.1:7460"
    )]
    NotLoopback(String),
    /// The URL says one thing and `insecure` the other.
    #[error("coordinator = {url}: that is {says}, and insecure = {insecure}: {way}")]
    Scheme {
        /// As it would be in force.
        url: String,
        /// What it says.
        says: &'static str,
        /// As it would be in force.
        insecure: bool,
        /// What to do about it.
        way: &'static str,
    },
    /// Pages beyond this machine.
    #[error(
        "http_listen = {0}: that is no loopback address, and pages in plaintext are shown on loopback only; use 127.0.0.1:{port}, or set \
         http_tls = true, or allow_plain_metrics = true to show /metrics and /healthz to everybody",
        port = .0.port()
    )]
    PlainPages(SocketAddr),
    /// TLS with nothing to make it from.
    #[error(
        "http_tls = true needs certificates, and insecure = true is without: take one of them out"
    )]
    InsecureTls,
}

/// A port that probes leave from and are answered at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSetting {
    /// Its name, as `eth0`.
    pub port: String,
    /// Its rail: ports of equal index across nodes.
    #[serde(default)]
    pub rail: u16,
    /// Its address on this node.
    pub address: IpAddr,
    /// The UDP port on which it answers probes; 0 for any.
    #[serde(default = "stamp_port")]
    pub udp_port: u16,
    /// Where other nodes reach it, if not there (address translation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<SocketAddr>,
    /// Its RDMA device, as `mlx5_0`, where it offers `rdma-ud` and `rdma-rc` beside UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma_device: Option<String>,
    /// The port of that device, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma_port: Option<u8>,
    /// The TCP port on which endpoints are exchanged before probes over verbs.
    #[serde(default = "exchange_port", skip_serializing_if = "is_exchange_port")]
    pub exchange_port: u16,
}

const fn stamp_port() -> u16 {
    STAMP_PORT
}

const fn exchange_port() -> u16 {
    EXCHANGE_PORT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_exchange_port(port: &u16) -> bool {
    *port == EXCHANGE_PORT
}

/// What this node spends on probing at most; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Probes sent a second.
    pub packets_per_second: u32,
    /// Octets sent a second, headers down to Ethernet's included.
    pub bytes_per_second: Size,
    /// Per cent of one core, the whole process.
    pub cpu_percent: u32,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    node: Option<String>,
    coordinator: Option<String>,
    http_listen: Option<SocketAddr>,
    state_dir: Option<PathBuf>,
    spool_bytes: Option<Size>,
    cpu: Option<usize>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    insecure: Option<bool>,
    http_tls: Option<bool>,
    allow_plain_metrics: Option<bool>,
    answer_unauthenticated: Option<bool>,
    labels: BTreeMap<String, String>,
    budget: Option<Budget>,
    endpoint: Vec<EndpointSetting>,
}

/// What can be typed or set in the environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// The name of this node [default: the host name]
    #[arg(long, env = "RAILGAUGE_NODE")]
    pub node: Option<String>,
    /// The coordinator [default: https://127.0.0.1:7460, or http:// when insecure]
    #[arg(long, env = "RAILGAUGE_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<String>,
    /// Where it serves its metrics and its health by HTTP [default: 127.0.0.1:7462]
    #[arg(long, env = "RAILGAUGE_HTTP_LISTEN", value_name = "ADDR:PORT")]
    pub http_listen: Option<SocketAddr>,
    /// Where recorded windows wait for the coordinator [default: /var/lib/railgauge-agent]
    #[arg(long, env = "RAILGAUGE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How large they may become, as 256MiB
    #[arg(long, env = "RAILGAUGE_SPOOL_BYTES", value_name = "SIZE")]
    pub spool_bytes: Option<Size>,
    /// Pin the probe thread to this CPU
    #[arg(long, env = "RAILGAUGE_CPU", value_name = "N")]
    pub cpu: Option<usize>,
    /// Certificates of the authorities that vouch for the coordinator, PEM [default: /etc/railgauge/tls/ca.pem]
    #[arg(long, env = "RAILGAUGE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This node's certificate, PEM [default: /etc/railgauge/tls/agent.pem]
    #[arg(long, env = "RAILGAUGE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key, PEM, readable by the agent alone [default: /etc/railgauge/tls/agent.key]
    #[arg(long, env = "RAILGAUGE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Speak plaintext, to a coordinator on loopback only
    #[arg(
        long, env = "RAILGAUGE_INSECURE", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub insecure: Option<bool>,
    /// Serve pages by TLS, to viewers, operators and admins
    #[arg(
        long, env = "RAILGAUGE_HTTP_TLS", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub http_tls: Option<bool>,
    /// Serve /metrics and /healthz without TLS on any address, and no other page there
    #[arg(
        long, env = "RAILGAUGE_ALLOW_PLAIN_METRICS", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub allow_plain_metrics: Option<bool>,
    /// Whether probes without authentication are answered, as those of `railgauge ping` [default: true]
    #[arg(long, env = "RAILGAUGE_ANSWER_UNAUTHENTICATED", value_name = "BOOL")]
    pub answer_unauthenticated: Option<bool>,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The name of this node.
    pub node: String,
    /// The coordinator's URL.
    pub coordinator: String,
    /// Where metrics and health are served.
    pub http_listen: SocketAddr,
    /// Where recorded windows wait.
    pub state_dir: PathBuf,
    /// How large they may become.
    pub spool_bytes: Size,
    /// The probe thread's CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<usize>,
    /// Who vouches for the coordinator.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Plaintext, on loopback.
    pub insecure: bool,
    /// Pages by TLS.
    pub http_tls: bool,
    /// Metrics and health without it, on any address.
    pub allow_plain_metrics: bool,
    /// Whether probes without authentication are answered.
    pub answer_unauthenticated: bool,
    /// What operators select nodes by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What probing may cost.
    pub budget: Budget,
    /// Where probes leave and are answered. Without any, the address from which the coordinator is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoint: Vec<EndpointSetting>,
}

/// Reads the file (`named`, or the default one where it exists) and puts `flags` over it. `host` is the host's name.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(
    named: Option<&Path>,
    flags: &Flags,
    host: Option<String>,
) -> Result<Config, ConfigError> {
    let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(ConfigError::Read { file: path.display().to_string(), source });
        }
    };
    parse(&path.display().to_string(), &text, flags, host)
}

/// Puts `flags` over `text`, what is in the file of that name.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(
    name: &str,
    text: &str,
    flags: &Flags,
    host: Option<String>,
) -> Result<Config, ConfigError> {
    combine(settings::read(name, text)?, flags.clone(), host)
}

fn combine(file: File, flags: Flags, host: Option<String>) -> Result<Config, ConfigError> {
    let insecure = flags.insecure.or(file.insecure).unwrap_or(false);
    let scheme = if insecure { "http" } else { "https" };
    let tls = |flag: Option<PathBuf>, key: Option<PathBuf>, name: &str| {
        flag.or(key).unwrap_or_else(|| Path::new("/etc/railgauge/tls").join(name))
    };
    let config = Config {
        node: flags.node.or(file.node).or(host).ok_or(ConfigError::NoNode)?,
        coordinator: flags
            .coordinator
            .or(file.coordinator)
            .unwrap_or_else(|| format!("{scheme}://127.0.0.1:7460")),
        http_listen: flags
            .http_listen
            .or(file.http_listen)
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7462))),
        state_dir: flags
            .state_dir
            .or(file.state_dir)
            .unwrap_or_else(|| PathBuf::from("/var/lib/railgauge-agent")),
        spool_bytes: flags
            .spool_bytes
            .or(file.spool_bytes)
            .unwrap_or_else(|| Size::from_bytes(256 << 20)),
        cpu: flags.cpu.or(file.cpu),
        ca: tls(flags.ca, file.ca, "ca.pem"),
        cert: tls(flags.cert, file.cert, "agent.pem"),
        key: tls(flags.key, file.key, "agent.key"),
        insecure,
        http_tls: flags.http_tls.or(file.http_tls).unwrap_or(false),
        allow_plain_metrics: flags
            .allow_plain_metrics
            .or(file.allow_plain_metrics)
            .unwrap_or(false),
        answer_unauthenticated: flags
            .answer_unauthenticated
            .or(file.answer_unauthenticated)
            .unwrap_or(true),
        labels: file.labels,
        budget: file.budget.unwrap_or_default(),
        endpoint: file.endpoint,
    };
    check(&config)?;
    Ok(config)
}

fn check_scheme(config: &Config) -> Result<(), ConfigError> {
    let (url, insecure) = (config.coordinator.clone(), config.insecure);
    let (says, way) = match (url.starts_with("https://"), insecure) {
        (true, true) => ("TLS", "write http://, or take insecure out"),
        (false, false) => (
            "plaintext",
            "write https:// and give ca, cert and key (`railgauge certs` makes some); or, with a coordinator on this machine's loopback, set \
             insecure = true or give --insecure",
        ),
        (true, false) => return Ok(()),
        (false, true) => {
            let is_loopback = coordinator_address(&url).is_some_and(|ip| ip.is_loopback());
            return if is_loopback { Ok(()) } else { Err(ConfigError::NotLoopback(url)) };
        }
    };
    Err(ConfigError::Scheme { url, says, insecure, way })
}

impl Config {
    /// Where its certificates are; `None` where it does without.
    pub fn tls(&self) -> Option<Files> {
        let files = Files { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() };
        (!self.insecure).then_some(files)
    }

    /// Who may see which pages.
    pub fn shown(&self) -> Shown {
        match (self.http_tls, self.http_listen.ip().is_loopback()) {
            (true, _) => Shown::ByPolicy,
            (false, true) => Shown::Here,
            (false, false) => Shown::MetricsOnly,
        }
    }
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let node = NodeName::new(&config.node);
    node.map_err(|source| ConfigError::Name { key: "node", source })?;
    let url = ["http://", "https://"].iter().find_map(|way| config.coordinator.strip_prefix(way));
    if url.is_none_or(|rest| !rest.trim_end_matches('/').contains(':')) {
        let value = config.coordinator.clone();
        let what = "write https://HOST:PORT, as https://coordinator.example:7460";
        return Err(ConfigError::Value { key: "coordinator", value, what });
    }
    check_scheme(config)?;
    if config.insecure && config.http_tls {
        return Err(ConfigError::InsecureTls);
    }
    if config.shown() == Shown::MetricsOnly && !config.allow_plain_metrics {
        return Err(ConfigError::PlainPages(config.http_listen));
    }
    check_counts(config)?;
    const LEAST_SPOOL: u64 = 1 << 20;
    if config.spool_bytes.as_bytes() < LEAST_SPOOL {
        let value = config.spool_bytes.to_string();
        return Err(ConfigError::Value { key: "spool_bytes", value, what: "at least 1MiB" });
    }
    let wrong = |key, value: String, what| Err(ConfigError::Value { key, value, what });
    for (n, endpoint) in config.endpoint.iter().enumerate() {
        let port = PortName::new(&endpoint.port);
        port.map_err(|source| ConfigError::Name { key: "endpoint.port", source })?;
        let before = &config.endpoint[..n];
        if before.iter().any(|other| other.port == endpoint.port) {
            return wrong("endpoint.port", endpoint.port.clone(), "two endpoints have this name");
        }
        if endpoint.address.is_unspecified() || endpoint.address.is_multicast() {
            let value = endpoint.address.to_string();
            return wrong(
                "endpoint.address",
                value,
                "one address of this node, which probes leave from",
            );
        }
        let place = (endpoint.address, endpoint.udp_port);
        if place.1 != 0 && before.iter().any(|other| (other.address, other.udp_port) == place) {
            let value = SocketAddr::from(place).to_string();
            return wrong("endpoint.udp_port", value, "two endpoints answer there");
        }
        check_rdma(endpoint, before)?;
    }
    Ok(())
}

fn check_rdma(endpoint: &EndpointSetting, before: &[EndpointSetting]) -> Result<(), ConfigError> {
    let wrong = |key, value: String, what| Err(ConfigError::Value { key, value, what });
    let Some(device) = &endpoint.rdma_device else {
        return match endpoint.rdma_port {
            Some(port) => {
                wrong("endpoint.rdma_port", port.to_string(), "a port of which rdma_device?")
            }
            None => Ok(()),
        };
    };
    if device.contains('/') || PortName::new(device).is_err() {
        let what = "a name as `railgauge inventory` lists it, as mlx5_0; its port is rdma_port";
        return wrong("endpoint.rdma_device", device.clone(), what);
    }
    if endpoint.rdma_port == Some(0) {
        return wrong("endpoint.rdma_port", "0".to_owned(), "ports are counted from 1");
    }
    if endpoint.exchange_port == 0 {
        let what = "others have to know it beforehand";
        return wrong("endpoint.exchange_port", "0".to_owned(), what);
    }
    let mut others = before.iter().filter(|other| other.rdma_device.is_some());
    if others.clone().any(|other| other.rdma() == endpoint.rdma()) {
        let value = endpoint.rdma().unwrap_or_default();
        return wrong("endpoint.rdma_device", value, "two endpoints have this port");
    }
    let place = (endpoint.address, endpoint.exchange_port);
    if others.any(|other| (other.address, other.exchange_port) == place) {
        let value = SocketAddr::from(place).to_string();
        return wrong("endpoint.exchange_port", value, "two endpoints exchange there");
    }
    Ok(())
}

/// What a coordinator would refuse the node for.
fn check_counts(config: &Config) -> Result<(), ConfigError> {
    const MOST: usize = 64;
    const LONGEST: usize = 256;
    for (key, count) in [("labels", config.labels.len()), ("endpoint", config.endpoint.len())] {
        if count > MOST {
            return Err(ConfigError::Value { key, value: count.to_string(), what: "at most 64" });
        }
    }
    let label = config.labels.iter().find(|(key, value)| key.len().max(value.len()) > LONGEST);
    label.map_or(Ok(()), |(key, _)| {
        let value = key.chars().take(40).collect();
        Err(ConfigError::Value { key: "labels", value, what: "at most 256 octets each" })
    })
}

/// `HOST:PORT` of the coordinator's URL.
pub fn coordinator_place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/')
}

/// The address in `http://ADDRESS:PORT`.
fn coordinator_address(url: &str) -> Option<IpAddr> {
    let rest = coordinator_place(url);
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let (host, port) = rest.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    (host == "localhost").then_some(IpAddr::from([127, 0, 0, 1]))
}

impl EndpointSetting {
    /// Its port of an RDMA device, as `mlx5_0/1`.
    pub fn rdma(&self) -> Option<String> {
        let device = self.rdma_device.as_ref()?;
        Some(format!("{device}/{}", self.rdma_port.unwrap_or(1)))
    }

    /// Where others exchange endpoints with it.
    pub fn exchange(&self) -> SocketAddr {
        let ip = self.advertise.map_or(self.address, |reached| reached.ip());
        SocketAddr::new(ip, self.exchange_port)
    }

    /// As the rest of the fleet knows it. The names were checked when the configuration was read.
    ///
    /// # Errors
    /// When a name is none.
    pub fn endpoint(&self, node: &str) -> Result<Endpoint, NameError> {
        let (node, port) = (NodeName::new(node)?, PortName::new(&self.port)?);
        Ok(Endpoint { node, port, rail: self.rail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let file = settings::read("agent.toml", text)?;
        combine(file, Flags::default(), Some("host-1".to_owned()))
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        let endpoint = "insecure = true\n[[endpoint]]\nport = \"e\"\naddress = ";
        for (text, said) in [
            (
                "coordinater = \"x\"",
                "agent.toml:1: unknown key \"coordinater\"; did you mean \"coordinator\"?",
            ),
            ("insecure = true\nspool_bytes = 5", "agent.toml:2: spool_bytes: \"5\" is no size"),
            ("insecure = true\nspool_bytes = \"5B\"", "spool_bytes = 5B: at least 1MiB"),
            ("insecure = true\ncoordinator = \"127.0.0.1:7460\"", "write https://HOST:PORT"),
            (
                "coordinator = \"http://127.0.0.1:7460\"",
                "that is plaintext, and insecure = false: write https://",
            ),
            (
                "insecure = true\ncoordinator = \"https://127.0.0.1:7460\"",
                "that is TLS, and insecure = true",
            ),
            (
                "[[endpoint]]\nport = \"e\"\naddress = \"127.0.0\"",
                "agent.toml:3: endpoint.address: \"127.0.0\" is no address: write one as",
            ),
            ("insecure = true\ncoordinator = \"http://192.0.2.1:7460\"", "an address on loopback"),
            (
                "insecure = true\nhttp_listen = \"0.0.0.0:7462\"",
                "http_listen = 0.0.0.0:7462: that is no loopback address",
            ),
            ("insecure = true\nhttp_listen = \"7462\"", "agent.toml:2: http_listen: "),
            ("insecure = true\nnode = \"a b\"", "node: \"a b\" is no node name"),
            (&format!("{endpoint}\"0.0.0.0\""), "endpoint.address = 0.0.0.0: one address"),
            (
                &format!("{endpoint}\"127.0.0.1\"\nudp_prot = 1"),
                "agent.toml:5: unknown key \"udp_prot\"",
            ),
            (
                &format!("{endpoint}\"127.0.0.1\"\nrdma_port = 1"),
                "endpoint.rdma_port = 1: a port of which rdma_device?",
            ),
            (
                &format!("{endpoint}\"127.0.0.1\"\nrdma_device = \"mlx5_0/1\""),
                "endpoint.rdma_device = mlx5_0/1: a name as `railgauge inventory`",
            ),
            (
                &format!("{endpoint}\"127.0.0.1\"\nrdma_device = \"mlx5_0\"\nrdma_port = 0"),
                "endpoint.rdma_port = 0: ports are counted from 1",
            ),
            (
                &format!(
                    "{endpoint}\"127.0.0.1\"\nrdma_device = \"m\"\n[[endpoint]]\nport = \"f\"\naddress = \
                     \"127.0.0.2\"\nrdma_device = \"m\"\nrdma_port = 1"
                ),
                "endpoint.rdma_device = m/1: two endpoints have this port",
            ),
        ] {
            let error = read(text).unwrap_err();
            let source =
                std::error::Error::source(&error).map_or_else(String::new, |e| format!(": {e}"));
            let error = format!("{error}{source}");
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let text = "insecure = true\nlabels = { rack = \"r1\" }\n[budget]\npackets_per_second = 100\n\
                    [[endpoint]]\nport = \"eth0\"\naddress = \"127.0.0.1\"\nadvertise = \"127.0.0.9:862\"\n\
                    rdma_device = \"mlx5_0\"\nrdma_port = 2\n";
        let config = read(text).unwrap();
        assert_eq!((config.node.as_str(), config.endpoint[0].udp_port), ("host-1", 862));
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(read(&printed).unwrap(), config);
    }
}
