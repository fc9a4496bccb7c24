//! What can be typed.

mod certs;
mod fleet;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::demo::FaultArgument;
use crate::fail_if::FailIf;
use crate::number;
pub use certs::{CertsArgs, CertsCommand, InitArgs, IssueArgs, RoleArgument, ShowCertArgs};
pub use fleet::{
    AskArgs, CancelArgs, KeysArgs, KeysCommand, ListArgs, NodesArgs, PathsArgs, ReportArgs,
    ResultArgs, RotateArgs, ShowArgs, Suite, SweepArgs, SweepCommand,
};

/// More than any machine has; the kernel's own limit on Linux is 8,192 (`CONFIG_NR_CPUS`).
const MOST_CPUS: usize = 8_191;

/// Measures the interconnects of GPU clusters: the latency tail of a path, with the network's part told from the
/// hosts'.
#[derive(Debug, Parser)]
#[command(name = "railgauge", version = railgauge_agent::VERSION, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done and healthy; 1 done, and something is degraded or failed; 2 usage or configuration; 3 could not measure."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure one path now; TARGET is any `railgauge reflect` or STAMP reflector (RFC 8762).
    Ping(Box<PingArgs>),
    /// Answer probes.
    Reflect(ReflectArgs),
    /// What this node is, and what can be measured on it.
    Inventory(InventoryArgs),
    /// A small fabric on this machine: start, probe, sweep, report, stop.
    Demo(DemoArgs),
    /// The fleet's nodes, as the coordinator knows them.
    Nodes(NodesArgs),
    /// The fleet's paths over the last while, worst first.
    Paths(PathsArgs),
    /// Measure the fleet now, every node with every other, and judge it.
    Sweep(Box<SweepArgs>),
    /// The keys of the fleet's probes.
    Keys(KeysArgs),
    /// The HTML report of a saved sweep.
    Report(ReportArgs),
    /// A development authority, and certificates for daemons and people.
    Certs(CertsArgs),
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: one object.
    Json,
}

/// What carries the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// STAMP datagrams: loss shows as loss.
    Udp,
    /// STAMP packets over a connection: loss shows as delay.
    Tcp,
    /// STAMP packets in RDMA datagrams: loss shows as loss.
    RdmaUd,
    /// Operations on an RDMA connection: loss shows as delay.
    RdmaRc,
}

/// What an RDMA connection is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// A write, answered by a write.
    Write,
    /// A send, answered by a send.
    Send,
    /// A read, which the other side's device answers.
    Read,
    /// An atomic on 8 octets, which the other side's device answers.
    Atomic,
    /// How much can be written.
    WriteBw,
    /// How much can be read.
    ReadBw,
}

/// How the end of an RDMA write is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Completion {
    /// By memory with --busy-poll where both devices promise to write it in order, else by immediate data.
    Auto,
    /// By its last octet in memory, whether or not that is promised.
    Memory,
    /// By immediate data.
    Imm,
}

/// Time-outs and retries of an RDMA connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Time-out 14, retries 7, not-ready retries 6: a dead path is an error after seconds.
    Continuous,
    /// What NCCL sets: time-out 20, retries 7, not-ready retries 7.
    Nccl,
}

/// Formats of timestamps in packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimestampFormat {
    /// 32 bits of seconds, 32 of fraction.
    Ntp,
    /// 32 bits of seconds, 32 of nanoseconds.
    Ptp,
}

