//! What happened to the measuring thread itself: without it, nobody can tell the path's tail from the prober's.

use std::time::Duration;

use railgauge_core::time::Monotonic;
use railgauge_fabric::{clock, thread};

/// A stretch between two readings of the clock in the loop, with at most one system call for one packet in it, that took
/// longer than this is a gap: the calls take 0.2 to 5 us, so the thread was not running for most of it, or the kernel was
/// doing something else in its place. Half the lateness of a late start when spinning, since two gaps may add up to one.
const GAP_THRESHOLD: Duration = Duration::from_micros(25);

/// What handing over one packet and taking its stamp may take: twice what was measured on a virtual machine.
const PER_PACKET: Duration = Duration::from_micros(8);

/// In sleep mode a wake-up this much late is a gap; earlier ones are the scheduler's ordinary work.
const OVERSLEPT: Duration = Duration::from_millis(1);

/// NTP slews both clocks alike (clock_gettime(2)), so that only a step changes their offset; smaller changes may be the
/// thread taken off its processor in each of the five readings.
const STEP: u64 = 100_000;

/// Gaps, migrations and clock steps, gathered as the loop runs.
#[derive(Debug)]
pub struct ThreadWatch {
    last: Monotonic,
    cpu: Option<u32>,
    wall_offset: i64,
    usage_at_start: thread::ThreadUsage,
    /// A gap has happened and the schedule has not been caught up with since.
    behind_since_gap: bool,
    /// Of the findings, those since then.
    behind: ThreadFindings,
    findings: ThreadFindings,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct ThreadFindings {
    /// Times the thread was seen on another processor than before.
    pub migrations: u64,
    /// Times it was taken off the processor while it wanted to run.
    pub involuntary_context_switches: u64,
    /// Processor time it used, ns.
    pub cpu_ns: u64,
    /// Gaps.
    pub gaps: u64,
    /// Their lengths added up, ns.
    pub gaps_total_ns: u64,
    /// The longest, ns.
    pub gaps_longest_ns: u64,
    /// Late starts while behind because of a gap.
    pub late_starts_explained: u64,
    /// Steps of `CLOCK_REALTIME`, ns each, at most 16 kept.
    pub clock_steps_ns: Vec<i64>,
}

impl ThreadFindings {
    fn stood_still(&mut self, gap_ns: u64) {
        self.gaps += 1;
        self.gaps_total_ns += gap_ns;
        self.gaps_longest_ns = self.gaps_longest_ns.max(gap_ns);
    }
}

impl ThreadWatch {
    /// Begins watching the calling thread.
    pub fn begin() -> Self {
        Self {
            last: clock::monotonic(),
            cpu: thread::current_cpu(),
            wall_offset: clock::wall_offset(),
            usage_at_start: thread::usage().unwrap_or_default(),
            behind_since_gap: false,
            behind: ThreadFindings::default(),
            findings: ThreadFindings::default(),
        }
    }

    /// Reads the clock, and counts a gap when too much time has passed since the last reading.
    pub fn now(&mut self) -> Monotonic {
        let now = clock::monotonic();
        self.reading(now, GAP_THRESHOLD, self.last);
        now
    }

    /// As [`now`](Self::now), after so many packets were sent with one call.
    pub fn sent(&mut self, packets: usize) -> Monotonic {
        let now = clock::monotonic();
        let packets = u32::try_from(packets).unwrap_or(u32::MAX);
        self.reading(now, GAP_THRESHOLD + PER_PACKET.saturating_mul(packets), self.last);
        now
    }

    /// As [`now`](Self::now), after a sleep that should have ended by `due`.
    pub fn woken(&mut self, due: Monotonic) -> Monotonic {
        let now = clock::monotonic();
        self.reading(now, OVERSLEPT, due.max(self.last));
        now
    }

