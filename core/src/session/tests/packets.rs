//! The session against our own reflector's rules, through real packets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::world::{MS, S, US, config};
use crate::reflector::{Received, Reflector, ReflectorConfig};
use crate::session::{Outcome, ProbeSession, SessionConfig, Wake};
use crate::stamp::{Key, RequestTemplate, SenderConfig, TimestampFormat};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;

/// The four stamps of a probe sent at `sent`: 30 us there, 7 us at the reflector, 40 us back.
fn stamps(sent: u64) -> [Wall; 4] {
    let t2 = sent + 31 * US + 900 * S;
    [S + sent + US, t2, t2 + 7 * US, S + sent + US + 77 * US].map(Wall::from_unix_nanos)
}

/// Runs 200 probes from sequence number `first` on, each answered before the next leaves.
fn run(first: u64, format: TimestampFormat, key: Option<Key>) -> Vec<Outcome> {
    let keys = key.iter().cloned().collect();
    let mut reflector = Reflector::new(ReflectorConfig { keys, ..ReflectorConfig::default() });
    let sender = SenderConfig { format, key, ..SenderConfig::default() };
    let template = RequestTemplate::new(sender).unwrap();
    let config = config(Duration::from_millis(1), 200, Duration::from_secs(1));
    let config = SessionConfig { warmup: 5, ..config };
    let start = Monotonic::from_nanos(0);
    let mut session = ProbeSession::numbered_from(config, start, first).unwrap();
    let (mut now, mut outcomes) = (0, Vec::new());
    let (mut request, mut reply) = (vec![0; template.len()], vec![0; template.len()]);
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 5_000));
    loop {
        let at = Monotonic::from_nanos(now);
        match session.poll(at) {
            Wake::Done => return outcomes,
            Wake::Wait(until) => now = until.as_nanos(),
            Wake::Send(probe) => {
                let user_t1 = Wall::from_unix_nanos(S + now);
                let sequence = u32::try_from(probe.number & u64::from(u32::MAX)).unwrap();
                template.write(sequence, user_t1, &mut request);
                session.sent(probe, at, user_t1, format.encode(user_t1));
                let [t1, t2, t3, t4] = stamps(now);
                session.transmitted(probe.number, t1, StampSource::Kernel);
                let source = StampSource::Kernel;
                let rx = Received { t2, t2_source: source, t3_source: source, ttl: None };
                let prepared = reflector.receive(at, from, &request, rx, &mut reply).unwrap();
                let user_t3 = Wall::from_unix_nanos(t3.as_unix_nanos() - 3 * US);
                let answer = template.parse_reply(prepared.finish(user_t3, &mut reply)).unwrap();
                reflector.transmitted(prepared.token().unwrap(), t3, source);
                let read = Monotonic::from_nanos(now + 80 * US);
                assert!(session.received(&answer, read, (t4, source)));
                assert!(now < 300 * MS, "the run does not end");
            }
        }
        session.settle(Monotonic::from_nanos(now), |outcome| outcomes.push(outcome));
    }
}

#[test]
fn the_split_of_every_probe_comes_back_through_packets_of_every_kind() {
    let key = || Key::from_octets(&[7; 32]).unwrap();
    for (format, key) in [
        (TimestampFormat::Ntp, None),
        (TimestampFormat::Ptp, None),
        (TimestampFormat::Ntp, Some(key())),
        (TimestampFormat::Ptp, Some(key())),
    ] {
        // The second run crosses the wrap of the sequence number.
        for first in [0, (1 << 32) - 100] {
            let outcomes = run(first, format, key.clone());
            assert_eq!(outcomes.len(), 200);
            for outcome in outcomes {
                let Outcome::Reply(sample) = outcome else { panic!("{outcome:?}") };
                let parts = sample.parts.unwrap();
                let split = [parts.network_rtt, parts.responder_delay, parts.prober_delay];
                assert_eq!(split, [70 * US, 7 * US, 3 * US]);
                assert_eq!(sample.app_rtt, 80 * US);
                assert_eq!(sample.source.to_string(), "kernel/kernel/kernel/kernel");
            }
        }
    }
}
