//! What has been sent to the coordinator and not been acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::spool::{Cursor, Key};

/// Unacknowledged at most; then the spool waits.
const MOST_BATCHES: usize = 32;
const MOST_BYTES: usize = 8 << 20;

/// When nothing is acknowledged for so long, all is sent again: the coordinator could not store it, and knows what it has.
const SEND_AGAIN: Duration = Duration::from_secs(10);

/// The batches under way, and how far the spool has been read.
#[derive(Default)]
pub struct Flight {
    pub cursor: Option<Cursor>,
    /// The spool had nothing behind the cursor.
    pub is_dry: bool,
    /// Rises when all is to be sent again: what was read before is not sent.
    pub generation: u64,
    batches: BTreeMap<(u64, u64), usize>,
    bytes: usize,
    progress: Option<Instant>,
}

impl Flight {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn room(&self) -> usize {
        if self.batches.len() < MOST_BATCHES { MOST_BYTES.saturating_sub(self.bytes) } else { 0 }
    }

    pub fn departs(&mut self, key: Key, bytes: usize, cursor: Cursor) {
        self.cursor = Some(cursor);
        let before = self.batches.insert((key.instance, key.first_sequence), bytes);
        self.bytes = self.bytes.saturating_sub(before.unwrap_or(0)).saturating_add(bytes);
        self.progress.get_or_insert_with(Instant::now);
    }

    pub fn landed(&mut self, key: &Key) {
        // A coordinator that acknowledges what it never got makes no progress.
        let Some(bytes) = self.batches.remove(&(key.instance, key.first_sequence)) else { return };
        self.bytes = self.bytes.saturating_sub(bytes);
        self.progress = (!self.batches.is_empty()).then(Instant::now);
    }

    pub fn send_again_if_stale(&mut self) {
        if self.progress.is_some_and(|at| at.elapsed() > SEND_AGAIN) {
            *self = Self { generation: self.generation + 1, ..Self::default() };
        }
    }
}
