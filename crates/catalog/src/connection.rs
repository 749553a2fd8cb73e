//! `catalog.sqlite`: the one connection, for reading and for transactions.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction};
use trialog_sqlite::Opening;

use crate::error::CatalogError;
use crate::schema::MIGRATIONS;

/// The catalog in `catalog.sqlite`.
#[derive(Debug)]
pub struct Catalog {
    connection: Mutex<Connection>,
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
        Ok(Self::new(connection, path))
    }

    pub(crate) fn new(connection: Connection, path: PathBuf) -> Self {
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection: Mutex::new(connection),
            path,
        }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        query(&self.connection()).map_err(CatalogError::database(action, &self.path))
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
        Ok(outcome)
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
