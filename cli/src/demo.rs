//! `railgauge demo`: a small fabric on this machine, started, probed, swept, reported and stopped.

mod cluster;
mod fault;
mod relay;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::Signal;
use railgauge_proto::v1;
use railgauge_report::doc::Sweep;
use railgauge_report::html;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

use crate::args::{DemoArgs, Output};
use crate::remote::{Remote, RemoteError, SweepEnd};
use crate::{Exit, output, stop, sweep};
use cluster::{Cluster, ClusterError, Plan, now, pause};
pub use fault::FaultArgument;
use fault::{Fault, Kind, Leaver, SlowHost};

/// How long the nodes may take to join and to have probed each other.
const JOIN: Duration = Duration::from_secs(20);

/// How often the demo looks how things stand.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("{0}")]
    Usage(String),
    #[error("after {} s, {connected} of {nodes} nodes have joined: see {logs}", JOIN.as_secs())]
    NotJoined { connected: usize, nodes: u8, logs: String },
    #[error("cannot {doing}")]
    System { doing: String, source: std::io::Error },
    #[error("interrupted")]
    Interrupted,
}

fn cannot(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> DemoError {
    let doing = doing.into();
    move |source| DemoError::System { doing, source }
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Exit {
    match demo(args) {
        Ok(exit) => exit,
        Err(error) => {
            output::say(&format!("railgauge demo: {}", output::sentence(&error)));
            match error {
                DemoError::Usage(_) => Exit::Usage,
                _ => Exit::Unmeasured,
            }
        }
    }
}

fn demo(args: &DemoArgs) -> Result<Exit, DemoError> {
    let stop = stop::on_signal().map_err(cannot("listen to signals"))?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|e| DemoError::Usage(format!("no randomness: {e}")))?,
    };
    let mut random = Pcg64::seed_from_u64(seed);
    let faults = args.fault.iter().map(|fault| fault.choose(args.nodes, &mut random));
    let faults = faults.collect::<Result<Vec<Fault>, _>>().map_err(DemoError::Usage)?;
    fs::create_dir_all(&args.out).map_err(cannot(format!("make {}", args.out.display())))?;

    let screen = Screen::new();
    screen.says(&format!("starting a coordinator and {} agents", args.nodes));
    let plan = Plan { nodes: args.nodes, faults: &faults, out: &args.out, seed };
    let mut cluster = Cluster::start(&plan)?;
    let remote = Remote::connect(&cluster.url, None)?;
    join(&remote, &mut cluster, args, &stop)?;
    let slow = slow_hosts(&faults, &cluster)?;
    probe(&screen, &mut cluster, args, &stop)?;
    let leaving = leavers(&faults, &cluster)?;
    let sweep = sweep(&remote, &screen, &stop)?;
    let findings = remote.findings()?;
    drop((slow, leaving));
    screen.says("stopping");
    let page = cluster.page.clone();
    // An open connection that nobody serves would be waited for.
    drop(remote);
    cluster.stop();
    screen.finish();
    write(&args.out.join("findings.json"), &(findings.json + "\n"))?;
    finish(args, &sweep, &faults, &page)
}

/// Waits until every node is there.
fn join(
    remote: &Remote,
    cluster: &mut Cluster,
    args: &DemoArgs,
    stop: &AtomicBool,
) -> Result<(), DemoError> {
    let deadline = now() + JOIN;
    loop {
        cluster.check()?;
        let nodes = remote.nodes()?.nodes;
        let is_there = |node: &&v1::Node| node.state() == v1::NodeState::Connected;
        let connected = nodes.iter().filter(is_there).count();
        if connected == usize::from(args.nodes) {
            return Ok(());
        }
        if now() > deadline {
            let logs = args.out.join("logs").display().to_string();
            return Err(DemoError::NotJoined { connected, nodes: args.nodes, logs });
        }
        wait(LOOK, stop)?;
    }
}

fn slow_hosts(faults: &[Fault], cluster: &Cluster) -> Result<Vec<SlowHost>, DemoError> {
    let slow = faults.iter().filter(|fault| fault.kind == Kind::SlowHost);
    slow.filter_map(|fault| cluster.agent(fault.node))
        .map(|agent| SlowHost::start(agent).map_err(cannot("slow a host down")))
        .collect()
}

