//! Which keys a node's reflector answers.

use std::time::Duration;

use super::Secret;
use super::sealed::{Damaged, fields, hex, number, open, seal, unhex};
use crate::stamp::Key;
use crate::time::{Monotonic, Wall};

/// Keys held at most; a coordinator keeps half as many.
const MOST: usize = 16;

/// No key is good for longer, whatever the coordinator says.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

const HEAD: &str = "railgauge accepted probe keys 1";

/// A key as the coordinator gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenKey {
    /// Of this epoch.
    pub epoch: u64,
    /// The key.
    pub secret: Secret,
    /// How long it is good without a word from the coordinator.
    pub valid: Duration,
}

#[derive(Clone, Debug)]
struct Held {
    key: GivenKey,
    until: Monotonic,
    /// The coordinator gave it in its last message.
    is_given: bool,
}

/// The keys of one reflector.
#[derive(Clone, Debug, Default)]
pub struct AcceptedKeys {
    /// The newest first.
    held: Vec<Held>,
    /// When their times were last written down.
    written_at: Monotonic,
}

impl AcceptedKeys {
    /// Takes what the coordinator gives. What it does not name is forgotten, but for keys of an epoch before `forget_from`: the
    /// coordinator has lost its memory of them, and the nodes that probe with them have not; they stay until their time is over.
    pub fn take(&mut self, given: Vec<GivenKey>, forget_from: u64, now: Monotonic) {
        let is_given = |epoch| given.iter().any(|key| key.epoch == epoch);
        self.held.retain(|held| held.key.epoch < forget_from && !is_given(held.key.epoch));
        self.held.iter_mut().for_each(|held| held.is_given = false);
        let new = given.into_iter().map(|key| {
            let key = GivenKey { valid: key.valid.min(LONGEST), ..key };
            let until = now.saturating_add(key.valid);
            Held { key, until, is_given: true }
        });
        self.held.extend(new);
        // Where there are too many, those that were given count.
        self.held.sort_by_key(|held| std::cmp::Reverse((held.is_given, held.key.epoch)));
        self.held.truncate(MOST);
        self.held.sort_by_key(|held| std::cmp::Reverse(held.key.epoch));
        self.held.dedup_by_key(|held| held.key.epoch);
        self.expire(now);
    }

    /// The coordinator lives: what it gave is good for its whole time again. Whether that should be written down.
    pub fn renew(&mut self, now: Monotonic) -> bool {
        for held in self.held.iter_mut().filter(|held| held.is_given) {
            held.until = held.until.max(now.saturating_add(held.key.valid));
        }
        let since = now.saturating_since(self.written_at);
        self.held.iter().any(|held| held.is_given && since > held.key.valid / 8)
    }

    /// Forgets those whose time is over. Whether there were any.
    pub fn expire(&mut self, now: Monotonic) -> bool {
        let before = self.held.len();
        self.held.retain(|held| now < held.until);
        before != self.held.len()
    }

    /// What the reflector answers, the newest first.
    pub fn keys(&self) -> Vec<Key> {
        self.held.iter().map(|held| held.key.secret.key()).collect()
    }

    /// The epochs of those, the newest first.
    pub fn epochs(&self) -> impl Iterator<Item = u64> {
        self.held.iter().map(|held| held.key.epoch)
    }

    /// The newest that the coordinator gave in its last message; 0 without one.
    pub fn newest_given(&self) -> u64 {
        self.held.iter().find(|held| held.is_given).map_or(0, |held| held.key.epoch)
    }

    /// The text of the file in which they outlive the process.
    pub fn write(&mut self, now: Monotonic, wall: Wall) -> String {
        self.written_at = now;
        let line = |held: &Held| {
            let left = held.until.saturating_since(now);
            let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
            let valid = u64::try_from(held.key.valid.as_nanos()).unwrap_or(u64::MAX);
            let until = wall.as_unix_nanos().saturating_add(left);
            format!("{} {valid} {until} {}", held.key.epoch, hex(&held.key.secret))
        };
        seal(HEAD, self.held.iter().map(line))
    }

    /// What was in it; keys whose time is over are left out. A wall clock that was set back makes none good for longer than it was
    /// given for.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn read(text: &[u8], now: Monotonic, wall: Wall) -> Result<Self, Damaged> {
        let mut held = Vec::new();
        for line in open(HEAD, text)? {
            let [epoch, valid, until, secret] = fields(line)?;
            let valid = Duration::from_nanos(number(valid)?).min(LONGEST);
            let left = Wall::from_unix_nanos(number(until)?).minus(wall).non_negative();
            let left = Duration::from_nanos(left.unwrap_or(0)).min(valid);
            let key = GivenKey { epoch: number(epoch)?, secret: unhex(secret)?, valid };
            held.push(Held { key, until: now.saturating_add(left), is_given: false });
        }
        held.sort_by_key(|held| std::cmp::Reverse(held.key.epoch));
        held.truncate(MOST);
        let mut keys = Self { held, written_at: now };
        keys.expire(now);
        Ok(keys)
    }
}
