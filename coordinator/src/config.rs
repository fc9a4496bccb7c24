//! What an operator can set. Each key is one flag and one variable of the environment: `probe_interval`,
//! `--probe-interval`, `RAILGAUGE_PROBE_INTERVAL`. A flag wins over the environment, that over the file, that over the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use railgauge_access::authorize::Shown;
use railgauge_access::files::Files;
use railgauge_core::access::Caps;
use railgauge_core::settings::{self, SettingsError, Size, Span};
use serde::{Deserialize, Serialize};

/// Where the file is when nobody says.
pub const DEFAULT_FILE: &str = "/etc/railgauge/coordinator.toml";

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
    /// A value outside what makes sense.
    #[error("{key} = {value}: {what}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// As it would be in force.
        value: String,
        /// What is allowed.
        what: String,
    },
    /// Plaintext beyond this machine.
    #[error(
        "listen = {0}: that is no loopback address, and insecure = true means plaintext, which goes on loopback only; use \
         127.0.0.1:{port}, or take insecure = true out and give ca, cert and key",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
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

/// Declares a key once: as a flag, as a variable, in the file, with its default and its meaning.
macro_rules! keys {
    (
        $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $flag:literal $env:literal $unit:literal;)*
        $(switch $(#[doc = $switch_doc:literal])+ $switch:ident = $on:literal, $switch_flag:literal $switch_env:literal;)*
    ) => {
        /// What one source says: the file, or flags and environment.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Layer {
            $($(#[doc = $doc])+ #[arg(long = $flag, env = $env, value_name = $unit)] $name: Option<$type>,)*
            $(
                $(#[doc = $switch_doc])+
                #[arg(
                    long = $switch_flag, env = $switch_env, num_args = 0..=1, require_equals = true,
                    default_missing_value = "true", value_name = "BOOL"
                )]
                $switch: Option<bool>,
            )*
        }

        /// The configuration in force.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)*
            $($(#[doc = $switch_doc])+ pub $switch: bool,)*
        }

        impl Config {
            /// Of each key what `over` says, else what `under` says, else the default.
            pub fn of(over: &Layer, under: &Layer) -> Self {
                Self {
                    $($name: over.$name.clone().or_else(|| under.$name.clone()).unwrap_or_else(|| $default),)*
                    $($switch: over.$switch.or(under.$switch).unwrap_or($on),)*
                }
            }

            /// Keys whose values differ from those of `other`.
            pub fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if self.$name != other.$name { keys.push(stringify!($name)); })*
                $(if self.$switch != other.$switch { keys.push(stringify!($switch)); })*
                keys
            }
        }
    };
}

