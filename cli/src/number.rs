//! Durations, sizes and counts as people write and read them.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

const UNITS: [(&str, f64); 7] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86_400e9),
];

/// Reads `50us`, `1.5ms`, `10s`, `5m`, `1h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || {
        format!("{text:?} is no duration: write a number and ns, us, ms, s, m, h or d, as in 50us")
    };
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let nanos = (number * factor).round();
    if !(nanos.is_finite() && (0.0..=9e18).contains(&nanos)) {
        return Err(format!("{text:?} is beyond any duration this tool can keep"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(Duration::from_nanos(nanos as u64))
}

/// As [`duration`], between two bounds.
pub fn duration_between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let value = duration(text)?;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(format!("{text:?} is out of range: from {} to {}", span(least), span(most)))
}

/// A duration as it is typed, in the largest unit that leaves no fraction: `1us`, `30d`.
pub fn span(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let units: [(&str, u128); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let fits = units.iter().find(|(_, factor)| nanos > 0 && nanos.is_multiple_of(*factor));
    fits.map_or_else(|| "0s".to_owned(), |(unit, factor)| format!("{}{unit}", nanos / factor))
}

/// A parser of whole numbers within `range`, for the command line.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: TryFrom<u64> + PartialOrd + Display + Copy,
{
    move |text| {
        let (least, most) = (range.start(), range.end());
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{text:?} is no whole number from {least} to {most}"))
    }
}

/// Reads a size in octets: `44`, `1KiB`, `8KiB`.
pub fn octets(text: &str) -> Result<usize, String> {
    let (number, factor) = match text.strip_suffix("KiB") {
        Some(number) => (number, 1024),
        None => (text.strip_suffix('B').unwrap_or(text), 1),
    };
    let number: usize = number
        .parse()
        .map_err(|_| format!("{text:?} is no size: write octets, as in 44 or 8KiB"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is beyond any packet"))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, nanos) in [
            ("50us", 50_000),
            ("1ms", 1_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("7d", 604_800_000_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "ms", "-1s", "1 s", "1e3s", "1..2s", "99999999999h"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bounds_are_written_as_they_are_typed() {
        let error = duration_between("2h", Duration::from_micros(1), Duration::from_secs(3600));
        assert_eq!(error, Err("\"2h\" is out of range: from 1us to 1h".to_owned()));
        assert_eq!(span(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(span(Duration::ZERO), "0s");
    }

    #[test]
    fn whole_numbers_have_bounds() {
        let parse = whole(1_u16..=64);
        assert_eq!([parse("1"), parse("64")], [Ok(1), Ok(64)]);
        for text in ["", "0", "65", "-1", "x", "1.5", "99999999999999999999", "+ 1"] {
            let error = parse(text).unwrap_err();
            assert!(error.ends_with("is no whole number from 1 to 64"), "{error}");
        }
    }

    #[test]
    fn latencies_have_three_digits() {
        let shown: Vec<_> =
            [0, 999, 1_000, 9_994, 9_996, 12_345, 99_960, 1_234_567, 60_000_000_000]
                .map(latency)
                .to_vec();
        assert_eq!(
            shown,
            ["0ns", "999ns", "1.00us", "9.99us", "10.0us", "12.3us", "100us", "1.23ms", "60.0s"]
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