    fn reading(&mut self, now: Monotonic, threshold: Duration, since: Monotonic) {
        let gap = now.saturating_since(since);
        self.last = now;
        if gap > threshold {
            let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
            if !std::mem::replace(&mut self.behind_since_gap, true) {
                self.behind = ThreadFindings::default();
            }
            self.behind.stood_still(gap);
            self.findings.stood_still(gap);
        }
        let cpu = thread::current_cpu();
        self.findings.migrations += u64::from(cpu != self.cpu);
        self.cpu = cpu;
    }

    /// The loop has nothing overdue.
    pub const fn caught_up(&mut self) {
        self.behind_since_gap = false;
    }

    /// A probe started late.
    pub fn late_start(&mut self) {
        self.behind.late_starts_explained += u64::from(self.behind_since_gap);
        self.findings.late_starts_explained += u64::from(self.behind_since_gap);
    }

    /// Looks whether the wall clock was stepped since the last look, and returns its new offset if so; to be called about once
    /// a second.
    pub fn look_at_clock(&mut self) -> Option<i64> {
        let offset = clock::wall_offset();
        let step = offset.wrapping_sub(self.wall_offset);
        self.wall_offset = offset;
        if step.unsigned_abs() > STEP && self.findings.clock_steps_ns.len() < 16 {
            self.findings.clock_steps_ns.push(step);
        }
        self.last = clock::monotonic();
        (step.unsigned_abs() > STEP).then_some(offset)
    }

    /// Warm-up is over: what was found so far does not count, but for what still makes probes late.
    pub fn restart(&mut self) {
        let behind_since_gap = self.behind_since_gap;
        let found = if behind_since_gap {
            std::mem::take(&mut self.behind)
        } else {
            ThreadFindings::default()
        };
        let (behind, findings) = (found.clone(), found);
        *self = Self { cpu: self.cpu, behind_since_gap, behind, findings, ..Self::begin() };
    }

    /// What was found since the beginning, up to now: the clock is looked at once more, as the last window ends with the run.
    pub fn findings(mut self) -> ThreadFindings {
        self.look_at_clock();
        let mut findings = self.findings;
        if let Ok(usage) = thread::usage() {
            let before = self.usage_at_start;
            findings.cpu_ns = usage.cpu_ns.saturating_sub(before.cpu_ns);
            findings.involuntary_context_switches = usage
                .involuntary_context_switches
                .saturating_sub(before.involuntary_context_switches);
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_after_the_last_look_is_found_at_the_end() {
        let mut watch = ThreadWatch::begin();
        watch.look_at_clock();
        watch.wall_offset -= 5_000_000_000;
        let steps = watch.findings().clock_steps_ns;
        assert_eq!(steps.len(), 1);
        assert!(steps[0].abs_diff(5_000_000_000) < 1_000_000_000, "{steps:?}");
    }

    fn stand_still(watch: &mut ThreadWatch, millis: u64) {
        let before = watch.last;
        watch.reading(before.saturating_add(Duration::from_millis(millis)), GAP_THRESHOLD, before);
    }

    fn found(watch: &ThreadWatch) -> (u64, u64, u64) {
        let ThreadFindings { gaps, gaps_longest_ns, late_starts_explained, .. } = watch.findings;
        (gaps, gaps_longest_ns / 1_000_000, late_starts_explained)
    }

    #[test]
    fn a_gap_that_reaches_out_of_the_warm_up_still_explains_late_starts() {
        let mut watch = ThreadWatch::begin();
        stand_still(&mut watch, 20);
        watch.caught_up();
        stand_still(&mut watch, 500);
        watch.late_start();
        watch.restart();
        watch.late_start();
        assert_eq!(found(&watch), (1, 500, 2), "the gap of 20 ms was caught up with");
        watch.caught_up();
        watch.late_start();
        assert_eq!(found(&watch), (1, 500, 2), "no gap explains this one");
        watch.restart();
        assert_eq!(found(&watch), (0, 0, 0));
    }
}
