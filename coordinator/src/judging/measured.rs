//! What the store holds of paths, read agent by agent: memory is that of one agent's last minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use railgauge_core::path::{NodeName, Path};
use railgauge_core::path_window::Parameters;
use railgauge_core::rdma::parameters::RdmaParameters;
use railgauge_core::time::Wall;
use railgauge_core::verdict::PathInput;
use railgauge_report::gather::Gathered;

use crate::store::{Reader, Resolution, Selection, StoreError};
use crate::sweeps::series;

/// A clock that is a little ahead is no reason to be left out.
const AHEAD_NS: u64 = 60_000_000_000;

/// A path and what was measured on it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub path: Path,
    /// When a probe was lost.
    pub timeout_ns: u64,
    /// How it was probed over verbs.
    pub rdma: Option<RdmaParameters>,
    /// All of it.
    pub gathered: Gathered,
    /// Probes of the same time that were of another size or time-out, or otherwise probed over verbs: they are in nothing here.
    pub left_out: u64,
    /// Windows in it.
    pub windows: u64,
    /// End of the last.
    pub last_end_unix_ns: u64,
}

impl Measured {
    /// As it is judged.
    pub fn input(&self) -> PathInput {
        PathInput {
            path: self.path.clone(),
            timeout_ns: self.timeout_ns,
            account: self.gathered.account,
            series: Ok(series(&self.gathered)),
        }
    }
}

/// What tells series of a path apart: all parameters but the rate.
type Key = (Path, u64, u32, Option<RdmaParameters>);

/// What is in the store about the last `since` of the paths from one node. Windows that were probed alike but for the rate are one
/// series; of several sizes, time-outs or ways over verbs the one with most probes stands for the path.
///
/// # Errors
/// When the store cannot be read.
pub fn of_agent(
    reader: &Reader,
    agent: &NodeName,
    now: Wall,
    since: Duration,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<Measured>, StoreError> {
    let now = now.as_unix_nanos();
    let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let selection = Selection {
        src: Some(agent.clone()),
        resolution: Resolution::Finest,
        ..Selection::between(now.saturating_sub(since), now.saturating_add(AHEAD_NS))
    };
    let mut found: BTreeMap<Key, Measured> = BTreeMap::new();
    reader.each(&selection, |series, stored| {
        if !wanted(&series.path) {
            return;
        }
        let Parameters { timeout_ns, size_bytes, rdma, .. } = series.parameters;
        let key = (series.path, timeout_ns, size_bytes, rdma);
        let measured = found.entry(key).or_insert_with_key(|(path, ..)| Measured {
            path: path.clone(),
            timeout_ns,
            rdma,
            gathered: Gathered::default(),
            left_out: 0,
            windows: 0,
            last_end_unix_ns: 0,
        });
        // Windows come minute by minute, so that each is a block after the last.
        measured.gathered.push(&stored.window);
        measured.windows += 1;
        let end = stored.start_unix_ns.saturating_add(stored.length_ns);
        measured.last_end_unix_ns = measured.last_end_unix_ns.max(end);
    })?;
    let mut all: Vec<Measured> = Vec::new();
    for mut measured in found.into_values() {
        match all.last_mut().filter(|before| before.path == measured.path) {
            Some(before) => {
                if before.gathered.account.sent < measured.gathered.account.sent {
                    std::mem::swap(before, &mut measured);
                }
                before.left_out += measured.left_out + measured.gathered.account.sent;
            }
            None => all.push(measured),
        }
    }
    Ok(all)
}
