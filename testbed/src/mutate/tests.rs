mod access;
mod outside;

use super::*;
use railgauge_core::frame;
use railgauge_core::histogram::{Recorder, SparseCounts};
use railgauge_core::stamp::{Key, RequestTemplate, SenderConfig};
use railgauge_core::time::Wall;

/// Enough that every outcome named below comes up; a few seconds' work unoptimised.
const PACKETS: usize = 100_000;
const SEED: u64 = 8762;

/// Requests of each mode, and replies to them, from which mutation starts.
fn seeds(reply: bool) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for key in [None, Some(Key::from_octets(&KEY).unwrap())] {
        for telemetry in [false, true] {
            let config = SenderConfig {
                key: key.clone(),
                telemetry,
                min_size: 170,
                ..SenderConfig::default()
            };
            let template = RequestTemplate::new(config).unwrap();
            let mut packet = vec![0; template.len()];
            template.write(3, Wall::from_unix_nanos(1_767_225_600_000_000_001), &mut packet);
            if reply {
                clear_flags(&mut packet, if key.is_some() { 112 } else { 44 });
            }
            seeds.push(packet);
        }
    }
    seeds
}

/// As a reflector does that understands every TLV; Follow-Up Telemetry gets a time to tell.
fn clear_flags(packet: &mut [u8], base: usize) {
    use railgauge_core::stamp::tlv;
    let found: Vec<_> = tlv::walk(&packet[base..]).collect();
    for found in found {
        packet[base + found.at] = 0;
        if found.kind == tlv::FOLLOW_UP {
            packet[base + found.value_at() + 4] = 0xed;
        }
        if found.kind == tlv::STAMP_SOURCES {
            packet[base + found.value_at() + 2] = 3;
        }
    }
}

/// Prints the counts and checks that each of `names` came up.
#[expect(clippy::disallowed_macros, reason = "a test's own report; shown with --nocapture")]
fn all_happened(outcomes: &Outcomes, names: &[&str]) {
    for (name, n) in outcomes {
        eprintln!("{n:>9} {name}");
    }
    for name in names {
        assert!(outcomes.contains_key(*name), "never: {name}");
    }
}

#[test]
fn mutated_requests_are_answered_or_counted() {
    let (mut mutator, mut exercise) = (Mutator::new(SEED), ReflectorExercise::default());
    let seeds = seeds(false);
    for _ in 0..PACKETS {
        let seed = mutator.below(seeds.len());
        exercise.exercise(&mutator.mutate(&seeds[seed]));
    }
    all_happened(
        &exercise.outcomes(),
        &[
            "open: replied",
            "open: too_short",
            "open: no_key",
            "open: rate_limited",
            "open: tlvs unrecognized",
            "open: tlvs malformed",
            "open: follow-ups sent",
            "keyed: bad_hmac",
            "keyed: not_authenticated",
            "keyed, base signed: replied",
            "keyed, base signed: tlv integrity failures",
            "keyed, all signed: follow-ups sent",
            "keyed, all signed: tlvs malformed",
            "strict: not_provisioned",
        ],
    );
}

#[test]
fn mutated_replies_are_read_or_counted() {
    let (mut mutator, mut outcomes) = (Mutator::new(SEED), Outcomes::new());
    let seeds = seeds(true);
    for _ in 0..PACKETS {
        let seed = mutator.below(seeds.len());
        exercise_sender_reply(&mutator.mutate(&seeds[seed]), &mut outcomes);
    }
    all_happened(
        &outcomes,
        &[
            "open: read with telemetry",
            "open: too short",
            "open: flagged U",
            "open: flagged I",
            "open: malformed TLV",
            "open: other session",
            "keyed: bad HMAC",
            "keyed, base signed: TLV HMAC failed",
            "keyed, all signed: read with telemetry",
        ],
    );
}

#[test]
fn mutated_histograms_are_read_or_counted() {
    let (mut mutator, mut outcomes) = (Mutator::new(SEED), Outcomes::new());
    let mut recorder = Recorder::new();
    (1..200_u64).for_each(|n| recorder.record(n * n * n));
    let window = recorder.drain();
    let counts = window.counts();
    let text = counts.to_base64().into_bytes();
    let seeds = [
        counts.encode_v2(),
        counts.encode_v2_compressed(),
        text,
        SparseCounts::default().encode_v2(),
    ];
    for _ in 0..PACKETS / 5 {
        let seed = mutator.below(seeds.len());
        exercise_histogram(&mutator.mutate(&seeds[seed]), &mut outcomes);
    }
    all_happened(
        &outcomes,
        &[
            "plain: read",
            "plain: too short",
            "plain: cookie",
            "plain: length",
            "plain: layout",
            "payload: read",
            "payload: truncated",
            "payload: index",
            "compressed: read",
            "compressed: inflate",
            "text: read",
            "text: base64",
        ],
    );
}

#[test]
fn mutated_streams_give_the_same_packets_however_they_are_cut() {
    let (mut mutator, mut outcomes) = (Mutator::new(SEED), Outcomes::new());
    let mut stream = Vec::new();
    for len in [44, 0, 112, 1] {
        frame::write(&vec![7; len], &mut stream);
    }
    for _ in 0..PACKETS {
        let cut = 1 + mutator.below(60);
        exercise_frames(&mutator.mutate(&stream), cut, &mut outcomes);
    }
    all_happened(&outcomes, &["packet", "too long", "ends with a packet", "ends inside a frame"]);
}

#[test]
fn mutated_endpoint_messages_are_taken_exactly_or_refused() {
    let (mut mutator, mut outcomes) = (Mutator::new(SEED), Outcomes::new());
    let stream = seeds::endpoint_messages();
    for _ in 0..PACKETS {
        let cut = 1 + mutator.below(60);
        exercise_endpoints(&mutator.mutate(&stream), cut, &mut outcomes);
    }
    all_happened(
        &outcomes,
        &[
            "stranger",
            "version",
            "kind",
            "too_long",
            "length",
            "field",
            "contradiction",
            "offered",
            "ends well",
        ],
    );
}

#[test]
fn a_seed_gives_the_same_packets_again() {
    let packets = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.mutate(&[0; 44])).collect::<Vec<_>>()
    };
    assert_eq!(packets(1), packets(1));
    assert_ne!(packets(1), packets(2));
}

#[test]
fn mutated_segments_are_read_or_skipped() {
    use railgauge_agent::spool::frames::{Frame, Key, Totals, header, write};
    let key = Key { instance: 1, first_sequence: 2, windows: 3 };
    let totals = Totals { known_damage: vec![(1, 2)], ..Totals::default() };
    let frames = [
        Frame::Totals(totals),
        Frame::Batch { key, payload: b"payload" },
        Frame::Forgotten(key),
        Frame::Refused(key),
        Frame::Unknown(200),
    ];
    let mut segment = header().to_vec();
    let mut bodies = Vec::new();
    for frame in &frames {
        let start = segment.len();
        write(frame, &mut segment);
        let body = &segment[start + 12..];
        bodies.push(u8::try_from(body.len()).unwrap());
        bodies.extend_from_slice(body);
    }
    let (mut mutator, mut outcomes) = (Mutator::new(SEED), Outcomes::new());
    let seeds = [segment, bodies];
    for _ in 0..PACKETS {
        let seed = mutator.below(seeds.len());
        exercise_segment(&mutator.mutate(&seeds[seed]), &mut outcomes);
    }
    all_happened(
        &outcomes,
        &[
            "header",
            "no header",
            "batch",
            "forgotten",
            "refused",
            "totals",
            "unknown kind",
            "body of no kind",
        ],
    );
}
