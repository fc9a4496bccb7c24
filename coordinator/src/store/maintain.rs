//! What is done beside ingest: rolling up, and letting go of what is old or too much.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use railgauge_core::time::Wall;

use super::name::{FileId, HOUR, Level, MINUTE_NS};
use super::read::standing_counts;
use super::row::Counts;
use super::state::{self, State};
use super::{Store, StoreError};

/// What a step of maintenance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do: call again when nothing waits to be ingested.
    More,
    /// Nothing to do for now; try again in some seconds.
    Idle,
}

impl Store {
    /// One bounded step of what is to be done at `now`.
    ///
    /// # Errors
    /// Where a file is damaged (it was set aside; go on) or cannot be used (try again later).
    pub fn maintain(&mut self, now: Wall) -> Result<Progress, StoreError> {
        self.set_suspects_aside();
        self.sweep_floor()?;
        if self.roll_step(now)? || self.retire(now)? || self.keep_cap()? {
            return Ok(Progress::More);
        }
        Ok(Progress::Idle)
    }

    /// Deletes files that were counted as gone and could not be deleted then.
    fn sweep_floor(&mut self) -> Result<(), StoreError> {
        let floor = self.state.floor;
        for id in self.files.present().into_iter().filter(|id| id.start < floor) {
            self.delete(id)?;
        }
        Ok(())
    }

    /// Deletes one file that has had its time. Returns whether there was one.
    fn retire(&mut self, now: Wall) -> Result<bool, StoreError> {
        let now = now.as_unix_nanos();
        let past = |end: u32, keep: Duration| {
            let keep = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
            (u64::from(end) * MINUTE_NS).saturating_add(keep) <= now
        };
        for id in self.files.present() {
            let hour_end = id.hour() + HOUR;
            if past(hour_end, self.config.keep_hours) {
                self.let_go(id.hour(), |state| &mut state.expired)?;
                return Ok(true);
            }
            let keep = match id.level {
                Level::Raw => self.config.keep_raw,
                Level::Minute => self.config.keep_minutes,
                Level::Hour => continue,
            };
            if past(id.end(), keep) && self.is_superseded(id)? {
                self.delete(id)?;
                return Ok(true);
            }
        }
        self.retire_aside(&|id: FileId| past(id.hour() + HOUR, self.config.keep_hours))
    }

    /// Deletes the oldest file set aside for which `enough` holds.
    fn retire_aside(&self, enough: &dyn Fn(FileId) -> bool) -> Result<bool, StoreError> {
        let aside = self.files.aside().map_err(|e| self.unusable(&e))?;
        let Some((_, path)) = aside.into_iter().find(|(id, _)| enough(*id)) else {
            return Ok(false);
        };
        fs::remove_file(path).map_err(|e| self.unusable(&e))?;
        Ok(true)
    }

    /// Whether other files stand for all that this one holds.
    fn is_superseded(&self, id: FileId) -> Result<bool, StoreError> {
        match id.level {
            Level::Raw => Ok(self.unrolled(id)?.is_empty()),
            Level::Minute => self.is_closed(id.hour()),
            Level::Hour => Ok(false),
        }
    }

    /// Deletes something, where the store is larger than it may be: what is kept twice, what was set aside, the oldest hour.
    fn keep_cap(&mut self) -> Result<bool, StoreError> {
        if self.files.octets().map_err(|e| self.unusable(&e))? <= self.config.cap_octets {
            return Ok(false);
        }
        let present = self.files.present();
        for id in &present {
            if self.is_superseded(*id)? {
                self.delete(*id)?;
                return Ok(true);
            }
        }
        if self.retire_aside(&|_| true)? {
            return Ok(true);
        }
        // The newest hour stays: it is being written.
        match (present.first(), present.last()) {
            (Some(first), Some(last)) if first.hour() != last.hour() => {
                let from = super::name::minute_text(first.hour());
                tracing::warn!(from, "the store is full: its oldest hour is dropped");
                self.let_go(first.hour(), |state| &mut state.dropped)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Counts an hour as gone, durably, and then deletes its files. When the process ends between, they are deleted when it starts.
    fn let_go(
        &mut self,
        hour: u32,
        which: impl Fn(&mut State) -> &mut BTreeMap<String, Counts>,
    ) -> Result<(), StoreError> {
        self.roll = None;
        let mut state = self.state.clone();
        // Hours before it have no files: whatever order they come in, the floor only rises.
        state.floor = state.floor.max(hour + HOUR);
        for (agent, counts) in standing_counts(&self.reader(), hour)? {
            which(&mut state).entry(agent).or_default().add(&counts);
        }
        state::save(self.files.dir(), &state).map_err(|e| self.unusable(&e))?;
        self.state = state;
        self.publish_state();
        for id in self.files.present().into_iter().filter(|id| id.hour() == hour) {
            self.delete(id)?;
        }
        Ok(())
    }

    fn delete(&mut self, id: FileId) -> Result<(), StoreError> {
        self.touched.retain(|(file, _), _| *file != id);
        self.files.delete(id).map_err(|e| self.unusable(&e))
    }

    fn unusable(&self, error: &io::Error) -> StoreError {
        StoreError::Unusable {
            file: self.files.dir().display().to_string(),
            reason: error.to_string(),
        }
    }
}
