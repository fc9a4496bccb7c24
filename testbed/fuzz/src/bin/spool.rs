//! Anything in a segment of the agent's spool.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use railgauge_testbed::mutate::{Outcomes, exercise_segment};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    exercise_segment(data, outcomes);
    railgauge_fuzz::report("spool", || outcomes.clone());
}));
