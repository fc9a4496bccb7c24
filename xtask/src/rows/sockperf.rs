//! The app RTT of a busy-polling run beside sockperf's, both sides pinned alike.

use super::outcome::median;
use super::{INSTRUMENT, Judged, Outcome, Row, Scale};
use crate::harness::{Bench, pinned};
use crate::process::pause;
use crate::{Failure, tools};
use serde_json::json;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "sockperf",
    shows: "stamps and accounting cost next to nothing on the path of a reply",
    bound: "alternating pairs at 20,000/s, same size, same pinning: median ratio of p50, app RTT / sockperf, \
            <= 1.05",
    covers: INSTRUMENT,
    judged: Judged::InFullOnly,
    run,
};

const MOST_RATIO: f64 = 1.05;
const SERVER_CPU: usize = 1;
const CLIENT_CPU: usize = 0;
const PORT: &str = "21862";
const PER_SECOND: u32 = 20_000;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let sockperf = tools::sockperf(bench.repo())?;
    let bare_pair = compile(bench)?;
    let (pairs, seconds) = scale.pick((2, 2), (5, 5));
    let mut outcome = Outcome::default();
    let (mut ratios, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let (ours, size) = ours(bench, seconds)?;
        let theirs = theirs(bench, sockperf.as_os_str(), &size.to_string(), seconds)?;
        let floor = floor(bench, &bare_pair, &size.to_string(), seconds)?;
        ratios.push(ours / theirs);
        floors.push(floor / theirs);
        outcome.raw.push(json!({"app_rtt_p50_ns": ours, "sockperf_p50_ns": theirs,
                                "bare_pair_p50_ns": floor, "size_bytes": size}));
    }
    let ratio = median(&ratios);
    outcome.figure("median ratio of p50", ratio, "");
    outcome.figure("floor: bare C pair with stamps / sockperf", median(&floors), "");
    for name in ["app_rtt_p50_ns", "sockperf_p50_ns", "bare_pair_p50_ns"] {
        let values: Vec<f64> = outcome.raw.iter().filter_map(|pair| pair[name].as_f64()).collect();
        outcome.figure(name.trim_end_matches("_ns"), median(&values), "ns");
    }
    outcome.expect(ratio <= MOST_RATIO, || format!("the median ratio is {ratio:.3}"));
    Ok(outcome)
}

/// The p50 of our app RTT, ns, and the UDP payload really sent, octets.
fn ours(bench: &Bench<'_>, seconds: u32) -> Result<(f64, i64), Failure> {
    let server = SERVER_CPU.to_string();
    let reflector = bench.reflector(&["--busy-poll", "--cpu", &server, "--max-rate", "0"])?;
    let (client, duration) = (CLIENT_CPU.to_string(), format!("{seconds}s"));
    let mut command = bench.program("railgauge", None);
    command.args(["ping", &reflector.address, "--output", "json", "--busy-poll"]);
    command.args(["--interval", "50us", "--cpu", &client, "--duration", &duration]);
    let ended = bench.complete(command, "ping", Duration::from_secs(60))?;
    let ping = crate::harness::Ping::read("ping", &ended, "")?;
    Ok((ping.p50("app_rtt")?, ping.number("/size_bytes")?))
}

/// sockperf's p50 of the full round trip, ns.
fn theirs(bench: &Bench<'_>, sockperf: &OsStr, size: &str, seconds: u32) -> Result<f64, Failure> {
    let address = ["-i", "127.0.0.1", "-p", PORT];
    let mut server = pinned(sockperf, Some(SERVER_CPU));
    server.args(["sr", "--nonblocked"]).args(address);
    let server = bench.start(server, "sockperf-server")?;
    // It prints nothing once it listens; the client's own warm-up of 400 ms is thrown away besides.
    pause(Duration::from_millis(500));
    let mut client = pinned(sockperf, Some(CLIENT_CPU));
    client.args(["pp", "--full-rtt", "--nonblocked", "--mps", "20000", "-m", size]);
    client.args(["-t", &seconds.to_string()]).args(address);
    let ended = bench.complete(client, "sockperf-client", Duration::from_secs(60))?;
    drop(server);
    median_of(&ended.stdout).ok_or_else(|| {
        let said = ended.stdout.lines().chain(ended.stderr.lines()).last().unwrap_or("nothing");
        Failure::new(format!("sockperf printed no `percentile 50.000`; it said last: {said}"))
    })
}

/// The p50 of a bare C pair that takes the same stamps, ns: what no prober with stamps can beat here.
fn floor(bench: &Bench<'_>, pair: &Path, size: &str, seconds: u32) -> Result<f64, Failure> {
    let mut command = Command::new(pair);
    let count = (seconds * PER_SECOND).to_string();
    command.args([size, &count, "50000", &CLIENT_CPU.to_string(), &SERVER_CPU.to_string()]);
    let ended = bench.complete(command, "bare_pair", Duration::from_secs(60))?;
    let said: serde_json::Value = serde_json::from_str(&ended.stdout)
        .map_err(|error| Failure::because("bare_pair printed no JSON", error))?;
    said["p50_ns"].as_f64().ok_or_else(|| Failure::new("bare_pair printed no p50_ns"))
}

fn compile(bench: &Bench<'_>) -> Result<PathBuf, Failure> {
    let program = bench.scratch().join("bare_pair");
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program);
    command.arg(bench.repo().path("testbed/bare/bare_pair.c"));
    let ended = bench.complete(command, "cc", Duration::from_secs(60))?;
    if ended.code == Some(0) {
        return Ok(program);
    }
    Err(Failure::because("cc refused bare_pair.c", ended.stderr.trim()))
}

/// The line `sockperf: ---> percentile 50.000 =    5.578`, microseconds, as ns.
fn median_of(output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.contains("percentile 50.000"))?;
    let micros: f64 = line.split_once('=')?.1.trim().parse().ok()?;
    Some(micros * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::median_of;

    #[test]
    fn the_median_is_read_in_ns() {
        let output = "sockperf: ---> percentile 75.000 =    5.678\nsockperf: ---> percentile 50.000 =    5.578\n";
        assert_eq!(median_of(output), Some(5578.0));
        assert_eq!(median_of("nothing"), None);
    }
}
