//! True t3s in second acknowledgements, as over RDMA UD: a fake queue pair at each end that posts, completes and stamps in
//! simulated time, over a path that delays, loses, repeats and reorders.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::world::{MS, S, US, config};
use crate::reflector::{Prepared, Received, Reflector, ReflectorConfig};
use crate::session::{Account, Outcome, Parts, PartsMissing, ProbeSession, SessionConfig, Wake};
use crate::stamp::{Key, RequestTemplate, SenderConfig, TimestampFormat};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

const CQE: StampSource = StampSource::Cqe;
/// From posting to leaving, and from arriving to being polled.
const POST: u64 = 2 * US;
const POLL: u64 = 3 * US;

enum Event {
    /// The prober's send completed: the stamp of a departure.
    Departed(u64),
    Request(Vec<u8>),
    /// The responder's send completed, stamped: the second acknowledgement can be made.
    Replied(Prepared, Vec<u8>),
    /// A reply, or a second acknowledgement.
    Answer(Vec<u8>),
}

/// What the path does, per mille; the jitter in nanoseconds.
#[derive(Clone, Copy, Default)]
struct PathFaults {
    loss: u64,
    repeats: u64,
    jitter: u64,
}

struct World {
    state: u64,
    faults: PathFaults,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
}

impl World {
    /// xorshift64, Marsaglia 2003.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    fn happens(&mut self, per_mille: u64) -> bool {
        self.random() % 1000 < per_mille
    }

    /// Sends at `now`; a packet arrives once, never, or twice.
    fn travel(&mut self, now: u64, packet: &[u8], event: fn(Vec<u8>) -> Event) {
        for _ in 0..=u64::from(self.happens(self.faults.repeats)) {
            if !self.happens(self.faults.loss) {
                let jitter =
                    if self.faults.jitter > 0 { self.random() % self.faults.jitter } else { 0 };
                self.at(now + POST + 20 * US + jitter, event(packet.to_vec()));
            }
        }
    }
}

const fn wall(epoch: u64, at: u64) -> Wall {
    Wall::from_unix_nanos(epoch + at)
}

/// Runs 500 probes, 100 us apart, and returns the account and what became of each.
fn run(seed: u64, faults: PathFaults, key: Option<Key>) -> (Account, Vec<Outcome>) {
    let keys = key.iter().cloned().collect();
    let mut reflector =
        Reflector::new(ReflectorConfig { keys, max_rate: None, ..ReflectorConfig::default() });
    let format = TimestampFormat::Ntp;
    let template = RequestTemplate::new(SenderConfig { key, ..SenderConfig::default() }).unwrap();
    let base = config(Duration::from_micros(100), 500, Duration::from_millis(5));
    let config = SessionConfig { second_acknowledgements: true, ..base };
    let mut session = ProbeSession::new(config, Monotonic::from_nanos(0)).unwrap();
    let mut world = World { state: seed | 1, faults, events: BTreeMap::new(), count: 0 };
    let (mut now, mut outcomes) = (0, Vec::new());
    // Two hosts, two clocks.
    let (prober, responder) = (900 * S, 5_000_000 * S);
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_791));
    loop {
        let wake = session.poll(Monotonic::from_nanos(now));
        let until = match wake {
            Wake::Done => return (session.account().clone(), outcomes),
            Wake::Wait(until) => until.as_nanos(),
            Wake::Send(probe) => {
                let t1 = wall(prober, now);
                let mut packet = vec![0; template.len()];
                template.write(u32::try_from(probe.number).unwrap(), t1, &mut packet);
                session.sent(probe, Monotonic::from_nanos(now), t1, format.encode(t1));
                world.at(now + POST, Event::Departed(probe.number));
                world.travel(now, &packet, Event::Request);
                now
            }
        };
        let next = world.events.first_key_value().map(|(&key, _)| key);
        if let Some(key) = next.filter(|&(time, _)| time <= until) {
            now = now.max(key.0);
            match world.events.remove(&key).unwrap() {
                Event::Departed(number) => {
                    session.transmitted(number, wall(prober, key.0), CQE);
                }
                Event::Request(request) => {
                    let t2 = wall(responder, key.0);
                    let rx = Received { t2, t2_source: CQE, t3_source: CQE, ttl: None };
                    let mut reply = vec![0; request.len()];
                    let at = Monotonic::from_nanos(key.0);
                    let prepared = reflector.receive(at, from, &request, rx, &mut reply).unwrap();
                    let posted = key.0 + POLL;
                    prepared.finish(wall(responder, posted), &mut reply);
                    world.travel(posted, &reply, Event::Answer);
                    world.at(posted + POST, Event::Replied(prepared, reply));
                }
                Event::Replied(prepared, mut reply) => {
                    let t3 = wall(responder, key.0);
                    let second = prepared.second_acknowledgement(t3, CQE, &mut reply).unwrap();
                    world.travel(key.0, second, Event::Answer);
                }
                Event::Answer(answer) => {
                    let reply = template.parse_reply(&answer).unwrap();
                    assert_eq!(reply.trouble, crate::stamp::TlvTrouble::default());
                    let t4 = (wall(prober, key.0), CQE);
                    session.received(&reply, Monotonic::from_nanos(key.0 + POLL), t4);
                }
            }
        } else {
            now = now.max(until);
        }
        session.read_dry(Monotonic::from_nanos(now));
        session.settle(Monotonic::from_nanos(now), |outcome| outcomes.push(outcome));
        assert!(session.account().is_conserved());
        assert!(now < 300 * MS, "the run does not end");
    }
}

