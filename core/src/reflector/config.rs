//! What an operator decides about a reflector.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};

use crate::stamp::{ErrorEstimate, Key};

/// Replies per second and source unless said otherwise (`--max-rate`): ten times what a person measures
/// with, and at 44 octets 3.5 Mbit/s towards an address that may be forged.
pub const DEFAULT_MAX_RATE: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
/// Requests that a source may send at once before the rate binds: 100 ms' worth, one stalled prober's
/// catching up.
pub const DEFAULT_BURST: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
/// Sessions kept. At about 600 octets each 2.5 MiB; a prober on each of 512 nodes with 8 flows fits.
pub const DEFAULT_MAX_SESSIONS: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// Sources whose rate is remembered, about 100 octets each.
pub const DEFAULT_MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// How a reflector answers.
#[derive(Clone, Debug)]
pub struct ReflectorConfig {
    /// Keys of authenticated requests; several while keys rotate.
    pub keys: Vec<Key>,
    /// Whether requests without authentication are answered.
    pub plain: PlainRequests,
    /// Strict: only these are answered. `None` answers everybody.
    pub provisioned: Option<Vec<Provisioned>>,
    /// What we say about our clock. The format of our stamps follows each request's Z bit, which RFC
    /// 8762 section 4.2.1 leaves to configuration: a sender can read what it writes itself.
    pub error_estimate: ErrorEstimate,
    /// Replies per second and source address; `None` for no bound.
    pub max_rate: Option<NonZeroU32>,
    /// How many requests of one source may come at once.
    pub burst: NonZeroU32,
    /// Sessions kept; a new one evicts the longest idle.
    pub max_sessions: NonZeroUsize,
    /// Source addresses whose rate is remembered; a new one evicts the longest idle.
    pub max_sources: NonZeroUsize,
}

impl Default for ReflectorConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            plain: PlainRequests::WithoutKeys,
            provisioned: None,
            error_estimate: ErrorEstimate::UNSYNCHRONIZED,
            max_rate: Some(DEFAULT_MAX_RATE),
            burst: DEFAULT_BURST,
            max_sessions: DEFAULT_MAX_SESSIONS,
            max_sources: DEFAULT_MAX_SOURCES,
        }
    }
}

/// When requests without authentication are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainRequests {
    /// While there is no key: with one, whoever has none is nobody's friend.
    #[default]
    WithoutKeys,
    /// Always: the key proves who we are to those who ask for it.
    Always,
    /// Never, even before the first key is there.
    Never,
}

/// A sender that a strict reflector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// Its address.
    pub source: IpAddr,
    /// The one session it may run, or any.
    pub ssid: Option<u16>,
}

impl Provisioned {
    pub(super) fn matches(&self, source: IpAddr, ssid: u16) -> bool {
        self.source.to_canonical() == source && self.ssid.is_none_or(|own| own == ssid)
    }
}
