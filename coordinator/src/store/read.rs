//! Questions, asked by any thread, answered from the files as they are at one instant.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use railgauge_core::path::{NodeName, Path};
use railgauge_core::path_window::{Parameters, PathWindow};

use super::file::{self, FileError, View};
use super::files::Files;
use super::name::{FileId, HOUR, Level, MINUTE_NS, minute_of};
use super::roll::each_counts;
use super::row::{Counts, Series, add_part, agent_range, read_batch, read_window, unit_range};
use super::{StoreError, Tally};

/// How fine an answer is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// As fine as there is for each part of the time.
    #[default]
    Finest,
    /// As coarse as there is: the level that stands.
    Coarsest,
}

/// Which windows.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those that begin here or later; merged ones begin with their minute or hour.
    pub from_unix_ns: u64,
    /// And before this.
    pub to_unix_ns: u64,
    /// Of paths from this node.
    pub src: Option<NodeName>,
    /// Of paths to this node.
    pub dst: Option<NodeName>,
    /// Of this path.
    pub path: Option<Path>,
    /// Also those of skewed clocks, which [`Series::skewed`] marks.
    pub skewed: bool,
    /// How fine.
    pub resolution: Resolution,
}

/// One window as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// When it begins.
    pub start_unix_ns: u64,
    /// The time it covers.
    pub length_ns: u64,
    /// How finely it is kept.
    pub level: Level,
    /// What was seen.
    pub window: PathWindow,
}

/// A series, in order of time: each window a block for `core::quantile::Blocks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesWindows {
    /// Which.
    pub series: Series,
    /// Its windows.
    pub windows: Vec<Stored>,
}

/// What was ever stored, and where it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// In the files, by agent.
    pub stored: BTreeMap<String, Counts>,
    /// Let go because of age.
    pub expired: BTreeMap<String, Counts>,
    /// Let go because the store was full.
    pub dropped: BTreeMap<String, Counts>,
    /// Windows that came again, since the start of the process.
    pub duplicates: u64,
    /// Windows that were refused, since the start of the process.
    pub refused: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Reader {
    files: Arc<Files>,
    tally: Arc<Tally>,
}

/// The files of an hour. Those below are looked at first, so that what moves up meanwhile is seen in at least one of them.
struct HourView {
    raw: Vec<View>,
    minute: Option<View>,
    hour: Option<View>,
    first: u32,
}

/// Where rows are to be read: a file's view, its level, and the unit.
struct Source<'v>(&'v View, Level, u32);

impl Selection {
    /// Of everything between two instants.
    pub fn between(from_unix_ns: u64, to_unix_ns: u64) -> Self {
        Self { from_unix_ns, to_unix_ns, ..Self::default() }
    }

    fn wants(&self, series: &Series) -> bool {
        let Series { path, skewed, .. } = series;
        (self.skewed || !skewed)
            && self.src.as_ref().is_none_or(|src| *src == path.src.node)
            && self.dst.as_ref().is_none_or(|dst| *dst == path.dst.node)
            && self.path.as_ref().is_none_or(|wanted| wanted == path)
    }

    fn has(&self, start_unix_ns: u64) -> bool {
        (self.from_unix_ns..self.to_unix_ns).contains(&start_unix_ns)
    }

    /// Keys of a unit that can be wanted.
    fn keys(&self, unit: u32) -> (Vec<u8>, Vec<u8>) {
        let src = self.src.as_ref().or_else(|| self.path.as_ref().map(|path| &path.src.node));
        src.map_or_else(|| unit_range(unit), |src| agent_range(unit, src.as_str()))
    }
}

/// Which file could not be read, and why.
type At = (FileId, FileError);

