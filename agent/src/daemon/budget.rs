//! What probing may cost, enforced here whatever the plan says (design D7).

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use railgauge_core::stamp::request_len;
use railgauge_core::time::Monotonic;
use railgauge_metrics::Class;

use super::config::Budget;
use crate::mesh::LaneSetup;

/// Octets around a UDP payload on the wire: IPv4 or IPv6 (the larger), UDP, Ethernet with preamble and gap.
const HEADERS: usize = 40 + 8 + 38;

/// What is sent a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Packets.
    pub packets: f64,
    /// Octets, headers included.
    pub bytes: f64,
}

impl Load {
    /// Of probes of at least `size` octets of payload, one an interval.
    pub fn of(interval: Duration, authenticated: bool, size: usize) -> Self {
        let packets = 1.0 / interval.as_secs_f64().max(1e-9);
        #[expect(clippy::cast_precision_loss, reason = "sizes are below 64 KiB")]
        let size = (request_len(authenticated, size) + HEADERS) as f64;
        Self { packets, bytes: packets * size }
    }

    /// Both.
    pub fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }

    /// With intervals `factor` times as long.
    pub fn over(self, factor: u32) -> Self {
        let factor = f64::from(factor.max(1));
        Self { packets: self.packets / factor, bytes: self.bytes / factor }
    }

    /// How many times the budget this is; 0 without one.
    pub fn share_of(self, budget: &Budget) -> f64 {
        let over = |used: f64, most: f64| if most > 0.0 { used / most } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "budgets have far fewer than 53 bits")]
        let most_bytes = budget.bytes_per_second.as_bytes() as f64;
        over(self.packets, budget.packets_per_second.into()).max(over(self.bytes, most_bytes))
    }
}

/// What the lanes send at the plan's own rate.
pub fn load(lanes: &[LaneSetup]) -> Load {
    let of = |lane: &LaneSetup| Load::of(lane.interval, lane.authenticated, lane.size);
    lanes.iter().map(of).fold(Load::default(), Load::plus)
}

/// The factor by which intervals are multiplied so that the lanes stay within packets and octets a second.
pub fn factor(lanes: &[LaneSetup], budget: &Budget) -> u32 {
    // A hair over, as by rounding, is within.
    let factor = (load(lanes).share_of(budget) - 1e-6).ceil().clamp(1.0, 1e6);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    let factor = factor as u32;
    factor
}

/// Probes that the plan wanted and the budget did not allow.
#[derive(Debug, Default)]
pub struct Unsent {
    since: Option<Monotonic>,
    probes: BTreeMap<Class, f64>,
}

impl Unsent {
    /// Until `now` the lanes went at 1/`factor` of their rate.
    pub fn pass(&mut self, now: Monotonic, lanes: &[LaneSetup], factor: u32) {
        let before = self.since.replace(now).unwrap_or(now);
        if factor > 1 {
            let share = 1.0 - 1.0 / f64::from(factor);
            let seconds = now.saturating_since(before).as_secs_f64() * share;
            for lane in lanes {
                let unsent = seconds / lane.interval.as_secs_f64().max(1e-9);
                *self.probes.entry(Class::of(&lane.path)).or_default() += unsent;
            }
        }
    }

    /// So many.
    pub fn probes(&self) -> u64 {
        whole(self.probes.values().sum())
    }

