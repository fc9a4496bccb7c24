//! A stop of either side is in the result as long as it lasted, whichever probes would have been sent meanwhile.

use super::outcome::{float, unevenness};
use super::{INSTRUMENT, Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, Ping};
use crate::process::pause;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "omission",
    shows: "a stop of 500 ms is in the samples of every slot it covers",
    bound: "1,000/s, one side stopped 500 ms: about 500 app RTTs spread evenly from 500 ms to 0 (or censored \
            losses), none missing from the count; prober stopped: the same, and none in network RTT",
    covers: INSTRUMENT,
    judged: Judged::AtEveryScale,
    run,
};

const STOP: Duration = Duration::from_millis(500);
const SLOT_NS: f64 = 1e6;
/// What is longer than this waited for the stop. Gaps of this machine's own are shorter, or too few to matter.
const WAITED_NS: f64 = 10e6;
/// A time-out inside the stop: the probes of the first 300 ms are lost, later ones are answered in time.
const SHORT_TIMEOUT_NS: f64 = 200e6;
/// The count may be off by this part: the machine's own gaps stretch a stop.
const TOLERANCE: f64 = 0.1;
/// A ramp missing a tenth of its samples at one end has this distance from an even one.
const MOST_UNEVEN: f64 = 0.1;

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for _ in 0..scale.pick(1, 20) {
        reflector_stopped(bench, &mut outcome)?;
        reflector_stopped_beyond_timeout(bench, &mut outcome)?;
        prober_stopped(bench, &mut outcome)?;
    }
    Ok(outcome)
}

/// Which side stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Reflector,
    Prober,
}

/// A run of 3 s with one stop in it, and how long it lasted, ns.
fn stopped(bench: &Bench<'_>, side: Side, flags: &[&str]) -> Result<(Ping, f64), Failure> {
    let reflector = bench.reflector(&[])?;
    let flags = [&["--interval", "1ms", "--duration", "3s"], flags].concat();
    let prober = bench.prober(&reflector.address, &flags)?;
    pause(Duration::from_millis(1000));
    let stood = match side {
        Side::Reflector => reflector.running.freeze(STOP)?,
        Side::Prober => prober.running.freeze(STOP)?,
    };
    let ping = prober.finish(Duration::from_secs(30))?;
    Ok((ping, stood.as_secs_f64() * 1e9))
}

fn reflector_stopped(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    let (ping, stood) = stopped(bench, Side::Reflector, &[])?;
    ramp("reflector stopped", &ping, stood, outcome);
    waits_are_split("reflector stopped", &ping, outcome);
    nothing_missing("reflector stopped", &ping, outcome)?;
    let lost = ping.number("/lost")?;
    outcome
        .expect(lost == 0, || format!("reflector stopped: {lost} lost within a time-out of 1 s"));
    outcome.raw.push(ping.summary());
    Ok(())
}

fn reflector_stopped_beyond_timeout(
    bench: &Bench<'_>,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let (ping, stood) = stopped(bench, Side::Reflector, &["--timeout", "200ms"])?;
    nothing_missing("short time-out", &ping, outcome)?;
    let (lost, late) = (ping.number("/lost")?, ping.number("/late_replies")?);
    let censored = ping.number("/app_rtt/censored/count")?;
    let expected = (stood - SHORT_TIMEOUT_NS) / SLOT_NS;
    outcome.figure("censored", integer(lost), "");
    outcome.expect(near(integer(lost), expected), || {
        format!("short time-out: {lost} lost where about {expected:.0} waited longer than 200 ms")
    });
    outcome.expect(censored == lost && late == lost, || {
        format!("short time-out: {lost} lost, but {censored} censored and {late} late replies")
    });
    outcome.raw.push(ping.summary());
    Ok(())
}

fn prober_stopped(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    let (ping, stood) = stopped(bench, Side::Prober, &[])?;
    ramp("prober stopped", &ping, stood, outcome);
    nothing_missing("prober stopped", &ping, outcome)?;
    let late_starts = integer(ping.number("/late_starts")?);
    let expected = stood / SLOT_NS;
    outcome.figure("late starts", late_starts, "");
    outcome.expect(late_starts >= expected * (1.0 - TOLERANCE), || {
        format!("prober stopped: {late_starts} late starts where about {expected:.0} slots passed")
    });
    waits_are_split("prober stopped", &ping, outcome);
    let network = ping.samples.iter().filter_map(|sample| sample.network_rtt_ns).map(float_ns);
    let waited = network.filter(|rtt| *rtt > WAITED_NS).count();
    outcome.figure("network RTTs that carry the prober's stop", float(waited), "");
    // A gap of the machine itself between two kernel stamps may catch a handful; the stop would catch 500.
    outcome.expect(waited <= 5, || format!("prober stopped: {waited} network RTTs carry the stop"));
    outcome.raw.push(ping.summary());
    Ok(())
}

/// The samples that waited have a network RTT: none of them carries the wait only if they are there to carry it.
fn waits_are_split(what: &str, ping: &Ping, outcome: &mut Outcome) {
    let long = |rtt: Option<i64>| rtt.is_some_and(|rtt| float_ns(rtt) > WAITED_NS);
    let waited = ping.samples.iter().filter(|sample| long(sample.app_rtt_ns));
    let unsplit = waited.clone().filter(|sample| sample.network_rtt_ns.is_none()).count();
    let waited = waited.count();
    outcome.expect(float(unsplit) <= float(waited) * TOLERANCE, || {
        format!("{what}: {unsplit} of the {waited} samples that waited have no split")
    });
}

/// The samples that waited: as many as slots in the stop, spread evenly from its length down.
fn ramp(what: &str, ping: &Ping, stood: f64, outcome: &mut Outcome) {
    let app = ping.samples.iter().filter_map(|sample| sample.app_rtt_ns).map(float_ns);
    let waited: Vec<f64> = app.filter(|rtt| *rtt > WAITED_NS).collect();
    let expected = (stood - WAITED_NS) / SLOT_NS;
    outcome.figure(format!("{what}: samples that waited"), float(waited.len()), "");
    outcome.expect(near(float(waited.len()), expected), || {
        format!("{what}: {} samples waited where {expected:.0} slots passed", waited.len())
    });
    let uneven = unevenness(&waited, WAITED_NS, stood);
    outcome.figure(format!("{what}: unevenness"), uneven, "");
    outcome.expect(uneven <= MOST_UNEVEN, || {
        format!("{what}: waits are not spread evenly (Kolmogorov distance {uneven:.3})")
    });
}

/// Every slot ended as a sample or as a loss, and every reply has its app RTT.
fn nothing_missing(what: &str, ping: &Ping, outcome: &mut Outcome) -> Result<(), Failure> {
    let (scheduled, sent) = (ping.number("/scheduled")?, ping.number("/sent")?);
    outcome.expect(scheduled == sent, || format!("{what}: {scheduled} scheduled, {sent} sent"));
    let (received, lost) = (ping.number("/received")?, ping.number("/lost")?);
    outcome.expect(sent == received + lost, || {
        format!("{what}: {sent} sent, {received} received, {lost} lost")
    });
    let counted = ping.number("/app_rtt/count")?;
    outcome
        .expect(counted == received, || format!("{what}: {received} received, {counted} app RTTs"));
    Ok(())
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected * TOLERANCE
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one run are far below 2^52")]
fn float_ns(value: i64) -> f64 {
    value as f64
}

fn integer(value: i64) -> f64 {
    float_ns(value)
}
