//! Every probe is accounted for, whatever happens to either side or to the path.

use super::outcome::float;
use super::{INSTRUMENT, Judged, Outcome, Row, Scale};
use crate::Failure;
use crate::harness::{Bench, Ping, Prober, Reflector};
use crate::process::pause;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

pub const ROW: Row = Row {
    name: "conservation",
    shows: "no probe is unaccounted for, on any error path",
    bound: "scheduled = sent + skipped + send_errors and sent = received + lost + in_flight in every run; \
            status 0 with any reply, 3 with none",
    covers: INSTRUMENT,
    judged: Judged::AtEveryScale,
    run,
};

const SEED: u64 = 0x5eed_c0de;
const BOUND: Duration = Duration::from_secs(30);

/// What happens in one run. Probes leave every 1 ms for 1 s unless it says otherwise.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    None,
    ClosedPort,
    ReflectorKilled,
    ReflectorStopped,
    ProberStopped,
    Interrupted(Signal),
    TinyTimeout,
    RateLimited,
    PacketTooLarge,
    InterfaceDown,
}

const MISHAPS: &[Mishap] = &[
    Mishap::None,
    Mishap::ClosedPort,
    Mishap::ReflectorKilled,
    Mishap::ReflectorStopped,
    Mishap::ProberStopped,
    Mishap::Interrupted(Signal::SIGINT),
    Mishap::Interrupted(Signal::SIGTERM),
    Mishap::TinyTimeout,
    Mishap::RateLimited,
    Mishap::PacketTooLarge,
    Mishap::InterfaceDown,
];

fn run(bench: &Bench<'_>, scale: Scale) -> Result<Outcome, Failure> {
    let mut outcome = Outcome { seeds: vec![SEED], ..Outcome::default() };
    let mut random = Pcg64Mcg::seed_from_u64(SEED);
    let mut runs = 0;
    let mut probes = 0;
    for round in 0..scale.pick(1, 20) {
        for mishap in MISHAPS {
            // Somewhere inside the run, so that rounds cut it at different places.
            let moment = Duration::from_millis(200 + random.next_u64() % 500);
            let ping = suffer(bench, *mishap, moment)?;
            let what = format!("{mishap:?}, round {round}");
            judge(&what, &ping, &mut outcome)?;
            outcome.expect(had_effect(*mishap, &ping)?, || {
                format!("{what}: the mishap left no trace, so nothing was shown")
            });
            probes += ping.number("/scheduled")?;
            runs += 1;
            outcome.raw.push(ping.summary());
        }
    }
    outcome.figure("runs", float(runs), "");
    outcome.figure("probes", float(usize::try_from(probes).unwrap_or(0)), "");
    Ok(outcome)
}

fn suffer(bench: &Bench<'_>, mishap: Mishap, moment: Duration) -> Result<Ping, Failure> {
    match mishap {
        Mishap::None => quiet(bench, &[], &[]),
        // Faster than the rate and long enough to use up the burst of 1,000.
        Mishap::RateLimited => quiet(bench, &["--max-rate", "200"], &["--interval", "200us"]),
        Mishap::PacketTooLarge => {
            in_namespace(bench, "ip link set lo mtu 1280 up", "", "--size 4000")
        }
        Mishap::ClosedPort => start(bench, &closed_port()?, &[])?.finish(BOUND),
        Mishap::InterfaceDown => {
            let wait = moment.as_secs_f64();
            let down = "ip link set lo down; sleep 0.2; ip link set lo up";
            in_namespace(bench, "ip link set lo up", &format!("sleep {wait:.3}; {down}"), "")
        }
        Mishap::ReflectorKilled => {
            disturbed(bench, moment, &[], |reflector, _| reflector.running.signal(Signal::SIGKILL))
        }
        Mishap::ReflectorStopped => disturbed(bench, moment, &[], |reflector, _| {
            reflector.running.freeze(Duration::from_millis(300)).map(drop)
        }),
        Mishap::TinyTimeout => disturbed(bench, moment, &["--timeout", "1ms"], |reflector, _| {
            reflector.running.freeze(Duration::from_millis(300)).map(drop)
        }),
        // Longer than the time-out, so that slots are skipped.
        Mishap::ProberStopped => disturbed(bench, moment, &[], |_, prober| {
            prober.running.freeze(Duration::from_millis(1500)).map(drop)
        }),
        Mishap::Interrupted(signal) => {
            disturbed(bench, moment, &[], |_, prober| prober.interrupt(signal))
        }
    }
}

