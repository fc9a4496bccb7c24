//! Who is at the other end, what they may do, and the record of it: the drivers of [`railgauge_core::access`].
//!
//! TLS 1.3 by rustls with ring, both ends with certificates of one authority, identities as SPIFFE IDs. Nothing is resumed: each
//! connection shows its certificate anew, and ends when that does. Certificates are read again while the daemons run.

pub mod audit;
pub mod authority;
pub mod authorize;
pub mod certificate;
pub mod connection;
pub mod connector;
pub mod credentials;
pub mod door;
pub mod files;

use std::time::SystemTime;

/// The wall clock, which certificates live by.
#[expect(clippy::disallowed_methods, reason = "certificates begin and end by the wall clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A time as people write it, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"))
}

/// An error with its causes, as one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence.push_str(": ");
        sentence.push_str(&error.to_string());
        cause = error.source();
    }
    sentence
}
