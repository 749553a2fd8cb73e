//! `catalog.sqlite`: opening, schema, and the one connection.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction};

use crate::error::CatalogError;

/// Written to `user_version`; a newer one is refused.
const SCHEMA_VERSION: i64 = 1;

/// Times are microseconds since 1970, UTC. Sums that exceed 64 bits are
/// decimal text, so that they stay exact.
const SCHEMA: &str = "
CREATE TABLE experiments (
    experiment_id     TEXT    PRIMARY KEY,
    status            TEXT    NOT NULL,
    definition        TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    started_at        INTEGER,
    stopped_at        INTEGER,
    revision          INTEGER NOT NULL,
    computed_revision INTEGER NOT NULL,
    recompute_at      INTEGER,
    failure           TEXT
) WITHOUT ROWID;
CREATE INDEX experiments_by_status ON experiments (status, experiment_id);
CREATE INDEX experiments_changed ON experiments (experiment_id) WHERE revision <> computed_revision;
CREATE INDEX experiments_due ON experiments (recompute_at) WHERE recompute_at IS NOT NULL;
CREATE INDEX experiments_failed ON experiments (experiment_id) WHERE failure IS NOT NULL;

CREATE TABLE computations (
    experiment_id   TEXT    NOT NULL,
    computed_at     INTEGER NOT NULL,
    run_id          INTEGER NOT NULL,
    fingerprint     TEXT    NOT NULL,
    forced_users    INTEGER NOT NULL,
    unknown_variant INTEGER NOT NULL,
    not_aggregated  INTEGER NOT NULL,
    checksum        INTEGER NOT NULL,
    PRIMARY KEY (experiment_id, computed_at)
) WITHOUT ROWID;

CREATE TABLE variant_exposures (
    experiment_id   TEXT    NOT NULL,
    computed_at     INTEGER NOT NULL,
    variant         TEXT    NOT NULL,
    user_count      INTEGER NOT NULL,
    crossover_users INTEGER NOT NULL,
    PRIMARY KEY (experiment_id, computed_at, variant)
) WITHOUT ROWID;

CREATE TABLE variant_metrics (
    experiment_id   TEXT    NOT NULL,
    variant         TEXT    NOT NULL,
    metric_name     TEXT    NOT NULL,
    computed_at     INTEGER NOT NULL,
    user_count      INTEGER NOT NULL,
    event_count     INTEGER NOT NULL,
    total_value     TEXT    NOT NULL,
    conversion_rate REAL    NOT NULL,
    mean_value      REAL    NOT NULL,
    variance        REAL,
    converted_users INTEGER NOT NULL,
    squared_total   TEXT    NOT NULL,
    squared_events  TEXT    NOT NULL,
    run_id          INTEGER NOT NULL,
    fingerprint     TEXT    NOT NULL,
    PRIMARY KEY (experiment_id, computed_at, variant, metric_name)
) WITHOUT ROWID;

CREATE TABLE pipeline_state (
    source    TEXT    PRIMARY KEY,
    position  INTEGER NOT NULL,
    data_time INTEGER NOT NULL,
    run_id    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pipeline_runs (
    run_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    cause         TEXT    NOT NULL,
    attempt       INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    position      INTEGER,
    n_experiments INTEGER,
    n_failed      INTEGER,
    error         TEXT
);
";

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
        let connection =
            Connection::open(&path).map_err(CatalogError::database("open the database", &path))?;
        prepare(&connection, &path)?;
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
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

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), CatalogError> {
    let failed = CatalogError::database("open the database", path);
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(&failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    let sound: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(&failed)?;
    if sound != "ok" {
        return Err(CatalogError::Damaged {
            path: path.to_owned(),
            what: sound,
        });
    }
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(&failed)?;
    match found {
        SCHEMA_VERSION => Ok(()),
        0 => connection
            .execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))
            .map_err(&failed),
        found => Err(CatalogError::NewerSchema {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        }),
    }
}
