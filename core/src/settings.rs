//! Configuration files: TOML in, a typed value or a sentence with file, line, key and way out.
//!
//! The text is an argument; who calls reads the file.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A key that nobody reads.
    #[error("{file}:{line}: unknown key {key:?}; {}", advice(nearest.as_deref(), known))]
    UnknownKey {
        /// The file, as named by the caller.
        file: String,
        /// From 1.
        line: usize,
        /// As written.
        key: String,
        /// The known key that it most resembles, where one does.
        nearest: Option<String>,
        /// All that could stand there.
        known: Vec<String>,
    },
    /// A value that its key cannot have.
    #[error("{file}:{line}: {key}: {what}")]
    Value {
        /// The file, as named by the caller.
        file: String,
        /// From 1.
        line: usize,
        /// The key whose value it is, with its table.
        key: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Not TOML, or something missing.
    #[error("{file}:{line}: {what}")]
    Text {
        /// The file, as named by the caller.
        file: String,
        /// From 1.
        line: usize,
        /// What the reader stumbled over.
        what: String,
    },
}

fn advice(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(key) => format!("did you mean {key:?}?"),
        None if known.is_empty() => "no key is known here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Reads `text`, the contents of `file`, into `T`, which denies unknown fields.
///
/// # Errors
/// The first thing that is wrong.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, SettingsError> {
    toml::from_str(text)
        .map_err(|error| explain(file, text, error.span().unwrap_or_default(), error.message()))
}

fn explain(file: &str, text: &str, at: Range<usize>, message: &str) -> SettingsError {
    let before = text.get(..at.start).unwrap_or(text);
    let stumbled = text.get(at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let file = file.to_owned();
    if let Some((key, known)) = unknown_key(message) {
        let nearest = nearest(&key, &known);
        return SettingsError::UnknownKey { file, line, key, nearest, known };
    }
    let what = readable(&message.trim().replace('\n', ", "), stumbled);
    match key_before(before).or_else(|| key_of(stumbled)) {
        Some(key) => SettingsError::Value { file, line, key, what },
        None => SettingsError::Text { file, line, what },
    }
}

/// Takes apart serde's own sentence, "unknown field `a`, expected one of `b`, `c`": the only form in which it tells.
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.rsplit_once("`, expected").or_else(|| rest.rsplit_once("`, there"))?;
    let (key, rest) = match key.split_once("`, expected") {
        Some((key, more)) => (key, format!("{more}{rest}")),
        None => (key, rest.to_owned()),
    };
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((key.to_owned(), known))
}

/// The key whose value begins where `before` ends, with its table: `retention.raw`.
fn key_before(before: &str) -> Option<String> {
    let line = before.lines().next_back().filter(|_| !before.ends_with('\n'))?;
    let (key, _) = line.split_once('=')?;
    let table = before.lines().rev().skip(1).find_map(|line| {
        let line = line.trim();
        let (table, _) = line.strip_prefix('[')?.split_once(']')?;
        Some(table.trim_start_matches('[').trim())
    });
    let key = key.trim();
    Some(table.map_or_else(|| key.to_owned(), |table| format!("{table}.{key}")))
}

/// The key or table that begins with `stumbled`, as one that is there twice.
fn key_of(stumbled: &str) -> Option<String> {
    let line = stumbled.lines().next()?.trim();
    let name = line.trim_start_matches('[').trim_end_matches(']').trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

/// What the reader says of a value, in words of configuration instead of types of ours.
fn readable(message: &str, value: &str) -> String {
    if message == "invalid socket address syntax" {
        return format!(
            "{value} is no address with a port: write one as \"127.0.0.1:7460\", in digits"
        );
    }
    if message == "invalid IP address syntax" {
        return format!("{value} is no address: write one as \"192.0.2.7\", in digits");
    }
    let words = [
        ("expected u16", "expected a whole number from 0 to 65535, without quotes"),
        ("expected u32", "expected a whole number from 0 to 4294967295, without quotes"),
        ("expected usize", "expected a whole number from 0, without quotes"),
        ("expected a boolean", "expected true or false, without quotes"),
        ("expected a sequence", "expected a list, whose tables begin with the name in [[ ]]"),
        ("expected a map", "expected a table, which begins with the name in [ ]"),
    ];
    let message = message.replace("missing field", "missing key");
    let ours = words.iter().find_map(|(theirs, ours)| Some((message.strip_suffix(theirs)?, *ours)));
    ours.map_or_else(|| message.clone(), |(rest, ours)| format!("{rest}{ours}"))
}

/// The one of `known` that `key` most resembles: at most a third of its letters differ, but two may.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let most = (key.chars().count() / 3).max(2);
    let distances = known.iter().map(|known| (distance(key, known), known));
    let (least, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (least <= most).then(|| name.clone())
}

/// Letters to insert, remove or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(diagonal + 1).min(row[m] + 1);
        }
    }
    row[b.len()]
}

/// A number with a unit that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A duration.
    #[error(
        "{0:?} is no duration: write a number and its unit (ns, us, ms, s, m, h or d), as in \"10s\""
    )]
    Span(String),
    /// A size.
    #[error(
        "{0:?} is no size: write a number and its unit (B, KiB, MiB, GiB or TiB), as in \"20GiB\""
    )]
    Size(String),
}

/// Units of time, largest first, in nanoseconds.
const SPANS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size, largest first, in octets.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A whole or decimal number followed by one of `units`, in the smallest of them.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let all = whole.parse::<u64>().ok()?.checked_mul(*factor)?;
    // Nine places suffice for a second in nanoseconds; more would only hide a typing mistake.
    let places = u32::try_from(fraction.len()).ok().filter(|places| (1..=9).contains(places))?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*factor);
    all.checked_add(u64::try_from(part / 10u128.pow(places)).ok()?)
}