fn leavers(faults: &[Fault], cluster: &Cluster) -> Result<Vec<Leaver>, DemoError> {
    let signal = |kind| match kind {
        Kind::Dead => Some(Signal::SIGKILL),
        Kind::Frozen => Some(Signal::SIGSTOP),
        Kind::SlowHost | Kind::Delay | Kind::Loss => None,
    };
    let leaving = faults.iter().filter_map(|f| Some((cluster.agent(f.node)?, signal(f.kind)?)));
    leaving
        .map(|(agent, signal)| Leaver::start(agent, signal).map_err(cannot("stop a node")))
        .collect()
}

/// Lets the agents probe each other for a while.
fn probe(
    screen: &Screen,
    cluster: &mut Cluster,
    args: &DemoArgs,
    stop: &AtomicBool,
) -> Result<(), DemoError> {
    let start = now();
    let paths = u32::from(args.nodes) * (u32::from(args.nodes) - 1);
    while start.elapsed() < args.duration {
        cluster.check()?;
        let left = args.duration.saturating_sub(start.elapsed()).as_secs();
        screen.says(&format!(
            "{paths} paths are probed {} times a second each, {left} s to go; live page: {}",
            cluster::rate(args.nodes),
            cluster.page
        ));
        wait(LOOK, stop)?;
    }
    Ok(())
}

fn sweep(remote: &Remote, screen: &Screen, stop: &AtomicBool) -> Result<Sweep, DemoError> {
    let request = v1::StartSweepRequest { suite: "quick".to_owned(), ..Default::default() };
    let mut progress = sweep::Live::default();
    let end = remote.run_sweep(request, stop, |event| {
        if let Some(line) = progress.line(event) {
            screen.says(&line);
        }
    })?;
    match end {
        SweepEnd::Finished(sweep) => Ok(sweep.document),
        SweepEnd::Detached(_) | SweepEnd::Announced => Err(DemoError::Interrupted),
    }
}

fn finish(args: &DemoArgs, sweep: &Sweep, faults: &[Fault], page: &str) -> Result<Exit, DemoError> {
    let (json, report) = (args.out.join("sweep.json"), args.out.join("report.html"));
    let text = serde_json::to_string_pretty(sweep).unwrap_or_default();
    write(&json, &(text + "\n"))?;
    write(&report, &html::sweep_page(sweep))?;
    let exit = sweep::exit_of(sweep.verdict);
    if args.output == Output::Json {
        tell_faults(faults);
        return Ok(output::json(sweep, exit));
    }
    let mut text = sweep::table(sweep);
    text += &format!(
        "\n{} nodes on this machine's loopback, every path probed {} times a second for {}; then the sweep.\n",
        args.nodes,
        cluster::rate(args.nodes),
        crate::number::span(args.duration)
    );
    text += &format!(
        "\nreport  {}\nobject  {}\nlogs    {}\n",
        report.display(),
        json.display(),
        args.out.join("logs").display()
    );
    text += &next(args, faults, page);
    let exit = output::result(&text, exit);
    tell_faults(faults);
    Ok(exit)
}

/// After the verdict, so that nobody can say it was known.
fn tell_faults(faults: &[Fault]) {
    for fault in faults {
        output::say(&format!("injected, from outside the agents: {fault}"));
    }
}

fn next(args: &DemoArgs, faults: &[Fault], page: &str) -> String {
    let mut text = String::from("\nnext\n");
    if faults.is_empty() {
        text += "  railgauge demo --fault random      something is wrong somewhere: is it found?\n";
    }
    if args.nodes < 8 {
        text += "  railgauge demo --nodes 8           a larger fabric\n";
    }
    text += "  railgauge ping 127.0.0.1:7463      one path, to any `railgauge reflect`\n";
    text += &format!("The live page was {page} while the demo ran.\n");
    text
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    fs::write(path, text).map_err(cannot(format!("write {}", path.display())))
}

fn wait(time: Duration, stop: &AtomicBool) -> Result<(), DemoError> {
    if stop.load(Ordering::Relaxed) {
        return Err(DemoError::Interrupted);
    }
    pause(time);
    Ok(())
}

/// One live line on stderr, where that is a terminal.
struct Screen(ProgressBar);

impl Screen {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {wide_msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn says(&self, text: &str) {
        self.0.set_message(text.to_owned());
        self.0.tick();
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
