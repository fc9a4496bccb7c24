//! Anything to the histogram decoders, in each of the three forms.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use railgauge_testbed::mutate::{Outcomes, exercise_histogram};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    exercise_histogram(data, outcomes);
    railgauge_fuzz::report("histogram", || outcomes.clone());
}));
