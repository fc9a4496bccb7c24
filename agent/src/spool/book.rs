//! What the spool knows about its segments while it runs: which batches are pending and where, and the counts. No files here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::frames::{Frame, Key, Parsed, Totals};

/// Where a frame lies; the order in which batches were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u64,
    pub at: u64,
}

/// A pending batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    /// Octets of its frame.
    pub len: usize,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Octets of the file.
    pub bytes: u64,
    /// Batches in it that are pending.
    pub batches: usize,
    /// Windows of these.
    pub windows: u64,
    /// Octets of it that hold nothing recorded, or whose loss `octets_damaged` counts.
    pub known_damage: u64,
}

/// The counts, the segments and the pending batches.
#[derive(Debug, Default)]
pub struct Book {
    pub windows_dropped: u64,
    pub windows_refused: u64,
    pub octets_damaged: u64,
    segments: BTreeMap<u64, Segment>,
    batches: BTreeMap<Place, Entry>,
    places: HashMap<Key, Place>,
}

impl Book {
    /// Takes in one segment found on disk, after all with lower numbers. Gives the totals in it, if there are any.
    pub fn replay(&mut self, number: u64, bytes: u64, parsed: &Parsed<'_>) -> Option<Totals> {
        self.segments.insert(number, Segment { bytes, ..Segment::default() });
        let mut last = None;
        for found in &parsed.frames {
            match &found.frame {
                Frame::Batch { key, .. } => {
                    let at = u64::try_from(found.at).unwrap_or(u64::MAX);
                    self.insert(Place { segment: number, at }, Entry { key: *key, len: found.len });
                }
                Frame::Forgotten(key) => {
                    self.forget(*key);
                }
                Frame::Refused(key) => {
                    // Its batch may have been deleted with its segment since.
                    self.forget(*key);
                    self.windows_refused =
                        self.windows_refused.saturating_add(u64::from(key.windows));
                }
                // Totals that speak of later segments are none of ours.
                Frame::Totals(totals) if totals.oldest <= number => {
                    self.windows_dropped = totals.windows_dropped;
                    self.windows_refused = totals.windows_refused;
                    self.octets_damaged = totals.octets_damaged;
                    last = Some(totals.clone());
                }
                Frame::Totals(_) | Frame::Unknown(_) => {}
            }
        }
        last
    }

    /// A new, empty segment of `bytes` octets.
    pub fn begin(&mut self, number: u64, bytes: u64) {
        self.segments.insert(number, Segment { bytes, ..Segment::default() });
    }

    /// Enters a batch unless one with its key is pending: a key is delivered once.
    pub fn insert(&mut self, place: Place, entry: Entry) {
        if self.places.contains_key(&entry.key) {
            return;
        }
        self.places.insert(entry.key, place);
        self.batches.insert(place, entry);
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.batches += 1;
            segment.windows += u64::from(entry.key.windows);
        }
    }

    /// The batch of this key is pending no more. Gives where it was.
    pub fn forget(&mut self, key: Key) -> Option<Place> {
        let place = self.places.remove(&key)?;
        self.batches.remove(&place);
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.batches -= 1;
            segment.windows -= u64::from(key.windows);
        }
        Some(place)
    }

    /// A segment and its batches are no more; gives the windows that were pending in it.
    pub fn remove_segment(&mut self, number: u64) -> u64 {
        let first = Place { segment: number, at: 0 };
        let last = Place { segment: number, at: u64::MAX };
        let keys: Vec<Key> = self.batches.range(first..=last).map(|(_, entry)| entry.key).collect();
        for key in &keys {
            self.forget(*key);
        }
        self.segments.remove(&number);
        keys.iter().map(|key| u64::from(key.windows)).sum()
    }

    /// `octets` of a segment turn out to be lost.
    pub fn damaged(&mut self, number: u64, octets: u64) {
        self.octets_damaged = self.octets_damaged.saturating_add(octets);
        self.ignore(number, octets);
    }

    /// `octets` of a segment hold nothing recorded.
    pub fn ignore(&mut self, number: u64, octets: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.known_damage = segment.known_damage.saturating_add(octets);
        }
    }

    /// A segment has grown, or shrunk, to `bytes`.
    pub fn resize(&mut self, number: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes = bytes;
        }
    }

    pub fn contains(&self, key: Key) -> bool {
        self.places.contains_key(&key)
    }

    /// Pending batches in the order in which they were recorded.
    pub fn after(&self, place: Option<Place>) -> impl Iterator<Item = (Place, Entry)> + '_ {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.batches.range((from, Bound::Unbounded)).map(|(place, entry)| (*place, *entry))
    }

    /// Segments with their numbers, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments.iter().map(|(number, segment)| (*number, segment))
    }

    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    pub fn windows(&self) -> u64 {
        self.segments.values().map(|segment| segment.windows).sum()
    }

    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The segments to give up, oldest first, so that what stays has at most `most` octets.
    pub fn victims(&self, most: u64) -> Vec<u64> {
        let mut bytes = self.bytes();
        let mut victims = Vec::new();
        for (number, segment) in &self.segments {
            if bytes <= most {
                break;
            }
            bytes -= segment.bytes;
            victims.push(*number);
        }
        victims
    }

    /// The totals as they are once `victims` are gone; `next` is the number of the segment that will carry them.
    pub fn totals_without(&self, victims: &[u64], next: u64) -> Totals {
        let stays = |number: &u64| !victims.contains(number);
        let pending = |number: &u64| self.segments.get(number).map_or(0, |segment| segment.windows);
        let known =
            self.segments().filter(|(number, segment)| stays(number) && segment.known_damage > 0);
        Totals {
            windows_dropped: self
                .windows_dropped
                .saturating_add(victims.iter().map(pending).sum::<u64>()),
            windows_refused: self.windows_refused,
            octets_damaged: self.octets_damaged,
            oldest: self.segments.keys().copied().find(stays).unwrap_or(next),
            known_damage: known.map(|(number, segment)| (number, segment.known_damage)).collect(),
        }
    }
}
