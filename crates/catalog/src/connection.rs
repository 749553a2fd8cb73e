//! `catalog.sqlite`: the one connection that writes, and those that read.
//!
//! In WAL mode readers and the writer do not wait for each other, so pages
//! are shown while a run is published.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rusqlite::{Connection, Transaction};
use trialog_sqlite::{Opening, open_reader};

use crate::error::CatalogError;
use crate::schema::MIGRATIONS;

/// How many queries read at a time; more wait for one of them.
const N_READERS: usize = 4;

/// The catalog in `catalog.sqlite`.
#[derive(Debug)]
pub struct Catalog {
    // Closed before the one that writes, which then can put the log away.
    readers: Vec<Mutex<Connection>>,
    connection: Mutex<Connection>,
    next_reader: AtomicUsize,
    n_writes: AtomicU64,
    path: PathBuf,
}

impl Catalog {
    /// Opens or creates the catalog in `directory`.
    ///
    /// # Errors
    ///
    /// A damaged file, a newer schema, or a directory that cannot be written.
    pub fn open(directory: &Path) -> Result<Self, CatalogError> {
        let path = directory.join("catalog.sqlite");
        let connection = Opening {
            path: &path,
            pragmas: "",
            migrations: MIGRATIONS,
        }
        .open()?;
        let mut readers = Vec::with_capacity(N_READERS);
        for _ in 0..N_READERS {
            let reader = open_reader(&path)?;
            reader.set_prepared_statement_cache_capacity(64);
            readers.push(Mutex::new(reader));
        }
        Ok(Self {
            readers,
            ..Self::new(connection, path)
        })
    }

    /// A catalog that reads through `connection` alone.
    pub(crate) fn new(connection: Connection, path: PathBuf) -> Self {
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection: Mutex::new(connection),
            readers: Vec::new(),
            next_reader: AtomicUsize::new(0),
            n_writes: AtomicU64::new(0),
            path,
        }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `query`, which sees one state of the file whatever is committed
    /// meanwhile.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let read = || match self.reader() {
            Some(reader) => query(&*reader.unchecked_transaction()?),
            // It is in a transaction that began when the catalog was pinned.
            None => query(&self.connection()),
        };
        read().map_err(CatalogError::database(action, &self.path))
    }

    /// Runs `change` in one transaction, which is rolled back if it fails.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let failed = CatalogError::database(action, &self.path);
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(&failed)?;
        let outcome = change(&transaction)?;
        transaction.commit().map_err(&failed)?;
        self.n_writes.fetch_add(1, Ordering::Release);
        Ok(outcome)
    }

    /// How often something was written through this catalog: what was read before is
    /// still so while the number is the same.
    pub fn n_writes(&self) -> u64 {
        self.n_writes.load(Ordering::Acquire)
    }

    /// A reader that is free, else the next one in turn; none where the
    /// catalog is pinned.
    fn reader(&self) -> Option<MutexGuard<'_, Connection>> {
        for reader in &self.readers {
            match reader.try_lock() {
                Ok(free) => return Some(free),
                Err(TryLockError::Poisoned(free)) => return Some(free.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let turn = self.next_reader.fetch_add(1, Ordering::Relaxed) % N_READERS;
        let reader = self.readers.get(turn)?;
        Some(reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
