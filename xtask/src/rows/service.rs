//! The packages installed on a machine with systemd as its first process: started, reloaded, killed, stopped by the watchdog.

mod crew;
mod sandbox;

use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, violations};
use crate::machine::{Init, Machine};
use crate::package;
use crate::process::{now, pause};
use crew::{AGENT, COORDINATOR, Crew};
use std::time::Duration;

pub const ROW: Row = Row {
    name: "service",
    shows: "the units under a real service manager: readiness, reload, kill -9, watchdog, sandbox; no window lost uncounted",
    bound: "kill -9 and watchdog stop under systemd: back and probing in <= 5 s, from the kill or from the watchdog's action; ingested \
            + in spools + counted dropped = recorded, by an independent ledger; RDMA and GPU devices, locked memory and pinning \
            not blocked by the hardening, all else is",
    covers: &[
        "core",
        "proto",
        "fabric",
        "agent",
        "coordinator",
        "deploy",
        "testbed/machine",
        "testbed/preload",
        "testbed/src/fleet",
    ],
    judged: Judged::AtEveryScale,
    run,
};

/// How long until a killed daemon does its work again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// A thing that has not happened by then does not happen.
const BOUND: Duration = Duration::from_secs(40);
/// Kills of each daemon in full.
const KILLS: usize = 10;
/// Between two experiments with the coordinator. Agents whose sessions end within 10 s take it for one that fails again and again,
/// and wait longer and longer, up to 10 s: that is theirs, not the service's, to show.
const BETWEEN: Duration = Duration::from_secs(11);
/// Watchdog stops of each daemon in full: each waits for its watchdog.
const STOPS: usize = 3;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let edition =
        package::Edition::of(bench.repo())?.quick().below(bench.scratch().join("packages"));
    let packages = package::debs(bench.repo(), &edition)?;
    let machine = Machine::boot(bench, "machine", Init::Systemd)?;
    let mut outcome = Outcome::default();
    let mut crew = Crew::install(bench, &machine, &packages, &mut outcome)?;
    crew.is_timed = scale == Scale::Full;
    start(&mut crew, &mut outcome)?;
    sandbox::check(&crew, &mut outcome)?;
    reload(&crew, &mut outcome)?;
    for n in 0..scale.pick(1, KILLS) {
        kill(&mut crew, AGENT, &mut outcome)?;
        if n > 0 {
            pause(BETWEEN);
        }
        kill(&mut crew, COORDINATOR, &mut outcome)?;
    }
    for _ in 0..scale.pick(1, STOPS) {
        stop(&mut crew, AGENT, &mut outcome)?;
    }
    for _ in 0..scale.pick(0, STOPS) {
        pause(BETWEEN);
        stop(&mut crew, COORDINATOR, &mut outcome)?;
    }
    let ends = crew.end(&mut outcome)?;
    let report = bench.json(ends, "service_conservation", BOUND)?;
    let found = violations("service_conservation", &report)?;
    outcome.misses.extend(found);
    for (key, name) in [
        ("recorded", "windows recorded"),
        ("ingested", "ingested"),
        ("in_spools", "in spools"),
        ("dropped", "counted dropped"),
    ] {
        let number = report["windows"][key].as_f64();
        let number = number
            .ok_or_else(|| Failure::new(format!("service_conservation printed no number {key}")))?;
        outcome.figure(name, number, "");
        outcome.expect(key != "recorded" || number > 0.0, || {
            "nothing was recorded, so nothing was shown".to_owned()
        });
    }
    outcome.raw.push(report);
    Ok(outcome)
}

/// Readiness: `systemctl start` returns once the daemon says so, and then it works.
fn start(crew: &mut Crew<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    for unit in [COORDINATOR, AGENT] {
        let begun = now();
        crew.machine.must(&["systemctl", "start", unit])?;
        outcome.figure(format!("{unit} ready after"), begun.elapsed().as_secs_f64(), "s");
        let state = crew.machine.property(unit, "ActiveState")?;
        outcome.expect(state == "active", || format!("{unit} is {state} after its start"));
    }
    crew.start_peers()?;
    let all = crew.wait_until(BOUND, Crew::all_ingested)?;
    outcome.expect(all, || "not all agents' windows arrive".to_owned());
    let status = crew.machine.property(AGENT, "StatusText")?;
    outcome.expect(!status.is_empty(), || "the agent tells no status".to_owned());
    Ok(())
}

