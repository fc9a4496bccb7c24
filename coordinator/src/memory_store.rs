//! Windows in memory: stands where the store on disk will.

use std::collections::{BTreeMap, HashSet};

use railgauge_core::path::{NodeName, Path};
use railgauge_core::path_window::{Parameters, PathWindow};
use railgauge_core::time::Wall;
use railgauge_proto::convert::Batch;

/// A batch to be stored.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message, encoded.
    pub encoded: Vec<u8>,
    /// The message, checked.
    pub batch: Batch,
    /// The agent's clock is known to be wrong.
    pub skewed: bool,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On the disk.
    Stored,
    /// It was there already.
    Duplicate,
    /// Never to be stored.
    Refused(String),
    /// Not stored now; the agent keeps it.
    Failed(String),
}

/// All that came, merged.
#[derive(Debug, Default)]
pub struct Store {
    seen: HashSet<(NodeName, u64, u64)>,
    paths: BTreeMap<(Path, Parameters), PathWindow>,
}

impl Store {
    /// Takes batches, each whole or not at all.
    pub fn ingest(&mut self, batches: &[Incoming], _now: Wall) -> Vec<Outcome> {
        batches.iter().map(|incoming| self.one(&incoming.batch)).collect()
    }

    fn one(&mut self, batch: &Batch) -> Outcome {
        let mut fresh = false;
        for (sequence, (path, window)) in (batch.first_sequence..).zip(&batch.windows) {
            if !self.seen.insert((batch.agent.clone(), batch.instance, sequence)) {
                continue;
            }
            fresh = true;
            let key = (batch.paths[*path].clone(), window.parameters);
            let all = self.paths.entry(key).or_insert_with(|| PathWindow::new(window.parameters));
            all.merge(window);
        }
        if fresh { Outcome::Stored } else { Outcome::Duplicate }
    }

    /// All paths.
    pub const fn paths(&self) -> &BTreeMap<(Path, Parameters), PathWindow> {
        &self.paths
    }
}
