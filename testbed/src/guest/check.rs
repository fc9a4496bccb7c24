//! Whether the fabric does what the rows believe of it: perftest sees each fault from the disturbed port, and nobody else sees it.
//!
//! What is judged are bounds that no machine can cross by being slow or fast: nothing gets through a delay sooner or through a rate
//! faster, nothing is dropped where nothing drops.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::fabric::{
    CABLES, Disturbance, End, Fabric, Family, Fault, counter, device, packets_from,
};
use super::perftest::{Bandwidth, Latency, Measured, Perftest, Program};
use crate::fleet::Trouble;

/// A pair that nobody disturbs has one fast sample in this many measurements, however busy the machine is.
const TRIES: usize = 4;
/// Queue pairs on links that are down give up after 8 x 4 ms.
const SHORT_TIMEOUT: u8 = 10;
/// What a measurement takes that fails.
const FAILS_WITHIN: Duration = Duration::from_secs(20);
/// Faster than this is undisturbed, one way.
const FAST_US: f64 = 1000.0;
/// Messages of 16 packets over a lossy cable: of 4,800 packets none is lost in one run of 10^20.
const LOSSY_MESSAGES: u32 = 300;

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Numbers by name, each time they were taken.
    pub figures: BTreeMap<&'static str, Vec<f64>>,
    /// A sentence for each thing that is not so.
    pub violations: Vec<String>,
    /// One for each fault.
    pub episodes: Vec<Value>,
}

impl Checked {
    fn figure(&mut self, name: &'static str, value: f64) {
        self.figures.entry(name).or_default().push(value);
    }

    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }
}

/// Checks devices and addresses, `rounds` times each kind of fault at a random end of a random cable (or, with `everywhere`, each kind
/// at each end of each cable), and devices and addresses that change.
///
/// # Errors
/// When the fabric or perftest cannot be used at all.
pub fn check(fabric: &Fabric, seed: u64, everywhere: bool) -> Result<Checked, Trouble> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut checked = Checked::default();
    devices(&mut checked, CABLES)?;
    addresses(&mut checked)?;
    for fault in faults(&mut random, everywhere) {
        let others = others(&mut random, fault.cable);
        tell(&fault.to_string())?;
        fabric.disturb(fault)?;
        let seen = episode(&mut checked, fabric, fault, others);
        // Before anything else: the next measurement is of a whole fabric.
        fabric.mend(fault.cable)?;
        checked.episodes.push(json!({ "fault": fault.to_string(), "seen": seen? }));
        let again = least(&[fault.cable, others[0]], Program::WriteLatency)?;
        checked.expect(again < FAST_US, || {
            format!("after {fault} the cable is not whole: {again} us")
        });
    }
    tell("a device that goes and comes, addresses that change")?;
    changes(&mut checked, fabric, &mut random)?;
    Ok(checked)
}

/// Where it stands, for whoever waits.
fn tell(what: &str) -> Result<(), Trouble> {
    Ok(writeln!(std::io::stderr(), "{what}")?)
}

fn faults(random: &mut Pcg64Mcg, everywhere: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for disturbance in Disturbance::ALL {
        if everywhere {
            let places = (1..=CABLES).flat_map(|cable| End::ALL.map(|end| (cable, end)));
            faults.extend(places.map(|(cable, end)| Fault { cable, end, disturbance }));
        } else {
            let cable = cable(random);
            let end = End::ALL[usize::from(random.next_u32() % 2 == 1)];
            faults.push(Fault { cable, end, disturbance });
        }
    }
    faults
}

fn cable(random: &mut Pcg64Mcg) -> u8 {
    let four = (random.next_u64() % u64::from(CABLES)).to_le_bytes();
    1 + four[0]
}

/// The three other cables, in random order.
fn others(random: &mut Pcg64Mcg, cable: u8) -> [u8; 3] {
    let turn = (random.next_u64() % 3).to_le_bytes()[0];
    // The next three around the ring, turned by a random step.
    [0, 1, 2].map(|n| (cable + (n + turn) % 3) % CABLES + 1)
}

