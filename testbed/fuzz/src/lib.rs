//! What the targets share: a report of what happened, every million packets, and a mutator.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use railgauge_testbed::mutate::{Mutator, Outcomes};

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

static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();

/// The next input of a target that knows the structure of its inputs: now and then one of the seeds anew, else what libFuzzer
/// chose, changed by `change` or by libFuzzer. A custom mutator as libFuzzer wants it; `sizes` are that of the input and the most.
pub fn mutate(
    data: &mut [u8],
    sizes: (usize, usize),
    seed: u32,
    seeds: fn() -> Vec<Vec<u8>>,
    change: fn(&mut Mutator, &[u8]) -> Vec<u8>,
) -> usize {
    let (size, most) = sizes;
    let mut mutator = Mutator::new(seed.into());
    let seeds = SEEDS.get_or_init(seeds);
    let mut from = data[..size].to_vec();
    if size < 2 || mutator.below(64) == 0 {
        from.clone_from(&seeds[mutator.below(seeds.len())]);
    }
    let theirs = mutator.below(3) == 0;
    if !theirs {
        from = change(&mut mutator, &from);
    }
    from.truncate(most);
    data[..from.len()].copy_from_slice(&from);
    if theirs { libfuzzer_sys::fuzzer_mutate(data, from.len(), most) } else { from.len() }
}