impl HourView {
    /// The minutes, each from where it is to be read, and the windows in them.
    fn minutes(&self, resolution: Resolution) -> Result<(Vec<Source<'_>>, u64), At> {
        let (mut minutes, mut windows) = (Vec::new(), 0);
        for at in self.first..self.first + HOUR {
            let mut raw = None;
            for view in &self.raw {
                raw = raw
                    .or(view.windows(at)?.map(|windows| (Source(view, Level::Raw, at), windows)));
            }
            let merged = match &self.minute {
                Some(view) => view.windows(at)?.map(|n| (Source(view, Level::Minute, at), n)),
                None => None,
            };
            let chosen = match (raw, merged) {
                (Some((raw, fine)), Some((merged, all))) => {
                    let fine = fine == all && resolution == Resolution::Finest;
                    Some((if fine { raw } else { merged }, all))
                }
                (one, other) => one.or(other),
            };
            if let Some((source, n)) = chosen {
                minutes.push(source);
                windows += n;
            }
        }
        Ok((minutes, windows))
    }

    fn sources(&self, resolution: Resolution) -> Result<Vec<Source<'_>>, At> {
        if let Some(view) = &self.hour
            && let Some(all) = view.windows(self.first)?
        {
            if resolution == Resolution::Finest {
                let (fine, windows) = self.minutes(resolution)?;
                if windows == all {
                    return Ok(fine);
                }
            }
            return Ok(vec![Source(view, Level::Hour, self.first)]);
        }
        Ok(self.minutes(resolution)?.0)
    }
}

impl Reader {
    pub(super) const fn new(files: Arc<Files>, tally: Arc<Tally>) -> Self {
        Self { files, tally }
    }

    fn view(&self, id: FileId) -> Result<Option<View>, StoreError> {
        let view = file::guarded(|| {
            let database = self.files.get(id)?;
            database.map(|database| View::of(id, &database)).transpose()
        });
        view.map_err(|error| self.error(id, error))
    }

    /// Damage is left to the writer to act on.
    fn error(&self, id: FileId, error: FileError) -> StoreError {
        let file = id.to_string();
        match error {
            FileError::Damaged(reason) => {
                self.files.suspect(id, reason.clone());
                StoreError::Damaged { file, reason }
            }
            other => StoreError::Unusable { file, reason: other.to_string() },
        }
    }

    fn hour(&self, first: u32) -> Result<HourView, StoreError> {
        let mut raw = Vec::new();
        for start in (first..first + HOUR).step_by(Level::Raw.span() as usize) {
            raw.extend(self.view(FileId::of(Level::Raw, start))?);
        }
        let minute = self.view(FileId::of(Level::Minute, first))?;
        Ok(HourView { raw, minute, hour: self.view(FileId::of(Level::Hour, first))?, first })
    }

    fn hours(&self) -> Vec<u32> {
        let floor = self.tally.state.lock().unwrap_or_else(PoisonError::into_inner).floor;
        let mut hours: Vec<u32> = self.files.present().iter().map(|id| id.hour()).collect();
        hours.retain(|hour| *hour >= floor);
        hours.dedup();
        hours
    }

    /// Calls `f` with every wanted window, once each, hour by hour and minute by minute. Within a minute windows come agent by agent.
    ///
    /// # Errors
    /// Where a file cannot be read; what `f` got until then is not the whole.
    pub fn each(
        &self,
        selection: &Selection,
        mut f: impl FnMut(Series, Stored),
    ) -> Result<(), StoreError> {
        let (from, to) = (minute_of(selection.from_unix_ns), minute_of(selection.to_unix_ns));
        for first in self.hours() {
            if first + HOUR <= from || first > to {
                continue;
            }
            let view = self.hour(first)?;
            let sources = view.sources(selection.resolution);
            let sources = sources.map_err(|(id, error)| self.error(id, error))?;
            for Source(view, level, unit) in sources {
                if level != Level::Hour && !(from..=to).contains(&unit) {
                    continue;
                }
                file::guarded(|| read_unit(view, level, unit, selection, &mut f))
                    .map_err(|error| self.error(view.id, error))?;
            }
        }
        Ok(())
    }

