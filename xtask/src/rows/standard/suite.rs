//! stamp-suite 1.0.0, a STAMP sender and reflector of another project: <https://crates.io/crates/stamp-suite>.

use super::{BOUND, KEY, KEY_FILE};
use crate::Failure;
use crate::harness::Bench;
use crate::process::wait_for;
use crate::rows::Outcome;
use crate::tools;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;

/// Packets an exchange, 5 ms apart.
const COUNT: u64 = 500;

/// Runs every exchange: both roles, both modes, both formats. Returns how many.
///
/// # Errors
/// When a program cannot be had or started.
pub fn exchange(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<usize, Failure> {
    let mut exchanges = 0;
    for mode in ["O", "A"] {
        for format in ["NTP", "PTP"] {
            suite_sends(bench, mode, format, outcome)?;
            suite_reflects(bench, mode, format, outcome)?;
            exchanges += 2;
        }
    }
    Ok(exchanges)
}

fn suite(bench: &Bench<'_>, mode: &str, format: &str) -> Result<Command, Failure> {
    let mut command = Command::new(tools::stamp_suite(bench.repo())?);
    command.args(["-A", mode, "-K", format]);
    if mode == "A" {
        command.args(["--hmac-key", KEY, "--verify-tlv-hmac"]);
    }
    Ok(command)
}

const fn key(mode: &str) -> &'static [&'static str] {
    if matches!(mode.as_bytes(), b"A") { &["--auth-key-file", KEY_FILE] } else { &[] }
}

/// Its sender says itself whether each probe was answered and each TLV came back as it should.
fn suite_sends(
    bench: &Bench<'_>,
    mode: &str,
    format: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let reflector = bench.reflector(key(mode))?;
    let (_, port) = reflector.address.rsplit_once(':').unwrap_or_default();
    let mut sender = suite(bench, mode, format)?;
    sender.args(["-r", "127.0.0.1", "-p", port, "-c", &COUNT.to_string(), "-d", "5", "-L", "1"]);
    sender.args(["--ssid", "4660", "--follow-up-telemetry", "--output-format", "json"]);
    let ended = bench.complete(sender, "suite_sender", BOUND)?;
    let said: Value = ended
        .stdout
        .lines()
        .last()
        .map_or(Value::Null, |line| serde_json::from_str(line).unwrap_or(Value::Null));
    let measured = &said["measurements"];
    let (answered, tlvs) = (&measured["answered_probes"], &measured["tlv_validation"]);
    let faults = ["/rejected_replies", "/hmac/failed", "/hmac/missing", "/flags/integrity_failed"];
    let faultless = faults.iter().all(|at| tlvs.pointer(at).and_then(Value::as_u64) == Some(0));
    outcome.expect(answered.as_u64() == Some(COUNT) && faultless, || {
        format!(
            "stamp-suite as sender, -A {mode} -K {format}: {answered} of {COUNT} answered, {tlvs}"
        )
    });
    Ok(())
}

/// Its reflector runs until it is interrupted; ours must take every reply.
fn suite_reflects(
    bench: &Bench<'_>,
    mode: &str,
    format: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    const PORT: &str = "21863";
    let mut reflector = suite(bench, mode, format)?;
    reflector.args(["-i", "-S", "127.0.0.1", "-o", PORT, "--stateful-reflector"]);
    let reflector = bench.start(reflector, "suite_reflector")?;
    let held = || std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    // It says so on a log line only; the kernel says it for sure: 127.0.0.1:21863 as /proc/net/udp writes it.
    wait_for(BOUND, || Ok(held().contains("0100007F:5567").then_some(())))?;
    let count = COUNT.to_string();
    let format_flag = format.to_ascii_lowercase();
    let flags = ["--count", &count, "--warmup", "0", "--interval", "5ms", "--timeout", "10s"];
    let flags = [&flags[..], &["--timestamp-format", &format_flag], key(mode)].concat();
    let ping = bench.ping(&format!("127.0.0.1:{PORT}"), &flags, BOUND)?;
    reflector.signal(Signal::SIGINT)?;
    reflector.finish(BOUND)?;
    let (received, split) = (ping.number("/received")?, ping.number("/network_rtt/count")?);
    let all = i64::try_from(COUNT).unwrap_or(i64::MAX);
    outcome.expect(ping.code == Some(0) && received == all && split == all, || {
        let errors = &ping.json["errors"];
        format!("stamp-suite as reflector, -A {mode} -K {format}: {received} replies, {split} split, {errors}")
    });
    Ok(())
}
