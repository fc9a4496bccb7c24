//! A prober, a path and a reflector in simulated time: everything random comes from one seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::driver::Run;
use crate::session::{Account, Outcome, Probe, SessionConfig};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

/// What happens in a world. Times are nanoseconds of simulated time; probabilities are per mille.
#[derive(Clone, Debug)]
pub struct World {
    pub seed: u64,
    pub config: SessionConfig,
    pub first_number: u64,
    pub delay: u64,
    pub jitter: u64,
    pub loss: u64,
    pub duplication: u64,
    pub refusal: u64,
    pub stamp_loss: u64,
    pub stamp_delay: u64,
    pub hostile: u64,
    pub reflector_stall: Range<u64>,
    pub prober_stall: Range<u64>,
    /// When the wall clock of each end steps, and by how much.
    pub prober_step: (u64, i64),
    pub reflector_step: (u64, i64),
    /// Replies that leave before the reflector knows how the first of them left.
    pub reflector_behind: usize,
    /// Probes whose reply is lost.
    pub lost_replies: Vec<u64>,
    pub stop_at: u64,
}

/// One reply as it truly was.
#[derive(Clone, Copy, Debug)]
pub struct TrueReply {
    pub t2: u64,
    pub t3: u64,
    pub arrived: u64,
}

/// One probe as it truly was.
#[derive(Clone, Debug)]
pub struct Truth {
    pub probe: Probe,
    pub sent_at: u64,
    pub left: u64,
    pub refused: bool,
    pub replies: Vec<TrueReply>,
}

/// What is left of a world.
#[derive(Debug)]
pub struct Finished {
    pub account: Account,
    pub outcomes: Vec<Outcome>,
    pub truth: BTreeMap<u64, Truth>,
    pub ended_at: u64,
}

pub fn config(interval: Duration, count: u64, timeout: Duration) -> SessionConfig {
    let late_threshold = Duration::from_millis(1);
    SessionConfig {
        interval,
        count,
        warmup: 0,
        timeout,
        late_threshold,
        flows: 1,
        transmit_stamps: true,
        second_acknowledgements: false,
    }
}

impl World {
    /// 100 us each way, and nothing goes wrong.
    pub fn calm(config: SessionConfig) -> Self {
        let never = u64::MAX..u64::MAX;
        Self {
            seed: 1,
            config,
            first_number: 0,
            delay: 100 * US,
            jitter: 0,
            loss: 0,
            duplication: 0,
            refusal: 0,
            stamp_loss: 0,
            stamp_delay: 0,
            hostile: 0,
            reflector_stall: never.clone(),
            prober_stall: never,
            prober_step: (u64::MAX, 0),
            reflector_step: (u64::MAX, 0),
            reflector_behind: 0,
            lost_replies: Vec::new(),
            stop_at: u64::MAX,
        }
    }

    pub fn has_clock_steps(&self) -> bool {
        self.prober_step.1 != 0 || self.reflector_step.1 != 0
    }

    pub fn run(&self) -> Finished {
        Run::new(self).run()
    }
}