/// `railgauge ping`
#[derive(Debug, Args)]
#[command(
    after_help = "Each series is printed as n, min, quantiles with their 95 % interval, max. app_rtt counts from the intended \
send time: app_rtt = network_rtt + prober_delay + responder_delay, sample by sample. `-` means: too few samples to know.\n\nExit codes: 0 any reply came; 1 a --fail-if condition holds; 2 usage or configuration; 3 no \
reply, or nothing could be sent. A condition that the run cannot tell does not hold, and standard error says so."
)]
pub struct PingArgs {
    /// As typed.
    #[arg(
        help = "host, host:port, IPv4, IPv4:port, IPv6 or [IPv6]:port; the port is 862 unless given (tcp, rdma-ud, rdma-rc: 7463)"
    )]
    pub target: String,
    /// What carries the probes
    #[arg(long, value_enum, default_value = "udp")]
    pub transport: Transport,
    /// Time between intended sends, from 1us to 1h; rdma-rc: 0 for a closed loop, as perftest's
    #[arg(long, default_value = "1ms", value_parser = interval, allow_hyphen_values = true)]
    pub interval: Duration,
    /// How long to measure, after the warm-up, from 1ms to 30d [default: 10s]
    #[arg(long, value_parser = run_length, conflicts_with = "count", allow_hyphen_values = true)]
    pub duration: Option<Duration>,
    /// How many probes to send, instead of a duration
    #[arg(long, value_parser = number::whole(1_u64..=1_000_000_000_000), allow_hyphen_values = true)]
    pub count: Option<u64>,
    /// A probe without a reply this long after it left is lost, from 1ms to 60s
    #[arg(long, default_value = "1s", value_parser = timeout, allow_hyphen_values = true)]
    pub timeout: Duration,
    /// Probes before those that count; discarded
    #[arg(long, default_value = "50", value_parser = number::whole(0_u64..=1_000_000), allow_hyphen_values = true)]
    pub warmup: u64,
    /// Least octets of payload; STAMP packets are never smaller than STAMP and its telemetry, 72 octets [default: 44; rdma-rc: 2, write-bw and read-bw: 64KiB]
    #[arg(long, value_parser = size, allow_hyphen_values = true)]
    pub size: Option<usize>,
    /// Send the base packet alone, without telemetry TLVs: the network RTT is then an upper bound
    #[arg(long)]
    pub bare: bool,
    /// Spin instead of sleeping: one core, the least delay
    #[arg(long)]
    pub busy_poll: bool,
    /// Pin the probe thread to this CPU [default: where it starts]
    #[arg(long, value_parser = number::whole(0..=MOST_CPUS), allow_hyphen_values = true)]
    pub cpu: Option<usize>,
    /// Pin the probe thread to the NUMA node of this network or RDMA device; rdma-ud and rdma-rc: probe through it (mlx5_0, mlx5_0/1)
    #[arg(long)]
    pub device: Option<String>,
    /// What an RDMA connection is asked to do [default: write]
    #[arg(long, value_enum)]
    pub op: Option<Op>,
    /// How the end of an RDMA write is seen [default: auto]
    #[arg(long, value_enum)]
    pub completion: Option<Completion>,
    /// Time-outs and retries of an RDMA connection [default: continuous]
    #[arg(long, value_enum)]
    pub profile: Option<Profile>,
    /// Operations outstanding, for write-bw and read-bw [default: 128]
    #[arg(long, value_parser = number::whole(1_u16..=1024), allow_hyphen_values = true)]
    pub depth: Option<u16>,
    /// Send from this address
    #[arg(long, value_name = "ADDRESS", value_parser = source)]
    pub source: Option<IpAddr>,
    /// Differentiated services code point, 0 to 63; the reply comes back in the same class
    #[arg(long, default_value = "0", value_parser = number::whole(0_u8..=63), allow_hyphen_values = true)]
    pub dscp: u8,
    /// TTL or hop limit
    #[arg(long, default_value = "255", value_parser = number::whole(1_u8..=255), allow_hyphen_values = true)]
    pub ttl: u8,
    /// Source ports that take turns, so that ECMP spreads the probes over paths
    #[arg(long, default_value = "1", value_parser = number::whole(1_u16..=64), allow_hyphen_values = true)]
    pub flows: u16,
    /// STAMP session identifier (RFC 8972), 0 for none
    #[arg(long, default_value = "0", value_parser = number::whole(0..=u16::MAX), allow_hyphen_values = true)]
    pub ssid: u16,
    /// Format of our timestamps in packets
    #[arg(long, value_enum, default_value = "ntp")]
    pub timestamp_format: TimestampFormat,
    /// File with a key in hexadecimal, as `openssl rand -hex 32` makes one: authenticated STAMP (HMAC-SHA-256)
    #[arg(long, value_name = "FILE")]
    pub auth_key_file: Option<PathBuf>,
    /// Write an HdrHistogram interval log, 1 s intervals
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write every sample as CSV (kept in memory until the end)
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
    /// Exit with 1 when this holds: p99>50us, network_rtt.p99.9>1ms, max>10ms, loss>0.1%; app_rtt unless a series is named
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<FailIf>,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6", action = ArgAction::SetTrue)]
    pub v4: bool,
    /// IPv6 only
    #[arg(short = '6', action = ArgAction::SetTrue)]
    pub v6: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// `railgauge reflect`
