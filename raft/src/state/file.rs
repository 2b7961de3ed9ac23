//! Opening the state's file.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, StorageBackend};

use super::StateError;
use super::branches::Branches;
use super::key::Table;
use super::pending::Pending;
use crate::consensus::disk::{DiskFile, Synced, Syncs};
use crate::consensus::reserve::Reserve;
use crate::planted::{Planted, Variant};

/// Bytes of pages that redb keeps in memory, of any kind. The trees' inner pages are kept below it
/// ([`Branches`]), and the kernel caches the file too: more of what was read at random is asked for
/// again too seldom to be worth it, and makes each read slower.
const CACHE: usize = 12 << 20;

/// Makes a new file with all its tables, without the reserve: it is only a copy, and must not take
/// what the log may need.
pub(super) fn create(file: &Path) -> Result<Database, StateError> {
    let inner = FileBackend::new(OpenOptions::new().read(true).write(true).create_new(true).open(file)?)?;
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    let database = builder.create_with_backend(Synced { inner, syncs: Syncs::default() })?;
    make_tables(&database)?;
    sync_directory_of(file)?;
    Ok(database)
}

/// Opens or makes the file, with all its tables. With a reserve it grows on a full disk too.
pub(super) fn open(
    file: &Path,
    planted: Planted,
    reserve: Option<&Arc<Reserve>>,
) -> Result<Database, StateError> {
    let is_new = !file.exists();
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    let database = if planted.is(Variant::SkipFsyncCheckpoint) {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)?;
        builder.create_with_backend(Unsynced(FileBackend::new(options)?))?
    } else if let Some(reserve) = reserve {
        let inner = Branches::new(DiskFile::open(file, reserve.clone())?);
        builder.create_with_backend(Synced { inner, syncs: Syncs::default() })?
    } else {
        builder.create(file)?
    };
    make_tables(&database)?;
    if is_new {
        sync_directory_of(file)?;
    }
    Ok(database)
}

/// A checkpoint is worth nothing in a file that a power cut takes out of its directory.
fn sync_directory_of(file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent() else { return Ok(()) };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

fn make_tables(database: &Database) -> Result<(), StateError> {
    // To look costs no fsync.
    if database.begin_read()?.list_tables()?.count() >= Table::ALL.len() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Writes rows as they were last, durably.
pub(super) fn write(database: &Database, rows: &Pending) -> Result<(), StateError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(redb::Durability::Immediate)?;
    // Without it an unclean open walks the whole file.
    transaction.set_quick_repair(true);
    for table in Table::ALL {
        if rows.is_empty(*table) {
            continue;
        }
        let mut open = transaction.open_table(table.definition())?;
        rows.last(*table, |key, value| {
            match value {
                Some(value) => drop(open.insert(key, value)?),
                None => drop(open.remove(key)?),
            }
            Ok::<_, StateError>(())
        })?;
    }
    transaction.commit()?;
    Ok(())
}

/// No file at all.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn in_memory() -> Result<Database, StateError> {
    let database = Builder::new().create_with_backend(redb::backends::InMemoryBackend::new())?;
    make_tables(&database)?;
    Ok(database)
}

/// On any backend, of which redb keeps at most `cache` bytes: for tests that count what is read.
#[cfg(test)]
pub(super) fn on(backend: impl StorageBackend, cache: usize) -> Result<Database, StateError> {
    let database = Builder::new().set_cache_size(cache).create_with_backend(backend)?;
    make_tables(&database)?;
    Ok(database)
}

/// A file whose sync does nothing: the wrong rule of [`Variant::SkipFsyncCheckpoint`].
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}
