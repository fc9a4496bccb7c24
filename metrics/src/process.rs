//! What the process itself uses. The `prometheus` crate's own collector needs another crate to read procfs, and tells processor time in
//! whole seconds only.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

use crate::definitions::{self, Metric};
use crate::model::Family;

/// What can be told; what cannot is absent.
pub fn families() -> Vec<Family> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name| Some(1024.0 * field(&status, name)?);
    let found: [(&Metric, Option<f64>); 7] = [
        (&definitions::PROCESS_CPU, processor_seconds()),
        (&definitions::PROCESS_RESIDENT, kib("VmRSS:")),
        (&definitions::PROCESS_VIRTUAL, kib("VmSize:")),
        (&definitions::PROCESS_THREADS, field(&status, "Threads:")),
        (&definitions::PROCESS_START, started()),
        (&definitions::PROCESS_OPEN_FDS, open_files()),
        (&definitions::PROCESS_MAX_FDS, most_files()),
    ];
    let known = found.into_iter().filter_map(|(metric, value)| Some((metric, value?)));
    let family = |(metric, value): (&Metric, f64)| {
        let mut family = Family::new(metric);
        family.push(Vec::new(), value);
        family
    };
    known.map(family).collect()
}

fn processor_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    #[expect(clippy::cast_precision_loss, reason = "285 years of microseconds are exact")]
    let seconds = micros as f64 / 1e6;
    Some(seconds)
}

/// A number of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "a process has fewer than 2^53 files")]
fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a process has fewer than 2^53 files")]
fn most_files() -> Option<f64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft as f64)
}

/// Ticks of procfs in a second: part of Linux's interface to programs, whatever its own clock.
const USER_HZ: f64 = 100.0;

/// Seconds since 1970.
fn started() -> Option<f64> {
    let boot = field(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Field 22, of which the name, in parentheses, is the second.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(boot + ticks / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_known_and_plausible() {
        let families = families();
        assert_eq!(families.len(), 7);
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let series = &family.series[0];
            series.counter.or(series.gauge).unwrap().value()
        };
        let (start, threads) = (value("process_start_time_seconds"), value("process_threads"));
        assert!(start > 1.6e9 && threads >= 1.0, "{start} {threads}");
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_max_fds") > value("process_open_fds"));
    }
}
