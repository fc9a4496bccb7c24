//! The commands that ask the coordinator.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::Output;
use crate::number;

const EXITS: &str = "Exit codes: 0 healthy; 1 something is degraded or failed; 2 usage; 3 unknown, or no coordinator answers.";

/// Which coordinator, and how to print what it says.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Where the coordinator listens, https://HOST:PORT [default: https://127.0.0.1:7460, or http:// without --cert]
    #[arg(long, value_name = "URL", env = "RAILGAUGE_COORDINATOR", hide_env_values = true)]
    pub coordinator: Option<String>,
    /// Certificates of the authorities that vouch for the coordinator, PEM
    #[arg(long, value_name = "FILE", env = "RAILGAUGE_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// Your certificate, PEM
    #[arg(long, value_name = "FILE", env = "RAILGAUGE_CERT", hide_env_values = true)]
    pub cert: Option<PathBuf>,
    /// Its key, PEM, readable by you alone
    #[arg(long, value_name = "FILE", env = "RAILGAUGE_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// `railgauge nodes`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all nodes are connected, or said goodbye; 1 one is lost or reconnecting; 2 usage; 3 there is no \
node, or no coordinator answers."
)]
pub struct NodesArgs {
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `railgauge paths`
#[derive(Debug, Args)]
#[command(after_help = EXITS)]
pub struct PathsArgs {
    /// How far back, from 1s to 30d
    #[arg(long, default_value = "5m", value_parser = since, allow_hyphen_values = true)]
    pub since: Duration,
    /// Only paths with such a node at either end: name globs or label=value, with commas between
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    pub nodes: String,
    /// How many paths the table has
    #[arg(long, value_name = "N", default_value = "20", value_parser = number::whole(1..=u32::MAX), allow_hyphen_values = true)]
    pub worst: u32,
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

/// What a sweep measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// A first look: every path over sockets, with probes enough for p99.
    Quick,
    /// Every path over sockets, with probes enough for p99.9.
    Sockets,
    /// Every path over reliable connections of RDMA devices, by one-sided reads, with probes enough for p99.
    Rdma,
}

impl Suite {
    /// Its name on the wire and in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Sockets => "sockets",
            Self::Rdma => "rdma",
        }
    }
}

/// `railgauge sweep`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = SWEEP)]
pub struct SweepArgs {
    /// Instead of a new sweep.
    #[command(subcommand)]
    pub command: Option<SweepCommand>,
    /// What to measure
    #[arg(long, value_enum, default_value = "quick")]
    pub suite: Suite,
    /// Only among these nodes: name globs or label=value, with commas between [default: all]
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true)]
    pub nodes: String,
    /// At most so many rounds [default: all]
    #[arg(long, value_name = "N", value_parser = number::whole(1..=u32::MAX), allow_hyphen_values = true)]
    pub rounds: Option<u32>,
    /// Names of nodes that should be there, one a line, # begins a comment: absent ones are in the result as unknown
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Say what the sweep would take, and stop
    #[arg(long, conflicts_with_all = ["detach", "report", "save", "diff"])]
    pub dry_run: bool,
    /// Start it and leave: `railgauge sweep show ID` has the result
    #[arg(long, conflicts_with_all = ["report", "save", "diff"])]
    pub detach: bool,
    /// What becomes of the result
    #[command(flatten)]
    pub result: ResultArgs,
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

const SWEEP: &str = "Every node measures every other, in rounds of disjoint pairs. Ctrl-C cancels the sweep on the server \
and prints what it has. --diff: a quantile has changed when its 95 % intervals do not overlap and it differs by 1.25 x or more.\n\n\
Exit codes: 0 healthy; 1 something is degraded or failed; 2 usage; 3 unknown, or no coordinator answers.";

/// What to do about sweeps that there are.
#[derive(Debug, Subcommand)]
pub enum SweepCommand {
    /// The result of a sweep that is over
    Show(ShowArgs),
    /// The sweeps that the coordinator knows
    List(ListArgs),
    /// End a sweep that runs
    Cancel(CancelArgs),
}

/// What becomes of a sweep's result, beside being printed.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// Write the HTML report, one self-contained file
    #[arg(long, value_name = "F.html")]
    pub report: Option<PathBuf>,
    /// Write the object, for --diff and `railgauge report`
    #[arg(long, value_name = "F.json")]
    pub save: Option<PathBuf>,
    /// Compare with an earlier sweep that was saved
    #[arg(long, value_name = "F.json")]
    pub diff: Option<PathBuf>,
}

/// `railgauge sweep show`
#[derive(Debug, Args)]
#[command(after_help = EXITS)]
pub struct ShowArgs {
    /// As the sweep's announcement or `railgauge sweep list` has it
    #[arg(value_parser = sweep_id)]
    pub id: String,
    /// What becomes of the result
    #[command(flatten)]
    pub result: ResultArgs,
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `railgauge sweep list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `railgauge sweep cancel`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["id", "all"]).required(true)))]
pub struct CancelArgs {
    /// As the sweep's announcement or `railgauge sweep list` has it
    #[arg(value_parser = sweep_id)]
    pub id: Option<String>,
    /// All that run
    #[arg(long)]
    pub all: bool,
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `railgauge keys`
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with the keys of the fleet's probes.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Give all nodes new keys now, without a lost probe
    Rotate(RotateArgs),
}

/// `railgauge keys rotate`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all nodes have new keys, and the old ones are answered no more; 1 somebody keeps the old ones in use, or \
has none; 2 usage; 3 no coordinator answers, or it refuses."
)]
pub struct RotateArgs {
    /// Withdraw the old keys at the end, whoever may still use them: for a key that has leaked; the probes of nodes out of reach are
    /// lost until they are back
    #[arg(long)]
    pub withdraw: bool,
    /// Whom to ask
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `railgauge report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A sweep as `railgauge sweep --save`, `railgauge sweep --output json` or `railgauge demo` wrote it
    #[arg(value_name = "F.json")]
    pub file: PathBuf,
    /// Where the page goes [default: standard output]
    #[arg(long, value_name = "F.html")]
    pub out: Option<PathBuf>,
}

fn since(text: &str) -> Result<Duration, String> {
    number::duration_between(text, Duration::from_secs(1), Duration::from_secs(30 * 86_400))
}

fn sweep_id(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=100).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("no sweep is called so: `railgauge sweep list` has their names".to_owned())
}
