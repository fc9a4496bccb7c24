//! What packages go through on a machine, from their installation to their purge.

use super::account::{Account, compare};
use super::{CHANGE, Editions, file_name};
use crate::Failure;
use crate::harness::Bench;
use crate::machine::{Init, Machine};
use crate::package::{DAEMONS, PACKAGES, Packed};
use crate::rows::Outcome;
use std::collections::BTreeSet;

const CONFIGURATION: &str = "/etc/railgauge/agent.toml";
const EDITED: &str = "insecure = true\n# Edited here.\n";
/// What the operator puts there: never ours to delete.
const KEY: &str = "/etc/railgauge/tls/agent.key";
/// What a daemon leaves.
const DATA: &str = "/var/lib/railgauge-agent/spool/1.spool";

/// `dpkg` without a service manager, as in an image that is being built.
pub fn debs_in_an_image(
    bench: &Bench<'_>,
    debs: &Editions,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let machine = Machine::boot(bench, "deb-image", Init::Idle)?;
    let account = Account::open(&machine)?;
    let ours = names(debs.ours.iter());
    install(&machine, &["dpkg", "--install"], &debs.ours)?;
    let listed = listed(&machine, &["dpkg", "--listfiles"], &ours)?;
    let mut check = |when: &str, wanted: &BTreeSet<String>| -> Result<(), Failure> {
        outcome.misses.extend(compare(
            &format!("deb, {when}"),
            &account.new_files(&machine)?,
            wanted,
        ));
        Ok(())
    };
    check("installed", &listed)?;
    used(&machine)?;
    install(&machine, &["dpkg", "--force-confold", "--install"], &debs.next)?;
    let proposed = format!("{CONFIGURATION}.dpkg-dist");
    check("upgraded", &with(&listed, &[KEY, DATA, &proposed]))?;
    let (kept, taken) = configurations(&machine)?;
    machine.must(&with_names(&["dpkg", "--remove"], &ours))?;
    let settings = listed.iter().filter(|name| name.starts_with("/etc/")).cloned().collect();
    check("removed", &with(&settings, &[KEY, DATA, &proposed]))?;
    install(&machine, &["dpkg", "--force-confold", "--install"], &debs.ours)?;
    machine.must(&with_names(&["dpkg", "--purge"], &ours))?;
    check("purged", &with(&BTreeSet::new(), &[KEY]))?;
    outcome.expect(kept, || "deb: an edited configuration did not survive the upgrade".to_owned());
    outcome
        .expect(taken, || "deb: an untouched configuration was not brought up to date".to_owned());
    let user = machine.run(&["getent", "passwd", "railgauge"])?;
    outcome.expect(user.stdout.contains("nologin"), || format!("deb: the user is {}", user.word()));
    Ok(())
}

