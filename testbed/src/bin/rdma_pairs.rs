//! In the guest: our RDMA probes beside perftest, in alternating pairs within one boot, and prints one JSON object.
//!
//! Emulation is slow and nothing in it is an absolute: only the ratio of two programs that ran one after the other says something.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clap::Parser;
use railgauge_testbed::fleet::Trouble;
use railgauge_testbed::guest::{Measured, Perftest, Program};
use serde_json::{Value, json};

/// What can be typed.
#[derive(Parser)]
struct Options {
    /// The `railgauge` to measure; by default the one beside this program.
    #[arg(long)]
    railgauge: Option<PathBuf>,
    /// Pairs of each case.
    #[arg(long, default_value_t = 15)]
    pairs: u32,
    /// Operations of each latency run.
    #[arg(long, default_value_t = 1000)]
    iterations: u32,
    /// Messages of each bandwidth run.
    #[arg(long, default_value_t = 400)]
    messages: u32,
    /// Only cases whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
}

/// One comparison.
struct Case {
    name: &'static str,
    program: Program,
    size: u32,
    /// What `ping` is asked for.
    ask: &'static [&'static str],
    transport: &'static str,
    read: fn(&Value) -> Option<f64>,
}

/// NICs: perftest's client and our prober, its server and our responder.
const CLIENT: u8 = 1;
const SERVER: u8 = 2;

/// Octets of our smallest datagram: STAMP and its telemetry.
const STAMP: u32 = 72;

/// Many messages at once are a burden to the emulation: this many at a time, by both.
const DEPTH: &str = "16";

const CASES: [Case; 5] = [
    Case {
        name: "rc write 2 B",
        program: Program::WriteLatency,
        size: 2,
        ask: &["--op", "write", "--completion", "memory", "--interval", "0"],
        transport: "rdma-rc",
        read: half_post_to_post,
    },
    Case {
        name: "rc write 64 B",
        program: Program::WriteLatency,
        size: 64,
        ask: &["--op", "write", "--completion", "memory", "--interval", "0"],
        transport: "rdma-rc",
        read: half_post_to_post,
    },
    Case {
        name: "rc send 2 B",
        program: Program::SendLatency,
        size: 2,
        ask: &["--op", "send", "--interval", "0"],
        transport: "rdma-rc",
        read: half_post_to_post,
    },
    Case {
        name: "ud send 72 B",
        program: Program::DatagramLatency,
        size: STAMP,
        // Open loop, as UDP: the schedule is far from the round trip, so that no probe waits for another.
        ask: &["--interval", "2ms"],
        transport: "rdma-ud",
        read: half_network_rtt,
    },
    Case {
        name: "rc write bandwidth 64 KiB",
        program: Program::WriteBandwidth,
        size: 65_536,
        ask: &["--op", "write-bw", "--depth", DEPTH],
        transport: "rdma-rc",
        read: octets_per_second,
    },
];

/// Perftest's own sample: half of post to post.
fn half_post_to_post(report: &Value) -> Option<f64> {
    report.pointer("/rdma/as_perftest/t_typical_us")?.as_f64()
}

/// Post to poll and back without what the responder's program took, halved: the same way of a message, without the next post.
fn half_network_rtt(report: &Value) -> Option<f64> {
    Some(report.pointer("/network_rtt/quantiles/0/value_ns")?.as_f64()? / 2000.0)
}

fn octets_per_second(report: &Value) -> Option<f64> {
    Some(report.pointer("/rdma/bandwidth/gbyte_per_second")?.as_f64()? * 1e9)
}

fn main() -> Result<(), Trouble> {
    let options = Options::parse();
    let railgauge = match &options.railgauge {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("railgauge"),
    };
    let mut cases = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&options.only)) {
        let mut pairs = Vec::new();
        for pair in 0..options.pairs {
            // Whoever is first has the colder caches: they take turns at that, too.
            let (ours, theirs) = if pair % 2 == 0 {
                let ours = ours(case, &railgauge, &options)?;
                (ours, theirs(case, &options)?)
            } else {
                let theirs = theirs(case, &options)?;
                (self::ours(case, &railgauge, &options)?, theirs)
            };
            writeln!(std::io::stderr(), "{}: ours {ours:.2}, perftest {theirs:.2}", case.name)?;
            pairs.push((ours, theirs));
        }
        cases.push(judged(case.name, &pairs));
    }
    let line = json!({ "cases": cases, "violations": [] });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn iterations(case: &Case, options: &Options) -> u32 {
    if case.program == Program::WriteBandwidth { options.messages } else { options.iterations }
}

