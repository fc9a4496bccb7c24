//! From windows of a path, or of many, to the measured part of a document.

use railgauge_core::json::LatencySeries;
use railgauge_core::path::Transport;
use railgauge_core::path_window::{PathWindow, WindowAccount};
use railgauge_core::quantile::{Blocks, Summary, summarize};
use railgauge_core::timestamp_source::{StampSource, TimestampSource};

use crate::doc::{Measures, Posted};

/// App RTT takes no stamp but the application's own, at its two ends.
pub const APP_RTT_SOURCE: TimestampSource = TimestampSource {
    t1: StampSource::User,
    t2: StampSource::None,
    t3: StampSource::None,
    t4: StampSource::User,
};

const NO_PROBE: &str = "no probe was sent";
const NO_REPLY: &str = "no reply";
const NO_STAMPS_IN_STREAM: &str =
    "tcp: a byte stream has no packets whose departure and arrival could be stamped";
const NO_STAMPS_OF_MEMORY: &str =
    "rdma-rc: what is written into memory carries no stamps of its departure and arrival";
const NO_COMPLETION: &str = "no operation completed";
const NO_SPLIT: &str = "no reply had all four stamps";

/// The parts of app RTT with stamps from the same four places.
#[derive(Clone, Debug, Default)]
pub struct SplitBlocks {
    /// Network RTT.
    pub network_rtt: Blocks,
    /// Prober delay.
    pub prober_delay: Blocks,
    /// Responder delay.
    pub responder_delay: Blocks,
}

/// Everything measured so far on a path, or on many. Windows are pushed in order of time, each of them a block.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The counts, added up.
    pub account: WindowAccount,
    /// App RTT.
    pub app_rtt: Blocks,
    /// The parts, by where their stamps were taken: never merged.
    pub splits: Vec<(TimestampSource, SplitBlocks)>,
    /// From post to completion, over verbs.
    pub post_to_completion: Blocks,
    /// The prober's wall clock was stepped in some window.
    pub clock_stepped: bool,
}

impl Gathered {
    /// Adds the next window: of the path, or all paths' windows of one interval merged.
    pub fn push(&mut self, window: &PathWindow) {
        self.account.merge(&window.account);
        self.app_rtt.push(&window.app_rtt);
        self.clock_stepped |= window.clock_stepped;
        if let Some(completions) = &window.post_to_completion {
            self.post_to_completion.push(completions);
        }
        for split in &window.splits {
            let known = self.splits.iter().position(|(source, _)| *source == split.source);
            let at = known.unwrap_or_else(|| {
                self.splits.push((split.source, SplitBlocks::default()));
                self.splits.len() - 1
            });
            let parts = &mut self.splits[at].1;
            parts.network_rtt.push(&split.network_rtt);
            parts.prober_delay.push(&split.prober_delay);
            parts.responder_delay.push(&split.responder_delay);
        }
    }

    /// The split that most replies have (the first of those with equally many).
    pub fn main_split(&self) -> Option<&(TimestampSource, SplitBlocks)> {
        self.splits.iter().rev().max_by_key(|(_, parts)| parts.network_rtt.total().replies())
    }

    /// The measured part of a document. `timeout_ns` is what a time-out is known to have reached.
    pub fn measures(&self, timeout_ns: u64, transport: Transport) -> Measures {
        let mut notes = Notes::default();
        let mut series = |name, blocks: &Blocks, source: &TimestampSource| {
            let total = blocks.total();
            (total.replies() > 0).then(|| {
                let summary = summarize(blocks, timeout_ns);
                notes.add(name, &summary);
                LatencySeries::from_summary(&summary, source, total)
            })
        };
        let split = self.main_split().filter(|_| transport != Transport::Tcp);
        let network_rtt = split.and_then(|(s, b)| series("network_rtt", &b.network_rtt, s));
        let prober_delay = split.and_then(|(s, b)| series("prober_delay", &b.prober_delay, s));
        let responder_delay =
            split.and_then(|(s, b)| series("responder_delay", &b.responder_delay, s));
        let app_rtt = series("app_rtt", &self.app_rtt, &APP_RTT_SOURCE);
        let post_to_completion =
            series("post_to_completion", &self.post_to_completion, &APP_RTT_SOURCE);
        let no_app = if self.account.sent == 0 { NO_PROBE } else { NO_REPLY };
        let no_split = match transport {
            _ if app_rtt.is_none() => no_app,
            Transport::Tcp => NO_STAMPS_IN_STREAM,
            Transport::RdmaRc => NO_STAMPS_OF_MEMORY,
            Transport::Udp | Transport::RdmaUd => NO_SPLIT,
        };
        let no_completion = if self.account.sent == 0 { NO_PROBE } else { NO_COMPLETION };
        let missing =
            |series: &Option<LatencySeries>, why: &str| series.is_none().then(|| why.to_owned());
        // Sockets have no such series at all.
        let posted = transport.rdma_service().map(|_| Posted {
            post_to_completion_reason: missing(&post_to_completion, no_completion),
            post_to_completion,
        });
        Measures {
            counts: self.account.into(),
            validity: self.validity(transport, notes),
            network_rtt_reason: missing(&network_rtt, no_split),
            prober_delay_reason: missing(&prober_delay, no_split),
            responder_delay_reason: missing(&responder_delay, no_split),
            app_rtt_reason: missing(&app_rtt, no_app),
            network_rtt,
            app_rtt,
            prober_delay,
            responder_delay,
            posted,
        }
    }

    fn validity(&self, transport: Transport, notes: Notes) -> Vec<String> {
        let mut sentences = notes.sentences();
        if transport != Transport::Tcp && self.splits.len() > 1 {
            sentences.push(format!(
                "stamps were taken in {} kinds of places: shown is the kind that most replies have",
                self.splits.len()
            ));
        }
        if self.clock_stepped {
            sentences.push("the prober's wall clock was stepped meanwhile".to_owned());
        }
        sentences
    }
}

impl<'a> FromIterator<&'a PathWindow> for Gathered {
    fn from_iter<I: IntoIterator<Item = &'a PathWindow>>(windows: I) -> Self {
        let mut gathered = Self::default();
        windows.into_iter().for_each(|window| gathered.push(window));
        gathered
    }
}

/// What limits the series: each limit once, with the series that it holds for.
#[derive(Default)]
struct Notes(Vec<(String, Vec<&'static str>)>);

impl Notes {
    fn add(&mut self, name: &'static str, summary: &Summary) {
        for text in summary.notes.iter().map(ToString::to_string) {
            match self.0.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name),
                None => self.0.push((text, vec![name])),
            }
        }
    }

    fn sentences(self) -> Vec<String> {
        self.0.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", "))).collect()
    }
}