keys! {
    /// Where agents and operators reach it by gRPC
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7460)),
        "listen" "RAILGAUGE_LISTEN" "ADDR:PORT";
    /// Where it serves its page and its health by HTTP
    http_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7461)),
        "http-listen" "RAILGAUGE_HTTP_LISTEN" "ADDR:PORT";
    /// Where it keeps windows and its own state
    state_dir: PathBuf = PathBuf::from("/var/lib/railgauge-coordinator"),
        "state-dir" "RAILGAUGE_STATE_DIR" "DIR";
    /// How long windows are
    window: Span = Span::from_secs(10),
        "window" "RAILGAUGE_WINDOW" "DURATION";
    /// How long a plan, and a silent node's name, stay valid
    lease: Span = Span::from_secs(30),
        "lease" "RAILGAUGE_LEASE" "DURATION";
    /// Between two probes of a path
    probe_interval: Span = Span::from_millis(100),
        "probe-interval" "RAILGAUGE_PROBE_INTERVAL" "DURATION";
    /// After so long a probe counts as lost
    probe_timeout: Span = Span::from_secs(1),
        "probe-timeout" "RAILGAUGE_PROBE_TIMEOUT" "DURATION";
    /// Octets of UDP payload of a probe
    probe_size: Size = Size::from_bytes(44),
        "probe-size" "RAILGAUGE_PROBE_SIZE" "SIZE";
    /// Whether probes are authenticated, with keys that the coordinator gives
    probe_authentication: bool = true,
        "probe-authentication" "RAILGAUGE_PROBE_AUTHENTICATION" "BOOL";
    /// How often their keys change; 0s: only when told to
    probe_key_rotation: Span = Span::from_secs(86_400),
        "probe-key-rotation" "RAILGAUGE_PROBE_KEY_ROTATION" "DURATION";
    /// Up to so many ports of a rail, all probe all
    full_mesh_up_to: u32 = 64,
        "full-mesh-up-to" "RAILGAUGE_FULL_MESH_UP_TO" "N";
    /// Above that, how many others each port probes
    targets_per_port: u32 = 32,
        "targets-per-port" "RAILGAUGE_TARGETS_PER_PORT" "N";
    /// Probes per second that may arrive at one port
    inbound_per_second: u32 = 2_000,
        "inbound-per-second" "RAILGAUGE_INBOUND_PER_SECOND" "N";
    /// How long windows are kept as they came
    keep_raw: Span = Span::from_secs(15 * 60),
        "keep-raw" "RAILGAUGE_KEEP_RAW" "DURATION";
    /// How long minutes are kept
    keep_minutes: Span = Span::from_secs(6 * 3_600),
        "keep-minutes" "RAILGAUGE_KEEP_MINUTES" "DURATION";
    /// How long hours are kept
    keep_hours: Span = Span::from_secs(30 * 86_400),
        "keep-hours" "RAILGAUGE_KEEP_HOURS" "DURATION";
    /// How large the store may become
    keep_bytes: Size = Size::from_bytes(20 << 30),
        "keep-bytes" "RAILGAUGE_KEEP_BYTES" "SIZE";
    /// Certificates of the authorities that vouch for agents and operators, PEM
    ca: PathBuf = PathBuf::from("/etc/railgauge/tls/ca.pem"),
        "ca" "RAILGAUGE_CA" "FILE";
    /// The coordinator's certificate, with what leads to its authority, PEM
    cert: PathBuf = PathBuf::from("/etc/railgauge/tls/coordinator.pem"),
        "cert" "RAILGAUGE_CERT" "FILE";
    /// The certificate's key, PEM, readable by the coordinator alone
    key: PathBuf = PathBuf::from("/etc/railgauge/tls/coordinator.key"),
        "key" "RAILGAUGE_KEY" "FILE";
    /// Where it writes who did or tried what; empty: audit.jsonl in its state directory
    audit_log: PathBuf = PathBuf::new(),
        "audit-log" "RAILGAUGE_AUDIT_LOG" "FILE";
    /// The most nodes that a sweep may have; 0: no bound
    sweep_max_nodes: u32 = 0,
        "sweep-max-nodes" "RAILGAUGE_SWEEP_MAX_NODES" "N";
    /// The longest that a sweep may take; 0s: no bound
    sweep_max_duration: Span = Span::from_secs(0),
        "sweep-max-duration" "RAILGAUGE_SWEEP_MAX_DURATION" "DURATION";
    /// The most that a sweep may send, all nodes together, in Gbit/s; 0: no bound
    sweep_max_gbit_per_second: u32 = 0,
        "sweep-max-gbit-per-second" "RAILGAUGE_SWEEP_MAX_GBIT_PER_SECOND" "N";

    switch
    /// Speak plaintext, on loopback only: whoever is on this machine may do everything
    insecure = false, "insecure" "RAILGAUGE_INSECURE";
    switch
    /// Serve pages by TLS, to viewers, operators and admins
    http_tls = false, "http-tls" "RAILGAUGE_HTTP_TLS";
    switch
    /// Serve /metrics and /healthz without TLS on any address, and no other page there
    allow_plain_metrics = false, "allow-plain-metrics" "RAILGAUGE_ALLOW_PLAIN_METRICS";
}

/// What a running coordinator takes over when it is told to reload; the rest waits for a restart.
pub const RELOADABLE: &[&str] = &[
    "lease",
    "probe_interval",
    "probe_timeout",
    "probe_size",
    "probe_authentication",
    "probe_key_rotation",
    "full_mesh_up_to",
    "targets_per_port",
    "inbound_per_second",
    "keep_raw",
    "keep_minutes",
    "keep_hours",
    "keep_bytes",
    "sweep_max_nodes",
    "sweep_max_duration",
    "sweep_max_gbit_per_second",
];

/// Reads the file, if there is one, under flags and environment. `file` is `None` where nobody named one: the default file
/// may then be absent.
///
/// # Errors
/// When it cannot be read or says what cannot be.
pub fn load(file: Option<&Path>, flags: &Layer) -> Result<Config, ConfigError> {
    let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    let under = match fs::read_to_string(path) {
        Ok(text) => return parse(&name, &text, flags),
        Err(e) if e.kind() == io::ErrorKind::NotFound && file.is_none() => Layer::default(),
        Err(source) => return Err(ConfigError::Read { file: name, source }),
    };
    checked(flags, &under)
}

/// Puts `flags` over `text`, what is in the file of that name.
///
/// # Errors
/// When it says what cannot be.
pub fn parse(name: &str, text: &str, flags: &Layer) -> Result<Config, ConfigError> {
    checked(flags, &settings::read(name, text)?)
}

fn checked(flags: &Layer, under: &Layer) -> Result<Config, ConfigError> {
    let config = Config::of(flags, under);
    config.check_values()?;
    Ok(config)
}