/// The devices that the system's own libibverbs lists.
fn devices(checked: &mut Checked, expected: u8) -> Result<(), Trouble> {
    let said = Command::new("ibv_devices").output()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let listed =
        (1..=CABLES).filter(|cable| text.split_whitespace().any(|word| word == device(*cable)));
    let listed = u8::try_from(listed.count())?;
    checked.figure("devices listed by libibverbs", f64::from(listed));
    checked.expect(listed == expected, || {
        format!("libibverbs lists {listed} of {expected} devices: {text}")
    });
    Ok(())
}

/// Each family of addresses carries RDMA, and over the cables.
fn addresses(checked: &mut Checked) -> Result<(), Trouble> {
    for family in Family::ALL {
        let before = packets_from(2, End::Switch)?;
        let measured = Perftest { family, ..Perftest::new(Program::WriteLatency, 1, 2) };
        let count = u64::from(measured.iterations);
        let seen = measured.run()?;
        let crossed = packets_from(2, End::Switch)? - before;
        let works = matches!(seen, Measured::Latency(_));
        checked.expect(works && crossed >= count, || {
            format!("by {family:?}: {seen:?}, and {crossed} packets crossed the switch")
        });
    }
    Ok(())
}

fn episode(
    checked: &mut Checked,
    fabric: &Fabric,
    fault: Fault,
    [peer, a, b]: [u8; 3],
) -> Result<Value, Trouble> {
    // What is sent over the disturbed end, and back.
    let (from, to) = match fault.end {
        End::Nic => (fault.cable, peer),
        End::Switch => (peer, fault.cable),
    };
    match fault.disturbance {
        Disturbance::Delay(delay) => {
            let half_us = delay.as_secs_f64() * 1e6 / 2.0;
            let mut seen = Vec::new();
            for program in [Program::WriteLatency, Program::SendLatency, Program::DatagramLatency] {
                let disturbed = latency(&Perftest::new(program, from, to))?.least_us;
                let clean = least(&[a, b], program)?;
                checked.figure("half round trip over a delay of 2 ms, least (us)", disturbed);
                checked.figure("half round trip of others meanwhile, least (us)", clean);
                checked.expect(disturbed >= half_us, || {
                    format!("{fault}: {program:?} over it takes {disturbed} us, where {half_us} are the least")
                });
                checked.expect(clean < half_us, || {
                    format!("{fault}: {program:?} between {a} and {b} takes {clean} us")
                });
                seen.push(json!({ "program": format!("{program:?}"), "over_us": disturbed, "others_us": clean }));
            }
            Ok(json!(seen))
        }
        Disturbance::Rate(mbit) => {
            let limit = f64::from(mbit) * 1e6 / 8.0;
            let over = bandwidth(from, to)?.mean;
            let back = bandwidth(to, from)?.mean;
            let clean = bandwidth(a, b)?.mean;
            checked.figure("write bandwidth over a rate of 10 Mbit/s (MB/s)", over / 1e6);
            checked.figure("back over the same cable (MB/s)", back / 1e6);
            checked.figure("of others meanwhile (MB/s)", clean / 1e6);
            checked.expect(over <= limit, || format!("{fault}: {over} octets/s get through"));
            checked.expect(back > limit && clean > limit, || {
                format!("{fault}: back {back} octets/s, between {a} and {b} {clean}")
            });
            Ok(json!({ "over": over, "back": back, "others": clean }))
        }
        Disturbance::Loss(_) => {
            let gaps = || gaps_seen([from, to]).and_then(|here| Ok([here, gaps_seen([a, b])?]));
            let before = gaps()?;
            let over = Perftest {
                iterations: LOSSY_MESSAGES,
                ..Perftest::new(Program::WriteBandwidth, from, to)
            };
            let over = bandwidth_of(&over)?.mean;
            let clean = bandwidth(a, b)?.mean;
            let after = gaps()?;
            let dropped = fabric.dropped(fault.cable, fault.end)?;
            let [here, there] = [after[0] - before[0], after[1] - before[1]];
            checked.figure("packets dropped by a loss of 1 %", count(dropped));
            checked.figure("gaps seen by its responder", count(here));
            checked.figure("gaps seen by others", count(there));
            checked.expect(dropped > 0 && here > 0, || {
                format!("{fault}: {dropped} dropped, {here} gaps seen")
            });
            checked.expect(there == 0, || format!("{fault}: {there} gaps between {a} and {b}"));
            Ok(
                json!({ "dropped": dropped, "gaps": here, "others": there, "over": over, "others_rate": clean }),
            )
        }
        Disturbance::Down => {
            let over = Perftest {
                timeout: SHORT_TIMEOUT,
                bound: FAILS_WITHIN,
                ..Perftest::new(Program::SendLatency, from, to)
            };
            let over = over.run()?;
            let clean = least(&[a, b], Program::SendLatency)?;
            checked.expect(matches!(over, Measured::Nothing(_)), || {
                format!("{fault}: {over:?} got through")
            });
            checked.expect(clean < FAST_US, || format!("{fault}: between {a} and {b} {clean} us"));
            Ok(json!({ "over": format!("{over:?}"), "others_us": clean }))
        }
    }
}

