//! Anything to the reflector, in every mode.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use railgauge_testbed::mutate::ReflectorExercise;

thread_local! {
    static REFLECTORS: RefCell<ReflectorExercise> = RefCell::default();
}

fuzz_target!(|data: &[u8]| REFLECTORS.with_borrow_mut(|reflectors| {
    reflectors.exercise(data);
    railgauge_fuzz::report("stamp_request", || reflectors.outcomes());
}));