fn start(bench: &Bench<'_>, target: &str, flags: &[&str]) -> Result<Prober, Failure> {
    let interval = if flags.contains(&"--interval") { &[][..] } else { &["--interval", "1ms"] };
    bench.prober(target, &[&["--duration", "1s"], interval, flags].concat())
}

fn quiet(bench: &Bench<'_>, reflect: &[&str], ping: &[&str]) -> Result<Ping, Failure> {
    let reflector = bench.reflector(reflect)?;
    start(bench, &reflector.address, ping)?.finish(BOUND)
}

fn disturbed(
    bench: &Bench<'_>,
    moment: Duration,
    flags: &[&str],
    disturb: impl FnOnce(&Reflector, &Prober) -> Result<(), Failure>,
) -> Result<Ping, Failure> {
    let reflector = bench.reflector(&[])?;
    let prober = start(bench, &reflector.address, flags)?;
    pause(moment);
    disturb(&reflector, &prober)?;
    prober.finish(BOUND)
}

/// A loopback address where nobody listens: bound for a moment to know that it is free.
fn closed_port() -> Result<String, Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0");
    let address = socket.and_then(|socket| socket.local_addr());
    let address = address.map_err(|error| Failure::because("cannot bind to loopback", error))?;
    Ok(address.to_string())
}

/// Both sides in an own network namespace, whose loopback `setup` brings up and `disturbance` disturbs mid-run.
fn in_namespace(
    bench: &Bench<'_>,
    setup: &str,
    disturbance: &str,
    flags: &str,
) -> Result<Ping, Failure> {
    let script = format!(
        r#"set -eu
{setup}
"$0" reflect --listen 127.0.0.1:7463 >/dev/null 2>reflect.stderr & reflector=$!
trap 'kill $reflector' EXIT
tries=0
until grep -q 'listening on' reflect.stderr; do
    tries=$((tries + 1)); test $tries -lt 100; sleep 0.05
done
"$0" ping 127.0.0.1:7463 --output json --interval 1ms --duration 1s {flags} & ping=$!
{disturbance}
code=0; wait $ping || code=$?
exit $code
"#
    );
    let mut command = Command::new("unshare");
    command.arg(if Uid::effective().is_root() { "-n" } else { "-Urn" });
    command.args(["sh", "-c", &script]).arg(bench.repo().release("railgauge"));
    let ended = bench.complete(command, "namespace", BOUND)?;
    Ping::read("ping in a namespace", &ended, "")
}

/// Whether the run met what it was to meet. A rate limit or a tiny time-out loses probes, a stopped prober skips
/// slots, an end by signal leaves slots unscheduled; a reflector that only paused loses nothing.
fn had_effect(mishap: Mishap, ping: &Ping) -> Result<bool, Failure> {
    let n = |key: &str| ping.number(&format!("/{key}"));
    Ok(match mishap {
        Mishap::None => n("lost")? == 0 && n("received")? > 0,
        Mishap::ClosedPort => n("received")? == 0,
        Mishap::ReflectorKilled | Mishap::TinyTimeout | Mishap::RateLimited => n("lost")? > 0,
        Mishap::ReflectorStopped => ping.number("/app_rtt/max_ns")? > 200_000_000,
        Mishap::ProberStopped => n("skipped")? > 0,
        Mishap::Interrupted(_) => n("scheduled")? < 1000,
        Mishap::PacketTooLarge => n("send_errors")? > 0,
        Mishap::InterfaceDown => n("lost")? + n("send_errors")? > 0,
    })
}

/// The two equations, that every reply is in the app RTT, and the exit status.
fn judge(what: &str, ping: &Ping, outcome: &mut Outcome) -> Result<(), Failure> {
    let n = |key: &str| ping.number(&format!("/{key}"));
    let (scheduled, sent, skipped, errors) =
        (n("scheduled")?, n("sent")?, n("skipped")?, n("send_errors")?);
    outcome.expect(scheduled == sent + skipped + errors, || {
        format!(
            "{what}: {scheduled} scheduled, but {sent} sent + {skipped} skipped + {errors} errors"
        )
    });
    let (received, lost, in_flight) = (n("received")?, n("lost")?, n("in_flight")?);
    outcome.expect(sent == received + lost + in_flight, || {
        format!(
            "{what}: {sent} sent, but {received} received + {lost} lost + {in_flight} in flight"
        )
    });
    outcome.expect(scheduled > 0, || format!("{what}: nothing was scheduled"));
    let expected = if received > 0 { 0 } else { 3 };
    outcome.expect(ping.code == Some(expected), || {
        format!("{what}: {received} received, yet status {:?}", ping.code)
    });
    Ok(())
}
