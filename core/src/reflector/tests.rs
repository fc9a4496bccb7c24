use super::*;
use crate::stamp::{FollowUp, Reply, RequestTemplate, SenderConfig, TimestampFormat};
use std::net::Ipv4Addr;

const T1: u64 = 1_767_225_600_123_456_789;
const T2: u64 = T1 + 17_003;
const T3: u64 = T2 + 4_001;

fn key(fill: u8) -> Key {
    Key::from_octets(&[fill; 32]).unwrap()
}

fn wall(nanos: u64) -> Wall {
    Wall::from_unix_nanos(nanos)
}

fn from(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port))
}

fn rx() -> Received {
    Received { t2: wall(T2), t2_source: StampSource::Kernel, ttl: Some(63) }
}

fn template(config: SenderConfig) -> RequestTemplate {
    RequestTemplate::new(config).unwrap()
}

fn request(template: &RequestTemplate, seq: u32) -> Vec<u8> {
    let mut out = vec![0xaa; template.len()];
    template.write(seq, wall(T1), &mut out);
    out
}

/// What comes back for `request`, with the prepared part for its token.
fn ask(
    reflector: &mut Reflector,
    now: u64,
    from: SocketAddr,
    request: &[u8],
) -> Result<(Prepared, Vec<u8>), DropReason> {
    let mut out = vec![0x55; request.len()];
    let prepared = reflector.receive(Monotonic::from_nanos(now), from, request, rx(), &mut out)?;
    prepared.finish(wall(T3), &mut out);
    Ok((prepared, out))
}

fn authenticated() -> (Reflector, SenderConfig) {
    let config = ReflectorConfig { keys: vec![key(1), key(2)], ..ReflectorConfig::default() };
    (Reflector::new(config), SenderConfig { key: Some(key(2)), ..SenderConfig::default() })
}

#[test]
fn a_reply_tells_what_the_reflector_saw() {
    for format in [TimestampFormat::Ntp, TimestampFormat::Ptp] {
        for key in [None, Some(key(7))] {
            let keys = key.iter().cloned().collect();
            let mut reflector =
                Reflector::new(ReflectorConfig { keys, ..ReflectorConfig::default() });
            let config = SenderConfig { format, ssid: 77, key, ..SenderConfig::default() };
            let template = template(config);
            let request = request(&template, 5);
            let (_, bytes) = ask(&mut reflector, 0, from(1000), &request).unwrap();
            let reply = template.parse_reply(&bytes).unwrap();
            assert_eq!(
                reply,
                Reply {
                    reflector_seq: 0,
                    t2: wall(T2),
                    t3: wall(T3),
                    reflector_error_estimate: ErrorEstimate {
                        format,
                        ..ErrorEstimate::UNSYNCHRONIZED
                    },
                    sender_seq: 5,
                    sender_timestamp: format.encode(wall(T1)),
                    ssid: 77,
                    sender_ttl: 63,
                    follow_up: None,
                    sources: Some((StampSource::Kernel, StampSource::Unknown)),
                    trouble: Default::default(),
                }
            );
            assert_eq!(bytes.len(), request.len());
        }
    }
}

#[test]
fn true_transmit_times_follow_in_order_one_a_reply() {
    let (mut reflector, config) = authenticated();
    let template = template(config);
    let tokens: Vec<_> = (0..3)
        .map(|seq| {
            let (prepared, _) =
                ask(&mut reflector, 0, from(1000), &request(&template, seq)).unwrap();
            prepared.token().unwrap()
        })
        .collect();
    for (token, t3) in tokens.into_iter().zip([T3 + 1, T3 + 2, T3 + 3]) {
        reflector.transmitted(token, wall(t3), StampSource::Hardware);
    }
    for seq in 0..4 {
        let (_, bytes) = ask(&mut reflector, 0, from(1000), &request(&template, 3 + seq)).unwrap();
        let reply = template.parse_reply(&bytes).unwrap();
        let expected = (seq < 3).then(|| FollowUp {
            reflector_seq: seq,
            t3: wall(T3 + 1 + u64::from(seq)),
            method: 1,
        });
        assert_eq!(reply.follow_up, expected, "reply {seq}");
        let t3_source = if seq < 3 { StampSource::Hardware } else { StampSource::Unknown };
        assert_eq!(reply.sources, Some((StampSource::Kernel, t3_source)));
    }
    assert_eq!(reflector.counters().follow_ups_sent, 3);
}
