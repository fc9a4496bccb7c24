//! A small fleet on busy virtual machines, by seed: what its paths measure.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::super::{PathInput, Series};
use crate::histogram::Recorder;
use crate::path::{Endpoint, Memory, NodeName, Path, PortName, Transport};
use crate::path_window::WindowAccount;

/// Of which packets of the ill node something is true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    /// On paths to it and from it.
    Both,
    /// On paths to it, as behind a relay in front of its responder.
    To,
}

/// What is wrong with node `1 + seed % (n - 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// Its process is stopped for 50 of every 250 ms.
    Stopped,
    /// A relay holds its packets, ms each way.
    Delay(Way, f64),
    /// A relay drops this share of its packets.
    Loss(Way, f64),
    /// It answers nobody.
    Dead,
}

/// How the paths are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    /// One path after the other, 2 s each with 200 probes a second.
    Sweep,
    /// All for 30 s with 20 probes a second, in windows of 10 s.
    Continuous,
}

const TIMEOUT_MS: f64 = 1_000.0;

pub(super) struct Draw(Pcg64Mcg);

impl Draw {
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.uniform(0.0, 1.0) < share
    }

    /// Of this median, with a log-deviation of `sigma`; by Box and Muller.
    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let (u, v) = (self.uniform(1e-12, 1.0), self.uniform(0.0, std::f64::consts::TAU));
        median * (sigma * (-2.0 * u.ln()).sqrt() * v.cos()).exp()
    }
}

/// Times at which something does not run, ms, rising.
#[derive(Clone, Default)]
struct Stalls(Vec<(f64, f64)>);

impl Stalls {
    /// `rate` a second until `end`, each between `lengths` long.
    fn random(draw: &mut Draw, end: f64, rate: f64, lengths: (f64, f64)) -> Self {
        let (mut at, mut stalls) = (0.0, Vec::new());
        while at < end {
            at += -draw.uniform(1e-12, 1.0).ln() * 1_000.0 / rate;
            stalls.push((at, at + draw.uniform(lengths.0, lengths.1)));
        }
        Self(stalls)
    }

    fn duty(phase: f64, end: f64) -> Self {
        let mut at = phase;
        Self(
            std::iter::from_fn(|| {
                (at < end).then(|| {
                    at += 250.0;
                    (at - 250.0, at - 200.0)
                })
            })
            .collect(),
        )
    }

