//! Rolling up: merging what a closed minute or hour holds into the level above, some agents at a time, so that batches never wait long.
//!
//! Rows are written agent by agent and count for nothing until the unit is marked, in the transaction of the last agent. A batch that
//! comes meanwhile goes to the level below as ever, and its agent is merged once more.

use std::collections::{BTreeMap, BTreeSet};

use railgauge_core::path_window::PathWindow;
use railgauge_core::time::Wall;

use super::file::{self, FileError, View, counts, unit, write};
use super::name::{FileId, HOUR, Level, MINUTE_NS};
use super::row::{
    Counts, Series, add_part, agent_range, counts_agent, counts_key, read_batch, read_window, seal,
    unit_key, unit_of, unit_range, window_content,
};
use super::seen::{self, Range};
use super::{Store, StoreError};

/// After its end a unit stays open so long for what is on its way.
const GRACE_NS: u64 = 30_000_000_000;
/// Windows read in one step: some 50 ms of work.
pub(super) const STEP: u64 = 2_048;

/// One unit on its way up.
#[derive(Debug)]
pub(super) struct Roll {
    from: FileId,
    to: FileId,
    /// Its first minute.
    unit: u32,
    /// Agents whose rows are still to be merged.
    agents: BTreeSet<String>,
}

/// What an agent has in a unit.
#[derive(Default)]
struct Gathered {
    rows: BTreeMap<Vec<u8>, PathWindow>,
    seen: Vec<(u64, u64, u64)>,
    counts: Counts,
    read: u64,
}

impl Roll {
    /// A batch of `agent` was stored in `id` meanwhile.
    pub(super) fn redo(&mut self, id: FileId, unit: u32, agent: &str) {
        if id == self.from && unit == self.unit {
            self.agents.insert(agent.to_owned());
        }
    }

    /// The units of the file below that make this one.
    fn parts(&self, view: &View) -> Result<Vec<(u32, u64)>, FileError> {
        let mut units = view.all_units()?;
        units.retain(|(part, _)| self.to.level == Level::Hour || *part == self.unit);
        Ok(units)
    }

    fn gather(&self, view: &View, agent: &str) -> Result<Gathered, FileError> {
        let mut gathered = Gathered::default();
        let mut whole = Vec::new();
        for (part, _) in self.parts(view)? {
            gathered.counts.add(&counts(&view.counts, &counts_key(part, agent))?);
            View::each(&view.rows, &agent_range(part, agent), |key, content| {
                gathered.read += 1;
                if self.from.level == Level::Raw {
                    if add_part(&mut whole, content)? {
                        gathered.add_batch(&std::mem::take(&mut whole))?;
                    }
                    Ok(())
                } else {
                    gathered
                        .add_row(key.get(4..).unwrap_or_default().to_vec(), read_window(content)?);
                    Ok(())
                }
            })?;
        }
        if self.from.level == Level::Minute {
            gathered.seen = seen::of_agent(&view.seen, agent)?;
        }
        Ok(gathered)
    }
}

impl Gathered {
    fn add_row(&mut self, key: Vec<u8>, window: PathWindow) {
        match self.rows.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(window);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().merge(&window)
            }
        }
    }

    fn add_batch(&mut self, content: &[u8]) -> Result<(), FileError> {
        let (skewed, batch) = read_batch(content)?;
        let count = batch.windows.len() as u64;
        self.read += count;
        let first = batch.first_sequence;
        self.seen.push((batch.instance, first, first.saturating_add(count)));
        for (path, window) in batch.windows {
            let path = batch.paths[path].clone();
            let series = Series { path, parameters: window.parameters, skewed };
            self.add_row(series.key(), window);
        }
        Ok(())
    }
}

impl Store {
    /// One step of rolling up. Returns whether there was something to do.
    pub(super) fn roll_step(&mut self, now: Wall) -> Result<bool, StoreError> {
        let roll = match self.roll.take() {
            Some(roll) => roll,
            None => match self.next_roll(now)? {
                Some(roll) => roll,
                None => return Ok(false),
            },
        };
        self.advance(roll)?;
        Ok(true)
    }

