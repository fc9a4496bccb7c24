//! The CPU time of a sleeping run beside the least a prober with kernel stamps can do, in the same minutes.

use super::outcome::median;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, Ping};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "cpu",
    shows: "a sleeping prober costs little more than its system calls",
    bound: "1,000/s with kernel stamps: CPU time <= 1.25 x the bare C loop, median of alternating pairs",
    covers: &["core", "fabric", "agent", "cli", "testbed/bare"],
    judged: Judged::InFullOnly,
    run,
};

const MOST_RATIO: f64 = 1.25;
/// `ping` sends this many before its count; the loop sends as many more.
const WARMUP: u32 = 50;
const CPU: usize = 0;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let bare_loop = compile(bench)?;
    let (pairs, count) = scale.pick((2, 2000), (7, 20000));
    let reflector = bench.reflector(&["--cpu", "1"])?;
    let mut outcome = Outcome::default();
    let mut ratios = Vec::new();
    for _ in 0..pairs {
        let (ours, ping) = ours(bench, &reflector.address, count)?;
        let (theirs, bare) = theirs(bench, &bare_loop, &reflector.address, count)?;
        ratios.push(ours / theirs);
        outcome.raw.push(json!({"railgauge_cpu_s": ours, "bare_loop_cpu_s": theirs,
                                "bare_loop": bare, "timestamp_source": ping.json["network_rtt"]["timestamp_source"]}));
    }
    let ratio = median(&ratios);
    let per_second = f64::from(count) / 1000.0;
    outcome.figure("median ratio", ratio, "");
    for name in ["railgauge_cpu_s", "bare_loop_cpu_s"] {
        let values: Vec<f64> = outcome.raw.iter().filter_map(|pair| pair[name].as_f64()).collect();
        let share = median(&values) / per_second * 100.0;
        outcome.figure(name.trim_end_matches("_cpu_s"), share, "% of a core");
    }
    outcome.expect(ratio <= MOST_RATIO, || format!("the median ratio is {ratio:.3}"));
    Ok(outcome)
}

/// The loop as its own head says to build it.
fn compile(bench: &Bench<'_>) -> Result<PathBuf, Failure> {
    let program = bench.scratch().join("bare_loop");
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    command.arg(bench.repo().path("testbed/bare/bare_loop.c"));
    let ended = bench.complete(command, "cc", Duration::from_secs(60))?;
    if ended.code != Some(0) {
        return Err(Failure::because("cc refused bare_loop.c", ended.stderr.trim()));
    }
    Ok(program)
}

fn ours(bench: &Bench<'_>, target: &str, count: u32) -> Result<(f64, Ping), Failure> {
    let mut command = bench.program("railgauge", Some(CPU));
    command.args(["ping", target, "--output", "json", "--interval", "1ms"]);
    command.args(["--count", &count.to_string(), "--warmup", &WARMUP.to_string()]);
    let ended = bench.complete(command, "ping", bound(count))?;
    let ping = Ping::read("ping", &ended, "")?;
    did_the_work(&ping, count)?;
    Ok((ended.cpu.as_secs_f64(), ping))
}

/// Every probe was answered, and the kernel stamped both ways: anything else is less work.
fn did_the_work(ping: &Ping, count: u32) -> Result<(), Failure> {
    let source = ping.json["network_rtt"]["timestamp_source"].as_str().unwrap_or("none");
    let stamped = source.starts_with("kernel/") && source.ends_with("/kernel");
    let (split, received) = (ping.number("/network_rtt/count")?, ping.number("/received")?);
    // A gap of the machine may cost a stamp or a reply.
    let nearly_all = |n: i64| n * 100 >= i64::from(count) * 99;
    if stamped && nearly_all(received) && nearly_all(split) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "ping did less work than it is charged for: of {count} probes {received} answered, {split} split, stamps {source}"
    )))
}

fn theirs(
    bench: &Bench<'_>,
    bare_loop: &Path,
    target: &str,
    count: u32,
) -> Result<(f64, Value), Failure> {
    let (address, port) = target.rsplit_once(':').unwrap_or((target, ""));
    let mut command = crate::harness::pinned(bare_loop.as_os_str(), Some(CPU));
    command.args([address, port, &(count + WARMUP).to_string(), "1000000"]);
    let ended = bench.complete(command, "bare_loop", bound(count))?;
    let bare: Value = serde_json::from_str(&ended.stdout)
        .map_err(|error| Failure::because("bare_loop printed no JSON", error))?;
    if bare["tx_stamps"] != bare["sent"] || bare["rx_stamps"] != bare["received"] {
        return Err(Failure::new(format!("bare_loop missed stamps, so it did less work: {bare}")));
    }
    Ok((ended.cpu.as_secs_f64(), bare))
}

fn bound(count: u32) -> Duration {
    Duration::from_millis(u64::from(count)) + Duration::from_secs(30)
}
