//! Anything as the `Accept` headers of a scraper.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use railgauge_testbed::mutate::{Mutator, Outcomes, exercise_accept, seeds};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    exercise_accept(data, outcomes);
    railgauge_fuzz::report("accept", || outcomes.clone());
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    railgauge_fuzz::mutate(data, (size, max_size), seed, seeds::accepts, Mutator::mutate)
});
