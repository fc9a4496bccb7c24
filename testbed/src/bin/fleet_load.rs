//! A fleet's load on a coordinator, by its own gRPC: prints what became of every batch and, where it is told the process, what
//! that cost the coordinator, as JSON. Status 1 when a batch is missing, refused, or counted otherwise than it was sent.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Parser;
use railgauge_access::connector::Connector;
use railgauge_core::access::Role;
use railgauge_proto::v1;
use railgauge_proto::v1::operator_client::OperatorClient;
use railgauge_testbed::fresh::{self, Fresh, WINDOW_NS};
use railgauge_testbed::load::{Agent, Identities, Pace, Shared, Tally};
use tokio::time::Instant;
use tonic::transport::Endpoint;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A fleet that sends prepared windows.
#[derive(Parser)]
struct Options {
    /// Where the coordinator listens: ADDRESS:PORT.
    address: String,
    /// Agents, each with a connection of its own.
    #[arg(long, default_value_t = 10)]
    agents: usize,
    /// Paths of each.
    #[arg(long, default_value_t = 64)]
    paths: usize,
    /// How long batches are sent, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Over how many milliseconds after the end of a window the agents send theirs.
    #[arg(long, default_value_t = 10_000)]
    spread_ms: u64,
    /// Over how many milliseconds they join.
    #[arg(long, default_value_t = 5_000)]
    join_ms: u64,
    /// Send as fast as batches are taken.
    #[arg(long)]
    flood: bool,
    /// The coordinator's process, to see what it uses.
    #[arg(long)]
    pid: Option<u32>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Speak TLS: an authority as `railgauge certs init` makes it, for certificates of the agents.
    #[arg(long, value_name = "DIR")]
    authority: Option<PathBuf>,
    /// Encoded batches to choose from.
    #[arg(long, default_value_t = 128)]
    pool: usize,
}

fn main() -> Result<ExitCode, Error> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load(&options))
}

