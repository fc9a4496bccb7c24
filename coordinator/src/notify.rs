//! What systemd is told. Without it every call is a no-op, and a message that cannot be sent changes nothing for us.

use std::time::Duration;

use sd_notify::NotifyState;

/// It serves.
pub fn ready() {
    drop(sd_notify::notify(&[NotifyState::Ready]));
}

/// It reads its configuration again; [`ready`] follows.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        drop(sd_notify::notify(&[NotifyState::Reloading, now]));
    }
}

/// It drains.
pub fn stopping() {
    drop(sd_notify::notify(&[NotifyState::Stopping]));
}

/// It lives, and what it does.
pub fn alive(status: &str) {
    drop(sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(status)]));
}

/// How often [`alive`] must be called, at least; where anybody listens.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}
