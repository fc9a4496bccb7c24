//! What the two hosts do is not the network's: replies held at the reflector show as responder delay, and every
//! sample adds up.

use super::outcome::float;
use super::{Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, Ping};
use std::time::Duration;

pub const ROW: Row = Row {
    name: "truth",
    shows: "a wait at the reflector is responder delay, not network",
    bound: "replies held 5 ms: responder delay p50 within 1 % of it, network RTT p50 moves < 50 us; \
            app = network + prober + responder in every sample",
    covers: &["core", "fabric", "agent", "cli", "testbed/src"],
    judged: Judged::AtEveryScale,
    run,
};

const HOLD_NS: f64 = 5e6;
const NETWORK_MOVES_NS: f64 = 50e3;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let count = scale.pick("300", "6000");
    let prompt = measure(bench, "0", count)?;
    let held = measure(bench, "5000", count)?;
    let responder = held.p50("responder_delay")?;
    let moved = (held.p50("network_rtt")? - prompt.p50("network_rtt")?).abs();

    let mut outcome = Outcome::default();
    outcome.figure("responder delay p50", responder, "ns");
    outcome.figure("network RTT p50 moved by", moved, "ns");
    outcome.expect((responder - HOLD_NS).abs() <= HOLD_NS / 100.0, || {
        format!("responder delay p50 is {responder} ns, not within 1 % of 5 ms")
    });
    outcome.expect(moved < NETWORK_MOVES_NS, || format!("network RTT p50 moved by {moved} ns"));
    let mut complete = 0;
    for ping in [&prompt, &held] {
        complete += adds_up(ping, &mut outcome)?;
    }
    outcome.figure("samples that add up", float(complete), "");
    outcome.raw = vec![prompt.summary(), held.summary()];
    Ok(outcome)
}

/// One run against a reflector that holds each reply. Slots are wider than the hold, so that no request waits
/// for the one before it.
fn measure(bench: &Bench<'_>, hold_us: &str, count: &str) -> Result<Ping, Failure> {
    let mut command = bench.program("held_reflector", None);
    command.args(["--listen", "127.0.0.1:0", "--hold-us", hold_us]);
    let reflector = bench.listening(command, "held_reflector")?;
    let flags = ["--interval", "10ms", "--count", count];
    bench.ping(&reflector.address, &flags, Duration::from_secs(120))
}

/// Checks the identity in each sample and in the exact sums; returns how many samples were complete.
fn adds_up(ping: &Ping, outcome: &mut Outcome) -> Result<usize, Failure> {
    let mut complete = 0;
    for sample in &ping.samples {
        let parts = (sample.network_rtt_ns, sample.prober_delay_ns, sample.responder_delay_ns);
        if let (Some(app), (Some(network), Some(prober), Some(responder))) =
            (sample.app_rtt_ns, parts)
        {
            complete += 1;
            outcome.expect(app == network + prober + responder, || {
                format!("{app} ns is not {network} + {prober} + {responder}")
            });
        }
    }
    let replies = ping.number("/app_rtt/count")?;
    outcome.expect(i64::try_from(complete).is_ok_and(|n| n * 10 >= replies * 9), || {
        format!("only {complete} of {replies} samples have all their parts")
    });
    let same_samples = ["network_rtt", "prober_delay", "responder_delay"]
        .iter()
        .map(|series| ping.number(&format!("/{series}/count")))
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .all(|count| *count == replies);
    if same_samples {
        let sum = |series: &str| ping.number(&format!("/{series}/sum_ns"));
        let parts = sum("network_rtt")? + sum("prober_delay")? + sum("responder_delay")?;
        let app = sum("app_rtt")?;
        outcome.expect(app == parts, || {
            format!("the app RTTs add up to {app} ns, the parts to {parts}")
        });
    }
    Ok(complete)
}