async fn load(options: &Options) -> Result<ExitCode, Error> {
    let mut fresh = Fresh::new(options.seed);
    let paths = u32::try_from(options.paths)?;
    let pool: Vec<_> = (0..options.pool.max(1)).map(|_| fresh.encoded(paths)).collect();
    let octets = pool.iter().map(Vec::len).sum::<usize>() / pool.len();
    let scheme = if options.authority.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", options.address);
    let identities = options.authority.as_deref().map(Identities::open).transpose()?;
    let connector = |role: Role, name: &str| -> Result<Connector, Error> {
        let credentials = identities.as_ref().map(|of| of.credentials(role, name)).transpose()?;
        Ok(Connector(credentials))
    };
    let begun = Instant::now();
    let until =
        begun + Duration::from_millis(options.join_ms) + Duration::from_secs(options.seconds);
    let shared = Arc::new(Shared {
        url: url.clone(),
        agents: options.agents,
        paths: options.paths,
        pool,
        until,
        give_up: until + Duration::from_secs(60),
        tally: Tally::default(),
    });
    let before = options.pid.map(used).transpose()?;
    let mut tasks = Vec::new();
    for number in 0..options.agents {
        let share = |of: u64| of * number as u64 / options.agents.max(1) as u64;
        // Joined in another order than they send.
        let join = begun + Duration::from_millis(share(options.join_ms));
        let phase = share(7_919 * options.spread_ms) % options.spread_ms.max(1);
        let pace =
            if options.flood { Pace::Flood } else { Pace::Windows(Duration::from_millis(phase)) };
        let agent = Agent::new(
            Arc::clone(&shared),
            number,
            pace,
            u64::from(std::process::id()) << 20 | number as u64,
            connector(Role::Agent, &fresh::name(number))?,
        );
        tasks.push(tokio::spawn(async move {
            tokio::time::sleep_until(join).await;
            agent.run().await;
        }));
    }
    for task in tasks {
        task.await?;
    }
    let wall = begun.elapsed();
    let after = options.pid.map(used).transpose()?;
    let counted = counted(url, connector(Role::Viewer, "generator")?, options.agents).await?;
    let tally = &shared.tally;
    let count = |of: &std::sync::atomic::AtomicU64| of.load(Relaxed);
    let windows = |batches: u64| batches * options.paths as u64;
    let (sent, stored) = (count(&tally.sent), count(&tally.stored));
    let mut violations = Vec::new();
    let mut expect = |holds: bool, otherwise: String| {
        if !holds {
            violations.push(otherwise)
        }
    };
    expect(sent == stored, format!("{sent} batches were sent and {stored} acknowledged"));
    expect(count(&tally.refused) == 0, format!("{} batches were refused", count(&tally.refused)));
    expect(
        counted.0 == windows(stored),
        format!(
            "the coordinator counts {} windows, {} were acknowledged",
            counted.0,
            windows(stored)
        ),
    );
    expect(
        counted.1 == options.agents,
        format!("the coordinator knows {} of {} agents", counted.1, options.agents),
    );
    let mut waits = tally.waits_ms.lock().map(|waits| waits.clone()).unwrap_or_default();
    waits.sort_unstable();
    let wait = |share: f64| waits.get(index(waits.len(), share)).copied();
    let seconds = wall.as_secs_f64();
    let cpu = before.zip(after).map(|(before, after)| after.cpu_s - before.cpu_s);
    let report = serde_json::json!({
        "row": "scale", "agents": options.agents, "paths": options.paths, "seconds": seconds, "window_ns": WINDOW_NS,
        "octets_per_batch": octets, "spread_ms": options.spread_ms, "flood": options.flood, "seed": options.seed,
        "batches_sent": sent, "batches_acknowledged": stored, "batches_sent_again": count(&tally.again),
        "acknowledged_unawaited": count(&tally.unexpected), "sessions": count(&tally.welcomed), "sessions_broken": count(&tally.broken),
        "last_error": tally.last_error.lock().map(|last| last.clone()).unwrap_or_default(),
        "windows_per_second": rate(windows(stored), seconds),
        "plans": count(&tally.plans), "most_targets": count(&tally.most_targets),
        "ack_wait_ms": {"p50": wait(0.5), "p99": wait(0.99), "max": waits.last()},
        "coordinator_cores": cpu.map(|cpu| cpu / seconds),
        "coordinator_cpu_ns_per_window": cpu.map(|cpu| cpu * 1e9 / rate(windows(stored), 1.0)),
        "coordinator_peak_mib": after.map(|after| after.peak_kib / 1_024),
        "coordinator_resident_mib": after.map(|after| after.resident_kib / 1_024),
        "generator_cores": used(std::process::id())?.cpu_s / seconds,
        "violations": violations,
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(ExitCode::from(u8::from(!violations.is_empty())))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "far fewer than 2^53"
)]
fn index(length: usize, share: f64) -> usize {
    ((length as f64 * share) as usize).min(length.saturating_sub(1))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
fn rate(windows: u64, seconds: f64) -> f64 {
    windows as f64 / seconds
}

/// Windows that the coordinator says it has, and of how many nodes.
async fn counted(url: String, connector: Connector, agents: usize) -> Result<(u64, usize), Error> {
    let channel = Endpoint::from_shared(url)?.connect_with_connector(connector).await?;
    let client = OperatorClient::new(channel);
    let most = agents * 4_096 + (4 << 20);
    let listed = client.max_decoding_message_size(most).list_nodes(v1::ListNodesRequest {}).await?;
    let nodes = listed.into_inner().nodes;
    Ok((nodes.iter().map(|node| node.windows_ingested).sum(), nodes.len()))
}

/// Ticks of /proc in a second: part of Linux's interface to programs, whatever its own clock.
const USER_HZ: f64 = 100.0;

/// What a process has used.
#[derive(Clone, Copy)]
struct Used {
    cpu_s: f64,
    peak_kib: u64,
    resident_kib: u64,
}

fn used(pid: u32) -> Result<Used, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').ok_or("no process name in its stat")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // utime and stime: fields 14 and 15, of which the name is the second.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Ok(Used {
        cpu_s: f64::from(ticks(11) + ticks(12)) / USER_HZ,
        peak_kib: kib("VmHWM:"),
        resident_kib: kib("VmRSS:"),
    })
}
