//! Which windows are stored: for each instance of an agent, ranges of sequences, joined where they touch. An agent that never lost its
//! connection has one range an hour.

use redb::{ReadableTable, Table};

use super::file::{Bytes, FileError};
use super::row::{number, seal, unseal};

/// A range of sequences of one instance of an agent: from `first` up to, not including, `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range<'a> {
    pub(super) agent: &'a str,
    pub(super) instance: u64,
    pub(super) first: u64,
    pub(super) end: u64,
}

/// How much of a range is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Nothing,
    Some,
    All,
}

impl Range<'_> {
    fn key(&self, first: u64) -> Vec<u8> {
        let prefix = [self.agent.as_bytes(), &[0]].concat();
        [prefix.as_slice(), &self.instance.to_be_bytes(), &first.to_be_bytes()].concat()
    }

    /// How much of it is in the table.
    pub(super) fn stored(
        &self,
        table: &impl ReadableTable<Bytes, Bytes>,
    ) -> Result<Stored, FileError> {
        if let Some((_, end)) = self.before(table)? {
            if end >= self.end {
                return Ok(Stored::All);
            }
            if end > self.first {
                return Ok(Stored::Some);
            }
        }
        let (from, to) = (self.key(self.first), self.key(self.end));
        let within = table.range::<&[u8]>(from.as_slice()..to.as_slice())?.next().transpose()?;
        Ok(if within.is_some() { Stored::Some } else { Stored::Nothing })
    }

    /// The last range of this instance that begins at or before this one.
    fn before(
        &self,
        table: &impl ReadableTable<Bytes, Bytes>,
    ) -> Result<Option<(u64, u64)>, FileError> {
        let (from, to) = (self.key(0), self.key(self.first));
        let last =
            table.range::<&[u8]>(from.as_slice()..=to.as_slice())?.next_back().transpose()?;
        last.map(|(key, value)| read(key.value(), value.value())).transpose()
    }

    /// Adds it, joined with those it touches.
    pub(super) fn insert(&self, table: &mut Table<'_, Bytes, Bytes>) -> Result<(), FileError> {
        let (mut first, mut end) = (self.first, self.end);
        if let Some((start, stop)) = self.before(table)?
            && stop >= first
        {
            (first, end) = (start, end.max(stop));
            table.remove(self.key(start).as_slice())?;
        }
        loop {
            let (from, to) = (self.key(first), self.key(end));
            let next = table.range::<&[u8]>(from.as_slice()..=to.as_slice())?.next().transpose()?;
            let Some((start, stop)) =
                next.map(|(key, value)| read(key.value(), value.value())).transpose()?
            else {
                break;
            };
            end = end.max(stop);
            table.remove(self.key(start).as_slice())?;
        }
        let key = self.key(first);
        table.insert(key.as_slice(), seal(&key, &end.to_le_bytes()).as_slice())?;
        Ok(())
    }
}

fn read(key: &[u8], value: &[u8]) -> Result<(u64, u64), FileError> {
    let end = number(unseal(key, value)?)?;
    let first = key.last_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first));
    Ok((first, end))
}

/// All ranges of an agent: instance, first, end.
pub(super) fn of_agent(
    table: &impl ReadableTable<Bytes, Bytes>,
    agent: &str,
) -> Result<Vec<(u64, u64, u64)>, FileError> {
    let (from, to) = ([agent.as_bytes(), &[0]].concat(), [agent.as_bytes(), &[1]].concat());
    let mut ranges = Vec::new();
    for row in table.range::<&[u8]>(from.as_slice()..to.as_slice())? {
        let (key, value) = row?;
        let (first, end) = read(key.value(), value.value())?;
        let instance = key.value().get(from.len()..).and_then(|rest| rest.first_chunk::<8>());
        let instance = instance.ok_or_else(|| FileError::Damaged("a key is too short".into()))?;
        ranges.push((u64::from_be_bytes(*instance), first, end));
    }
    Ok(ranges)
}