/// `dpkg --root`, whose scripts run outside: nothing may be written outside that root.
pub fn debs_into_a_root(
    bench: &Bench<'_>,
    debs: &Editions,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let machine = Machine::boot(bench, "deb-root", Init::Idle)?;
    for directory in ["/scratch/var/lib/dpkg/info", "/scratch/var/lib/dpkg/updates", "/scratch/etc"]
    {
        machine.must(&["mkdir", "-p", directory])?;
    }
    machine.write("/scratch/var/lib/dpkg/status", "")?;
    machine.write("/scratch/etc/passwd", "root:x:0:0:root:/:/bin/sh\n")?;
    machine.write("/scratch/etc/group", "root:x:0:\n")?;
    let account = Account::open(&machine)?;
    let dpkg = ["dpkg", "--root=/scratch", "--force-script-chrootless", "--force-depends"];
    let ours = names(debs.ours.iter());
    install(&machine, &[&dpkg[..], &["--install"]].concat(), &debs.ours)?;
    machine.must(&with_names(&[&dpkg[..], &["--purge"]].concat(), &ours))?;
    let found = account.new_files(&machine)?;
    let outside: BTreeSet<String> =
        found.iter().filter(|name| !name.starts_with("/scratch/")).cloned().collect();
    outcome.misses.extend(compare("deb, below a root", &outside, &BTreeSet::new()));
    let left = found.iter().filter_map(|name| name.strip_prefix("/scratch"));
    let left = left.filter(|name| {
        !["/var/lib/", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/.pwd"]
            .iter()
            .any(|book| name.starts_with(book))
    });
    outcome
        .misses
        .extend(left.map(|name| format!("deb, below a root, purged: {name} is still there")));
    Ok(())
}

/// `rpm` without a service manager.
pub fn rpms_in_an_image(
    bench: &Bench<'_>,
    rpms: &Editions,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let machine = Machine::boot(bench, "rpm-image", Init::Idle)?;
    machine.must(&["rpm", "--initdb"])?;
    let account = Account::open(&machine)?;
    let ours = names(rpms.ours.iter());
    install(&machine, &[&RPM[..], &["--install"]].concat(), &rpms.ours)?;
    let listed = listed(&machine, &["rpm", "--query", "--list"], &ours)?;
    let mut check = |when: &str, wanted: &BTreeSet<String>| -> Result<(), Failure> {
        outcome.misses.extend(compare(
            &format!("rpm, {when}"),
            &account.new_files(&machine)?,
            wanted,
        ));
        Ok(())
    };
    check("installed", &listed)?;
    used(&machine)?;
    install(&machine, &[&RPM[..], &["--upgrade"]].concat(), &rpms.next)?;
    let proposed = format!("{CONFIGURATION}.rpmnew");
    check("upgraded", &with(&listed, &[KEY, DATA, &proposed]))?;
    let (kept, taken) = configurations(&machine)?;
    machine.must(&with_names(&["rpm", "--nodeps", "--erase"], &ours))?;
    // What was edited is set aside, what was not goes.
    let saved = format!("{CONFIGURATION}.rpmsave");
    check("erased", &with(&BTreeSet::new(), &[KEY, DATA, &proposed, &saved]))?;
    outcome.expect(kept, || "rpm: an edited configuration did not survive the upgrade".to_owned());
    outcome
        .expect(taken, || "rpm: an untouched configuration was not brought up to date".to_owned());
    Ok(())
}

/// With systemd: nothing starts by itself, what runs is started again by an upgrade, what was stopped is not, and nothing runs on.
pub fn debs_with_a_service_manager(
    bench: &Bench<'_>,
    debs: &Editions,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let remove = ["dpkg", "--purge"];
    with_a_service_manager(
        bench,
        "deb",
        debs,
        [&["dpkg", "--install"], &["dpkg", "--force-confold", "--install"], &remove],
        outcome,
    )
}

/// The same by `rpm`.
pub fn rpms_with_a_service_manager(
    bench: &Bench<'_>,
    rpms: &Editions,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let (install, upgrade) =
        ([&RPM[..], &["--install"]].concat(), [&RPM[..], &["--upgrade"]].concat());
    with_a_service_manager(
        bench,
        "rpm",
        rpms,
        [&install, &upgrade, &["rpm", "--nodeps", "--erase"]],
        outcome,
    )
}

fn with_a_service_manager(
    bench: &Bench<'_>,
    format: &str,
    packages: &Editions,
    [first, upgrade, remove]: [&[&str]; 3],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let machine = Machine::boot(bench, &format!("{format}-machine"), Init::Systemd)?;
    if format == "rpm" {
        machine.must(&["rpm", "--initdb"])?;
    }
    install(&machine, first, &packages.ours)?;
    let state = |daemon: &str| -> Result<(String, String), Failure> {
        let unit = format!("{daemon}.service");
        Ok((machine.property(&unit, "ActiveState")?, machine.property(&unit, "MainPID")?))
    };
    for daemon in DAEMONS {
        let enabled = machine.run(&["systemctl", "is-enabled", daemon])?.word().to_owned();
        let (active, _) = state(daemon)?;
        outcome.expect(active == "inactive" && enabled == "disabled", || {
            format!("{format}: {daemon} is {active} and {enabled} after its installation")
        });
    }
    certificates(&machine)?;
    machine.must(&["systemctl", "enable", "--now", "railgauge-coordinator"])?;
    let (_, before) = state("railgauge-coordinator")?;
    install(&machine, upgrade, &packages.next)?;
    let (running, after) = state("railgauge-coordinator")?;
    let (stopped, _) = state("railgauge-agent")?;
    outcome.expect(running == "active" && before != after, || {
        format!("{format}: the coordinator is {running} after an upgrade, as process {after} after {before}")
    });
    outcome.expect(stopped == "inactive", || {
        format!("{format}: an upgrade started the agent: {stopped}")
    });
    machine.must(&["systemctl", "start", "railgauge-agent"])?;
    machine.must(&with_names(remove, &names(packages.next.iter())))?;
    let running = machine.run(&["pgrep", "--list-name", "railgauge"])?;
    outcome.expect(running.stdout.is_empty(), || {
        format!("{format}: removed, and {} still runs", running.word())
    });
    let failed =
        machine.must(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"])?;
    outcome.expect(failed.trim().is_empty(), || {
        format!("{format}: units have failed: {}", failed.trim())
    });
    let links = machine.must(&["find", "/etc/systemd/system", "-name", "railgauge*"])?;
    outcome.expect(links.trim().is_empty(), || {
        format!("{format}: removed, and still enabled: {}", links.trim())
    });
    Ok(())
}

/// Debian's rpm wants to be told that it is meant; what systems of its own would ask for is not there.
const RPM: [&str; 3] = ["rpm", "--force-debian", "--nodeps"];

fn names<'a>(packages: impl Iterator<Item = &'a Packed>) -> Vec<&'static str> {
    packages.map(|packed| packed.name).collect()
}

