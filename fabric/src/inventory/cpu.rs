//! Processors: model, shape, and what makes their timing uneven.

use super::reading::record;
use super::tree::Tree;
use super::{Reading, cpu_list};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

const DIRECTORY: &str = "devices/system/cpu";

record! {
    /// The processors of the node.
    Cpus {
        /// Model name; on aarch64 the part the identification registers name.
        read model: String,
        /// Physical packages with a CPU online.
        read sockets: usize,
        /// Physical cores with a CPU online.
        read cores: usize,
        /// CPUs online (hardware threads).
        read threads: usize,
        /// CPUs online, as the kernel's list.
        read online: String,
        /// CPUs kept free of other work by `isolcpus=`; empty for none.
        read isolated: String,
        /// CPUs without a scheduler tick while one task runs (`nohz_full=`); empty for none.
        read nohz_full: String,
        /// Whether two threads share a core.
        read smt_active: bool,
        /// Frequency governors, each with its CPUs.
        read governors: Vec<Governor>,
        /// Idle states of the first CPU online, shallowest first.
        read idle_states: Vec<IdleState>,
        /// The TSC ticks at one rate whatever the core's clock (x86).
        read constant_tsc: bool,
        /// The TSC ticks on in deep idle states (x86).
        read nonstop_tsc: bool,
    }
}

/// The CPUs under one frequency governor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Governor {
    /// `performance`, `powersave`, `schedutil`, ….
    pub governor: String,
    /// The driver that carries it out, `unknown` where not shown.
    pub driver: String,
    /// Its CPUs, as a kernel list.
    pub cpus: String,
}

record! {
    /// One idle state (C-state).
    IdleState {
        /// The driver's name for it.
        plain name: String,
        /// Time to wake from it, by the driver's table.
        read exit_latency_us: u64,
        /// Switched off through sysfs.
        read disabled: bool,
    }
}

pub(super) fn collect(sysfs: &Tree, procfs: &Tree) -> Cpus {
    let online = cpu_list_of(sysfs, &format!("{DIRECTORY}/online"));
    let count = |what: fn(&Tree, u32) -> Reading<String>| distinct(sysfs, &online, what);
    Cpus {
        model: model(procfs),
        sockets: count(package),
        cores: count(core),
        threads: online.clone().map(|cpus| cpus.len()),
        online: online.clone().map(|cpus| cpu_list::format(&cpus)),
        isolated: cpu_list_of(sysfs, &format!("{DIRECTORY}/isolated"))
            .map(|cpus| cpu_list::format(&cpus)),
        nohz_full: nohz_full(sysfs),
        smt_active: switch(sysfs, &format!("{DIRECTORY}/smt/active")),
        governors: governors(sysfs),
        idle_states: online.and_then(|cpus| match cpus.first() {
            Some(cpu) => idle_states(sysfs, *cpu),
            None => Reading::Failed("no CPU is listed as online".to_owned()),
        }),
        constant_tsc: flag(procfs, "constant_tsc"),
        nonstop_tsc: flag(procfs, "nonstop_tsc"),
    }
}

/// Whether the first processor of `/proc/cpuinfo` has an x86 flag.
pub(super) fn flag(procfs: &Tree, flag: &str) -> Reading<bool> {
    procfs.beginning("cpuinfo").and_then(|text| match cpuinfo_field(&text, "flags") {
        Some(flags) => Reading::Known(flags.split_whitespace().any(|word| word == flag)),
        None => Reading::Unsupported(
            "/proc/cpuinfo has no line \"flags\": not an x86 CPU, or not shown".to_owned(),
        ),
    })
}

/// The governor of one CPU's frequency policy.
pub(super) fn governor_of(sysfs: &Tree, cpu: u32) -> Reading<String> {
    sysfs.word(&format!("{DIRECTORY}/cpu{cpu}/cpufreq/scaling_governor"))
}

/// A kernel CPU list file.
pub(super) fn cpu_list_of(sysfs: &Tree, path: &str) -> Reading<Vec<u32>> {
    sysfs.text(path).and_then(|text| match cpu_list::parse(&text) {
        Some(cpus) => Reading::Known(cpus),
        None => sysfs.strange(path, &text, "a CPU list"),
    })
}

fn cpuinfo_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn model(procfs: &Tree) -> Reading<String> {
    procfs.beginning("cpuinfo").and_then(|text| {
        if let Some(name) = cpuinfo_field(&text, "model name") {
            return Reading::Known(name.to_owned());
        }
        match (cpuinfo_field(&text, "CPU implementer"), cpuinfo_field(&text, "CPU part")) {
            (Some(implementer), Some(part)) => Reading::Known(arm_model(implementer, part)),
            _ => Reading::Failed(
                "/proc/cpuinfo names neither \"model name\" nor \"CPU part\"".to_owned(),
            ),
        }
    })
}

