//! A run, cut into blocks of time.

use crate::histogram::{SparseCounts, Window};

/// Blocks kept at most. Enough for the standard error of a share to be good to 3 %, and some 10 MB at 1,000
/// samples a second; the number is even, so that blocks can be joined in pairs.
const MOST_BLOCKS: usize = 1_024;

/// Windows of one series in order of time, joined into a bounded number of blocks, and merged into one total.
///
/// When 1,024 blocks are full each two neighbours become one, twice as long, and so on: memory stays bounded, and
/// what depends on nearness in time is only caught better.
#[derive(Clone, Debug)]
pub struct Blocks {
    total: Window,
    blocks: Vec<Block>,
    /// Windows that go into one block: a power of two.
    stride: u64,
    /// Windows in the last block.
    filled: u64,
}

/// The samples of one block, as far as the share at or under a value needs them.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    counts: SparseCounts,
    /// Samples above every bucket: above 60 s, or timed out.
    beyond: u64,
}

impl Block {
    pub(super) fn samples(&self) -> u64 {
        self.counts.total().saturating_add(self.beyond)
    }

    pub(super) fn at_or_below(&self, index: u16) -> u64 {
        self.counts.at_or_below(index)
    }

    fn merge(&mut self, counts: &SparseCounts, beyond: u64) {
        self.counts.merge(counts);
        self.beyond = self.beyond.saturating_add(beyond);
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self { total: Window::default(), blocks: Vec::new(), stride: 1, filled: 1 }
    }
}

impl Blocks {
    /// No windows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next window: 1 s of a run, or any window whose samples may depend on each other more than on
    /// those of other windows.
    pub fn push(&mut self, window: &Window) {
        self.total.merge(window);
        let beyond = window.overflow().saturating_add(window.censored());
        self.push_block(window.counts(), beyond);
    }

    /// Adds another series that may be told as one with this: of other paths to the same node, say. Its windows come as the
    /// blocks that they were joined into.
    pub fn append(&mut self, other: &Self) {
        self.total.merge(&other.total);
        for block in &other.blocks {
            self.push_block(&block.counts, block.beyond);
        }
    }

    fn push_block(&mut self, counts: &SparseCounts, beyond: u64) {
        if self.filled == self.stride && self.blocks.len() == MOST_BLOCKS {
            self.join_pairs();
        }
        if self.filled == self.stride || self.blocks.is_empty() {
            self.blocks.push(Block::default());
            self.filled = 0;
        }
        self.filled += 1;
        if let Some(last) = self.blocks.last_mut() {
            last.merge(counts, beyond);
        }
    }

    fn join_pairs(&mut self) {
        let mut pairs = std::mem::take(&mut self.blocks).into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.merge(&second.counts, second.beyond);
            }
            self.blocks.push(first);
        }
        self.stride *= 2;
        self.filled = self.stride;
    }

    /// All windows merged.
    pub const fn total(&self) -> &Window {
        &self.total
    }

    /// The blocks that hold samples.
    pub(super) fn occupied(&self) -> impl Iterator<Item = &Block> + Clone {
        self.blocks.iter().filter(|block| block.samples() > 0)
    }
}

impl<'a> FromIterator<&'a Window> for Blocks {
    fn from_iter<I: IntoIterator<Item = &'a Window>>(windows: I) -> Self {
        let mut blocks = Self::new();
        windows.into_iter().for_each(|window| blocks.push(window));
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Recorder;

    fn second(recorder: &mut Recorder, value: u64) -> Window {
        recorder.record(value);
        recorder.drain()
    }

    #[test]
    fn stay_bounded_and_lose_nothing() {
        let (mut recorder, mut blocks) = (Recorder::new(), Blocks::new());
        for value in 0..5_000 {
            blocks.push(&second(&mut recorder, value));
        }
        assert_eq!(blocks.total().replies(), 5_000);
        assert_eq!(blocks.stride, 8);
        let sizes: Vec<u64> = blocks.occupied().map(Block::samples).collect();
        assert_eq!(sizes.len(), 625);
        assert!(sizes.iter().all(|&n| n == 8));
        assert_eq!(blocks.occupied().next().unwrap().at_or_below(3), 4);
    }

    #[test]
    fn series_append_to_each_other_with_all_their_blocks() {
        let mut recorder = Recorder::new();
        let windows: Vec<Window> = (0..6).map(|value| second(&mut recorder, value)).collect();
        let mut first: Blocks = windows[..2].iter().collect();
        first.append(&windows[2..].iter().collect());
        let whole: Blocks = windows.iter().collect();
        assert_eq!(first.total(), whole.total());
        assert_eq!(first.occupied().count(), 6);
    }

    #[test]
    fn empty_seconds_are_no_blocks() {
        let mut recorder = Recorder::new();
        let windows = [second(&mut recorder, 1), Window::default(), second(&mut recorder, 2)];
        assert_eq!(windows.iter().collect::<Blocks>().occupied().count(), 2);
    }
}
