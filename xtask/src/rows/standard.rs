//! Packets exchanged with STAMP peers that were written from the RFCs alone, in both roles and both modes.

mod suite;

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::harness::Bench;
use crate::process::wait_for;
use crate::{Failure, tools};
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "standard",
    shows: "any STAMP reflector can be a target, any STAMP sender can use ours",
    bound: "both roles, both modes, both timestamp formats: every packet answered, no field wrong",
    covers: &["core/src/stamp", "core/src/reflector.rs", "fabric", "agent", "cli", "testbed/peers"],
    judged: Judged::AtEveryScale,
    run,
};

const BOUND: Duration = Duration::from_secs(60);
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEY_FILE: &str = "key.hex";
/// What the peer understands: RFC 8972, or what reflectors of RFC 8762 alone make of TLVs.
const PEER_REFLECTORS: &[&str] = &["know", "echo", "zero", "strip"];
const PEER_SENDERS: &[&str] = &["none", "padding", "all"];

/// One way of speaking STAMP.
#[derive(Debug, Clone, Copy)]
struct Dialect {
    /// `open` or `auth`.
    mode: &'static str,
    /// `ntp` or `ptp`.
    format: &'static str,
    /// What the peer does with TLVs.
    tlvs: &'static str,
}

impl Dialect {
    fn name(self, role: &str) -> String {
        format!("peer as {role}, {}, {}, TLVs {}", self.mode, self.format, self.tlvs)
    }

    fn peer(self, bench: &Bench<'_>, script: &str, count: &str) -> Command {
        let mut command = Command::new(tools::python(bench.repo()));
        command.arg(bench.repo().path("testbed/peers").join(script));
        command.args(["--mode", self.mode, "--format", self.format, "--tlvs", self.tlvs]);
        command.args(["--key-hex", KEY, "--count", count]);
        command
    }

    /// The flags that give our side the key, where there is one.
    fn key(self) -> &'static [&'static str] {
        if self.mode == "auth" { &["--auth-key-file", KEY_FILE] } else { &[] }
    }
}

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    std::fs::write(bench.scratch().join(KEY_FILE), KEY)
        .map_err(|error| Failure::because("cannot write the key file", error))?;
    let count = scale.pick("20", "2000");
    let mut outcome = Outcome::default();
    let mut exchanges = 0;
    for mode in ["open", "auth"] {
        for format in ["ntp", "ptp"] {
            for tlvs in PEER_SENDERS {
                our_reflector(bench, Dialect { mode, format, tlvs }, count, &mut outcome)?;
            }
            for tlvs in PEER_REFLECTORS {
                our_prober(bench, Dialect { mode, format, tlvs }, count, &mut outcome)?;
            }
            exchanges += PEER_SENDERS.len() + PEER_REFLECTORS.len();
        }
    }
    if matches!(scale, Scale::Full) {
        exchanges += suite::exchange(bench, &mut outcome)?;
    }
    let wrong = float(outcome.misses.len());
    outcome.figure("dialects", float(exchanges), "");
    outcome.figure("with anything wrong", wrong, "");
    Ok(outcome)
}

fn our_reflector(
    bench: &Bench<'_>,
    dialect: Dialect,
    count: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let reflector = bench.reflector(dialect.key())?;
    let (_, port) = reflector.address.rsplit_once(':').unwrap_or_default();
    let mut peer = dialect.peer(bench, "sender.py", count);
    peer.args(["--port", port]);
    let ended = bench.complete(peer, "sender", BOUND)?;
    outcome.expect(ended.code == Some(0), || {
        let said = if ended.stdout.is_empty() { &ended.stderr } else { &ended.stdout };
        format!("{}: {}", dialect.name("sender"), said.trim())
    });
    Ok(())
}

fn our_prober(
    bench: &Bench<'_>,
    dialect: Dialect,
    count: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut peer = dialect.peer(bench, "reflector.py", count);
    peer.args(["--port", "0"]);
    let mut peer = bench.start(peer, "reflector")?;
    let port = wait_for(BOUND, || {
        let said = peer.stderr();
        if peer.exit_code()?.is_some() {
            return Err(Failure::because("the peer reflector ended at once", said.trim()));
        }
        let port = said.lines().find_map(|line| line.strip_prefix("listening "));
        Ok(port.map(str::to_owned))
    })?;
    let port =
        port.ok_or_else(|| Failure::new("the peer reflector did not say `listening PORT`"))?;
    let flags = [
        "--count",
        count,
        "--warmup",
        "0",
        "--interval",
        "5ms",
        "--timeout",
        "10s",
        "--timestamp-format",
    ];
    let flags = [&flags[..], &[dialect.format], dialect.key()].concat();
    let ping = bench.ping(&format!("127.0.0.1:{port}"), &flags, BOUND)?;
    let answered = peer.finish(BOUND)?;
    let (sent, received) = (ping.number("/sent")?, ping.number("/received")?);
    let good = ping.code == Some(0) && received == sent && answered.code == Some(0);
    outcome.expect(good, || {
        let errors = &ping.json["errors"];
        let said = answered.stdout.trim();
        format!(
            "{}: {received} of {sent} replies, errors {errors}; {said}",
            dialect.name("reflector")
        )
    });
    Ok(())
}