#[derive(Debug, Args)]
pub struct ReflectArgs {
    /// What carries the probes
    #[arg(long, value_enum, default_value = "udp")]
    pub transport: Transport,
    /// RDMA device to answer through (mlx5_0, mlx5_0/1) [default: the only one]
    #[arg(long)]
    pub device: Option<String>,
    /// Where to listen, ADDR:PORT, repeatable [default: every address, port 862, or 7463 without the privilege; tcp, rdma-ud, rdma-rc: 7463]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen)]
    pub listen: Vec<SocketAddr>,
    /// Spin instead of sleeping: one core, the least delay
    #[arg(long)]
    pub busy_poll: bool,
    /// Pin the responder thread to this CPU
    #[arg(long, value_parser = number::whole(0..=MOST_CPUS), allow_hyphen_values = true)]
    pub cpu: Option<usize>,
    /// Replies per second and source address, bursts of up to 1,000; 0 for no bound
    #[arg(long, default_value = "10000", value_name = "N", value_parser = number::whole(0..=u32::MAX), allow_hyphen_values = true)]
    pub max_rate: u32,
    /// File with keys in hexadecimal, one a line: answer only authenticated requests made with one of them
    #[arg(long, value_name = "FILE")]
    pub auth_key_file: Option<PathBuf>,
    /// How to print the totals at the end
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// `railgauge inventory`
#[derive(Debug, Args)]
pub struct InventoryArgs {
    /// Read this tree instead of /sys, as one recorded on another machine
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub sysfs_root: PathBuf,
    /// Read this tree instead of /proc
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub procfs_root: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// `railgauge demo`
#[derive(Debug, Args)]
#[command(
    after_help = "A coordinator and agents run as processes of their own on loopback addresses. What they measure is this machine's \
scheduler and loopback, not a network. Exit codes: 0 healthy; 1 degraded or failed; 2 usage; 3 unknown, or it could not run."
)]
pub struct DemoArgs {
    /// Nodes, from 2 to 64
    #[arg(long, default_value = "4", value_parser = number::whole(2_u8..=64), allow_hyphen_values = true)]
    pub nodes: u8,
    /// How long the nodes probe each other before the sweep, from 1s to 1h
    #[arg(long, default_value = "30s", value_parser = demo_length, allow_hyphen_values = true)]
    pub duration: Duration,
    /// Something to be wrong from outside: slow-host, delay, loss, dead, frozen or random, at a node's number or random, as delay@3
    #[arg(long, value_name = "KIND@NODE")]
    pub fault: Vec<FaultArgument>,
    /// Where sweep.json, report.html and logs go
    #[arg(long, value_name = "DIR", default_value = "railgauge-demo")]
    pub out: PathBuf,
    /// For repeating what was left to chance
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// The whole command line, for help, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

fn source(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address: write one of this machine's, as `ip address` lists them")
    })
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address and port: write them as 0.0.0.0:862, 192.0.2.1:7463 or [::1]:7463")
    })
}

fn interval(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    number::duration_between(text, Duration::from_micros(1), Duration::from_secs(3600))
}

fn run_length(text: &str) -> Result<Duration, String> {
    number::duration_between(text, Duration::from_millis(1), Duration::from_secs(30 * 86_400))
}

/// A bare number is seconds, as the contract writes it.
fn demo_length(text: &str) -> Result<Duration, String> {
    let seconds = text.bytes().all(|b| b.is_ascii_digit()).then(|| format!("{text}s"));
    let text = seconds.as_deref().unwrap_or(text);
    number::duration_between(text, Duration::from_secs(1), Duration::from_secs(3600))
}

fn timeout(text: &str) -> Result<Duration, String> {
    number::duration_between(text, Duration::from_millis(1), Duration::from_secs(60))
}

fn size(text: &str) -> Result<usize, String> {
    // The largest message of a sweep; datagrams are checked against their own limit.
    let most = 1 << 26;
    let octets = number::octets(text)?;
    if (1..=most).contains(&octets) {
        Ok(octets)
    } else {
        Err(format!("{text:?} is out of range: from 1 to {most} octets"))
    }
}
