//! What the kernel reads the time from.

use super::Reading;
use super::cpu::Cpus;
use super::reading::record;
use super::tree::Tree;

const DIRECTORY: &str = "devices/system/clocksource/clocksource0";

record! {
    /// The kernel's clock.
    Clock {
        /// The clock source in use.
        read current: String,
        /// Those the kernel would accept.
        read available: Vec<String>,
        /// Whether the TSC may be read in place of the clock: the kernel uses it, and its rate neither
        /// changes nor stops.
        read tsc_reliable: bool,
        /// Whether the wall clock follows a time server. Not in sysfs or procfs.
        read ntp_synchronised: bool,
    }
}

pub(super) fn collect(sysfs: &Tree, cpus: &Cpus) -> Clock {
    let current = current(sysfs);
    Clock {
        tsc_reliable: tsc_reliable(&current, cpus),
        current,
        available: sysfs
            .word(&format!("{DIRECTORY}/available_clocksource"))
            .map(|text| text.split_whitespace().map(str::to_owned).collect()),
        ntp_synchronised: Reading::Unsupported(
            "not in sysfs or procfs; ask `chronyc tracking` or `timedatectl`".to_owned(),
        ),
    }
}

pub(super) fn current(sysfs: &Tree) -> Reading<String> {
    sysfs.word(&format!("{DIRECTORY}/current_clocksource"))
}

fn tsc_reliable(current: &Reading<String>, cpus: &Cpus) -> Reading<bool> {
    current.clone().and_then(|source| {
        cpus.constant_tsc.clone().and_then(|constant| {
            cpus.nonstop_tsc.clone().map(|nonstop| source == "tsc" && constant && nonstop)
        })
    })
}