fn parts(outcome: &Outcome) -> Option<Result<Parts, PartsMissing>> {
    match outcome {
        Outcome::Reply(sample) => Some(sample.parts),
        Outcome::Lost { .. } => None,
    }
}

#[test]
fn the_split_is_exact_and_nothing_leaves_to_fetch_a_stamp() {
    for key in [None, Some(Key::from_octets(&[7; 32]).unwrap())] {
        let (account, outcomes) = run(1, PathFaults::default(), key);
        assert_eq!((account.received, account.duplicate, account.follow_up_probes), (500, 0, 0));
        for outcome in &outcomes {
            let Outcome::Reply(sample) = outcome else { panic!("{outcome:?}") };
            assert_eq!(sample.source.to_string(), "cqe/cqe/cqe/cqe");
            // Both ways 20 us; the responder took from arrival to departure; the prober posted and polled.
            let parts = sample.parts.unwrap();
            assert_eq!(parts.network_rtt, 40 * US);
            assert_eq!(parts.responder_delay, POLL + POST);
            assert_eq!(parts.prober_delay, POST + POLL);
        }
    }
}

/// A second acknowledgement that comes first, twice or not at all is neither a reply nor a duplicate.
#[test]
fn a_path_that_reorders_repeats_and_loses_never_makes_a_wrong_split() {
    let (mut unsplit, mut split, mut lost) = (0, 0, 0);
    for seed in 1..40 {
        let faults = PathFaults { loss: 50, repeats: 0, jitter: 60 * US };
        let (account, outcomes) = run(seed * 0x9e37_79b9, faults, None);
        assert_eq!(account.duplicate, 0, "seed {seed}");
        assert_eq!(outcomes.len(), 500);
        for outcome in &outcomes {
            match parts(outcome) {
                Some(Ok(parts)) => {
                    assert_eq!(parts.responder_delay, POLL + POST, "the t3 of another reply");
                    assert!((40 * US..=160 * US).contains(&parts.network_rtt));
                    split += 1;
                }
                Some(Err(PartsMissing::FollowUp)) => unsplit += 1,
                Some(Err(other)) => panic!("{other:?}"),
                None => lost += 1,
            }
        }
    }
    assert!(unsplit > 500 && split > 10_000 && lost > 1_000, "{unsplit} {split} {lost}");
    let faults = PathFaults { loss: 0, repeats: 200, jitter: 60 * US };
    let (account, outcomes) = run(3, faults, None);
    assert!(outcomes.iter().all(|outcome| matches!(parts(outcome), Some(Ok(_)))));
    // Requests repeated are answered twice, and each answer may be repeated.
    assert!((100..400).contains(&account.duplicate), "{}", account.duplicate);
}
