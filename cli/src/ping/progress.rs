//! One live line on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use railgauge_agent::ping::Progress;

use crate::number;

/// The line; invisible where stderr is no terminal.
pub struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// For a run of `count` probes.
    pub fn new(count: u64) -> Self {
        let bar = ProgressBar::new(count);
        if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {bar:30} {percent} % {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// Shows how far the run is.
    pub fn update(&self, progress: Progress) {
        self.0.set_position(progress.received + progress.lost);
        let median = progress.app_rtt_p50_ns.map_or_else(|| "-".to_owned(), number::latency);
        let lost = number::count(progress.lost);
        self.0.set_message(format!("app_rtt p50 {median}, lost {lost}"));
    }

    /// Removes the line: the table follows.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
