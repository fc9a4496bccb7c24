//! The two clocks of this host, read here and nowhere else: rules receive [`Now`].

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use railgauge_core::time::{Monotonic, Wall};

/// Readings of both clocks, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For intervals.
    pub monotonic: Monotonic,
    /// For people, and to place what agents say.
    pub wall: Wall,
}

/// Reads both.
#[expect(clippy::disallowed_methods, reason = "this is the driver that reads the clocks")]
pub fn now() -> Now {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    // Not at 0, so that what lies before the start of the process can be said too.
    let since = origin.elapsed() + Duration::from_secs(86_400);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Now { monotonic: Monotonic::from_nanos(nanos(since)), wall: Wall::from_unix_nanos(nanos(wall)) }
}
