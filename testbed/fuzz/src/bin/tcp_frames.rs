//! Anything on a TCP stream; the first octet says how it is cut.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use railgauge_testbed::mutate::{Outcomes, exercise_frames};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    if let [cut, stream @ ..] = data {
        exercise_frames(stream, usize::from(*cut), outcomes);
    }
    railgauge_fuzz::report("tcp_frames", || outcomes.clone());
}));