impl Config {
    /// Takes from `new` what a running coordinator can change: [`RELOADABLE`].
    pub const fn take_reloadable(&mut self, new: &Self) {
        self.lease = new.lease;
        self.probe_interval = new.probe_interval;
        self.probe_timeout = new.probe_timeout;
        self.probe_size = new.probe_size;
        self.probe_authentication = new.probe_authentication;
        self.probe_key_rotation = new.probe_key_rotation;
        self.full_mesh_up_to = new.full_mesh_up_to;
        self.targets_per_port = new.targets_per_port;
        self.inbound_per_second = new.inbound_per_second;
        self.keep_raw = new.keep_raw;
        self.keep_minutes = new.keep_minutes;
        self.keep_hours = new.keep_hours;
        self.keep_bytes = new.keep_bytes;
        self.sweep_max_nodes = new.sweep_max_nodes;
        self.sweep_max_duration = new.sweep_max_duration;
        self.sweep_max_gbit_per_second = new.sweep_max_gbit_per_second;
    }

    /// Where its certificates are; `None` where it does without.
    pub fn tls(&self) -> Option<Files> {
        let files = Files { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() };
        (!self.insecure).then_some(files)
    }

    /// Where the audit log is.
    pub fn audit_log(&self) -> PathBuf {
        let unset = self.audit_log.as_os_str().is_empty();
        if unset { self.state_dir.join("audit.jsonl") } else { self.audit_log.clone() }
    }

    /// How much a sweep may disturb.
    pub fn caps(&self) -> Caps {
        let rate = self.sweep_max_gbit_per_second;
        Caps {
            nodes: Some(self.sweep_max_nodes).filter(|nodes| *nodes > 0),
            limit: Some(self.sweep_max_duration).filter(|limit| limit.as_nanos() > 0),
            gbit_per_second: Some(f64::from(rate)).filter(|_| rate > 0),
        }
    }

    /// Who may see which pages.
    pub fn shown(&self) -> Shown {
        match (self.http_tls, self.http_listen.ip().is_loopback()) {
            (true, _) => Shown::ByPolicy,
            (false, true) => Shown::Here,
            (false, false) => Shown::MetricsOnly,
        }
    }

    /// As a file that says the same.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Whether it may run so, as far as who may listen in is concerned.
    ///
    /// # Errors
    /// The sentence for the operator.
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        if self.insecure && self.http_tls {
            return Err(ConfigError::InsecureTls);
        }
        if self.insecure && !self.listen.ip().is_loopback() {
            return Err(ConfigError::NotLoopback(self.listen));
        }
        let shows_pages = self.shown() == Shown::MetricsOnly && !self.allow_plain_metrics;
        if shows_pages { Err(ConfigError::PlainPages(self.http_listen)) } else { Ok(()) }
    }

    fn check_values(&self) -> Result<(), ConfigError> {
        let span = |key, value: Span, least: Span, most: Span| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let what = format!("it must lie between {least} and {most}");
            Err(ConfigError::Value { key, value: value.to_string(), what })
        };
        let count = |key, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let what = format!("it must lie between {least} and {most}");
            Err(ConfigError::Value { key, value: value.to_string(), what })
        };
        let size = |key, value: Size, least: u64, most: u64| {
            if (least..=most).contains(&value.as_bytes()) {
                return Ok(());
            }
            let (least, most) = (Size::from_bytes(least), Size::from_bytes(most));
            let what = format!("it must lie between {least} and {most}");
            Err(ConfigError::Value { key, value: value.to_string(), what })
        };
        if self.listen == self.http_listen && self.listen.port() != 0 {
            let (value, what) = (self.http_listen.to_string(), "listen has that address already");
            return Err(ConfigError::Value { key: "http_listen", value, what: what.to_owned() });
        }
        let (second, hour) = (Span::from_secs(1), Span::from_secs(3_600));
        span("window", self.window, second, Span::from_secs(60))?;
        if !60_000_000_000u64.is_multiple_of(self.window.as_nanos()) {
            let what = "a minute must be a whole number of windows, so that minutes can be merged from them";
            let value = self.window.to_string();
            return Err(ConfigError::Value { key: "window", value, what: what.to_owned() });
        }
        span("lease", self.lease, Span::from_secs(3), hour)?;
        span("probe_interval", self.probe_interval, Span::from_millis(1), Span::from_secs(60))?;
        span("probe_timeout", self.probe_timeout, Span::from_millis(1), Span::from_secs(60))?;
        size("probe_size", self.probe_size, 44, 8_972)?;
        if self.probe_key_rotation > Span::new(Duration::ZERO) {
            let (least, most) = (Span::from_secs(60), Span::from_secs(90 * 86_400));
            span("probe_key_rotation", self.probe_key_rotation, least, most)?;
        }
        count("full_mesh_up_to", self.full_mesh_up_to.into(), 0, 1_024)?;
        count("targets_per_port", self.targets_per_port.into(), 1, 1_024)?;
        count("inbound_per_second", self.inbound_per_second.into(), 1, 10_000_000)?;
        let year = Span::from_secs(366 * 86_400);
        span("keep_raw", self.keep_raw, self.window, year)?;
        span("keep_minutes", self.keep_minutes, Span::from_secs(60), year)?;
        span("keep_hours", self.keep_hours, hour, Span::from_secs(3_660 * 86_400))?;
        size("keep_bytes", self.keep_bytes, 16 << 20, 1 << 60)
    }
}

#[cfg(test)]
mod tests;
