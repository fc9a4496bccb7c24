//! Whether departures are stamped at all. Drivers need not take software stamps (Documentation/networking/timestamping.rst:
//! they "require driver support"), and the kernel does not say of a packet that it never will be stamped.

use std::time::Duration;

use railgauge_core::time::Monotonic;

/// Signs of departures of one socket, until the first stamp of one.
#[derive(Debug, Default)]
pub struct DepartureStamps {
    first_sign: Option<Monotonic>,
    signs: usize,
    came: bool,
}

impl DepartureStamps {
    /// So many packets left, or replies came to so many. The clock is read only while it matters.
    pub fn departed(&mut self, count: usize, now: impl FnOnce() -> Monotonic) {
        if !self.came && count > 0 {
            self.first_sign.get_or_insert_with(now);
            self.signs = self.signs.saturating_add(count);
        }
    }

    /// A stamp came.
    pub const fn stamped(&mut self) {
        self.came = true;
    }

    /// Whether none came, in spite of so many signs and so long a time since the first.
    pub fn are_absent(
        &self,
        signs: usize,
        wait: Duration,
        now: impl FnOnce() -> Monotonic,
    ) -> bool {
        let enough = !self.came && self.signs >= signs;
        enough && self.first_sign.is_some_and(|first| now().saturating_since(first) >= wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_absent_after_enough_departures_and_time_and_never_after_one_came() {
        let at = Monotonic::from_nanos;
        let second = Duration::from_secs(1);
        let mut stamps = DepartureStamps::default();
        assert!(!stamps.are_absent(0, Duration::ZERO, || at(0)), "nothing left");
        stamps.departed(63, || at(0));
        assert!(!stamps.are_absent(64, second, || at(2_000_000_000)), "too few");
        stamps.departed(1, || at(63));
        assert!(!stamps.are_absent(64, second, || at(999_999_999)), "too soon");
        assert!(stamps.are_absent(64, second, || at(1_000_000_000)));
        stamps.stamped();
        assert!(!stamps.are_absent(64, second, || at(1_000_000_000)));
    }
}
