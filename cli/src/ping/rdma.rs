//! The RDMA part of what was typed.

use railgauge_agent::ping::RdmaConfig;
use railgauge_agent::ping::rdma::{CompletionChoice, DEPTH};
use railgauge_core::rdma::operation::{Measure, Operation};
use railgauge_core::rdma::reliability;

use super::DURATION;
use crate::args::{Completion, Op, PingArgs, Profile, Transport};

/// What is asked of the device, where the transport is `rdma-rc`.
///
/// # Errors
/// What does not go together.
pub fn config(args: &PingArgs) -> Result<Option<RdmaConfig>, String> {
    if args.transport != Transport::RdmaRc {
        return Ok(None);
    }
    let (operation, measure) = match args.op.unwrap_or(Op::Write) {
        Op::Write => (Operation::Write, Measure::Latency),
        Op::Send => (Operation::Send, Measure::Latency),
        Op::Read => (Operation::Read, Measure::Latency),
        Op::Atomic => (Operation::Atomic, Measure::Latency),
        Op::WriteBw => (Operation::Write, Measure::Bandwidth),
        Op::ReadBw => (Operation::Read, Measure::Bandwidth),
    };
    if operation == Operation::Atomic && args.size.is_some_and(|size| size != 8) {
        return Err("--op atomic works on 8 octets: leave --size out".to_owned());
    }
    let size = args.size.map(|size| u32::try_from(size).map_err(|e| e.to_string())).transpose()?;
    let duration = match (args.count, args.duration) {
        (Some(_), _) => None,
        (None, typed) => Some(typed.unwrap_or(DURATION)),
    };
    Ok(Some(RdmaConfig {
        operation,
        measure,
        completion: match args.completion.unwrap_or(Completion::Auto) {
            Completion::Auto => CompletionChoice::Auto,
            Completion::Memory => CompletionChoice::Memory,
            Completion::Imm => CompletionChoice::Immediate,
        },
        profile: match args.profile.unwrap_or(Profile::Continuous) {
            Profile::Continuous => reliability::Profile::Continuous,
            Profile::Nccl => reliability::Profile::Nccl,
        },
        size,
        depth: args.depth.unwrap_or(DEPTH),
        duration,
    }))
}

/// What a transport cannot do is refused: a flag that is not obeyed makes the result a lie.
///
/// # Errors
/// Which flag, and the way out.
pub fn check(args: &PingArgs) -> Result<(), String> {
    let is_rdma = matches!(args.transport, Transport::RdmaUd | Transport::RdmaRc);
    let is_rc = args.transport == Transport::RdmaRc;
    let is_bandwidth = matches!(args.op, Some(Op::WriteBw | Op::ReadBw));
    let refused = [
        ("--op", args.op.is_some() && !is_rc, "--transport rdma-rc"),
        ("--completion", args.completion.is_some() && !is_rc, "--transport rdma-rc"),
        (
            "--completion",
            args.completion.is_some() && !matches!(args.op, None | Some(Op::Write)),
            "--op write",
        ),
        ("--profile", args.profile.is_some() && !is_rc, "--transport rdma-rc"),
        ("--interval 0", args.interval.is_zero() && !is_rc, "--transport rdma-rc"),
        ("--depth", args.depth.is_some() && !is_bandwidth, "--op write-bw or read-bw"),
        ("--ttl", is_rdma && args.ttl != 255, "--transport udp"),
        (
            "--auth-key-file",
            is_rc && args.auth_key_file.is_some(),
            "STAMP packets (udp, tcp, rdma-ud)",
        ),
        ("--bare", is_rc && args.bare, "STAMP packets (udp, tcp, rdma-ud)"),
        ("--ssid", is_rc && args.ssid != 0, "STAMP packets (udp, tcp, rdma-ud)"),
        ("--flows", is_rc && args.flows != 1, "--transport udp or rdma-ud"),
        ("--samples", is_bandwidth && args.samples.is_some(), "latency"),
        ("--hlog", is_bandwidth && args.hlog.is_some(), "latency"),
    ];
    let one = refused.iter().find(|(_, is_refused, _)| *is_refused);
    if let Some((flag, _, with)) = one {
        return Err(format!("{flag} works with {with} only: leave it out"));
    }
    let most = railgauge_core::stamp::MAX_UDP_PAYLOAD;
    if let Some(size) = args.size.filter(|&size| !is_rc && size > most) {
        return Err(format!(
            "--size {size} is out of range: from 1 to {most} octets, but with --transport rdma-rc"
        ));
    }
    if args.cpu.is_some() && args.device.is_some() && !is_rdma {
        return Err(
            "--cpu and --device both say where the probe thread runs: leave one out".to_owned()
        );
    }
    if args.interval.is_zero() && args.count.is_none() && !is_bandwidth {
        return Err(
            "a closed loop (--interval 0) has no slots to count: say how many with --count"
                .to_owned(),
        );
    }
    Ok(())
}