    fn advance(&mut self, mut roll: Roll) -> Result<(), StoreError> {
        let (from, to) = (roll.from, roll.to);
        let Some(source) = self.files.get(from).map_err(|e| self.error(from, e))? else {
            return Ok(());
        };
        let target = self.files.get_or_create(to).map_err(|e| self.error(to, e))?;
        let view = file::guarded(|| View::of(from, &source)).map_err(|e| self.error(from, e))?;
        let (mut step, mut read) = (Vec::new(), 0);
        while read < self.roll_step
            && let Some(agent) = roll.agents.pop_first()
        {
            let gathered = file::guarded(|| roll.gather(&view, &agent));
            let gathered = gathered.map_err(|e| self.error(from, e))?;
            read += gathered.read;
            step.push((agent, gathered));
        }
        let finished = roll.agents.is_empty();
        let windows = if finished {
            let parts = file::guarded(|| roll.parts(&view)).map_err(|e| self.error(from, e))?;
            Some(parts.iter().map(|(_, windows)| windows).sum::<u64>())
        } else {
            None
        };
        file::guarded(|| write(&target, |tables| put(tables, &roll, &step, windows)))
            .map_err(|e| self.error(to, e))?;
        if finished {
            self.touched.remove(&(from, roll.unit));
        } else {
            self.roll = Some(roll);
        }
        Ok(())
    }

    /// The next unit that is closed, quiet and not rolled up.
    fn next_roll(&self, now: Wall) -> Result<Option<Roll>, StoreError> {
        let now = now.as_unix_nanos();
        let passed = |end: u32| (u64::from(end) * MINUTE_NS).saturating_add(GRACE_NS) <= now;
        let quiet = |id: FileId, unit: u32| {
            self.touched.get(&(id, unit)).is_none_or(|at| at.saturating_add(GRACE_NS) <= now)
        };
        let mut waiting = BTreeSet::new();
        for id in self.files.present().into_iter().filter(|id| id.level == Level::Raw) {
            for unit in self.unrolled(id)? {
                waiting.insert(id.hour());
                if passed(unit + 1) && quiet(id, unit) {
                    return self.begin(id, FileId::of(Level::Minute, unit), unit).map(Some);
                }
            }
        }
        for id in self.files.present().into_iter().filter(|id| id.level == Level::Minute) {
            let open = passed(id.end()) && quiet(id, id.start) && !waiting.contains(&id.hour());
            if open && !self.is_closed(id.hour())? {
                return self.begin(id, FileId::of(Level::Hour, id.start), id.start).map(Some);
            }
        }
        Ok(None)
    }

    /// Takes the agents of a unit, and away what an unfinished roll-up left.
    fn begin(&self, from: FileId, to: FileId, first: u32) -> Result<Roll, StoreError> {
        let mut roll = Roll { from, to, unit: first, agents: BTreeSet::new() };
        if let Some(source) = self.files.get(from).map_err(|e| self.error(from, e))? {
            let agents = file::guarded(|| {
                let view = View::of(from, &source)?;
                let mut agents = BTreeSet::new();
                for (part, _) in roll.parts(&view)? {
                    View::each(&view.counts, &unit_range(part), |key, _| {
                        agents.insert(counts_agent(key)?.to_owned());
                        Ok(())
                    })?;
                }
                Ok(agents)
            });
            roll.agents = agents.map_err(|e| self.error(from, e))?;
        }
        if let Some(target) = self.files.get(to).map_err(|e| self.error(to, e))? {
            let cleared = file::guarded(|| {
                let to_id = to;
                let (from, to) = unit_range(first);
                if View::of(to_id, &target)?
                    .rows
                    .range::<&[u8]>(from.as_slice()..to.as_slice())?
                    .next()
                    .is_none()
                {
                    return Ok(());
                }
                write(&target, |tables| {
                    tables
                        .rows
                        .retain_in::<&[u8], _>(from.as_slice()..to.as_slice(), |_, _| false)?;
                    tables
                        .counts
                        .retain_in::<&[u8], _>(from.as_slice()..to.as_slice(), |_, _| false)?;
                    Ok(())
                })
            });
            cleared.map_err(|e| self.error(to, e))?;
        }
        Ok(roll)
    }

