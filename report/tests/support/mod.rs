//! Sweeps as a coordinator would write them, made of core's recorders and a seeded generator; and a browser.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, Stdio};

use railgauge_core::finding::{
    Component, ComponentKind, Effect, Evidence, Finding, FindingKind, Severity, Verdict,
};
use railgauge_core::histogram::Recorder;
use railgauge_core::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
use railgauge_core::path_window::{PathWindow, Split};
use railgauge_core::quantile::Quantile;
use railgauge_core::timestamp_source::{StampSource, TimestampSource};
use railgauge_report::doc::{
    Aggregate, Findings, Measures, NodeDoc, NodePort, NotMeasured, OpenFinding, PathDoc, Paths,
    Sweep,
};
use railgauge_report::gather::Gathered;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

pub const TIMEOUT_NS: u64 = 1_000_000_000;

const STAMPS: TimestampSource = TimestampSource {
    t1: StampSource::Kernel,
    t2: StampSource::Kernel,
    t3: StampSource::Kernel,
    t4: StampSource::Kernel,
};

/// What is wrong with a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fault {
    /// Node whose network adds 400 us either way.
    pub slow_network: Option<usize>,
    /// Node that answers late.
    pub slow_host: Option<usize>,
    /// Node whose packets get lost: one in 50.
    pub lossy: Option<usize>,
    /// Node that never answers.
    pub silent: Option<usize>,
    /// Node that was expected and is not there.
    pub absent: Option<usize>,
}