/// Arm's parts as arch/arm64/include/asm/cputype.h lists them; others by number.
fn arm_model(implementer: &str, part: &str) -> String {
    let name = match (implementer, part) {
        ("0x41", "0xd0c") => "Neoverse-N1",
        ("0x41", "0xd40") => "Neoverse-V1",
        ("0x41", "0xd49") => "Neoverse-N2",
        ("0x41", "0xd4f") => "Neoverse-V2",
        _ => return format!("Arm implementer {implementer} part {part}"),
    };
    name.to_owned()
}

/// How many different answers the CPUs online give.
fn distinct(
    sysfs: &Tree,
    online: &Reading<Vec<u32>>,
    what: fn(&Tree, u32) -> Reading<String>,
) -> Reading<usize> {
    online.clone().and_then(|cpus| {
        let mut seen = BTreeSet::new();
        for cpu in cpus {
            match what(sysfs, cpu) {
                Reading::Known(answer) => seen.insert(answer),
                absent => return absent.map(|_| 0),
            };
        }
        Reading::Known(seen.len())
    })
}

fn package(sysfs: &Tree, cpu: u32) -> Reading<String> {
    sysfs.word(&format!("{DIRECTORY}/cpu{cpu}/topology/physical_package_id"))
}

/// Threads of one core have the same list of siblings, and only they.
fn core(sysfs: &Tree, cpu: u32) -> Reading<String> {
    sysfs.word(&format!("{DIRECTORY}/cpu{cpu}/topology/thread_siblings_list"))
}

/// The file says ` (null)` where the kernel could have adaptive ticks and has none.
fn nohz_full(sysfs: &Tree) -> Reading<String> {
    let path = format!("{DIRECTORY}/nohz_full");
    match sysfs.text(&path) {
        Reading::Known(text) if text == "(null)" => Reading::Known(String::new()),
        _ => cpu_list_of(sysfs, &path).map(|cpus| cpu_list::format(&cpus)),
    }
}

/// A file that holds 0 or 1.
pub(super) fn switch(tree: &Tree, path: &str) -> Reading<bool> {
    tree.text(path).and_then(|text| match text.as_str() {
        "0" => Reading::Known(false),
        "1" => Reading::Known(true),
        _ => tree.strange(path, &text, "0 or 1"),
    })
}

fn governors(sysfs: &Tree) -> Reading<Vec<Governor>> {
    let directory = format!("{DIRECTORY}/cpufreq");
    sysfs.names(&directory).and_then(|names| {
        let mut groups: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        for policy in names.iter().filter(|name| name.starts_with("policy")) {
            let path = format!("{directory}/{policy}");
            match policy_of(sysfs, &path) {
                Reading::Known((key, cpus)) => groups.entry(key).or_default().extend(cpus),
                Reading::Unsupported(why) | Reading::Failed(why) => return Reading::Failed(why),
            }
        }
        if groups.is_empty() {
            return Reading::Unsupported(
                "no frequency policy: the clock is the firmware's or the hypervisor's".to_owned(),
            );
        }
        Reading::Known(groups.into_iter().map(governor).collect())
    })
}

type PolicyKey = (String, String);

fn policy_of(sysfs: &Tree, path: &str) -> Reading<(PolicyKey, Vec<u32>)> {
    let driver = sysfs.word(&format!("{path}/scaling_driver"));
    let driver = driver.known().map_or("unknown", String::as_str).to_owned();
    let affected = format!("{path}/affected_cpus");
    sysfs.word(&format!("{path}/scaling_governor")).and_then(|governor| {
        sysfs.text(&affected).and_then(|text| {
            // This one list is separated by blanks.
            match cpu_list::parse(&text.split_whitespace().collect::<Vec<_>>().join(",")) {
                Some(cpus) => Reading::Known(((governor, driver), cpus)),
                None => sysfs.strange(&affected, &text, "CPU numbers"),
            }
        })
    })
}

fn governor(((governor, driver), mut cpus): (PolicyKey, Vec<u32>)) -> Governor {
    cpus.sort_unstable();
    Governor { governor, driver, cpus: cpu_list::format(&cpus) }
}

fn idle_states(sysfs: &Tree, cpu: u32) -> Reading<Vec<IdleState>> {
    let directory = format!("{DIRECTORY}/cpu{cpu}/cpuidle");
    sysfs.names(&directory).map(|names| {
        names
            .iter()
            .filter(|name| name.starts_with("state"))
            .map(|state| {
                let path = format!("{directory}/{state}");
                let name = sysfs.word(&format!("{path}/name"));
                IdleState {
                    name: name.known().unwrap_or(state).clone(),
                    exit_latency_us: sysfs.number(&format!("{path}/latency")),
                    disabled: switch(sysfs, &format!("{path}/disable")),
                }
            })
            .collect()
    })
}
