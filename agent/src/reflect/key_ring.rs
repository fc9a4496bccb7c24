//! Keys that a running responder takes over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use railgauge_core::reflector::Reflector;
use railgauge_core::stamp::Key;

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<Vec<Key>>,
    version: AtomicU64,
}

/// The keys of a responder, from outside its thread. What is put here counts for every request that is read afterwards.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(Arc<Shared>);

impl KeyRing {
    /// With these to begin with.
    pub(super) fn new(keys: Vec<Key>) -> Self {
        let ring = Self::default();
        ring.set(keys);
        ring
    }

    /// These, and no others.
    pub fn set(&self, keys: Vec<Key>) {
        // A vector that was being replaced is the old or the new one.
        *self.0.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Hands them to the reflector where they have changed since `seen`. To be called after requests were read and before they are
    /// judged: so one that was sent because of new keys meets them.
    pub(crate) fn refresh(&self, reflector: &mut Reflector, seen: &mut u64) {
        let version = self.0.version.load(Ordering::Acquire);
        if version != *seen {
            *seen = version;
            reflector.set_keys(self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
    }
}