/// SIGHUP takes over what can be taken over and keeps windows; a file with a mistake fails the reload and changes nothing.
fn reload(crew: &Crew<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    let machine = crew.machine;
    let before = [AGENT, COORDINATOR].map(|unit| machine.property(unit, "MainPID"));
    crew.configure_agent("[labels]\nrack = \"r12\"\n")?;
    crew.configure_coordinator("probe_interval = \"40ms\"\n")?;
    for unit in [AGENT, COORDINATOR] {
        machine.must(&["systemctl", "reload", unit])?;
    }
    let labelled =
        crew.wait_until(BOUND, |crew| Ok(crew.nodes()?["nodes"].to_string().contains("r12")))?;
    outcome.expect(labelled, || "a label reloaded by the agent does not arrive".to_owned());
    crew.configure_agent("labls = 1\n")?;
    let said = machine.run(&["systemctl", "reload", AGENT])?;
    let state = machine.property(AGENT, "ActiveState")?;
    outcome.expect(said.code != Some(0) && state == "active", || {
        format!(
            "a reload with a mistake in the file ends with {:?}, the agent is {state}",
            said.code
        )
    });
    // Past the check of the unit: the daemon itself keeps what it had.
    machine.must(&["systemctl", "kill", "--kill-whom=main", "--signal=HUP", AGENT])?;
    let told = crew.wait_until(BOUND, |crew| {
        crew.journal_says(AGENT, "the configuration stays as it was", 0)
    })?;
    outcome.expect(told, || "a mistake in the file is not in the journal".to_owned());
    crew.configure_agent("[labels]\nrack = \"r12\"\n")?;
    machine.must(&["systemctl", "reload", AGENT])?;
    let after = [AGENT, COORDINATOR].map(|unit| machine.property(unit, "MainPID"));
    outcome.expect(before == after, || "a reload started a daemon again".to_owned());
    Ok(())
}

/// `kill -9` of a daemon, and the time until it does its work again.
fn kill(crew: &mut Crew<'_>, unit: &str, outcome: &mut Outcome) -> Result<(), Failure> {
    let old = crew.machine.property(unit, "MainPID")?;
    let from = crew::wall_ns();
    crew.machine.must(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit])?;
    back(crew, unit, &old, from, "kill -9", outcome)
}

/// A stopped process is ended by the watchdog; the time counts from there.
fn stop(crew: &mut Crew<'_>, unit: &str, outcome: &mut Outcome) -> Result<(), Failure> {
    let old = crew.machine.property(unit, "MainPID")?;
    let begun = crew::wall_ns();
    crew.machine.must(&["systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit])?;
    let mut acted = None;
    crew.wait_until(BOUND, |crew| {
        acted = crew.journal_time(unit, "Watchdog timeout", begun)?;
        Ok(acted.is_some())
    })?;
    let Some(acted) = acted else {
        outcome.misses.push(format!(
            "{unit} was stopped, and no watchdog acted within {} s",
            BOUND.as_secs()
        ));
        return Ok(());
    };
    outcome.figure(format!("{unit}: watchdog acts after"), crew::seconds(begun, acted), "s");
    back(crew, unit, &old, acted, "watchdog", outcome)
}

/// Waits until the daemon works again: the agent's first probe on the wire, the coordinator's agents connected and heard.
fn back(
    crew: &mut Crew<'_>,
    unit: &str,
    old: &str,
    from: i64,
    by: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut at = None;
    let mut stored = None;
    crew.wait_until(BOUND, |crew| {
        if crew.machine.property(unit, "MainPID")? == old
            || crew.machine.property(unit, "ActiveState")? != "active"
        {
            return Ok(false);
        }
        at = match unit {
            // What the old process sent before the signal reached it is not the new one's.
            AGENT => match crew.journal_time(unit, "Main process exited", from)? {
                Some(exited) => crew.first_probe_after(exited)?,
                None => None,
            },
            _ => crew.serving(&mut stored)?.then(crew::wall_ns),
        };
        Ok(at.is_some())
    })?;
    let Some(at) = at else {
        outcome.misses.push(format!("{unit} was not back {} s after {by}", BOUND.as_secs()));
        return Ok(());
    };
    let seconds = crew::seconds(from, at);
    outcome.figure(format!("{unit} back after {by}"), seconds, "s");
    let in_time = !crew.is_timed || seconds <= BACK_WITHIN.as_secs_f64();
    outcome.expect(in_time, || format!("{unit} was back {seconds:.2} s after {by}"));
    // The next experiment begins with everybody there.
    let whole = crew.wait_until(BOUND, Crew::all_connected)?;
    outcome.expect(whole, || format!("after {by} of {unit} not all agents are connected again"));
    Ok(())
}
