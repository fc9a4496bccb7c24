//! How fast, for people: run with `--release --ignored --nocapture`.

use std::io::Write as _;

use super::*;

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it times")]
fn ingest_and_roll_up() {
    let agents = 100;
    let windows: Vec<_> = (0..64u64)
        .map(|n| {
            window(&(0..99).map(|k| 20_000 + (k * 7_919 + n * 104_729) % 9_000).collect::<Vec<_>>())
        })
        .collect();
    let dir = tempfile::tempdir_in(std::env::var("RATE_DIR").unwrap_or("/tmp".into())).unwrap();
    let mut store = opened(dir.path());
    let mut spent = std::time::Duration::ZERO;
    let mut octets = 0;
    for tick in 0..6u64 {
        let start = START_NS + tick * 10 * SECOND;
        let all: Vec<_> = (0..agents)
            .map(|a| incoming(&format!("agent-{a}"), tick * 64, start, &windows))
            .collect();
        octets = all[0].encoded.len();
        let begun = std::time::Instant::now();
        for call in all.chunks(20) {
            let outcomes = store.ingest(call, wall(start + 10 * SECOND));
            assert!(outcomes.iter().all(|o| *o == Outcome::Stored));
        }
        spent += begun.elapsed();
    }
    let count = f64::from(agents) * 64.0 * 6.0;
    let mut out = std::io::stderr();
    let size = store.files.octets().unwrap();
    writeln!(
        out,
        "ingest {:.0} windows/s, {octets} octets a batch, {size} on disk",
        count / spent.as_secs_f64()
    )
    .unwrap();
    let copy = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let begun = std::time::Instant::now();
    drop(opened(copy.path()));
    writeln!(out, "opened after a kill in {:?}", begun.elapsed()).unwrap();
    let begun = std::time::Instant::now();
    let mut longest = std::time::Duration::ZERO;
    let mut steps = 0;
    loop {
        let step = std::time::Instant::now();
        if store.maintain(wall(START_NS + 200 * SECOND)).unwrap() == Progress::Idle {
            break;
        }
        longest = longest.max(step.elapsed());
        steps += 1;
    }
    let rate = count / begun.elapsed().as_secs_f64();
    writeln!(out, "roll-up {rate:.0} windows/s in {steps} steps, longest {longest:?}").unwrap();
    for id in store.files.present() {
        let size = std::fs::metadata(dir.path().join(id.to_string())).unwrap().len();
        writeln!(out, "{id}: {size}").unwrap();
    }
}