    fn with(&self, other: &Self) -> Self {
        let mut all = [self.0.as_slice(), &other.0].concat();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged: Vec<(f64, f64)> = Vec::new();
        for (start, end) in all {
            match merged.last_mut() {
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// When something that is due at `at` happens.
    fn release(&self, at: f64) -> f64 {
        let next = self.0.partition_point(|stall| stall.0 <= at);
        let last = next.checked_sub(1).map_or(f64::MIN, |n| self.0[n].1);
        at.max(last)
    }
}

struct Host {
    prober: Stalls,
    responder: Stalls,
    /// Time to wake a sleeping thread, ms.
    wake: f64,
    /// One way through its half of the network, ms.
    wire: f64,
}

pub(super) struct Fleet {
    draw: Draw,
    hosts: Vec<Host>,
    global: Stalls,
    fault: Fault,
    mode: Mode,
    pub(super) ill: usize,
}

impl Fleet {
    pub(super) fn new(seed: u64, nodes: usize, fault: Fault, mode: Mode) -> Self {
        let mut draw = Draw(Pcg64Mcg::seed_from_u64(seed));
        let paths = u32::try_from(nodes * (nodes - 1)).unwrap();
        let end = match mode {
            Mode::Sweep => 2_100.0 * f64::from(paths),
            Mode::Continuous => 32_000.0,
        };
        // All processes of one machine: nothing runs.
        let rate = draw.uniform(0.05, 2.0);
        let global = Stalls::random(&mut draw, end, rate, (1.0, 20.0));
        let ill = 1 + usize::try_from(seed).unwrap() % (nodes - 1);
        let hosts = (0..nodes)
            .map(|node| {
                let mut process = || {
                    // Up to 8 % of the time something else runs.
                    let rate = draw.uniform(0.3, 12.0);
                    Stalls::random(&mut draw, end, rate, (1.0, 12.0)).with(&global)
                };
                let (mut prober, mut responder) = (process(), process());
                if fault == Fault::Stopped && node == ill {
                    let duty = Stalls::duty(draw.uniform(0.0, 250.0), end);
                    (prober, responder) = (prober.with(&duty), responder.with(&duty));
                }
                let (wake, wire) = (draw.uniform(0.03, 0.09), draw.uniform(0.008, 0.02));
                Host { prober, responder, wake, wire }
            })
            .collect();
        Self { draw, hosts, global, fault, mode, ill }
    }

    pub(super) fn measure(&mut self) -> Vec<PathInput> {
        let nodes = self.hosts.len();
        let mut paths = Vec::new();
        let mut at = 0.0;
        for (src, dst) in (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))) {
            if src != dst {
                paths.push(self.path(src, dst, at));
                at += if self.mode == Mode::Sweep { 2_050.0 } else { 0.0 };
            }
        }
        paths
    }

    fn path(&mut self, src: usize, dst: usize, start: f64) -> PathInput {
        let (windows, per_window, interval) = match self.mode {
            Mode::Sweep => (2, 200, 5.0),
            // In no fixed relation to the period of the fault, as phases of a plan are jittered.
            Mode::Continuous => (3, 200, 49.3),
        };
        let mut recorders = [Recorder::new(), Recorder::new(), Recorder::new()];
        let mut series = Series::default();
        let mut account = WindowAccount::default();
        let mut slot = start + self.draw.uniform(0.0, interval);
        for _ in 0..windows {
            for _ in 0..per_window {
                account.sent += 1;
                match self.probe(src, dst, slot) {
                    None => {
                        account.lost += 1;
                        recorders[0].record_censored();
                    }
                    Some(parts) => {
                        account.received += 1;
                        for (recorder, ms) in recorders.iter_mut().zip(parts) {
                            #[expect(
                                clippy::cast_possible_truncation,
                                clippy::cast_sign_loss,
                                reason = "ms to ns"
                            )]
                            recorder.record((ms * 1e6) as u64);
                        }
                    }
                }
                slot += interval;
            }
            let all =
                [&mut series.network_rtt, &mut series.prober_delay, &mut series.responder_delay];
            for (blocks, recorder) in all.into_iter().zip(&mut recorders) {
                blocks.push(&recorder.drain());
            }
        }
        account.scheduled = account.sent;
        PathInput { path: path(src, dst), timeout_ns: 1_000_000_000, account, series: Ok(series) }
    }

    /// Network RTT, prober and responder delay, ms; `None`: lost.
    fn probe(&mut self, src: usize, dst: usize, slot: f64) -> Option<[f64; 3]> {
        let touched = |way| match way {
            Way::Both => src == self.ill || dst == self.ill,
            Way::To => dst == self.ill,
        };
        let (relay, drops) = match self.fault {
            Fault::Delay(way, ms) if touched(way) => (ms, 1e-5),
            Fault::Loss(way, share) if touched(way) => (0.0, share),
            Fault::Dead if touched(Way::Both) => (0.0, 1.0),
            _ => (0.0, 1e-5),
        };
        let (prober, responder) = (&self.hosts[src], &self.hosts[dst]);
        let wire = prober.wire + responder.wire;
        let draw = &mut self.draw;
        let mut wake = |of: f64| draw.lognormal(of, 0.5);
        let woken = [wake(prober.wake), wake(responder.wake), wake(prober.wake)];
        let mut cross = |at: f64| {
            let mut ms = draw.lognormal(wire, 0.4) + relay;
            // An interrupt or a virtual CPU in the way.
            if draw.chance(0.004) {
                ms += draw.uniform(0.05, 3.0);
            }
            self.global.release(at + ms)
        };
        let t1 = prober.prober.release(slot + woken[0]);
        let t2 = cross(t1);
        let t3 = responder.responder.release(t2 + woken[1]);
        let t4 = cross(t3);
        let read = prober.prober.release(t4 + woken[2]);
        let is_lost = draw.chance(drops) || read - slot > TIMEOUT_MS;
        let (responder, trip) = (t3 - t2, t4 - t1);
        (!is_lost).then_some([trip - responder, read - slot - trip, responder])
    }
}

pub(super) fn name(node: usize) -> NodeName {
    NodeName::new(&format!("demo-{node}")).unwrap()
}

pub(super) fn path(src: usize, dst: usize) -> Path {
    let end = |node| Endpoint { node: name(node), port: PortName::new("lo").unwrap(), rail: 0 };
    let (src, dst) = (end(src), end(dst));
    Path { src, dst, transport: Transport::Udp, memory: Memory::Host, flow: 0, dscp: 0 }
}
