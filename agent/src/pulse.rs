//! When a thread was last seen alive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;

/// Beaten by one thread, read by others.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// Alive now.
    pub fn begin() -> Self {
        Self(AtomicU64::new(clock::monotonic().as_nanos()))
    }

    /// Alive at `now`.
    pub fn beat(&self, now: Monotonic) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn age(&self) -> Duration {
        clock::monotonic().saturating_since(Monotonic::from_nanos(self.0.load(Ordering::Relaxed)))
    }
}
