//! A fleet whose keys and certificates are changed while it probes, and what that cost it: prints one JSON object.
//!
//! A coordinator and four agents, as processes on loopback, probing each path every 10 ms in windows of a second. First
//! nothing happens for a while, then keys are rotated again and again, by `railgauge keys rotate` as an operator does, then certificates, those
//! of all daemons at a time, and each tenth time their authority with them. At the end the store is read:
//! every window must be there, with every slot in it. A lane that had been opened anew would lack the slots of its warm-up, a key that
//! a reflector did not answer would show as losses.

mod certificates;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use certificates::Pki;
use clap::Parser;
use railgauge_coordinator::store::{self, Resolution, Selection, Store};
use railgauge_core::access::Role;
use railgauge_core::path_window::WindowAccount;
use railgauge_fabric::clock;
use railgauge_testbed::fleet::Trouble;
use railgauge_testbed::fleet::process::{Daemon, daemon, now, pause};
use serde_json::{Value, json};

const AGENTS: u8 = 4;
/// All to all. One rail: between rails, paths change every ten minutes, by the clock.
const PATHS: u64 = 12;
/// Windows of a second, a probe each 10 ms.
const SECOND: u64 = 1_000_000_000;
const SLOTS: u64 = 100;
/// Base packet, telemetry and digests of an authenticated request.
const OCTETS: u32 = 160;
/// Flags, keys and variables that name a certificate's files.
const FILES: [&str; 3] = ["ca", "cert", "key"];
/// How long the fleet may take to begin, a rotation to end, and a daemon to stop.
const BEGIN: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(10);

/// What can be typed.
#[derive(Parser)]
struct Options {
    /// Rotations of keys.
    #[arg(long, default_value_t = 50)]
    keys: u64,
    /// Rotations of certificates.
    #[arg(long, default_value_t = 50)]
    certificates: u64,
    /// How long nothing happens before them.
    #[arg(long, default_value_t = 30)]
    clean_seconds: u64,
    /// A directory of its own for state and logs; removed when all held.
    #[arg(long, default_value = "rotation")]
    out: PathBuf,
    /// Leave the directory there.
    #[arg(long)]
    keep: bool,
}

struct Fleet {
    out: PathBuf,
    programs: PathBuf,
    coordinator: Daemon,
    agents: Vec<Daemon>,
    pki: Pki,
    /// Where the coordinator listens.
    url: String,
    /// Where the first agent answers.
    responder: SocketAddr,
}

fn main() -> Result<(), Trouble> {
    let options = Options::parse();
    let own = std::env::current_exe()?;
    let programs = own.parent().ok_or("this program lies nowhere")?.to_owned();
    let out = std::path::absolute(&options.out)?;
    // What an earlier run left is not this run's.
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out)?;
    let mut fleet = Fleet::start(&out, &programs)?;
    let mut violations = fleet.strangers()?;
    let begun = next_second();
    wait_until(begun + options.clean_seconds * SECOND);
    let clean = begun..next_second();
    let from = next_second();
    let keys = fleet.rotate_keys(options.keys, &mut violations)?;
    let rotating = from..next_second();
    wait_until(rotating.end);
    let from = next_second();
    let certificates = fleet.rotate_certificates(options.certificates)?;
    let renewing = from..next_second();
    wait_until(renewing.end);
    fleet.stop(&mut violations)?;
    let store = Store::open(store::Config::new(out.join("state/coordinator/store")))?;
    let clean = measured(&store, &clean, &mut violations)?;
    let rotating = measured(&store, &rotating, &mut violations)?;
    let renewing = measured(&store, &renewing, &mut violations)?;
    for (what, account) in [("keys", &rotating), ("certificates", &renewing)] {
        if account.lost > clean.lost {
            let (lost, before) = (account.lost, clean.lost);
            violations
                .push(format!("{lost} probes were lost while {what} changed, {before} before"));
        }
    }
    let report = json!({
        "paths": PATHS, "clean": shown(&clean), "key_rotations": {"measured": shown(&rotating), "each": keys},
        "certificate_rotations": {"measured": shown(&renewing), "each": certificates},
        "violations": violations,
    });
    writeln!(std::io::stdout(), "{report}")?;
    if violations.is_empty() && !options.keep {
        fs::remove_dir_all(&out)?;
    }
    Ok(())
}

fn shown(account: &WindowAccount) -> Value {
    let WindowAccount { scheduled, sent, received, lost, skipped, send_errors, .. } = account;
    json!({"scheduled": scheduled, "sent": sent, "received": received, "lost": lost, "skipped": skipped,
           "send_errors": send_errors, "late_replies": account.late_replies, "invalid_stamps": account.invalid_stamps})
}

