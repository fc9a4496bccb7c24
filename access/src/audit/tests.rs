//! The log against floods, full disks and what people put into paths.

use super::*;

fn peer() -> Peer {
    stranger(SocketAddr::from(([192, 0, 2, 1], 5)))
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn decision(peer: &Peer, verdict: Verdict) -> Decision<'_> {
    Decision { peer, what: "/metrics", verdict, detail: "a \"reason\"\n" }
}

#[test]
fn a_decision_is_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path).unwrap();
    audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
    audit.record(&decision(&peer(), Verdict::Refused)).unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["verdict"], "refused");
    assert_eq!(lines[1]["who"], "unknown");
    assert_eq!(lines[1]["peer"], "192.0.2.1:5");
    assert_eq!(lines[1]["what"], "/metrics");
    assert_eq!(lines[1]["detail"], "a \"reason\"\n");
    assert!(lines[0]["at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_flood_of_refusals_is_counted_and_what_is_allowed_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path).unwrap();
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    audit.log().refusals.filled_at = begin;
    let peer = peer();
    for _ in 0..10_000 {
        audit.log().record(&decision(&peer, Verdict::Refused), false, begin).unwrap();
    }
    audit.log().record(&decision(&peer, Verdict::Allowed), false, begin).unwrap();
    let found = lines(&path);
    assert_eq!(found.len(), 502);
    assert_eq!(found[500]["detail"], "9500 more refusals");
    assert_eq!(found[501]["verdict"], "allowed");
    let later = begin + Duration::from_secs(1);
    audit.log().record(&decision(&peer, Verdict::Refused), false, later).unwrap();
    assert_eq!(lines(&path).len(), 503);
    let written = Written { allowed: 1, refused: 10_001, unwritten: 9_500, ..Written::default() };
    assert_eq!(audit.written(), written);
}

#[test]
fn a_full_file_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path).unwrap();
    audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
    audit.log().octets = LARGEST;
    audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
    assert_eq!(lines(&path).len(), 1);
    assert_eq!(lines(&dir.path().join("audit.jsonl.1")).len(), 1);
}

#[test]
fn where_it_cannot_be_written_that_is_an_error_and_counted() {
    let error = Audit::open(Path::new("/nowhere/audit.jsonl")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/audit.jsonl"));
    let audit = Audit::open(Path::new("/dev/full")).unwrap();
    assert!(audit.record(&decision(&peer(), Verdict::Allowed)).is_err());
    assert_eq!(audit.written().failed, 1);
}

#[test]
fn a_flood_of_reads_pushes_nothing_out_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path).unwrap();
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    audit.log().reads.filled_at = begin;
    let peer = peer();
    for _ in 0..READS + 7 {
        audit.log().record(&decision(&peer, Verdict::Allowed), true, begin).unwrap();
    }
    assert_eq!(lines(&path).len(), READS as usize);
    audit.log().record(&decision(&peer, Verdict::Allowed), false, begin).unwrap();
    let found = lines(&path);
    assert_eq!(found.len(), READS as usize + 2, "what changes something is always written");
    assert_eq!(found[READS as usize]["detail"], "7 more reads");
    assert_eq!(found[READS as usize]["verdict"], "allowed");
    assert_eq!(audit.written().unwritten_reads, 7);
    // What a flood can write in a day is a few files.
    let longest = "x".repeat(60_000);
    let long = Decision { what: &longest, detail: &longest, ..decision(&peer, Verdict::Refused) };
    audit.log().record(&long, false, begin).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().last().unwrap().len() < 1_500);
}

#[test]
fn nothing_in_a_line_commands_a_terminal_or_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path).unwrap();
    let peer = peer();
    let what = "/\u{9b}31m\u{7f}\u{85}\u{2028}\u{202e}\u{200b}\u{feff}h\u{f6}\n{\"verdict\":";
    audit.record(&Decision { what, ..decision(&peer, Verdict::Refused) }).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let one = text.strip_suffix('\n').unwrap();
    assert!(!one.chars().any(|c| c.is_control() || is_deceptive(c)), "{one:?}");
    assert!(one.contains('\u{f6}'));
    assert_eq!(lines(&path)[0]["what"], what, "all of it is there");
}

#[test]
fn a_line_that_a_crash_cut_short_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    std::fs::write(&path, "{\"at\":\"2026-").unwrap();
    let audit = Audit::open(&path).unwrap();
    audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
    drop(audit);
    let audit = Audit::open(&path).unwrap();
    audit.record(&decision(&peer(), Verdict::Refused)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let whole: Vec<_> = text.lines().map(serde_json::from_str::<serde_json::Value>).collect();
    assert_eq!(whole.len(), 3);
    assert!(whole[0].is_err() && whole[1].is_ok() && whole[2].is_ok(), "{text}");
}

/// A file in a process that may write 512 octets to one, as on a disk that is nearly full.
const SHORT: &str = "RAILGAUGE_TEST_SHORT_AUDIT";

#[test]
fn a_line_for_which_there_is_no_room_leaves_nothing() {
    if let Some(path) = std::env::var_os(SHORT) {
        let audit = Audit::open(Path::new(&path)).unwrap();
        let all = (0..20).map(|_| audit.record(&decision(&peer(), Verdict::Allowed)));
        assert!(all.filter(Result::is_err).count() > 10);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    // The signal that tells of the limit is ignored, so that writing fails.
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("audit::tests::a_line_for_which_there_is_no_room_leaves_nothing")
        .env(SHORT, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n"), "{text}");
    assert!((1..10).contains(&lines(&path).len()));
}

#[test]
fn a_file_that_was_moved_away_without_a_word_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let audit = Audit::open(&path).unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    audit.log().octets = LARGEST;
    audit.record(&decision(&peer(), Verdict::Allowed)).unwrap();
    assert_eq!(lines(&path).len(), 1);
}
