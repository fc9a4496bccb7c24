//! What must hold whatever is in a request's `Accept`, in a certificate, and in messages and files of probe keys.

use std::path::Path;
use std::time::{Duration, SystemTime};

use prost::Message as _;
use railgauge_access::certificate;
use railgauge_access::files;
use railgauge_core::access::{Identity, Role, decide, page_need};
use railgauge_core::probe_keys::{AcceptedKeys, KeyFile, read_probers, write_probers};
use railgauge_core::time::{Monotonic, Wall};
use railgauge_metrics::{Format, negotiate};
use railgauge_proto::v1;
use sha2::{Digest as _, Sha256};

use super::{Outcomes, count, seeds};

/// Takes the lines of `octets` for `Accept` headers, and counts what they get.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_accept(octets: &[u8], outcomes: &mut Outcomes) {
    let text = String::from_utf8_lossy(octets);
    let headers: Vec<&str> = text.lines().collect();
    let format = negotiate(headers.iter().copied());
    // RFC 9110, section 5.3: several lines are as one with commas, and no order counts but that of weights.
    assert_eq!(negotiate([headers.join(",").as_str()]), format);
    assert_eq!(negotiate(headers.iter().rev().copied()), format);
    let is_named = text.to_ascii_lowercase().contains("application/vnd.google.protobuf");
    assert!(format == Format::Text || is_named, "nobody gets what he has not named");
    let sure = "text/plain;q=1";
    let strong = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=1";
    assert_eq!(negotiate(headers.iter().copied().chain([strong])), Format::Protobuf);
    if format == Format::Text {
        assert_eq!(negotiate(headers.iter().copied().chain([sure])), Format::Text);
    }
    count(outcomes, if format == Format::Text { "text" } else { "protobuf" });
}

/// Reads `octets` as the text of an identity, as a certificate, and as a file of certificates, and counts what they are.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_identity(octets: &[u8], outcomes: &mut Outcomes) {
    if let Ok(text) = std::str::from_utf8(octets) {
        match text.parse::<Identity>() {
            Ok(identity) => {
                check_identity(&identity);
                assert_eq!(identity.to_string(), text, "two texts of one identity");
                count(outcomes, "identity");
            }
            Err(error) => {
                check_sentence(&error.to_string());
                count(outcomes, "no identity");
            }
        }
    }
    match certificate::identity(octets) {
        Ok(identity) => {
            check_identity(&identity);
            count(outcomes, "certificate of ours");
        }
        Err(error) => {
            check_sentence(&error.to_string());
            let strange = certificate::validity(octets).is_ok();
            count(outcomes, if strange { "certificate of others" } else { "no certificate" });
        }
    }
    if let Ok(validity) = certificate::validity(octets) {
        assert!(
            validity.begins.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| {
                // RFC 5280 ends time at the end of the year 9999.
                since < Duration::from_secs(253_402_300_800)
            }) || validity.begins <= SystemTime::UNIX_EPOCH
        );
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(seeds::AT);
    match files::shown(Path::new("a.pem"), octets, now) {
        Ok(shown) => {
            assert!(!shown.is_empty());
            shown.iter().for_each(|shown| check_sentence(&shown.whose));
            count(outcomes, "file of certificates");
        }
        Err(error) => {
            check_sentence(&error.to_string());
            count(outcomes, "no file of certificates");
        }
    }
}

fn check_identity(identity: &Identity) {
    let again: Identity = identity.to_string().parse().expect("what we write we read");
    assert_eq!(&again, identity);
    assert!(identity.to_string().bytes().all(|octet| octet.is_ascii_graphic()));
    assert!(!identity.name().contains(['/', '%', '?', '#', '@', ':']), "{identity}");
    let may = decide(page_need("/metrics"), Some(identity)).is_ok();
    assert_eq!(may, matches!(identity.role(), Role::Viewer | Role::Operator | Role::Admin));
}

