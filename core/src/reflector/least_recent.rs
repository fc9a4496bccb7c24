//! A map of fixed size in which a new entry pushes out the one that was not looked at for longest.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroUsize;

/// Slot number that stands for no slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

/// Entries in slots whose numbers stay theirs until they are pushed out, linked by age of last use. Every
/// operation is O(1) and allocates nothing: slots and index are taken whole at the start, and the index has
/// room for twice as many so that it tidies itself in place.
#[derive(Debug)]
pub(super) struct LeastRecent<K, V> {
    index: HashMap<K, u32>,
    slots: Vec<Slot<K, V>>,
    capacity: usize,
    newest: u32,
    oldest: u32,
}

/// How [`LeastRecent::touch`] came by its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Known,
    New,
    /// New, in the place of the longest idle one.
    Replaced,
}

impl<K: Hash + Eq + Copy, V> LeastRecent<K, V> {
    pub fn new(capacity: NonZeroUsize) -> Self {
        let capacity = capacity.get().min(NONE as usize);
        Self {
            index: HashMap::with_capacity(capacity.saturating_mul(2)),
            slots: Vec::with_capacity(capacity),
            capacity,
            newest: NONE,
            oldest: NONE,
        }
    }

    /// The entry in a slot, without making it newer.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut V> {
        self.slots.get_mut(slot as usize).map(|slot| &mut slot.value)
    }

    /// The slot and value of `key`, which becomes the newest; `fresh` makes it if it is not there.
    pub fn touch(&mut self, key: K, fresh: impl FnOnce() -> V) -> (u32, &mut V, Touch) {
        let (slot, touch) = match self.index.get(&key) {
            Some(&slot) => (slot, Touch::Known),
            None => self.insert(key, fresh()),
        };
        if self.newest != slot {
            if touch != Touch::New {
                self.unlink(slot);
            }
            self.link_newest(slot);
        }
        (slot, &mut self.slots[slot as usize].value, touch)
    }

    fn insert(&mut self, key: K, value: V) -> (u32, Touch) {
        let (slot, touch) = if self.slots.len() < self.capacity {
            self.slots.push(Slot { key, value, newer: NONE, older: NONE });
            let last = u32::try_from(self.slots.len() - 1).unwrap_or(NONE);
            (last, Touch::New)
        } else {
            let oldest = self.oldest;
            let slot = &mut self.slots[oldest as usize];
            self.index.remove(&slot.key);
            (slot.key, slot.value) = (key, value);
            (oldest, Touch::Replaced)
        };
        self.index.insert(key, slot);
        (slot, touch)
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let older = self.newest;
        let entry = &mut self.slots[slot as usize];
        (entry.newer, entry.older) = (NONE, older);
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the plainest model: a list, newest last.
        #[test]
        fn pushes_out_the_longest_idle(keys in prop::collection::vec(0_u8..8, 0..200), size in 1_usize..6) {
            let mut table = LeastRecent::new(NonZeroUsize::new(size).unwrap());
            let mut model: Vec<u8> = Vec::new();
            for key in keys {
                let expected = if model.contains(&key) {
                    Touch::Known
                } else if model.len() < size {
                    Touch::New
                } else {
                    model.remove(0);
                    Touch::Replaced
                };
                model.retain(|known| *known != key);
                model.push(key);
                let (slot, value, touch) = table.touch(key, || key);
                prop_assert_eq!((*value, touch), (key, expected));
                prop_assert_eq!(table.get_mut(slot).copied(), Some(key));
                prop_assert_eq!(table.slots.len(), model.len());
            }
        }
    }
}