fn theirs(case: &Case, options: &Options) -> Result<f64, Trouble> {
    let perftest = Perftest {
        size: case.size,
        iterations: iterations(case, options),
        ..Perftest::new(case.program, CLIENT, SERVER)
    };
    match perftest.run()? {
        Measured::Latency(latency) => Ok(latency.typical_us),
        Measured::Bandwidth(bandwidth) => Ok(bandwidth.mean),
        Measured::Nothing(why) => Err(format!("{}: perftest: {why}", case.name).into()),
    }
}

/// A `reflect` that is ended when dropped.
struct Reflector(Child);

impl Drop for Reflector {
    fn drop(&mut self) {
        // One that has ended is reaped; neither call can fail in a way that could be mended here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ours(case: &Case, railgauge: &PathBuf, options: &Options) -> Result<f64, Trouble> {
    let mut command = Command::new(railgauge);
    command.args(["reflect", "--transport", case.transport, "--busy-poll", "--max-rate", "0"]);
    // Two that spin, on two CPUs: `ping` pins itself to where it starts, which may be where the other one is.
    command.args(["--cpu", "1"]);
    command.args(["--device", &format!("rxe{SERVER}"), "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let said = child.stderr.take().ok_or("no stderr")?;
    let reflector = Reflector(child);
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    let target = line.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next());
    let target = target.ok_or_else(|| format!("reflect said: {line}"))?;
    let count = iterations(case, options).to_string();
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120"]).arg(railgauge).args(["ping", target]);
    command.args(["--transport", case.transport, "--device", &format!("rxe{CLIENT}")]);
    command.args(["--busy-poll", "--cpu", "0", "--count", &count, "--output", "json"]);
    command.args(case.ask);
    if case.size != STAMP {
        command.args(["--size", &case.size.to_string()]);
    }
    let done = command.stdin(Stdio::null()).output()?;
    drop(reflector);
    let report: Value = serde_json::from_slice(&done.stdout).map_err(|e| {
        format!(
            "{}: ping printed no JSON ({e}): {}",
            case.name,
            String::from_utf8_lossy(&done.stderr)
        )
    })?;
    let value = (case.read)(&report);
    value.ok_or_else(|| format!("{}: ping measured nothing: {report}", case.name).into())
}

/// The median ratio, and the interval of ranks that holds it with 95 % or more, whatever the distribution.
fn judged(name: &str, pairs: &[(f64, f64)]) -> Value {
    let mut ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
    ratios.sort_by(f64::total_cmp);
    let middle = |values: &[f64]| {
        let half = values.len() / 2;
        if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
    };
    let low = outside(ratios.len());
    json!({
        "name": name,
        "pairs": pairs.len(),
        "median_ratio": middle(&ratios),
        "low": ratios.get(low),
        "high": ratios.get(ratios.len() - 1 - low),
        "ratios": ratios,
        "ours": pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(),
        "perftest": pairs.iter().map(|pair| pair.1).collect::<Vec<_>>(),
    })
}

/// How many ratios at either end are left out: the largest k for which k or fewer of n fair coins fall on one side with a chance
/// of 2.5 % at most.
fn outside(n: usize) -> usize {
    let (mut chance, mut term, mut out) =
        (0.0, 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX)), 0);
    for k in 0..n {
        chance += term;
        if chance > 0.025 {
            return out;
        }
        out = k;
        #[expect(clippy::cast_precision_loss, reason = "tens")]
        let ratio = (n - k) as f64 / (k + 1) as f64;
        term *= ratio;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Tables of the sign test: 3 or fewer heads of 15 have a chance of 1.8 %, 5 or fewer of 20 one of 2.1 %.
        assert_eq!([5, 6, 15, 20].map(outside), [0, 0, 3, 5]);
        let pairs: Vec<(f64, f64)> = (1..=15).map(|n| (f64::from(n), 10.0)).collect();
        let judged = judged("x", &pairs);
        assert_eq!(
            (judged["median_ratio"].as_f64(), judged["low"].as_f64()),
            (Some(0.8), Some(0.4))
        );
    }
}
