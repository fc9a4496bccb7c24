//! What the files of the store are called: `raw-2026-11-23T07-15.redb`, `minute-2026-11-23T07.redb`, `hour-2026-11-23T07.redb`.

use std::fmt;

/// Minutes in an hour.
pub(super) const HOUR: u32 = 60;
/// Nanoseconds in a minute.
pub(super) const MINUTE_NS: u64 = 60_000_000_000;

/// How finely a file keeps windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// As they came.
    Raw,
    /// Merged by minute.
    Minute,
    /// Merged by hour.
    Hour,
}

impl Level {
    /// Minutes that one of its files covers. Raw files are short, because they are the big ones: each is deleted as a whole.
    pub(super) const fn span(self) -> u32 {
        match self {
            Self::Raw => 5,
            Self::Minute | Self::Hour => HOUR,
        }
    }

    /// The word in file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// One file: its level and its first minute, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId {
    /// First, so that files sort by time.
    pub(super) start: u32,
    pub(super) level: Level,
}

impl FileId {
    /// The file of `level` that covers `minute`.
    pub(super) const fn of(level: Level, minute: u32) -> Self {
        Self { level, start: minute - minute % level.span() }
    }

    /// The first minute of its hour.
    pub(super) const fn hour(self) -> u32 {
        self.start - self.start % HOUR
    }

    /// The first minute after it.
    pub(super) const fn end(self) -> u32 {
        self.start + self.level.span()
    }

    /// From a file name; `None` for what is no file of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (level, rest) = name.strip_suffix(".redb")?.split_once('-')?;
        let level =
            [Level::Raw, Level::Minute, Level::Hour].into_iter().find(|l| l.as_str() == level)?;
        let (day, time) = rest.split_once('T')?;
        let (hour, minute) = time.split_once('-').unwrap_or((time, "00"));
        let at: jiff::Timestamp = format!("{day}T{hour}:{minute}:00Z").parse().ok()?;
        let minute = u32::try_from(at.as_second().div_euclid(60)).ok()?;
        let id = Self { level, start: minute };
        (id.to_string() == name && id == Self::of(level, minute)).then_some(id)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = minute_text(self.start);
        let (hour, minute) = (text.get(..13).unwrap_or(""), text.get(14..16).unwrap_or(""));
        match self.level {
            Level::Raw => write!(f, "raw-{hour}-{minute}.redb"),
            level => write!(f, "{}-{hour}.redb", level.as_str()),
        }
    }
}

/// `2026-11-23T07:15:00Z`.
pub(super) fn minute_text(minute: u32) -> String {
    let at = jiff::Timestamp::from_second(i64::from(minute) * 60).unwrap_or_default();
    at.to_string()
}

/// The minute of an instant.
pub(super) fn minute_of(unix_ns: u64) -> u32 {
    u32::try_from(unix_ns / MINUTE_NS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_and_are_read_back() {
        let minute = minute_of(1_795_418_220_000_000_000);
        for (level, name) in [
            (Level::Raw, "raw-2026-11-23T07-15.redb"),
            (Level::Minute, "minute-2026-11-23T07.redb"),
            (Level::Hour, "hour-2026-11-23T07.redb"),
        ] {
            let id = FileId::of(level, minute);
            assert_eq!(id.to_string(), name);
            assert_eq!(FileId::parse(name), Some(id));
        }
        for none in [
            "raw-2026-11-23T07.redb",
            "hour-2026-11-23T07-15.redb",
            "x",
            "raw-2026-11-23T07-16.redb",
        ] {
            assert_eq!(FileId::parse(none), None, "{none}");
        }
    }
}
