//! What a stopped coordinator's store holds: its keys, read from its files by their documented form, and its windows, added up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use railgauge_coordinator::store::{Progress, Resolution, Selection, Store, Totals};
use railgauge_core::time::Wall;
use railgauge_proto::convert;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::Trouble;
use super::sums::Sums;

/// Windows by agent: instance and sequence.
pub type Keys = BTreeMap<String, BTreeSet<(u64, u64)>>;

const SEEN: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("seen");

/// Keys of all windows in the files of a store that nobody has open: rows of name, 0, instance, first, with the end behind a
/// checksum.
///
/// # Errors
/// When a file does not open.
pub fn keys(directory: &Path) -> Result<Keys, Trouble> {
    let mut keys = Keys::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "redb") {
            continue;
        }
        let database = Database::open(&path)?;
        let table = match database.begin_read()?.open_table(SEEN) {
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            table => table?,
        };
        for row in table.iter()? {
            let (key, value) = row?;
            let (name, rest) = key.value().split_at(key.value().len().saturating_sub(17));
            let number = |at: usize| {
                let octets = rest.get(at..).and_then(|octets| octets.first_chunk::<8>());
                octets.map(|octets| u64::from_be_bytes(*octets)).ok_or("a key is too short")
            };
            let (instance, first) = (number(1)?, number(9)?);
            let end = value.value().last_chunk::<8>().ok_or("a value is too short")?;
            let agent = keys.entry(String::from_utf8(name.to_vec())?).or_default();
            agent.extend((first..u64::from_le_bytes(*end)).map(|n| (instance, n)));
        }
    }
    Ok(keys)
}

/// All windows of the store, added up.
///
/// # Errors
/// When a file cannot be read.
pub fn sums(store: &Store, resolution: Resolution) -> Result<Sums, Trouble> {
    let selection = Selection { skewed: true, resolution, ..Selection::between(0, u64::MAX) };
    let mut sums = Sums::default();
    for (series, window) in store.reader().merged(&selection)? {
        let message = convert::window_message(0, &window);
        sums.add(&convert::path_message(&series.path), &message)?;
    }
    Ok(sums)
}

/// What was ever stored.
///
/// # Errors
/// When a file cannot be read.
pub fn totals(store: &Store) -> Result<Totals, Trouble> {
    Ok(store.reader().totals()?)
}

/// Does all maintenance that is due at `now`.
///
/// # Errors
/// When a file cannot be used, or there is no end to it.
pub fn maintain(store: &mut Store, now: Wall) -> Result<(), Trouble> {
    for _ in 0..10_000 {
        if store.maintain(now)? == Progress::Idle {
            return Ok(());
        }
    }
    Err("maintenance finds no end".into())
}
