//! What a reflector counts.

/// Why a request gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DropReason {
    /// Below the base size of 44 octets: answering would make us an amplifier.
    #[error("shorter than a base packet")]
    TooShort,
    /// Longer than the buffer the driver gave for the reply.
    #[error("longer than the reply buffer")]
    NoRoom,
    /// Its source has used up its rate.
    #[error("source over its rate")]
    RateLimited,
    /// The request is no authenticated one, and we answer no other.
    #[error("not authenticated, and this reflector answers only what is")]
    NotAuthenticated,
    /// The request is an authenticated one, and we have no key to answer it with.
    #[error("authenticated, and this reflector has no key")]
    NoKey,
    /// Authenticated with a key that is none of ours, or altered on the way (RFC 8762 section 4.4).
    #[error("HMAC does not verify with any key")]
    BadHmac,
    /// We are strict, and nobody told us of this sender.
    #[error("sender not provisioned, and this reflector is strict")]
    NotProvisioned,
}

impl DropReason {
    /// All reasons, in the order in which they are tested.
    pub const ALL: [Self; 7] = [
        Self::TooShort,
        Self::NoRoom,
        Self::RateLimited,
        Self::NotAuthenticated,
        Self::NoKey,
        Self::BadHmac,
        Self::NotProvisioned,
    ];

    /// The word used in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::NoRoom => "no_room",
            Self::RateLimited => "rate_limited",
            Self::NotAuthenticated => "not_authenticated",
            Self::NoKey => "no_key",
            Self::BadHmac => "bad_hmac",
            Self::NotProvisioned => "not_provisioned",
        }
    }
}

/// Events since the reflector began. `received = replied + dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams judged.
    pub received: u64,
    /// Replies prepared.
    pub replied: u64,
    dropped: [u64; DropReason::ALL.len()],
    /// Sessions begun, those that replaced an evicted or restarted one included.
    pub sessions_started: u64,
    /// Sessions that made room for a new one. If it grows, raise the bound on sessions.
    pub sessions_evicted: u64,
    /// Sessions whose sender began anew from sequence number 0, or came back after a long silence.
    pub sessions_restarted: u64,
    /// Sources that made room for a new one; each may send a fresh burst when it comes back.
    pub sources_evicted: u64,
    /// TLVs returned flagged U.
    pub tlvs_unrecognized: u64,
    /// TLVs returned flagged M.
    pub tlvs_malformed: u64,
    /// Requests whose TLVs were returned flagged I.
    pub tlv_integrity_failures: u64,
    /// Replies that carried an earlier reply's true t3.
    pub follow_ups_sent: u64,
    /// True t3s pushed out by newer ones before a reply could carry them.
    pub follow_ups_overrun: u64,
    /// True t3s of sessions that had ended.
    pub follow_ups_stale: u64,
}

impl Counters {
    pub(super) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// Adds those of another reflector, as of one before this.
    pub fn add(&mut self, other: &Self) {
        // Whole, so that a new counter is not forgotten here.
        let Self {
            received,
            replied,
            dropped,
            sessions_started,
            sessions_evicted,
            sessions_restarted,
            sources_evicted,
            tlvs_unrecognized,
            tlvs_malformed,
            tlv_integrity_failures,
            follow_ups_sent,
            follow_ups_overrun,
            follow_ups_stale,
        } = other;
        self.received += received;
        self.replied += replied;
        for (here, there) in self.dropped.iter_mut().zip(dropped) {
            *here += there;
        }
        self.sessions_started += sessions_started;
        self.sessions_evicted += sessions_evicted;
        self.sessions_restarted += sessions_restarted;
        self.sources_evicted += sources_evicted;
        self.tlvs_unrecognized += tlvs_unrecognized;
        self.tlvs_malformed += tlvs_malformed;
        self.tlv_integrity_failures += tlv_integrity_failures;
        self.follow_ups_sent += follow_ups_sent;
        self.follow_ups_overrun += follow_ups_overrun;
        self.follow_ups_stale += follow_ups_stale;
    }

    /// Requests dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Requests dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_counted_is_added() {
        let mut one = Counters { received: 1, replied: 2, ..Counters::default() };
        one.drop(DropReason::NoKey);
        let mut twice = one.clone();
        twice.add(&one);
        assert_eq!((twice.received, twice.replied), (2, 4));
        assert_eq!((twice.dropped(DropReason::NoKey), twice.dropped_total()), (2, 2));
    }
}
