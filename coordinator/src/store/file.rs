//! One file: a redb database with the tables that all levels share, and what its errors mean.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};

use super::name::FileId;
use super::row::{Counts, number, seal, unit_key, unit_of, unseal};

/// Keys and values alike: octets.
pub(super) type Bytes = &'static [u8];

/// The version of what is in the tables. Version 0 had no `units`.
pub(super) const SCHEMA: u64 = 2;

const META: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("meta");
const SEEN: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("seen");
const ROWS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("rows");
const COUNTS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("counts");
const UNITS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("units");

/// Octets of cache a file may use; some eight are open at a time.
const CACHE: usize = 16 << 20;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It does not hold what was written: it is to be set aside.
    #[error("{0}")]
    Damaged(String),
    /// A newer version of this program wrote it.
    #[error("it has schema {found}, and this version knows schemas up to {SCHEMA}")]
    Newer {
        /// As written in it.
        found: u64,
    },
    /// Somebody has it open.
    #[error("it is still open")]
    Open,
    /// The operating system, or a file that must be opened anew.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<redb::Error> for FileError {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::Io(error) => match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    Self::Damaged(error.to_string())
                }
                _ => Self::Io(error),
            },
            E::DatabaseAlreadyOpen => Self::Open,
            E::Corrupted(_)
            | E::RepairAborted
            | E::UpgradeRequired(_)
            | E::TableTypeMismatch { .. }
            | E::TableIsMultimap(_)
            | E::TableIsNotMultimap(_)
            | E::TypeDefinitionChanged { .. }
            | E::TableDoesNotExist(_) => Self::Damaged(error.to_string()),
            other => Self::Io(io::Error::other(other.to_string())),
        }
    }
}

macro_rules! through_redb_error {
    ($($error:ty),*) => { $(impl From<$error> for FileError {
        fn from(error: $error) -> Self {
            redb::Error::from(error).into()
        }
    })* };
}
through_redb_error!(
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

/// Runs what reads or writes a database. redb answers most damage with an error and some with a panic: both mean the same to us.
pub(super) fn guarded<T>(f: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    let damaged = |_| Err(FileError::Damaged("its structure contradicts itself".into()));
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(damaged)
}

/// The tables, for writing.
pub(super) struct Tables<'t> {
    /// Ranges of sequences that are stored.
    pub(super) seen: Table<'t, Bytes, Bytes>,
    /// Batches, or merged windows.
    pub(super) rows: Table<'t, Bytes, Bytes>,
    /// Counts by unit and agent.
    pub(super) counts: Table<'t, Bytes, Bytes>,
    /// Windows by unit. At the levels above raw a unit is here once all its rows are, and from then on in place of those below.
    pub(super) units: Table<'t, Bytes, Bytes>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, FileError> {
        Ok(Self {
            seen: transaction.open_table(SEEN)?,
            rows: transaction.open_table(ROWS)?,
            counts: transaction.open_table(COUNTS)?,
            units: transaction.open_table(UNITS)?,
        })
    }

    /// Adds to the counts of a unit's agent.
    pub(super) fn add_counts(&mut self, key: &[u8], more: &Counts) -> Result<(), FileError> {
        let mut counts = counts(&self.counts, key)?;
        counts.add(more);
        self.counts.insert(key, seal(key, &counts.content()).as_slice())?;
        Ok(())
    }

    /// Sets the windows of a unit.
    pub(super) fn set_unit(&mut self, unit: u32, windows: u64) -> Result<(), FileError> {
        let key = unit_key(unit);
        self.units.insert(key.as_slice(), seal(&key, &windows.to_le_bytes()).as_slice())?;
        Ok(())
    }
}

/// The tables, for reading, as they were at one instant.
pub(super) struct View {
    /// Of which file.
    pub(super) id: FileId,
    /// Closed, it would answer no more.
    _database: Arc<Database>,
    pub(super) seen: ReadOnlyTable<Bytes, Bytes>,
    pub(super) rows: ReadOnlyTable<Bytes, Bytes>,
    pub(super) counts: ReadOnlyTable<Bytes, Bytes>,
    pub(super) units: ReadOnlyTable<Bytes, Bytes>,
}

impl View {
    /// The file as it is now.
    pub(super) fn of(id: FileId, database: &Arc<Database>) -> Result<Self, FileError> {
        let transaction: ReadTransaction = database.begin_read()?;
        Ok(Self {
            id,
            _database: Arc::clone(database),
            seen: transaction.open_table(SEEN)?,
            rows: transaction.open_table(ROWS)?,
            counts: transaction.open_table(COUNTS)?,
            units: transaction.open_table(UNITS)?,
        })
    }

    /// Reads everything that has a checksum.
    pub(super) fn verify(&self) -> Result<(), FileError> {
        for table in [&self.seen, &self.rows, &self.counts, &self.units] {
            for row in table.iter()? {
                let (key, value) = row?;
                unseal(key.value(), value.value())?;
            }
        }
        Ok(())
    }

    /// The windows of a unit, where it is there; else which file is at fault.
    pub(super) fn windows(&self, at: u32) -> Result<Option<u64>, (FileId, FileError)> {
        guarded(|| unit(&self.units, at)).map_err(|error| (self.id, error))
    }

