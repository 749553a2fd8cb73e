//! Manages the catalog in PostgreSQL: its tables, its locks, and the changes of other processes.
//!
//! Every process that shares a catalog listens for the notifications that each
//! writing transaction sends, so that what it keeps in memory of the catalog is
//! read again within moments of a change, and nobody asks at an interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use trialog_model::time::UnixMicros;
use trialog_sqlite::SchemaVersions;

use crate::connection::Writes;
use crate::database::postgres::{Access, JOURNAL_LOCK, MigrateError, Pool, REGISTRY_LOCK, migrate};
use crate::database::{Abort, Connection, DatabaseError, params};
use crate::error::CatalogError;
use crate::inspect::Inspected;

/// The steps from an empty database to the newest schema; a step that was
/// released never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/postgres_1.sql"),
    include_str!("schema/postgres_2.sql"),
    include_str!("schema/postgres_3.sql"),
    include_str!("schema/postgres_4.sql"),
    include_str!("schema/postgres_5.sql"),
    include_str!("schema/postgres_6.sql"),
    include_str!("schema/postgres_7.sql"),
    include_str!("schema/postgres_8.sql"),
    include_str!("schema/postgres_9.sql"),
    include_str!("schema/postgres_10.sql"),
];

/// What a writing transaction notifies.
const CHANNEL: &str = "trialog_catalog";
/// How long a check for notifications lasts, and how long to wait for a database that is gone.
const LISTEN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Server {
    pool: Arc<Pool>,
    n_foreign_writes: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn connect(url: &str) -> Result<Self, CatalogError> {
        let pool = Arc::new(Pool::new(url).map_err(CatalogError::BadAddress)?);
        let place = pool.place().to_owned();
        let failed = CatalogError::database("open the catalog", &place);
        let mut client = pool.connect().map_err(&failed)?;
        migrate(&mut client, MIGRATIONS).map_err(|error| match error {
            MigrateError::Database(error) => failed(DatabaseError::Postgres(error)),
            MigrateError::Newer {
                found,
                known,
                needs,
            } => CatalogError::NewerSchema {
                place: place.clone(),
                found,
                known,
                needs,
            },
        })?;
        let server = Self {
            n_foreign_writes: Arc::default(),
            closed: Arc::default(),
            pool,
        };
        server.listen()?;
        Ok(server)
    }

    pub(crate) fn place(&self) -> &str {
        self.pool.place()
    }

    pub(crate) fn n_foreign_writes(&self) -> u64 {
        self.n_foreign_writes.load(Ordering::Acquire)
    }

    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Connection<'_>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        self.pool.transact(Access::Read, query)
    }

    pub(crate) fn write<T, E>(
        &self,
        writes: Writes,
        change: impl FnOnce(&Connection<'_>) -> Result<T, Abort<E>>,
    ) -> Result<T, Abort<E>> {
        let access = match writes {
            Writes::Registry => Access::Exclusive(REGISTRY_LOCK),
            Writes::Journal => Access::Exclusive(JOURNAL_LOCK),
            Writes::Rows => Access::Shared,
        };
        self.pool.transact(access, |connection| {
            let outcome = change(connection)?;
            if writes == Writes::Registry {
                connection.execute(&format!("NOTIFY {CHANNEL}"), params![])?;
            }
            Ok(outcome)
        })
    }

    /// Counts what others write, in a thread that ends with the catalog.
    fn listen(&self) -> Result<(), CatalogError> {
        let pool = Arc::clone(&self.pool);
        let (n_writes, closed) = (Arc::clone(&self.n_foreign_writes), Arc::clone(&self.closed));
        let listen = move || {
            while !closed.load(Ordering::Acquire) {
                if let Err(error) = count_notifications(&pool, &n_writes, &closed) {
                    tracing::warn!("cannot listen for changes of the catalog: {error}");
                    std::thread::sleep(LISTEN);
                }
            }
        };
        let spawned = std::thread::Builder::new()
            .name("catalog-listener".to_owned())
            .spawn(listen);
        spawned
            .map(drop)
            .map_err(|error| CatalogError::Thread(error.to_string()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// Inspects the catalog at `url` without changing it.
///
/// # Errors
///
/// The database cannot be reached or refuses the user.
pub fn inspect_server(url: &str, now: UnixMicros) -> Result<Inspected, CatalogError> {
    let pool = Pool::new(url).map_err(CatalogError::BadAddress)?;
    let failed = CatalogError::database("inspect the schema and the keys", pool.place());
    let read = |connection: &Connection<'_>| {
        let sql = "SELECT to_regclass('schema_versions') IS NOT NULL";
        if !connection.query_row(sql, params![], |row| row.get::<bool>(0))? {
            return Ok((0, 0));
        }
        let sql = "SELECT coalesce(max(version), 0) FROM schema_versions";
        let found = connection.query_row(sql, params![], |row| row.get::<i64>(0))?;
        let sql = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)";
        Ok((found, connection.query_row(sql, [now.0], |row| row.get(0))?))
    };
    let (found, n_usable_keys) = pool.transact(Access::Read, read).map_err(failed)?;
    Ok(Inspected {
        schema: SchemaVersions {
            found,
            known: MIGRATIONS.len() as i64,
        },
        last_computed_at: None,
        n_usable_keys,
    })
}

fn count_notifications(
    pool: &Pool,
    n_writes: &AtomicU64,
    closed: &AtomicBool,
) -> Result<(), DatabaseError> {
    let mut client = pool.connect()?;
    client
        .batch_execute(&format!("LISTEN {CHANNEL}"))
        .map_err(DatabaseError::Postgres)?;
    // What happened before this connection was there is not known.
    n_writes.fetch_add(1, Ordering::AcqRel);
    while !closed.load(Ordering::Acquire) {
        {
            let mut notifications = client.notifications();
            let mut waiting = notifications.timeout_iter(LISTEN);
            while waiting.next().map_err(DatabaseError::Postgres)?.is_some() {
                n_writes.fetch_add(1, Ordering::AcqRel);
                // Others may notify without a pause.
                if closed.load(Ordering::Acquire) {
                    return Ok(());
                }
            }
        }
        if client.is_closed() {
            return Err(DatabaseError::Unreachable(
                "the connection was closed".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Runs a statement outside of any catalog.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn execute(url: &str, sql: &str) -> Result<(), CatalogError> {
    let pool = Pool::new(url).map_err(CatalogError::BadAddress)?;
    let failed = CatalogError::database("prepare a test", pool.place());
    let mut client = pool.connect().map_err(&failed)?;
    (client.batch_execute(sql)).map_err(|error| failed(DatabaseError::Postgres(error)))
}
