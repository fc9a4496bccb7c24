//! Numbers in sentences.

use super::facts::Measured;

/// Three digits and a unit: `812 ns`, `58.1 us`, `4.10 ms`, `1.20 s`.
#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
pub(super) fn duration(ns: u64) -> String {
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    let ns = ns as f64;
    // What would be printed as 1000 of a unit is one of the next.
    let (value, unit) = match ns {
        ..999_500.0 => (ns / 1e3, "us"),
        ..999_500_000.0 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// `40`, `3.1`: no digits that nobody needs.
pub(super) fn times(times: f64) -> String {
    if times >= 10.0 { format!("{times:.0}") } else { format!("{times:.1}") }
}

/// `0.21 %`.
pub(super) fn share(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

/// `24.1 ms [20.3 ms, 31.0 ms]`.
pub(super) fn interval(measured: &Measured) -> String {
    let high = measured.high.map_or_else(|| "time-out".to_owned(), duration);
    format!("{} [{}, {high}]", duration(measured.value), duration(measured.low))
}

/// `1 probe`, `2 probes`.
pub(super) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (ns, text) in [
            (812, "812 ns"),
            (58_100, "58.1 us"),
            (999_499, "999 us"),
            (999_500, "1.00 ms"),
            (4_100_000, "4.10 ms"),
            (1_200_000_000, "1.20 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
        assert_eq!(share(0.0021), "0.21 %");
        assert_eq!(times(40.2), "40");
        assert_eq!(count(1, "probe"), "1 probe");
    }
}