fn in_largest(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let fits = units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    fits.map_or_else(|| zero.to_owned(), |(unit, factor)| format!("{}{unit}", value / factor))
}

/// A duration as it is written in configuration: `"10s"`, `"1.5ms"`, `"30d"`. Below 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// From a duration, which is cut to what can be kept.
    pub fn new(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// From seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        with_unit(text, &SPANS).map(Self).ok_or_else(|| UnitError::Span(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&in_largest(self.0, &SPANS, "0s"))
    }
}

/// A size as it is written in configuration: `"20GiB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// From octets.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Octets.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        with_unit(text, &SIZES).map(Self).ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&in_largest(self.0, &SIZES, "0B"))
    }
}

/// Reads text by `FromStr`; a bare number gets the same sentence, as a number without unit is what people write.
struct Text<T>(fn(String) -> T);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Text<Result<T, UnitError>> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with its unit, in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text.to_owned()).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.0)(number.to_string()).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.0)(number.to_string()).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        (self.0)(number.to_string()).map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($name:ident),*) => { $(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Text(|text| text.parse::<$name>()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )* };
}

as_text!(Span, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        window: Option<Span>,
        listen: Option<std::net::SocketAddr>,
        #[expect(dead_code, reason = "for its mistakes")]
        address: Option<std::net::IpAddr>,
        #[expect(dead_code, reason = "for its mistakes")]
        most: Option<u32>,
        #[expect(dead_code, reason = "for its mistakes")]
        on: Option<bool>,
        retention: Option<Retention>,
        #[expect(dead_code, reason = "for its mistakes")]
        port: Option<Vec<Port>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Port {
        #[expect(dead_code, reason = "for its mistakes")]
        name: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Retention {
        bytes: Option<Size>,
    }

    fn said(text: &str) -> String {
        read::<Example>("a.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_right_is_read() {
        let text = "window = \"1.5s\"\nlisten = \"[::1]:7460\"\n[retention]\nbytes = \"20GiB\"\n";
        let read = read::<Example>("a.toml", text).unwrap();
        assert_eq!(read.window.unwrap().duration(), Duration::from_millis(1_500));
        assert!(read.listen.unwrap().is_ipv6());
        assert_eq!(read.retention.unwrap().bytes.unwrap().as_bytes(), 20 << 30);
    }

    #[test]
    fn mistakes_name_file_line_key_and_way_out() {
        let cases = [
            ("\n\nwindwo = \"1s\"\n", "a.toml:3: unknown key \"windwo\"; did you mean \"window\"?"),
            (
                "colour = 1\n",
                "a.toml:1: unknown key \"colour\"; known here: window, listen, address, most, on, retention, port",
            ),
            (
                "[retention]\n\nbyte = \"1B\"\n",
                "a.toml:3: unknown key \"byte\"; did you mean \"bytes\"?",
            ),
            (
                "window = 10\n",
                "a.toml:1: window: \"10\" is no duration: write a number and its unit (ns, us, ms, s, m, h or d), as in \
                 \"10s\"",
            ),
            (
                "# c\nwindow = \"10GiB\"\n",
                "a.toml:2: window: \"10GiB\" is no duration: write a number and its unit (ns, us, ms, s, m, h or d), as \
                 in \"10s\"",
            ),
            (
                "[retention]\nbytes = \"20GB\"",
                "a.toml:2: retention.bytes: \"20GB\" is no size: write a number and its unit (B, KiB, MiB, GiB or TiB), \
                 as in \"20GiB\"",
            ),
            (
                "listen = \"here\"",
                "a.toml:1: listen: \"here\" is no address with a port: write one as \"127.0.0.1:7460\", in digits",
            ),
            (
                "address = \"127.0.0\"",
                "a.toml:1: address: \"127.0.0\" is no address: write one as \"192.0.2.7\", in digits",
            ),
            (
                "most = -1",
                "a.toml:1: most: invalid value: integer `-1`, expected a whole number from 0 to 4294967295, without quotes",
            ),
            (
                "most = \"5\"",
                "a.toml:1: most: invalid type: string \"5\", expected a whole number from 0 to 4294967295, without quotes",
            ),
            (
                "on = \"yes\"",
                "a.toml:1: on: invalid type: string \"yes\", expected true or false, without quotes",
            ),
            (
                "\n[port]\nname = \"a\"\n",
                "a.toml:2: port: invalid type: map, expected a list, whose tables begin with the name in [[ ]]",
            ),
            ("[[port]]\n", "a.toml:1: port: missing key `name`"),
            ("most = 1\nmost = 2\n", "a.toml:2: most: duplicate key"),
        ];
        for (text, expected) in cases {
            assert_eq!(said(text), expected, "{text:?}");
        }
        assert!(said("window = [\n").starts_with("a.toml:"), "{}", said("window = [\n"));
        assert!(said("window\n").starts_with("a.toml:1: "), "{}", said("window\n"));
    }

    #[test]
    fn hostile_keys_do_no_harm() {
        for text in ["\"`, expected\" = 1", "\"\\n\" = 1", "\"\" = 1", "\u{fffd} = 1"] {
            assert!(said(text).starts_with("a.toml:1: "), "{}", said(text));
        }
    }

    #[test]
    fn units_are_written_as_they_are_read() {
        for text in ["0s", "1ns", "1500us", "10s", "90m", "25h", "30d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0B", "44B", "8KiB", "3TiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["", "s", "1", "-1s", "1 s", "1.s", ".5s", "1.2.3s", "1e3s", "9999999d", "1S"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
