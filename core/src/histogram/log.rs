//! HdrHistogram interval logs, format 1.3: lines of text that HdrHistogram's own tools read.
//!
//! Times are seconds with a decimal point. Interval starts are relative to the log's start, which is also its
//! `BaseTime`, so that no reader has to guess. The maximum of a line is in milliseconds: the tools' writers divide
//! nanoseconds by 1,000,000 unless told otherwise (`maxValueUnitRatio`), and their readers only show it. The
//! histogram itself counts nanoseconds. Samples above 60 s and time-outs have no place in the format.

use std::fmt;
use std::time::Duration;

use super::Window;
use crate::time::Wall;

/// The lines that begin a log: version, start and base time, legend. Ends with a line break.
pub struct Header {
    /// When the log begins; the intervals count from here.
    pub start: Wall,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = Duration::from_nanos(self.start.as_unix_nanos());
        let (seconds, millis) = (start.as_secs(), start.subsec_millis());
        writeln!(f, "#[Histogram log format version 1.3]")?;
        writeln!(f, "#[StartTime: {seconds}.{millis:03} (seconds since epoch)]")?;
        writeln!(f, "#[BaseTime: {seconds}.{millis:03} (seconds since epoch)]")?;
        writeln!(
            f,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )
    }
}

/// One interval of one series: a line, with its line break.
pub struct Interval<'a> {
    /// The series, such as `network_rtt`; without comma, blank or line break.
    pub tag: &'a str,
    /// From the start of the log to the start of the interval.
    pub start: Duration,
    /// How long the interval is.
    pub length: Duration,
    /// What was recorded in it.
    pub window: &'a Window,
}

impl fmt::Display for Interval<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_assert!(!self.tag.contains([',', ' ', '\r', '\n']), "tag {:?}", self.tag);
        // Of the values in range: the tools compare it with the histogram they decode.
        let last = self.window.counts().entries().last().map_or(0, |e| e.0);
        let in_range = super::layout::highest_equivalent(last);
        let max = Duration::from_nanos(self.window.max_ns().unwrap_or(0).min(in_range));
        writeln!(
            f,
            "Tag={},{}.{:03},{}.{:03},{}.{:06},{}",
            self.tag,
            self.start.as_secs(),
            self.start.subsec_millis(),
            self.length.as_secs(),
            self.length.subsec_millis(),
            max.as_nanos() / 1_000_000,
            max.as_nanos() % 1_000_000,
            self.window.counts().to_base64(),
        )
    }
}

#[cfg(test)]
mod tests;