/// The start of the first second that has not begun, by the clock that windows are aligned to.
fn next_second() -> u64 {
    clock::wall().as_unix_nanos().next_multiple_of(SECOND)
}

fn wait_until(unix_ns: u64) {
    while clock::wall().as_unix_nanos() < unix_ns {
        pause(Duration::from_millis(20));
    }
}

impl Fleet {
    fn start(out: &Path, programs: &Path) -> Result<Self, Trouble> {
        fs::create_dir_all(out.join("state"))?;
        fs::write(out.join("coordinator.toml"), "")?;
        let addresses = out.join("addresses");
        let pki = Pki::new(&out.join("pki"), (1..=AGENTS).map(|number| format!("node-{number}")))?;
        let mut command = daemon(&programs.join("railgauge-coordinator"));
        command
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--window", "1s", "--probe-interval", "10ms", "--probe-timeout", "200ms"])
            .args(["--inbound-per-second", "100000", "--probe-key-rotation", "0s", "--config"])
            .arg(out.join("coordinator.toml"))
            .arg("--state-dir")
            .arg(out.join("state/coordinator"))
            .arg("--addresses-file")
            .arg(&addresses);
        for (flag, file) in FILES.iter().zip(pki.files(Role::Coordinator, "main")) {
            command.arg(format!("--{flag}")).arg(file);
        }
        let coordinator = Daemon::start(command, &out.join("coordinator.log"))?;
        let until = now() + BEGIN;
        let address = loop {
            let text = fs::read_to_string(&addresses).unwrap_or_default();
            let found = text.lines().find_map(|line| line.strip_prefix("grpc="));
            match found.map(str::parse::<SocketAddr>) {
                Some(address) => break address?,
                None if now() > until => return Err("the coordinator does not begin".into()),
                None => pause(Duration::from_millis(20)),
            }
        };
        let url = format!("https://{address}");
        let (mut agents, mut responder) = (Vec::new(), None);
        for number in 1..=AGENTS {
            let (config, at) = configuration(out, &url, &pki, number)?;
            responder.get_or_insert(at);
            let mut command = daemon(&programs.join("railgauge-agent"));
            command.arg("--config").arg(config);
            agents.push(Daemon::start(command, &out.join(format!("node-{number}.log")))?);
        }
        let responder = responder.ok_or("there is no agent")?;
        let (out, programs) = (out.to_owned(), programs.to_owned());
        let fleet = Self { out, programs, coordinator, agents, pki, url, responder };
        fleet.wait_for_probing()?;
        Ok(fleet)
    }

    fn railgauge(&self, args: &[&str]) -> Result<(Option<i32>, Value), Trouble> {
        let mut command = Command::new(self.programs.join("railgauge"));
        command.args(args).args(["--output", "json"]).env("RAILGAUGE_COORDINATOR", &self.url);
        for (name, file) in FILES.iter().zip(self.pki.files(Role::Admin, "sre")) {
            command.env(format!("RAILGAUGE_{}", name.to_uppercase()), file);
        }
        let ended = command.stdin(Stdio::null()).output()?;
        let object = serde_json::from_slice(&ended.stdout).map_err(|error| {
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            format!("railgauge {args:?} printed no JSON ({error}): {said}")
        })?;
        Ok((ended.status.code(), object))
    }

    /// Until every path of the whole fleet is measured, and nothing else: plans made before all had come have fewer.
    fn wait_for_probing(&self) -> Result<(), Trouble> {
        let until = now() + BEGIN;
        loop {
            let (_, paths) = self.railgauge(&["paths", "--since", "3s", "--worst", "100"])?;
            let measured = paths["paths"].as_array().map_or(0, Vec::len);
            if u64::try_from(measured)? == PATHS {
                pause(Duration::from_secs(3));
                return Ok(());
            }
            if now() > until {
                return Err(format!("{measured} of {PATHS} paths are probed").into());
            }
            pause(Duration::from_millis(250));
        }
    }