fn with_names<'a>(line: &[&'a str], names: &[&'a str]) -> Vec<&'a str> {
    [line, names].concat()
}

fn with(files: &BTreeSet<String>, more: &[&str]) -> BTreeSet<String> {
    files.iter().cloned().chain(more.iter().map(|name| (*name).to_owned())).collect()
}

fn install(machine: &Machine, line: &[&str], packages: &[Packed]) -> Result<(), Failure> {
    let mut words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    for packed in packages {
        let name = file_name(packed);
        std::fs::copy(&packed.file, machine.directory().join(&name))
            .map_err(|error| Failure::because(format!("cannot copy {name}"), error))?;
        words.push(format!("/machine/{name}"));
    }
    machine.must(&words.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}

/// The files that the packages say they have; directories are not counted.
fn listed(machine: &Machine, list: &[&str], names: &[&str]) -> Result<BTreeSet<String>, Failure> {
    let mut files = BTreeSet::new();
    for name in machine.must(&with_names(list, names))?.lines().filter(|line| line.starts_with('/'))
    {
        if !machine.path(name).is_dir() {
            files.insert(name.to_owned());
        }
    }
    let least = PACKAGES.iter().map(|package| package.files.len()).sum::<usize>();
    if files.len() < least {
        return Err(Failure::new(format!(
            "the packages list {} files, fewer than {least}",
            files.len()
        )));
    }
    Ok(files)
}

/// What the daemons need to start as they are shipped, made as an operator would make it for trying things out.
fn certificates(machine: &Machine) -> Result<(), Failure> {
    let script = "set -e; cd /root; railgauge certs init --dir pki; railgauge certs issue coordinator main --dir pki; \
                  railgauge certs issue agent \"$(cat /proc/sys/kernel/hostname)\" --dir pki; \
                  install -m 0644 pki/ca.pem /etc/railgauge/tls/ca.pem; \
                  for role in coordinator agent; do \
                  install -m 0644 pki/$role-*.pem /etc/railgauge/tls/$role.pem; \
                  install -m 0640 -g railgauge pki/$role-*.key /etc/railgauge/tls/$role.key; done";
    machine.must(&["sh", "-c", script]).map(drop)
}

/// As after some time of use: an edited configuration, keys, data of the daemons' user.
fn used(machine: &Machine) -> Result<(), Failure> {
    machine.write(CONFIGURATION, EDITED)?;
    machine.write(KEY, "a key\n")?;
    machine.write(DATA, "windows\n")?;
    machine.must(&["chown", "-R", "railgauge:railgauge", "/var/lib/railgauge-agent"]).map(drop)
}

/// Whether the edited configuration is as it was, and the untouched one as the later version has it.
fn configurations(machine: &Machine) -> Result<(bool, bool), Failure> {
    let edited = machine.must(&["cat", CONFIGURATION])?;
    let untouched = machine.must(&["cat", "/etc/railgauge/coordinator.toml"])?;
    Ok((edited == EDITED, untouched.ends_with(CHANGE)))
}
