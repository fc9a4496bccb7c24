//! What the targets share: a report of what happened, every million packets.

use std::sync::atomic::{AtomicU64, Ordering};

use railgauge_testbed::mutate::Outcomes;

static PACKETS: AtomicU64 = AtomicU64::new(0);

/// Counts one packet, and after every millionth prints how often each thing has happened.
pub fn report(target: &str, outcomes: impl FnOnce() -> Outcomes) {
    let packets = PACKETS.fetch_add(1, Ordering::Relaxed) + 1;
    if packets.is_multiple_of(1_000_000) {
        eprintln!("{target}: {packets} packets");
        for (name, n) in outcomes() {
            eprintln!("{n:>12} {name}");
        }
    }
}
