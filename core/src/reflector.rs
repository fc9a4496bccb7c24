//! The Session-Reflector's rules (RFC 8762 section 4.3, RFC 8972): one request in, one reply or a reason out.
//!
//! A reply is made in two steps, because t3 should be read as late as can be: [`Reflector::receive`] judges
//! the request and writes everything but t3 and the base HMAC, [`Prepared::finish`] adds those. Once the
//! kernel or the NIC has told when the reply truly left, [`Reflector::transmitted`] keeps that for the
//! session, and a later reply carries it in Follow-Up Telemetry.
//!
//! Bounds: sessions and sources live in tables of fixed size, the longest idle entry making room; nothing is
//! allocated after [`Reflector::new`]. A reply has exactly as many octets as its request, and a request below
//! the base size gets none, so that nobody can use us as an amplifier (RFC 8762 section 4.6 would answer
//! such a one with a base packet: our first stated deviation). The second: who is not provisioned is
//! answered too, at a bounded rate, unless [`ReflectorConfig::provisioned`] says who is.

mod config;
mod counters;
mod least_recent;
mod rate;
mod reply;
mod session;

pub use config::{
    DEFAULT_BURST, DEFAULT_MAX_RATE, DEFAULT_MAX_SESSIONS, DEFAULT_MAX_SOURCES, PlainRequests,
    Provisioned, ReflectorConfig,
};
pub use counters::{Counters, DropReason};
pub use reply::Prepared;
pub use session::TransmitToken;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::stamp::layout::{HMAC_COVERED, Layout, get};
use crate::stamp::{ErrorEstimate, Key};
use crate::time::{Monotonic, Wall};
use crate::timestamp_source::StampSource;
use rate::Limiter;
use reply::Composer;
use session::{SessionKey, Sessions};

/// What the driver knows about a received datagram beside its octets.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// When it arrived.
    pub t2: Wall,
    /// Who took that stamp.
    pub t2_source: StampSource,
    /// Who will take the true transmit stamp of this reply ([`Reflector::transmitted`]); `User` when nobody will, and
    /// the t3 in the reply is the last word.
    pub t3_source: StampSource,
    /// TTL or Hop Limit it arrived with, when the socket tells.
    pub ttl: Option<u8>,
}

/// A reflector's whole state.
#[derive(Debug)]
pub struct Reflector {
    keys: Vec<Arc<Key>>,
    plain: PlainRequests,
    provisioned: Option<Vec<Provisioned>>,
    error_estimate: ErrorEstimate,
    limiter: Option<Limiter>,
    sessions: Sessions,
    counters: Counters,
}

impl Reflector {
    /// A reflector without sessions; all its memory is taken here.
    pub fn new(config: ReflectorConfig) -> Self {
        let limiter =
            config.max_rate.map(|rate| Limiter::new(rate, config.burst, config.max_sources));
        Self {
            keys: config.keys.into_iter().map(Arc::new).collect(),
            plain: config.plain,
            provisioned: config.provisioned,
            error_estimate: config.error_estimate,
            limiter,
            sessions: Sessions::new(config.max_sessions),
            counters: Counters::default(),
        }
    }

    /// Replaces the keys, as when they rotate: requests made with any of them are answered, each with the
    /// key it came with.
    pub fn set_keys(&mut self, keys: Vec<Key>) {
        self.keys = keys.into_iter().map(Arc::new).collect();
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Judges `request`, which came `from` there, and writes the reply but for t3 and the base HMAC into
    /// `out`, which must be at least as long as the request.
    ///
    /// # Errors
    /// Why there is no reply; counted.
    pub fn receive(
        &mut self,
        now: Monotonic,
        from: SocketAddr,
        request: &[u8],
        rx: Received,
        out: &mut [u8],
    ) -> Result<Prepared, DropReason> {
        self.counters.received += 1;
        let outcome = self.judge(now, from, request, out.len());
        let (key, session_key) = outcome.inspect_err(|reason| self.counters.drop(*reason))?;
        let sender_seq = u32::from_be_bytes(get(request, 0));
        let token = self.sessions.next_turn(session_key, now, sender_seq, &mut self.counters);
        let composer = Composer { request, rx, error_estimate: self.error_estimate, key, token };
        let prepared =
            composer.compose(out, &mut self.counters, || self.sessions.take_follow_up(token));
        self.counters.replied += 1;
        Ok(prepared)
    }

    /// Keeps the time at which the reply that `token` stands for truly left, for a later reply to carry.
    /// A session that has ended meanwhile has no use for it; that is counted and no error.
    pub fn transmitted(&mut self, token: TransmitToken, t3: Wall, source: StampSource) {
        self.sessions.keep_follow_up(token, t3, source, &mut self.counters);
    }

    /// Cheapest question first, so that a flood costs little: size, rate, then the HMAC. So a forger of
    /// source addresses can use up the rate of the address he forges, but not our CPU.
    fn judge(
        &mut self,
        now: Monotonic,
        from: SocketAddr,
        request: &[u8],
        room: usize,
    ) -> Result<(Option<Arc<Key>>, SessionKey), DropReason> {
        let base = Layout::of(false).len;
        if request.len() < base {
            return Err(DropReason::TooShort);
        }
        if request.len() > room {
            return Err(DropReason::NoRoom);
        }
        let source = from.ip().to_canonical();
        if let Some(limiter) = &mut self.limiter
            && !limiter.admits(source, now, &mut self.counters)
        {
            return Err(DropReason::RateLimited);
        }
        let key = self.authenticate(request)?;
        let ssid = u16::from_be_bytes(get(request, Layout::of(key.is_some()).ssid));
        self.check_provisioned(source, ssid)?;
        Ok((key, SessionKey::new(source, from, ssid)))
    }

    /// The key under which the base packet verifies; `None` in unauthenticated mode.
    fn authenticate(&self, request: &[u8]) -> Result<Option<Arc<Key>>, DropReason> {
        let long_enough = request.len() >= Layout::of(true).len;
        let looks_authenticated = long_enough && looks_authenticated(request);
        if long_enough && !self.keys.is_empty() {
            let digest = get(request, HMAC_COVERED);
            let covered = [&request[..HMAC_COVERED], &[][..]];
            if let Some(key) = self.keys.iter().find(|key| key.verifies(covered, digest)) {
                return Ok(Some(Arc::clone(key)));
            }
        }
        let plain_is_answered = match self.plain {
            PlainRequests::WithoutKeys => self.keys.is_empty(),
            PlainRequests::Always => true,
            PlainRequests::Never => false,
        };
        match () {
            () if looks_authenticated && self.keys.is_empty() => Err(DropReason::NoKey),
            () if looks_authenticated => Err(DropReason::BadHmac),
            () if plain_is_answered => Ok(None),
            () => Err(DropReason::NotAuthenticated),
        }
    }

    fn check_provisioned(&self, source: IpAddr, ssid: u16) -> Result<(), DropReason> {
        let Some(provisioned) = &self.provisioned else { return Ok(()) };
        let known = provisioned.iter().any(|entry| entry.matches(source, ssid));
        if known { Ok(()) } else { Err(DropReason::NotProvisioned) }
    }
}

/// Whether a packet of at least 112 octets has the look of the authenticated format: zeros after the
/// Sequence Number (RFC 8762 section 4.2.2), where the other format has its timestamp and Error Estimate.
fn looks_authenticated(request: &[u8]) -> bool {
    get::<12>(request, 4) == [0; 12]
}

#[cfg(test)]
mod tests;
