//! Anything as messages and files of probe keys.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use railgauge_testbed::mutate::{Mutator, Outcomes, exercise_probe_keys, seeds};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    exercise_probe_keys(data, outcomes);
    railgauge_fuzz::report("probe_keys", || outcomes.clone());
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    railgauge_fuzz::mutate(data, (size, max_size), seed, seeds::probe_keys, Mutator::mutate)
});