    /// All wanted windows, by series. Memory is as large as the answer: ask for a node, a path or a short time.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn series(&self, selection: &Selection) -> Result<Vec<SeriesWindows>, StoreError> {
        let mut all = BTreeMap::<Series, Vec<Stored>>::new();
        self.each(selection, |series, stored| all.entry(series).or_default().push(stored))?;
        let sorted = all.into_iter().map(|(series, mut windows)| {
            windows.sort_by_key(|stored| stored.start_unix_ns);
            SeriesWindows { series, windows }
        });
        Ok(sorted.collect())
    }

    /// All wanted windows of a series merged.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn merged(
        &self,
        selection: &Selection,
    ) -> Result<BTreeMap<Series, PathWindow>, StoreError> {
        let mut all = BTreeMap::<Series, PathWindow>::new();
        self.each(selection, |series, stored| match all.get_mut(&series) {
            Some(window) => window.merge(&stored.window),
            None => drop(all.insert(series, stored.window)),
        })?;
        Ok(all)
    }

    /// Octets on disk.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn octets(&self) -> io::Result<u64> {
        self.files.octets()
    }

    /// Windows let go because the store was full, ever.
    pub fn windows_dropped(&self) -> u64 {
        let state = self.tally.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.dropped.values().fold(0, |sum, counts| sum.saturating_add(counts.windows))
    }

    /// What was ever stored.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        let state = self.tally.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut totals = Totals {
            stored: BTreeMap::new(),
            expired: state.expired,
            dropped: state.dropped,
            duplicates: self.tally.duplicates.load(Ordering::Relaxed),
            refused: self.tally.refused.load(Ordering::Relaxed),
        };
        for hour in self.hours() {
            for (agent, counts) in standing_counts(self, hour)? {
                totals.stored.entry(agent).or_default().add(&counts);
            }
        }
        Ok(totals)
    }
}

/// The parameters of a series, for callers that group by path.
impl From<&Series> for (Path, Parameters) {
    fn from(series: &Series) -> Self {
        (series.path.clone(), series.parameters)
    }
}

/// What the levels that stand for an hour count, by agent.
pub(super) fn standing_counts(
    reader: &Reader,
    hour: u32,
) -> Result<BTreeMap<String, Counts>, StoreError> {
    let view = reader.hour(hour)?;
    let mut all = BTreeMap::<String, Counts>::new();
    let sources = view.sources(Resolution::Coarsest);
    for Source(view, _, unit) in sources.map_err(|(id, error)| reader.error(id, error))? {
        let read = file::guarded(|| {
            each_counts(view, unit, |agent, counts| {
                all.entry(agent.to_owned()).or_default().add(counts);
            })
        });
        read.map_err(|error| reader.error(view.id, error))?;
    }
    Ok(all)
}

fn read_unit(
    view: &View,
    level: Level,
    unit: u32,
    selection: &Selection,
    f: &mut impl FnMut(Series, Stored),
) -> Result<(), FileError> {
    let mut whole = Vec::new();
    View::each(&view.rows, &selection.keys(unit), |key, content| {
        if level == Level::Raw {
            if !add_part(&mut whole, content)? {
                return Ok(());
            }
            let (skewed, batch) = read_batch(&std::mem::take(&mut whole))?;
            if !selection.has(batch.start_unix_ns) {
                return Ok(());
            }
            for (path, window) in batch.windows {
                let path = batch.paths[path].clone();
                let series = Series { path, parameters: window.parameters, skewed };
                if selection.wants(&series) {
                    let (start_unix_ns, length_ns) = (batch.start_unix_ns, batch.length_ns);
                    f(series, Stored { start_unix_ns, length_ns, level, window });
                }
            }
            return Ok(());
        }
        let start_unix_ns = u64::from(unit) * MINUTE_NS;
        let series = Series::from_key(key.get(4..).unwrap_or_default())?;
        if selection.has(start_unix_ns) && selection.wants(&series) {
            let length_ns =
                if level == Level::Hour { u64::from(HOUR) * MINUTE_NS } else { MINUTE_NS };
            let window = read_window(content)?;
            f(series, Stored { start_unix_ns, length_ns, level, window });
        }
        Ok(())
    })
}
