//! Anything from a peer of the endpoint exchange; the first octet says how it is cut.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use railgauge_testbed::mutate::{Outcomes, exercise_endpoints};

thread_local! {
    static OUTCOMES: RefCell<Outcomes> = RefCell::default();
}

fuzz_target!(|data: &[u8]| OUTCOMES.with_borrow_mut(|outcomes| {
    if let [cut, stream @ ..] = data {
        exercise_endpoints(stream, usize::from(*cut), outcomes);
    }
    railgauge_fuzz::report("rdma_endpoints", || outcomes.clone());
}));