/// A device that goes and comes, and addresses that change.
fn changes(checked: &mut Checked, fabric: &Fabric, random: &mut Pcg64Mcg) -> Result<(), Trouble> {
    let cable = cable(random);
    let [peer, a, b] = others(random, cable);
    fabric.remove(cable)?;
    devices(checked, CABLES - 1)?;
    let meanwhile = least(&[a, b], Program::WriteLatency)?;
    fabric.add(cable)?;
    devices(checked, CABLES)?;
    let back = least(&[cable, peer], Program::WriteLatency)?;
    fabric.renumber(cable, 5)?;
    let renumbered = least(&[cable, peer], Program::WriteLatency)?;
    fabric.renumber(cable, 0)?;
    for (what, seen) in [
        ("between others while a device is away", meanwhile),
        ("with a device that was away", back),
        ("with addresses of another subnet", renumbered),
    ] {
        checked.expect(seen < FAST_US, || format!("{what}: {seen} us"));
    }
    Ok(())
}

/// Requests that came out of order to either NIC: what a lost packet leaves, and a late one does not.
fn gaps_seen(pair: [u8; 2]) -> Result<u64, Trouble> {
    Ok(counter(pair[0], "out_of_seq_request")? + counter(pair[1], "out_of_seq_request")?)
}

/// The fastest half round trip of a pair that should be fast, in a few tries; infinite when nothing gets through.
fn least(pair: &[u8; 2], program: Program) -> Result<f64, Trouble> {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        if let Measured::Latency(seen) = Perftest::new(program, pair[0], pair[1]).run()? {
            least = least.min(seen.least_us);
        }
        if least < FAST_US {
            break;
        }
    }
    Ok(least)
}

fn latency(perftest: &Perftest) -> Result<Latency, Trouble> {
    match perftest.run()? {
        Measured::Latency(seen) => Ok(seen),
        other => Err(format!("{perftest:?}: {other:?}").into()),
    }
}

fn bandwidth(from: u8, to: u8) -> Result<Bandwidth, Trouble> {
    bandwidth_of(&Perftest::new(Program::WriteBandwidth, from, to))
}

fn bandwidth_of(perftest: &Perftest) -> Result<Bandwidth, Trouble> {
    match perftest.run()? {
        Measured::Bandwidth(seen) => Ok(seen),
        other => Err(format!("{perftest:?}: {other:?}").into()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "packets of one run are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_every_end_of_every_cable() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        assert_eq!(faults(&mut random, true).len(), 32);
        assert_eq!(faults(&mut random, false).len(), Disturbance::ALL.len());
        for _ in 0..100 {
            assert!((1..=CABLES).contains(&cable(&mut random)));
        }
    }

    #[test]
    fn the_others_are_all_others() {
        let mut random = Pcg64Mcg::seed_from_u64(1);
        for cable in 1..=CABLES {
            for _ in 0..20 {
                let mut all = others(&mut random, cable).to_vec();
                all.push(cable);
                all.sort_unstable();
                assert_eq!(all, [1, 2, 3, 4]);
            }
        }
    }
}