    /// Who comes without a key is answered, and who comes with a wrong one is not.
    fn strangers(&self) -> Result<Vec<String>, Trouble> {
        let wrong = self.out.join("wrong.key");
        fs::write(&wrong, "00".repeat(32))?;
        let (wrong, target) = (wrong.display().to_string(), self.responder.to_string());
        let asks = ["ping", &target, "--count", "20", "--interval", "5ms", "--timeout", "200ms"];
        let (plain, _) = self.railgauge(&asks)?;
        let (forged, _) = self.railgauge(&[&asks[..], &["--auth-key-file", &wrong]].concat())?;
        let mut violations = Vec::new();
        if plain != Some(0) {
            violations.push(format!("a ping without a key ended with {plain:?}"));
        }
        if forged != Some(3) {
            violations.push(format!("a ping with a wrong key ended with {forged:?}"));
        }
        Ok(violations)
    }

    fn rotate_keys(&self, times: u64, violations: &mut Vec<String>) -> Result<Vec<Value>, Trouble> {
        let (mut each, mut last) = (Vec::new(), 0);
        for _ in 0..times {
            let began = now();
            let (code, mut object) = self.railgauge(&["keys", "rotate"])?;
            let epoch = object["epoch"].as_u64().unwrap_or(0);
            let all = object["nodes_confirmed"].as_u64() == Some(u64::from(AGENTS));
            if code != Some(0) || epoch <= last || !all {
                violations
                    .push(format!("a rotation after epoch {last} ended with {code:?}: {object}"));
            }
            last = epoch;
            object["seconds"] = json!(began.elapsed().as_secs_f64());
            each.push(object);
        }
        Ok(each)
    }

    fn stop(self, violations: &mut Vec<String>) -> Result<(), Trouble> {
        for daemon in self.agents.into_iter().chain([self.coordinator]) {
            match daemon.terminate(STOP)? {
                Some(status) if status.success() => {}
                other => violations.push(format!("told to end, a daemon: {other:?}")),
            }
        }
        for entry in fs::read_dir(&self.out)? {
            let path = entry?.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let log = if is_log { fs::read_to_string(&path)? } else { String::new() };
            for line in log.lines().filter(|line| line.contains(" panicked at ")) {
                violations.push(format!("{}: {line}", path.display()));
            }
        }
        Ok(())
    }
}

fn configuration(
    out: &Path,
    url: &str,
    pki: &Pki,
    number: u8,
) -> Result<(PathBuf, SocketAddr), Trouble> {
    let name = format!("node-{number}");
    let state = out.join("state").join(&name);
    // Held for a moment to know that it is free; an agent that finds it taken says so, ends, and the run fails.
    let at = UdpSocket::bind((Ipv4Addr::new(127, 0, 3, number), 0))?.local_addr()?;
    let [ca, cert, key] = pki.files(Role::Agent, &name);
    let text = format!(
        "ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\nnode = \"{name}\"\ncoordinator = \"{url}\"\nhttp_listen = \"127.0.0.1:0\"\nstate_dir = {state:?}\n\
         [[endpoint]]\nport = \"p0\"\naddress = \"{}\"\nudp_port = {}\n",
        at.ip(),
        at.port()
    );
    let config = out.join(format!("{name}.toml"));
    fs::write(&config, text)?;
    Ok((config, at))
}

/// What is stored of the seconds from one instant to another: every window of every path, whole.
fn measured(
    store: &Store,
    seconds: &std::ops::Range<u64>,
    violations: &mut Vec<String>,
) -> Result<WindowAccount, Trouble> {
    let selection = Selection {
        resolution: Resolution::Finest,
        ..Selection::between(seconds.start, seconds.end)
    };
    let mut sum = WindowAccount::default();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for series in store.reader().series(&selection)? {
        let path = series.series.path.to_string();
        for stored in &series.windows {
            let (account, octets) = (&stored.window.account, stored.window.parameters.size_bytes);
            *found.entry(path.clone()).or_default() += 1;
            if account.scheduled != SLOTS || octets != OCTETS {
                let at = (stored.start_unix_ns - seconds.start) / SECOND;
                let slots = account.scheduled;
                violations.push(format!("{path}, second {at}: {slots} slots of {octets} octets"));
            }
            sum.scheduled += account.scheduled;
            sum.sent += account.sent;
            sum.received += account.received;
            sum.lost += account.lost;
            sum.skipped += account.skipped;
            sum.send_errors += account.send_errors;
            sum.late_replies += account.late_replies;
            sum.invalid_stamps += account.invalid_stamps;
        }
    }
    let expected = (seconds.end - seconds.start) / SECOND;
    if u64::try_from(found.len())? != PATHS {
        violations.push(format!("{} paths are stored, of {PATHS}", found.len()));
    }
    for (path, windows) in found.iter().filter(|(_, windows)| **windows != expected) {
        violations.push(format!("{path}: {windows} windows in {expected} s"));
    }
    Ok(sum)
}