    /// Calls `f` with the rows from one key up to another.
    pub(super) fn each(
        table: &ReadOnlyTable<Bytes, Bytes>,
        (from, to): &(Vec<u8>, Vec<u8>),
        mut f: impl FnMut(&[u8], &[u8]) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        for row in table.range::<&[u8]>(from.as_slice()..to.as_slice())? {
            let (key, value) = row?;
            f(key.value(), unseal(key.value(), value.value())?)?;
        }
        Ok(())
    }

    /// The units with their windows.
    pub(super) fn all_units(&self) -> Result<Vec<(u32, u64)>, FileError> {
        let mut units = Vec::new();
        Self::each(&self.units, &(Vec::new(), vec![255; 5]), |key, content| {
            units.push((unit_of(key)?, number(content)?));
            Ok(())
        })?;
        Ok(units)
    }
}

/// The counts under a key; zero without.
pub(super) fn counts(
    table: &impl ReadableTable<Bytes, Bytes>,
    key: &[u8],
) -> Result<Counts, FileError> {
    match table.get(key)? {
        Some(value) => Counts::read(unseal(key, value.value())?),
        None => Ok(Counts::default()),
    }
}

/// The windows of a unit, where it is there.
pub(super) fn unit(
    table: &impl ReadableTable<Bytes, Bytes>,
    unit: u32,
) -> Result<Option<u64>, FileError> {
    let key = unit_key(unit);
    table.get(key.as_slice())?.map(|value| number(unseal(&key, value.value())?)).transpose()
}

/// One durable transaction: all of what `f` does, or nothing.
pub(super) fn write<T>(
    database: &Database,
    f: impl FnOnce(&mut Tables<'_>) -> Result<T, FileError>,
) -> Result<T, FileError> {
    let transaction = database.begin_write()?;
    let result = f(&mut Tables::open(&transaction)?)?;
    transaction.commit()?;
    Ok(result)
}

/// Opens a database that is there.
pub(super) fn open(path: &Path, disk: &Disk) -> Result<Database, FileError> {
    guarded(|| {
        let database = disk.open(path)?;
        upgrade(&database)?;
        Ok(database)
    })
}

/// Makes one with empty tables.
pub(super) fn create(path: &Path, disk: &Disk) -> Result<Database, FileError> {
    guarded(|| {
        let database = disk.open(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert(b"schema".as_slice(), meta(SCHEMA).as_slice())?;
        drop(Tables::open(&transaction)?);
        transaction.commit()?;
        Ok(database)
    })
}

fn meta(schema: u64) -> Vec<u8> {
    seal(b"schema", &schema.to_le_bytes())
}

fn schema_of(database: &Database) -> Result<u64, FileError> {
    let table = database.begin_read()?.open_table(META)?;
    let value = table.get(b"schema".as_slice())?;
    let value = value.ok_or_else(|| FileError::Damaged("its schema is missing".into()))?;
    number(unseal(b"schema", value.value())?)
}

/// Brings an older file to today's schema, in one transaction.
fn upgrade(database: &Database) -> Result<(), FileError> {
    match schema_of(database)? {
        SCHEMA => Ok(()),
        0 => {
            let transaction = database.begin_write()?;
            transaction.open_table(META)?.insert(b"schema".as_slice(), meta(SCHEMA).as_slice())?;
            let mut tables = Tables::open(&transaction)?;
            let mut units = std::collections::BTreeMap::<u32, u64>::new();
            for row in tables.counts.iter()? {
                let (key, value) = row?;
                let counts = Counts::read(unseal(key.value(), value.value())?)?;
                *units.entry(unit_of(key.value())?).or_default() += counts.windows;
            }
            for (unit, windows) in units {
                tables.set_unit(unit, windows)?;
            }
            drop(tables);
            Ok(transaction.commit()?)
        }
        // Its rows are read as they are: keys of verbs, which version 1 does not know, are longer than its own.
        1 => {
            let transaction = database.begin_write()?;
            transaction.open_table(META)?.insert(b"schema".as_slice(), meta(SCHEMA).as_slice())?;
            Ok(transaction.commit()?)
        }
        found => Err(FileError::Newer { found }),
    }
}

/// How files are opened: as they are, or in tests through a backend that fails when told.
#[derive(Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) faults: Option<std::sync::Arc<super::tests::faults::Faults>>,
}

impl Disk {
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests have something in it"))]
    fn open(&self, path: &Path) -> Result<Database, FileError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            let backend = super::tests::faults::Faulty::open(path, faults)?;
            return Ok(builder.create_with_backend(backend)?);
        }
        Ok(builder.create(path)?)
    }
}

#[cfg(test)]
/// Makes a file of another schema: the tables as they are, `units` left out before version 1.
pub(super) fn rewrite_schema(path: &Path, schema: u64) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(b"schema".as_slice(), meta(schema).as_slice())
        .unwrap();
    if schema == 0 {
        transaction.delete_table(UNITS).unwrap();
    }
    transaction.commit().unwrap();
}