fn check_sentence(text: &str) {
    assert!(text.len() < 4_000, "{} octets", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Reads `octets` as messages of probe keys that come one after the other, and as each of the files of keys: as they are, and, after
/// the right first line, with the right sum. Counts what became of them.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_probe_keys(octets: &[u8], outcomes: &mut Outcomes) {
    said(octets, outcomes);
    read_all(octets, outcomes);
    let body = String::from_utf8_lossy(octets);
    for head in [
        "railgauge probe key secrets 1",
        "railgauge holders of probe keys 1",
        "railgauge accepted probe keys 1",
    ] {
        let text = format!("{head}\n{body}\n");
        let sum: String = Sha256::digest(&text).iter().map(|o| format!("{o:02x}")).collect();
        read_all(format!("{text}sha256 {sum}\n").as_bytes(), outcomes);
    }
}

/// A row of messages, each an hour after the one before.
fn said(mut octets: &[u8], outcomes: &mut Outcomes) {
    let mut accepted = AcceptedKeys::default();
    let mut now = Monotonic::from_nanos(1);
    let wall = |now: Monotonic| Wall::from_unix_nanos(seeds::AT + now.as_nanos());
    while !octets.is_empty() {
        let Ok(keys) = v1::ProbeKeys::decode_length_delimited(&mut octets) else {
            count(outcomes, "no message");
            return;
        };
        let (given, others) = keys.read();
        assert_eq!(given.len() + others, keys.keys.len(), "each is a key or none");
        let newest = given.iter().filter(|key| !key.valid.is_zero()).map(|key| key.epoch).max();
        accepted.take(given, keys.forget_from_epoch, now);
        check_accepted(&accepted);
        if accepted.newest_given() > 0 {
            assert!(newest.is_some_and(|newest| accepted.newest_given() <= newest));
        }
        accepted.renew(now);
        let text = accepted.write(now, wall(now));
        let again = AcceptedKeys::read(text.as_bytes(), now, wall(now));
        let again = again.expect("what we write we read");
        assert!(again.epochs().eq(accepted.epochs()));
        // After a restart with a clock that is wrong, no key is good that was not, and none for longer than a year.
        let year = Duration::from_secs(367 * 86_400);
        for wrong in [0, u64::MAX] {
            let read = AcceptedKeys::read(text.as_bytes(), now, Wall::from_unix_nanos(wrong));
            let mut read = read.expect("what we write we read");
            assert!(read.epochs().all(|epoch| accepted.epochs().any(|known| known == epoch)));
            read.expire(now.saturating_add(year));
            assert_eq!(read.epochs().count(), 0);
        }
        count(outcomes, if accepted.epochs().count() > 0 { "keys held" } else { "no keys held" });
        now = now.saturating_add(Duration::from_secs(3_600));
        if accepted.expire(now) {
            count(outcomes, "keys expired");
        }
        check_accepted(&accepted);
    }
    accepted.expire(now.saturating_add(Duration::from_secs(367 * 86_400)));
    assert_eq!(accepted.keys().len(), 0, "no key is good for ever");
}

fn check_accepted(accepted: &AcceptedKeys) {
    let epochs: Vec<u64> = accepted.epochs().collect();
    assert!(epochs.len() <= 16 && epochs.is_sorted_by(|a, b| a > b), "{epochs:?}");
    assert_eq!(accepted.keys().len(), epochs.len());
}

fn read_all(octets: &[u8], outcomes: &mut Outcomes) {
    if let Ok(file) = KeyFile::read(octets) {
        let again = KeyFile::read(file.write().as_bytes());
        assert_eq!(again.expect("what we write we read"), file);
        count(outcomes, "secrets");
    }
    if let Ok(probers) = read_probers(octets) {
        let again = read_probers(write_probers(&probers).as_bytes());
        assert_eq!(again.expect("what we write we read"), probers);
        count(outcomes, "holders");
    }
    let (now, wall) = (Monotonic::from_nanos(1), Wall::from_unix_nanos(seeds::AT));
    if let Ok(mut accepted) = AcceptedKeys::read(octets, now, wall) {
        check_accepted(&accepted);
        let text = accepted.write(now, wall);
        let again = AcceptedKeys::read(text.as_bytes(), now, wall);
        assert!(again.expect("what we write we read").epochs().eq(accepted.epochs()));
        count(outcomes, "accepted keys");
    }
}
