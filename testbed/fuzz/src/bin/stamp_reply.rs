//! Anything to the sender, in every mode.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use railgauge_testbed::mutate::{Outcomes, exercise_sender_reply};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    exercise_sender_reply(data, outcomes);
    railgauge_fuzz::report("stamp_reply", || outcomes.clone());
}));
