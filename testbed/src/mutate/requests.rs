//! What must hold when a reflector gets anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use railgauge_core::reflector::{
    DropReason, Prepared, Provisioned, Received, Reflector, ReflectorConfig,
};
use railgauge_core::stamp::{Key, ReplyError, RequestTemplate, SenderConfig, tlv};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_core::timestamp_source::StampSource;

use super::signing::{Signing, sign};
use super::{KEY, Outcomes};

/// Simulated time between packets: a little over 10,000 a second from each source, so that the rate binds too.
const STEP: Duration = Duration::from_micros(25);
/// Octets behind the reply that nobody may touch.
const GUARD: [u8; 8] = [0xa5; 8];

/// One reflector in one mode, with what is needed to judge its replies.
struct Mode {
    name: &'static str,
    signing: Signing,
    reflector: Reflector,
    sender: RequestTemplate,
}

/// Reflectors in every mode, all of which get every packet.
pub struct ReflectorExercise {
    modes: Vec<Mode>,
    now: Monotonic,
    out: Vec<u8>,
}

impl Default for ReflectorExercise {
    fn default() -> Self {
        let keys = || vec![Key::from_octets(&[7; 16]), Key::from_octets(&KEY)];
        let keys =
            || keys().into_iter().collect::<Result<Vec<_>, _>>().expect("both are long enough");
        let open = ReflectorConfig::default;
        let keyed = || ReflectorConfig { keys: keys(), ..open() };
        let nobody = Provisioned { source: Ipv4Addr::LOCALHOST.into(), ssid: Some(1) };
        let strict = ReflectorConfig { provisioned: Some(vec![nobody]), ..open() };
        let mode = |name, signing, config: ReflectorConfig| {
            let key =
                (!config.keys.is_empty()).then(|| Key::from_octets(&KEY).expect("long enough"));
            let sender = SenderConfig { key, ..SenderConfig::default() };
            let sender = RequestTemplate::new(sender).expect("the smallest packet fits");
            Mode { name, signing, reflector: Reflector::new(config), sender }
        };
        let modes = vec![
            mode("open", Signing::AsCame, open()),
            mode("keyed", Signing::AsCame, keyed()),
            mode("keyed, base signed", Signing::Base, keyed()),
            mode("keyed, all signed", Signing::Whole, keyed()),
            mode("strict", Signing::AsCame, strict),
        ];
        Self { modes, now: Monotonic::from_nanos(1), out: Vec::new() }
    }
}

impl ReflectorExercise {
    /// Gives `packet` to every reflector and checks each reply.
    ///
    /// # Panics
    /// When something does not hold that must.
    pub fn exercise(&mut self, packet: &[u8]) {
        self.now = self.now.saturating_add(STEP);
        // Three sources, so that sessions come and go.
        let host = packet.iter().fold(0, |sum: u8, octet| sum.wrapping_add(*octet)) % 3;
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host + 1), 4000));
        for mode in &mut self.modes {
            mode.exercise(self.now, from, packet, &mut self.out);
        }
    }

    /// What happened so far, by mode and reason.
    pub fn outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for Mode { name, reflector, .. } in &self.modes {
            let counters = reflector.counters();
            let mut add = |what: &str, n: u64| outcomes.insert(format!("{name}: {what}"), n);
            add("replied", counters.replied);
            add("tlvs unrecognized", counters.tlvs_unrecognized);
            add("tlvs malformed", counters.tlvs_malformed);
            add("tlv integrity failures", counters.tlv_integrity_failures);
            add("follow-ups sent", counters.follow_ups_sent);
            add("sessions started", counters.sessions_started);
            for reason in DropReason::ALL {
                add(reason.as_str(), counters.dropped(reason));
            }
        }
        outcomes.retain(|_, n| *n > 0);
        outcomes
    }
}

impl Mode {
    fn exercise(&mut self, now: Monotonic, from: SocketAddr, packet: &[u8], out: &mut Vec<u8>) {
        let request = sign(packet, &KEY, self.signing);
        out.clear();
        out.resize(request.len(), 0);
        out.extend(GUARD);
        let wall = Wall::from_unix_nanos(now.as_nanos());
        let rx = Received {
            t2: wall,
            t2_source: StampSource::Kernel,
            t3_source: StampSource::Kernel,
            ttl: Some(64),
        };
        let outcome = self.reflector.receive(now, from, &request, rx, out);
        let counters = self.reflector.counters();
        assert_eq!(counters.received, counters.replied + counters.dropped_total());
        if let Ok(prepared) = outcome {
            let reply = prepared.finish(wall, out);
            assert_eq!(reply.len(), request.len(), "a reply has the size of its request");
            self.check_reply(&request, reply, &prepared);
            assert_eq!(out[request.len()..], GUARD, "nothing is written behind the reply");
            if let Some(token) = prepared.token() {
                self.reflector.transmitted(token, wall, StampSource::Kernel);
            }
        }
    }

    fn check_reply(&self, request: &[u8], reply: &[u8], prepared: &Prepared) {
        match self.sender.parse_reply(reply) {
            Ok(parsed) => assert_eq!(parsed.sender_seq.to_be_bytes(), request[..4]),
            Err(ReplyError::OtherSession { .. }) => {}
            Err(error) => panic!("our own reply is refused: {error}"),
        }
        assert_eq!(prepared.len(), reply.len());
        let base = self.sender.len() - if self.signing_key() { 48 } else { 28 };
        let kinds = |packet: &[u8]| {
            tlv::walk(&packet[base..])
                .map(|found| (found.at, found.kind, found.len))
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(request), kinds(reply), "TLVs keep their types and places");
    }

    fn signing_key(&self) -> bool {
        self.name.starts_with("keyed")
    }
}