    /// The minutes of a raw file for which it stands.
    pub(super) fn unrolled(&self, id: FileId) -> Result<Vec<u32>, StoreError> {
        if self.is_closed(id.hour())? {
            return Ok(Vec::new());
        }
        let Some(raw) = self.view(id)? else { return Ok(Vec::new()) };
        let mut units = file::guarded(|| raw.all_units()).map_err(|e| self.error(id, e))?;
        let above = FileId::of(Level::Minute, id.start);
        if let Some(minutes) = self.view(above)? {
            let rolled = file::guarded(|| minutes.all_units()).map_err(|e| self.error(above, e))?;
            units.retain(|(minute, _)| rolled.binary_search_by_key(minute, |unit| unit.0).is_err());
        }
        Ok(units.into_iter().map(|(minute, _)| minute).collect())
    }

    /// Whether the hour file stands for an hour.
    pub(super) fn is_closed(&self, hour: u32) -> Result<bool, StoreError> {
        let id = FileId::of(Level::Hour, hour - hour % HOUR);
        if self.files.is_known_closed(id.start) {
            return Ok(true);
        }
        let Some(view) = self.view(id)? else { return Ok(false) };
        let closed =
            file::guarded(|| unit(&view.units, id.start)).map_err(|e| self.error(id, e))?;
        if closed.is_some() {
            self.files.know_closed(id.start);
        }
        Ok(closed.is_some())
    }

    pub(super) fn view(&self, id: FileId) -> Result<Option<View>, StoreError> {
        let database = self.files.get(id).map_err(|e| self.error(id, e))?;
        let view = database.map(|database| file::guarded(|| View::of(id, &database))).transpose();
        view.map_err(|e| self.error(id, e))
    }

    /// Acts on an error of a file.
    pub(super) fn error(&self, id: FileId, error: FileError) -> StoreError {
        let (file, reason) = (id.to_string(), error.to_string());
        let damaged = matches!(error, FileError::Damaged(_));
        self.failed(id, error);
        if damaged {
            StoreError::Damaged { file, reason }
        } else {
            StoreError::Unusable { file, reason }
        }
    }
}

fn put(
    tables: &mut super::Tables<'_>,
    roll: &Roll,
    step: &[(String, Gathered)],
    windows: Option<u64>,
) -> Result<(), FileError> {
    for (agent, gathered) in step {
        for (series, window) in &gathered.rows {
            let key = [unit_key(roll.unit).as_slice(), series].concat();
            tables.rows.insert(key.as_slice(), seal(&key, &window_content(window)).as_slice())?;
        }
        for &(instance, first, end) in &gathered.seen {
            Range { agent, instance, first, end }.insert(&mut tables.seen)?;
        }
        let key = counts_key(roll.unit, agent);
        tables.counts.insert(key.as_slice(), seal(&key, &gathered.counts.content()).as_slice())?;
    }
    if let Some(windows) = windows {
        tables.set_unit(roll.unit, windows)?;
    }
    Ok(())
}

/// The units of counts that stand, for whoever adds them up.
pub(super) fn each_counts(
    view: &View,
    unit: u32,
    mut f: impl FnMut(&str, &Counts),
) -> Result<(), FileError> {
    View::each(&view.counts, &unit_range(unit), |key, content| {
        debug_assert_eq!(unit_of(key)?, unit);
        f(counts_agent(key)?, &Counts::read(content)?);
        Ok(())
    })
}