    /// So many of each class.
    pub fn by_class(&self) -> impl Iterator<Item = (&Class, u64)> {
        self.probes.iter().map(|(class, probes)| (class, whole(*probes)))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative")]
const fn whole(probes: f64) -> u64 {
    probes as u64
}

/// Measures this process.
#[derive(Debug)]
pub struct CpuMeter {
    at: Monotonic,
    used: Duration,
    permille: u32,
}

/// Shorter than this, a share means little: the kernel counts in ticks.
const LEAST: Duration = Duration::from_secs(1);

impl CpuMeter {
    /// Begins to measure.
    pub fn begin(now: Monotonic) -> Self {
        Self { at: now, used: used(), permille: 0 }
    }

    /// The share of a core since the last sample, in thousandths; `None` too soon after it.
    pub fn sample(&mut self, now: Monotonic) -> Option<u32> {
        let passed = now.saturating_since(self.at);
        if passed < LEAST {
            return None;
        }
        let used = used();
        let share = used.saturating_sub(self.used).as_micros() * 1000 / passed.as_micros().max(1);
        (self.at, self.used) = (now, used);
        self.permille = u32::try_from(share).unwrap_or(u32::MAX);
        Some(self.permille)
    }

    /// The last sample.
    pub const fn permille(&self) -> u32 {
        self.permille
    }
}

fn used() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Slows probing down while it costs too much: doubles the intervals after three samples above the budget in a row, halves
/// them after ten below half of it.
#[derive(Debug)]
pub struct CpuBudget {
    factor: u32,
    above: u32,
    below: u32,
}

impl Default for CpuBudget {
    fn default() -> Self {
        Self { factor: 1, above: 0, below: 0 }
    }
}

impl CpuBudget {
    /// The process used so much of a core.
    pub const fn judge(&mut self, permille: u32, most_percent: u32) {
        if most_percent == 0 {
            self.factor = 1;
            return;
        }
        let most = most_percent.saturating_mul(10);
        self.above = if permille > most { self.above + 1 } else { 0 };
        self.below = if permille * 2 < most { self.below + 1 } else { 0 };
        if self.above >= 3 {
            self.above = 0;
            self.factor = if self.factor < 1 << 10 { self.factor * 2 } else { self.factor };
        } else if self.below >= 10 && self.factor > 1 {
            self.below = 0;
            self.factor /= 2;
        }
    }

    /// By how much intervals are multiplied.
    pub const fn factor(&self) -> u32 {
        self.factor
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use railgauge_core::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
    use railgauge_core::settings::Size;

    use super::*;

    fn lanes(count: usize, interval_ms: u64) -> Vec<LaneSetup> {
        let at = |node: &str| Endpoint {
            node: NodeName::new(node).unwrap(),
            port: PortName::new("p").unwrap(),
            rail: 0,
        };
        let path = Path {
            src: at("a"),
            dst: at("b"),
            transport: Transport::Udp,
            memory: Memory::Host,
            flow: 0,
            dscp: 0,
        };
        let lane = LaneSetup {
            path: Arc::new(path),
            peer: "127.0.0.1:862".parse().unwrap(),
            local: "127.0.0.1".parse().unwrap(),
            interval: Duration::from_millis(interval_ms),
            phase: Duration::ZERO,
            timeout: Duration::from_secs(1),
            size: 44,
            rdma: None,
            authenticated: false,
        };
        vec![lane; count]
    }

    #[test]
    fn intervals_grow_until_the_budget_holds() {
        let budget = |packets_per_second, bytes| Budget {
            packets_per_second,
            bytes_per_second: Size::from_bytes(bytes),
            cpu_percent: 0,
        };
        let lanes = lanes(10, 10);
        assert_eq!(factor(&lanes, &budget(0, 0)), 1);
        assert_eq!(factor(&lanes, &budget(1_000, 0)), 1);
        assert_eq!(factor(&lanes, &budget(999, 0)), 2);
        assert_eq!(factor(&lanes, &budget(100, 0)), 10);
        assert_eq!(factor(&lanes, &budget(1_000, 158_000)), 1);
        assert_eq!(factor(&lanes, &budget(1_000, 52_667)), 3);
        let keyed = |lane: &LaneSetup| LaneSetup { authenticated: true, ..lane.clone() };
        let keyed: Vec<LaneSetup> = lanes.iter().map(keyed).collect();
        assert_eq!(load(&keyed).bytes, 1_000.0 * (160.0 + 86.0));
    }

    #[test]
    fn what_the_budget_forbids_is_counted() {
        let (mut unsent, lanes) = (Unsent::default(), lanes(10, 10));
        let at = |seconds: u64| Monotonic::from_nanos(seconds * 1_000_000_000);
        unsent.pass(at(1), &lanes, 4);
        unsent.pass(at(2), &lanes, 4);
        assert_eq!(unsent.probes(), 750);
        unsent.pass(at(3), &lanes, 1);
        assert_eq!(unsent.probes(), 750);
    }

    #[test]
    fn the_processor_budget_reacts_to_what_lasts() {
        let mut budget = CpuBudget::default();
        for permille in [60, 60, 10, 60, 60] {
            budget.judge(permille, 5);
        }
        assert_eq!(budget.factor(), 1);
        for _ in 0..4 {
            budget.judge(60, 5);
        }
        assert_eq!(budget.factor(), 4);
        for _ in 0..10 {
            budget.judge(20, 5);
        }
        assert_eq!(budget.factor(), 2);
        budget.judge(20, 0);
        assert_eq!(budget.factor(), 1);
    }
}
