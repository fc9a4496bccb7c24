//! `railgauge reflect`.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use railgauge_agent::ping::Transport;
use railgauge_agent::rdma::PortWish;
use railgauge_agent::reflect::{
    Listening, OpenError, PlainRequests, ReflectConfig, ReflectError, ReflectReport, Responder,
};
use railgauge_agent::{VERSION, WaitMode};
use railgauge_core::rdma::gid::Which;
use serde_json::json;

use crate::args::{self, Output, ReflectArgs};
use crate::number::count as count_text;
use crate::output::{self, say, sentence};
use crate::ping::{read_keys, transport};
use crate::{Exit, stop};

/// Ports (contract): STAMP's own, and ours for those who may not have it.
const STAMP_PORT: u16 = 862;
const RAILGAUGE_PORT: u16 = 7463;

/// Runs the command.
pub fn run(args: &ReflectArgs) -> Exit {
    match reflect(args) {
        Ok(report) => match args.output {
            Output::Json => output::json(&report, Exit::Healthy),
            Output::Table => output::result(&table(&report), Exit::Healthy),
        },
        Err((text, exit)) => {
            let exit = match args.output {
                Output::Json => output::json(
                    &json!({"schema": "railgauge/reflect/v1", "version": VERSION, "error": text}),
                    exit,
                ),
                Output::Table => exit,
            };
            say(&format!("railgauge reflect: {text}"));
            exit
        }
    }
}

fn reflect(args: &ReflectArgs) -> Result<ReflectReport, (String, Exit)> {
    if args.transport == args::Transport::Tcp && (args.busy_poll || args.cpu.is_some()) {
        let flag = if args.busy_poll { "--busy-poll" } else { "--cpu" };
        let text = format!(
            "{flag} works with --transport udp only: each TCP connection has a thread of its own, which sleeps; leave it out"
        );
        return Err((text, Exit::Usage));
    }
    let keys = args.auth_key_file.as_deref().map(read_keys).transpose();
    let config = ReflectConfig {
        transport: transport(args.transport),
        listen: args.listen.clone(),
        mode: if args.busy_poll { WaitMode::BusyPoll } else { WaitMode::Sleep },
        cpu: args.cpu,
        max_rate: NonZeroU32::new(args.max_rate),
        keys: keys.map_err(|text| (text, Exit::Usage))?.unwrap_or_default(),
        plain: PlainRequests::default(),
        rdma: PortWish { device: args.device.clone(), which: Which::ByRule },
    };
    let failed = |e: ReflectError| {
        let exit = if e.is_usage() { Exit::Usage } else { Exit::Unmeasured };
        (sentence(&e), exit)
    };
    let stop = stop::on_signal()
        .map_err(|e| (format!("cannot listen for signals: {e}"), Exit::Unmeasured))?;
    let transport = config.transport;
    let responder = open(config).map_err(failed)?;
    for listening in responder.listening() {
        say(&announce(&listening, transport, args.auth_key_file.is_some()));
    }
    responder.run(&stop).map_err(failed)
}

/// Opens the addresses asked for, or every address on the port that can be had.
fn open(config: ReflectConfig) -> Result<Responder, ReflectError> {
    if !config.listen.is_empty() {
        return Responder::open(config);
    }
    let everywhere = |port| {
        vec![
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        ]
    };
    let on = |port| {
        let both = ReflectConfig { listen: everywhere(port), ..config.clone() };
        match Responder::open(both) {
            // A host without IPv6 cannot even make the socket, or has no `[::]`.
            Err(e) if lacks_ipv6(&e) => {
                let v4 = vec![everywhere(port)[0]];
                Responder::open(ReflectConfig { listen: v4, ..config.clone() })
            }
            other => other,
        }
    };
    if config.transport != Transport::Udp {
        return on(RAILGAUGE_PORT);
    }
    match on(STAMP_PORT) {
        Err(ReflectError::Open(OpenError::NotPermitted { .. })) => on(RAILGAUGE_PORT),
        other => other,
    }
}

/// Whether the IPv6 address alone was in the way, for want of IPv6.
fn lacks_ipv6(error: &ReflectError) -> bool {
    match error {
        ReflectError::Open(OpenError::Other { local, .. } | OpenError::NotOurs { local, .. }) => {
            local.is_ipv6()
        }
        ReflectError::Listen { listen, source } => {
            listen.is_ipv6() && source.kind() != io::ErrorKind::AddrInUse
        }
        _ => false,
    }
}

/// Where it listens, and the command that measures it.
fn announce(listening: &Listening, transport: Transport, authenticated: bool) -> String {
    let local = listening.local;
    let host = if local.ip().is_unspecified() { host_name() } else { None };
    let host = host.unwrap_or_else(|| match local {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    });
    let port = local.port();
    let port = if port == transport.default_port() { String::new() } else { format!(":{port}") };
    let stamps = match &listening.stamps {
        Ok(source) => format!("{} stamps", source.as_str()),
        Err(why) if transport.is_rdma() => why.clone(),
        Err(why) => format!("user-space stamps: {why}"),
    };
    let tcp = match transport {
        Transport::Udp => "",
        Transport::Tcp => " --transport tcp",
        Transport::RdmaUd => " --transport rdma-ud",
        Transport::RdmaRc => " --transport rdma-rc",
    };
    let key = if authenticated { " --auth-key-file FILE" } else { "" };
    let name = transport.as_str();
    format!(
        "listening on {local} ({name}, {stamps}); measure with: railgauge ping {host}{port}{tcp}{key}"
    )
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// What the drops that an operator can do something about mean.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "rate_limited" => " (one source sent more than --max-rate)",
        "not_authenticated" => " (sent without a key: ping needs --auth-key-file)",
        "no_key" => " (sent with a key: reflect needs --auth-key-file)",
        "bad_hmac" => " (made with another key than ours, or altered on the way)",
        "too_short" => " (below STAMP's 44 octets, or 112 with a key)",
        "receive_buffer_overflow" => {
            " (came faster than read: raise net.core.rmem_max, or --busy-poll)"
        }
        _ => "",
    }
}

fn table(report: &ReflectReport) -> String {
    let mut text = format!(
        "requests {}, replies {}, sessions {}\n",
        count_text(report.received),
        count_text(report.replied),
        count_text(report.sessions)
    );
    for (what, reasons) in [("dropped", &report.dropped), ("errors", &report.errors)] {
        for (reason, count) in reasons {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{what}: {reason} {}{}", count_text(*count), meaning(reason));
        }
    }
    text
}
