//! Durations, shares and counts as people read them.

/// Nanoseconds in the unit that fits `scale`, with three significant digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
pub fn in_unit_of(scale: u64, nanos: u64) -> (String, &'static str) {
    let (unit, factor) = match scale {
        0..1_000 => ("ns", 1.0),
        1_000..1_000_000 => ("us", 1e3),
        1_000_000..1_000_000_000 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    let value = nanos as f64 / factor;
    let decimals = match value {
        _ if factor == 1.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    (format!("{value:.decimals$}"), unit)
}

/// Nanoseconds with their unit: `12.3us`.
pub fn latency(nanos: u64) -> String {
    let (number, unit) = in_unit_of(nanos, nanos);
    number + unit
}

/// An interval in its value's unit where all three have the same, else each end with its own; `timeout` for an end among the
/// losses: `[12.2-12.5]`.
pub fn interval(value_ns: u64, low_ns: u64, high_ns: Option<u64>) -> String {
    let unit = |nanos: u64| in_unit_of(nanos, nanos).1;
    let alike =
        unit(low_ns) == unit(value_ns) && high_ns.is_none_or(|high| unit(high) == unit(value_ns));
    let end = |nanos| if alike { in_unit_of(value_ns, nanos).0 } else { latency(nanos) };
    let high = high_ns.map_or_else(|| "timeout".to_owned(), end);
    format!("[{}-{high}]", end(low_ns))
}

/// A count with thousands set apart: `10,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 node`, `2,000 nodes`.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

/// Of how many, as a share; `None` of none.
#[expect(clippy::cast_precision_loss, reason = "printed with three digits")]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A share as per cent, with what digits it takes to tell it from none: `0 %`, `0.02 %`, `12 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p <= 0.0 => "0 %".to_owned(),
        p if p < 0.001 => "<0.001 %".to_owned(),
        p if p < 0.1 => format!("{p:.3} %"),
        p if p < 1.0 => format!("{p:.2} %"),
        p if p < 10.0 => format!("{p:.1} %"),
        // Never rounded up to all.
        p if (99.0..100.0).contains(&p) => format!("{:.1} %", (p * 10.0).floor() / 10.0),
        p => format!("{p:.0} %"),
    }
}

/// How long something took: `850ms`, `12.3s`, `4m 12s`, `2h 5m`.
pub fn span(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0..60 => latency(nanos),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits() {
        let shown: Vec<_> =
            [0, 999, 1_000, 9_996, 12_345, 99_960, 60_000_000_000].map(latency).into();
        assert_eq!(shown, ["0ns", "999ns", "1.00us", "10.0us", "12.3us", "100us", "60.0s"]);
        assert_eq!(interval(12_300, 12_200, Some(12_500)), "[12.2-12.5]");
        assert_eq!(interval(12_300, 900, None), "[900ns-timeout]");
    }

    #[test]
    fn shares_tell_some_from_none_and_from_all() {
        let shown = [0.0, 1e-6, 2e-4, 0.005, 0.1234, 0.9999, 1.0].map(percent);
        assert_eq!(shown, ["0 %", "<0.001 %", "0.020 %", "0.50 %", "12 %", "99.9 %", "100 %"]);
        assert_eq!(share(0, 0), None);
    }

    #[test]
    fn spans_and_counts() {
        assert_eq!(
            [850_000_000, 252_000_000_000, 7_500_000_000_000].map(span),
            ["850ms", "4m 12s", "2h 5m"]
        );
        assert_eq!(
            (counted(1, "node"), counted(1_234, "path")),
            ("1 node".into(), "1,234 paths".into())
        );
    }
}
