//! The measuring thread: where it runs, and what the scheduler did to it.

#![allow(unsafe_code, reason = "prctl, getrusage and sched_getcpu have no safe wrapper here")]

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Why a thread could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No such processor, or not one of ours.
    #[error("cannot run on CPU {cpu}: this process may use CPUs {allowed}")]
    NotAllowed {
        /// The processor asked for.
        cpu: usize,
        /// Those that the affinity mask has.
        allowed: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Pins the calling thread to `cpu`.
pub fn pin_to(cpu: usize) -> Result<(), PinError> {
    let mut set = CpuSet::new();
    set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).map_err(|errno| {
        PinError::NotAllowed { cpu, allowed: allowed_text(), source: errno.into() }
    })
}

/// The processors this thread may run on.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

fn allowed_text() -> String {
    let cpus = allowed_cpus();
    match (cpus.first(), cpus.last()) {
        (Some(first), Some(last)) if cpus.len() == last - first + 1 => format!("{first}-{last}"),
        _ => cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

/// Lets timers of the calling thread fire when due, not up to 50 us later (`PR_SET_TIMERSLACK`, prctl(2)).
pub fn set_timer_slack_to_minimum() -> io::Result<()> {
    // SAFETY: this prctl option takes one integer and touches no memory of ours.
    let rc = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The processor the calling thread is on right now.
pub fn current_cpu() -> Option<u32> {
    // SAFETY: takes no argument and touches no memory of ours.
    let cpu = unsafe { libc::sched_getcpu() };
    u32::try_from(cpu).ok()
}

/// What the scheduler has done to the calling thread since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// Times it was taken off the processor while it wanted to run.
    pub involuntary_context_switches: u64,
    /// Processor time used, user and system, in nanoseconds.
    pub cpu_ns: u64,
}

/// Reads [`ThreadUsage`] of the calling thread (`RUSAGE_THREAD`, getrusage(2)).
pub fn usage() -> io::Result<ThreadUsage> {
    let mut raw = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one `rusage` through the pointer, which is valid for that.
    let rc = unsafe { libc::getrusage(libc::RUSAGE_THREAD, raw.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid `rusage`, and the call succeeded.
    let raw = unsafe { raw.assume_init() };
    let nanos = |t: libc::timeval| {
        u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(t.tv_usec).unwrap_or(0) * 1_000
    };
    Ok(ThreadUsage {
        involuntary_context_switches: u64::try_from(raw.ru_nivcsw).unwrap_or(0),
        cpu_ns: nanos(raw.ru_utime) + nanos(raw.ru_stime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_moves_the_thread_there() {
        std::thread::spawn(|| {
            for cpu in allowed_cpus() {
                pin_to(cpu).unwrap();
                assert_eq!(current_cpu(), u32::try_from(cpu).ok());
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_absent_processor_is_named() {
        let text = pin_to(1000).unwrap_err().to_string();
        assert!(text.starts_with("cannot run on CPU 1000: this process may use CPUs 0"), "{text}");
    }

    #[test]
    fn usage_grows_with_work() {
        let before = usage().unwrap();
        let mut sum = 0_u64;
        while usage().unwrap().cpu_ns <= before.cpu_ns {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(usage().unwrap().cpu_ns > before.cpu_ns);
    }
}