/// Between 0 and 1, neither included.
fn uniform(random: &mut Pcg64Mcg) -> f64 {
    ((random.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^53")]
fn log_logistic(random: &mut Pcg64Mcg, median_ns: f64, shape: f64) -> u64 {
    let u = uniform(random);
    (median_ns * (shape * (u / (1.0 - u)).ln()).exp()) as u64
}

pub fn endpoint(name: &str) -> Endpoint {
    Endpoint { node: NodeName::new(name).unwrap(), port: PortName::new("eth0").unwrap(), rail: 0 }
}

/// A second of a path: `n` probes.
fn window(
    recorders: &mut [Recorder; 4],
    random: &mut Pcg64Mcg,
    ends: (usize, usize),
    n: u64,
    fault: Fault,
) -> PathWindow {
    let hit = |node: Option<usize>| node == Some(ends.0) || node == Some(ends.1);
    let mut window = PathWindow::new(railgauge_core::path_window::Parameters {
        interval_ns: 2_000_000,
        timeout_ns: TIMEOUT_NS,
        size_bytes: 44,
        rdma: None,
    });
    for _ in 0..n {
        window.account.scheduled += 1;
        window.account.sent += 1;
        let lost = hit(fault.silent) || (hit(fault.lossy) && uniform(random) < 0.02);
        if lost {
            window.account.lost += 1;
            recorders[0].record_censored();
            recorders[1].record_censored();
            continue;
        }
        window.account.received += 1;
        let slow = if hit(fault.slow_network) { 400_000 } else { 0 };
        let network = log_logistic(random, 31_000.0, 0.09) + slow;
        let prober = log_logistic(random, 22_000.0, 0.2);
        let stands_still = fault.slow_host == Some(ends.1) && uniform(random) < 0.2;
        let extra = if stands_still { log_logistic(random, 9_000_000.0, 0.4) } else { 0 };
        let responder = log_logistic(random, 9_000.0, 0.2) + extra;
        for (recorder, ns) in
            recorders.iter_mut().zip([network + prober + responder, network, prober, responder])
        {
            recorder.record(ns);
        }
    }
    let [app_rtt, network_rtt, prober_delay, responder_delay] =
        std::array::from_fn(|at| recorders[at].drain());
    window.app_rtt = app_rtt;
    if window.account.received > 0 {
        window.splits.push(Split { source: STAMPS, network_rtt, prober_delay, responder_delay });
    }
    window.check().unwrap();
    window
}

pub fn path(src: &str, dst: &str) -> Path {
    Path {
        src: endpoint(src),
        dst: endpoint(dst),
        transport: Transport::Udp,
        memory: Memory::Host,
        flow: 0,
        dscp: 0,
    }
}

fn verdict_of(measures: &Measures, fault: Fault, ends: (usize, usize)) -> Verdict {
    let hit = |node: Option<usize>| node == Some(ends.0) || node == Some(ends.1);
    match () {
        () if measures.counts.is_silent() => Verdict::Failed,
        () if hit(fault.lossy) || hit(fault.slow_network) || fault.slow_host == Some(ends.1) => {
            Verdict::Degraded
        }
        () => Verdict::Healthy,
    }
}

/// A sweep over `n` nodes, 4 windows of `probes` probes a path.
pub fn sweep(n: usize, probes: u64, fault: Fault) -> Sweep {
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let mut recorders: [Recorder; 4] = std::array::from_fn(|_| Recorder::new());
    let mut made: BTreeMap<(usize, usize), Measures> = BTreeMap::new();
    let names: Vec<String> = (0..n).map(|at| format!("gpu-{:02}", at + 1)).collect();
    let mut sweep = Sweep {
        id: "s-20261123-0742-a1".to_owned(),
        started_at: "2026-11-23T07:42:05Z".to_owned(),
        finished_at: Some("2026-11-23T07:44:11Z".to_owned()),
        suite: "sockets".to_owned(),
        software_version: "0.1.0 (b0c1497)".to_owned(),
        rounds: u32::try_from(n).unwrap().saturating_sub(1),
        rounds_planned: u32::try_from(n).unwrap().saturating_sub(1),
        duration_ns: 126_400_000_000,
        verdict: Verdict::Healthy,
        ..Sweep::default()
    };
    sweep.parameters.count = 4 * probes;
    sweep.parameters.interval_ns = 2_000_000;
    sweep.parameters.warmup = 50;
    sweep.parameters.timeout_ns = TIMEOUT_NS;
    sweep.parameters.size_bytes = 44;
    sweep.parameters.transport = "udp".to_owned();
    for (at, name) in names.iter().enumerate() {
        sweep.nodes.push(node(name, at, fault));
    }
    for (a, src) in names.iter().enumerate() {
        for (b, dst) in names.iter().enumerate() {
            if a == b || fault.absent == Some(a) || fault.absent == Some(b) {
                continue;
            }
            // In large fleets healthy paths repeat, so that making one takes no longer than looking at it.
            let healthy = ![fault.slow_network, fault.slow_host, fault.lossy, fault.silent]
                .iter()
                .any(|node| *node == Some(a) || *node == Some(b));
            let key = if n > 16 && healthy { (n, (a * 7 + b) % 12) } else { (a, b) };
            let measures = made.entry(key).or_insert_with(|| {
                let windows: Vec<_> = (0..4)
                    .map(|_| window(&mut recorders, &mut random, (a, b), probes, fault))
                    .collect();
                windows.iter().collect::<Gathered>().measures(TIMEOUT_NS, Transport::Udp)
            });
            let measures = measures.clone();
            let verdict = verdict_of(&measures, fault, (a, b));
            let mut doc = PathDoc::new(&path(src, dst), verdict, measures);
            doc.round = Some(u32::try_from((a + b) % n + 1).unwrap());
            sweep.paths.push(doc);
        }
    }
    sweep.findings = found(&names, fault, &sweep.paths);
    if let Some(absent) = fault.absent {
        sweep.not_measured.push(NotMeasured {
            what: format!("{} paths from and to {}", 2 * (n - 1), names[absent]),
            reason: "the node was expected and no agent of that name ever called".to_owned(),
        });
    }
    let worst = sweep.findings.iter().map(|f| f.severity).max();
    sweep.verdict = match worst {
        Some(Severity::Failed) => Verdict::Failed,
        Some(Severity::Degraded) => Verdict::Degraded,
        Some(Severity::Unknown) => Verdict::Unknown,
        None if n == 0 => Verdict::Unknown,
        None => Verdict::Healthy,
    };
    sweep
}

fn node(name: &str, at: usize, fault: Fault) -> NodeDoc {
    let here = Some(at);
    let mut node = NodeDoc {
        name: name.to_owned(),
        verdict: Verdict::Healthy,
        state: "connected".to_owned(),
        version: "0.1.0 (b0c1497)".to_owned(),
        labels: BTreeMap::from([("rack".to_owned(), format!("r{}", at / 4 + 1))]),
        ports: vec![NodePort {
            port: "eth0".to_owned(),
            rail: 0,
            address: format!("127.0.0.{}:7862", at + 2),
        }],
        ..NodeDoc::default()
    };
    if fault.silent == here {
        node.verdict = Verdict::Failed;
    } else if [fault.slow_host, fault.slow_network, fault.lossy].contains(&here) {
        node.verdict = Verdict::Degraded;
    } else if fault.absent == here {
        node.verdict = Verdict::Unknown;
        node.state = "absent".to_owned();
        node.version = String::new();
        node.ports.clear();
        node.notes = vec!["expected, and no agent of that name ever called".to_owned()];
    }
    node
}

fn found(names: &[String], fault: Fault, paths: &[PathDoc]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, kind, at: usize, summary: &str, effect, next: &str| {
        let name = &names[at];
        let (convict, acquit): (Vec<&PathDoc>, Vec<&PathDoc>) =
            paths.iter().partition(|p| p.src_node == *name || p.dst_node == *name);
        findings.push(Finding {
            severity,
            kind,
            component: Component { kind: ComponentKind::Node, name: name.clone() },
            summary: summary.replace("NODE", name),
            effect,
            evidence: Evidence {
                convict: convict
                    .iter()
                    .map(|p| format!("{} is far above the median", p.name()))
                    .collect(),
                acquit: acquit.iter().take(4).map(|p| format!("{} is not", p.name())).collect(),
            },
            next_test: next.replace("NODE", name),
        });
    };
    if let Some(at) = fault.silent {
        let effect = Effect::Loss { sent: 2_000, lost: 2_000, share: 1.0, low: 0.998, high: 1.0 };
        let next = "see whether the agent on NODE runs, and whether UDP reaches its port";
        add(
            Severity::Failed,
            FindingKind::Unreachable,
            at,
            "NODE answers nobody: all 14 of its paths are silent",
            effect,
            next,
        );
    }
    if let Some(at) = fault.slow_host {
        let effect = Effect::Latency {
            series: "responder_delay".to_owned(),
            q: Quantile::P99.share(),
            value_ns: 31_200_000,
            low_ns: 24_900_000,
            high_ns: Some(39_600_000),
            fleet_median_ns: 22_600,
            at_least_times: 1_101.7,
        };
        let next = "look for what else runs on the CPUs of NODE: `railgauge inventory` there, then sweep again with --nodes NODE,gpu-01";
        add(
            Severity::Degraded,
            FindingKind::HostDelay,
            at,
            "NODE answers late: p99 of its responder delay is 31.2ms, 1,102 times the fleet's median",
            effect,
            next,
        );
    }
    if let Some(at) = fault.slow_network {
        let effect = Effect::Latency {
            series: "network_rtt".to_owned(),
            q: Quantile::P99.share(),
            value_ns: 447_000,
            low_ns: 441_000,
            high_ns: Some(455_000),
            fleet_median_ns: 46_900,
            at_least_times: 9.4,
        };
        add(
            Severity::Degraded,
            FindingKind::NetworkLatency,
            at,
            "paths of NODE take 9 times the fleet's p99",
            effect,
            "swap the cable of NODE/eth0 and sweep again",
        );
    }
    if let Some(at) = fault.lossy {
        let effect =
            Effect::Loss { sent: 28_000, lost: 561, share: 0.020_04, low: 0.0185, high: 0.0217 };
        add(
            Severity::Degraded,
            FindingKind::Loss,
            at,
            "NODE loses 2.0 % of probes in both directions",
            effect,
            "read the error counters of NODE/eth0 and of its switch port",
        );
    }
    if let Some(at) = fault.absent {
        let effect = Effect::Samples { samples: 0, needed: 368 };
        add(
            Severity::Unknown,
            FindingKind::NoData,
            at,
            "NODE was expected and is not there",
            effect,
            "start railgauge-agent on NODE",
        );
    }
    findings
}

/// The live documents that go with a sweep.
pub fn live(sweep: &Sweep) -> (Paths, Findings) {
    let mut paths = Paths {
        at: "2026-11-23T07:50:00Z".to_owned(),
        since_ns: 600_000_000_000,
        coordinator_version: sweep.software_version.clone(),
        nodes: sweep.nodes.clone(),
        paths: sweep.paths.clone(),
        ..Paths::default()
    };
    for path in &mut paths.paths {
        path.round = None;
        path.windows = Some(60);
        path.last_window_at = Some("2026-11-23T07:49:50Z".to_owned());
    }
    let aggregate = |name: &str, measures: &Measures| Aggregate {
        name: name.to_owned(),
        paths: 7,
        verdict: Verdict::Healthy,
        measures: measures.clone(),
    };
    if let Some(first) = sweep.paths.first() {
        paths.by_node = vec![aggregate("gpu-01", &first.measures)];
        paths.by_rail = vec![aggregate("rail 0", &first.measures)];
        paths.fleet = Some(aggregate("fleet", &first.measures));
    }
    let open = |finding: &Finding| OpenFinding {
        finding: finding.clone(),
        first_seen: "2026-11-23T07:42:00Z".to_owned(),
        last_seen: "2026-11-23T07:49:50Z".to_owned(),
    };
    let findings = Findings {
        at: paths.at.clone(),
        verdict: sweep.verdict,
        findings: sweep.findings.iter().map(open).collect(),
        ..Findings::default()
    };
    (paths, findings)
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A directory for a test's files, below the build directory: what it holds stays, to be looked at.
pub fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs headless Chromium without any network; gives what it prints.
pub fn chromium(arguments: &[&str]) -> String {
    let unpacked = repository().join("target/tools/debian/usr/bin/chromium");
    let program = if unpacked.exists() { unpacked } else { PathBuf::from("chromium") };
    let profile =
        scratch(&format!("profile-{}-{:?}", std::process::id(), std::thread::current().id()));
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "timeout", "60"])
        .arg(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("unshare (util-linux) starts");
    let _ = std::fs::remove_dir_all(profile);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "no headless chromium: run `cargo xtask tools`\n{stderr}");
    String::from_utf8(done.stdout).unwrap()
}
