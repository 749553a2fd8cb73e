//! Opens the catalog's database: `catalog.sqlite` in a directory, or PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::UNIX_EPOCH;

use rusqlite::Connection as SqliteConnection;
use trialog_model::time::UnixMicros;
use trialog_sqlite::told::ToldFile;
use trialog_sqlite::watch::Watch;
use trialog_sqlite::{Opening, open_reader};

use crate::database::{Abort, Connection, DatabaseError};
use crate::error::CatalogError;
use crate::generation;
use crate::schema::MIGRATIONS;

/// How many queries read a SQLite file at a time; more wait for one of them.
const N_READERS: usize = 4;

/// The catalog: registry, results and runs.
#[derive(Debug)]
pub struct Catalog {
    engine: Engine,
    n_writes: AtomicU64,
    /// Where it is, for people.
    place: String,
}

#[derive(Debug)]
enum Engine {
    Sqlite(Box<SqliteFile>),
    #[cfg(feature = "postgres")]
    Postgres(crate::postgres::Server),
}

/// `catalog.sqlite`: one connection that writes, and others that read. In WAL mode readers and the
/// writer do not block each other, so pages are shown while a run is published.
#[derive(Debug)]
pub(crate) struct SqliteFile {
    // Closed before the one that writes, which then can put the log away.
    readers: Vec<Mutex<SqliteConnection>>,
    connection: Mutex<SqliteConnection>,
    next_reader: AtomicUsize,
    path: PathBuf,
    /// The record of the last commit and the watch of the files; `None` if the file is only read.
    guard: Option<Guard>,
}

/// Detects that the file lost something.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) told: ToldFile,
    pub(crate) watch: Watch,
}

/// The scope of a transaction's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// The registry: one transaction at a time. Caches of the registry are invalidated.
    Registry,
    /// The journal's list of batches: one after the other.
    Journal,
    /// The transaction's rows only, which it locks one by one, so that many can run at a time if
    /// the database supports that.
    Rows,
}

impl Catalog {
    /// Opens or creates the catalog in `directory`.
    ///
    /// # Errors
    ///
    /// A damaged file, a newer schema, or a directory that cannot be written.
    pub fn open(directory: &Path) -> Result<Self, CatalogError> {
        let path = directory.join("catalog.sqlite");
        let told = generation::file(directory);
        let connection = Opening {
            path: &path,
            pragmas: "",
            migrations: MIGRATIONS,
            reach: Some(generation::reach(&told)),
        }
        .open()?;
        let guard = generation::guard(&connection, &path, &told)?;
        let mut readers = Vec::with_capacity(N_READERS);
        for _ in 0..N_READERS {
            let reader = open_reader(&path)?;
            reader.set_prepared_statement_cache_capacity(64);
            readers.push(Mutex::new(reader));
        }
        let mut file = SqliteFile::new(connection, readers, path);
        file.guard = Some(guard);
        let catalog = Self::of_file(file);
        catalog.hash_erasures_with_key()?;
        Ok(catalog)
    }

    /// Connects to the catalog in the PostgreSQL database at `url`, which has the form
    /// `postgres://user:password@host:port/database?sslmode=require`, and creates the tables that
    /// are missing.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, refuses the user, or has a newer schema.
    #[cfg(feature = "postgres")]
    pub fn connect(url: &str) -> Result<Self, CatalogError> {
        let server = crate::postgres::Server::connect(url)?;
        let catalog = Self {
            place: server.place().to_owned(),
            engine: Engine::Postgres(server),
            n_writes: AtomicU64::new(0),
        };
        catalog.hash_erasures_with_key()?;
        Ok(catalog)
    }

    /// Creates a catalog that reads through `connection` alone.
    pub(crate) fn pinned_to(connection: SqliteConnection, path: PathBuf) -> Self {
        Self::of_file(SqliteFile::new(connection, Vec::new(), path))
    }

    fn of_file(file: SqliteFile) -> Self {
        Self {
            place: file.path.display().to_string(),
            engine: Engine::Sqlite(Box::new(file)),
            n_writes: AtomicU64::new(0),
        }
    }

    /// Returns the place of the catalog: a path, or an address without a password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns whether other processes may write to the catalog as well.
    pub fn is_shared(&self) -> bool {
        !matches!(self.engine, Engine::Sqlite(_))
    }

    /// Returns which file of the catalog was removed, replaced or truncated beneath this process,
    /// with the remedy.
    pub fn lost_file(&self) -> Option<String> {
        match &self.engine {
            Engine::Sqlite(file) => file.lost_file(),
            #[cfg(feature = "postgres")]
            Engine::Postgres(_) => None,
        }
    }

    /// Returns the SQLite file, for operations that need a file.
    pub(crate) fn file(&self, what: &'static str) -> Result<&SqliteFile, CatalogError> {
        #[cfg(not(feature = "postgres"))]
        let _ = what;
        match &self.engine {
            Engine::Sqlite(file) => Ok(file),
            #[cfg(feature = "postgres")]
            Engine::Postgres(_) => Err(CatalogError::NotAFile { what }),
        }
    }

    /// Runs `query`, which sees one state of the database regardless of concurrent commits.
    pub(crate) fn read<T>(
        &self,
        action: &str,
        query: impl FnOnce(&Connection<'_>) -> Result<T, DatabaseError>,
    ) -> Result<T, CatalogError> {
        let outcome = match &self.engine {
            Engine::Sqlite(file) => file.read(query),
            #[cfg(feature = "postgres")]
            Engine::Postgres(server) => server.read(query),
        };
        outcome.map_err(CatalogError::database(action, &self.place))
    }

    /// Runs `change` in one transaction, which is rolled back if it fails, and returns the error
    /// of `change`. A failure of the database is reported as a failure of `action`.
    pub(crate) fn write<T, E: From<CatalogError>>(
        &self,
        action: &str,
        change: impl FnOnce(&Connection<'_>) -> Result<T, Abort<E>>,
    ) -> Result<T, E> {
        self.write_as(Writes::Registry, action, change)
    }

    /// Runs `change` as [`Catalog::write`] does, concurrently with other transactions if `writes`
    /// allows it.
    pub(crate) fn write_as<T, E: From<CatalogError>>(
        &self,
        writes: Writes,
        action: &str,
        change: impl FnOnce(&Connection<'_>) -> Result<T, Abort<E>>,
    ) -> Result<T, E> {
        #[cfg(not(feature = "postgres"))]
        let _ = writes;
        let outcome = match &self.engine {
            Engine::Sqlite(file) => file.write(change),
            #[cfg(feature = "postgres")]
            Engine::Postgres(server) => server.write(writes, change),
        };
        let outcome = outcome.map_err(|abort| match abort {
            Abort::Refused(error) => error,
            Abort::Database(error) => CatalogError::database(action, &self.place)(error).into(),
        })?;
        self.n_writes.fetch_add(1, Ordering::Release);
        Ok(outcome)
    }

    /// Counts the writes through this catalog and those by others that it has been notified of.
    /// Cached data are valid while the number stays the same.
    pub fn n_writes(&self) -> u64 {
        let n_writes = self.n_writes.load(Ordering::Acquire);
        match &self.engine {
            Engine::Sqlite(_) => n_writes,
            #[cfg(feature = "postgres")]
            Engine::Postgres(server) => n_writes + server.n_foreign_writes(),
        }
    }
}

impl SqliteFile {
    fn new(
        connection: SqliteConnection,
        readers: Vec<Mutex<SqliteConnection>>,
        path: PathBuf,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection: Mutex::new(connection),
            readers,
            next_reader: AtomicUsize::new(0),
            path,
            guard: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection<'_>) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        match self.reader() {
            Some(reader) => query(&Connection::Sqlite(&*reader.unchecked_transaction()?)),
            // It is in a transaction that began when the catalog was pinned.
            None => query(&Connection::Sqlite(&self.connection())),
        }
    }

    fn write<T, E>(
        &self,
        change: impl FnOnce(&Connection<'_>) -> Result<T, Abort<E>>,
    ) -> Result<T, Abort<E>> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(DatabaseError::from)?;
        let before = transaction.total_changes();
        let outcome = change(&Connection::Sqlite(&transaction))?;
        if transaction.total_changes() == before {
            // Nothing is written then, which works on a full disk as well.
            transaction.commit().map_err(DatabaseError::from)?;
            return Ok(outcome);
        }
        let number = generation::next(&transaction).map_err(DatabaseError::from)?;
        transaction.commit().map_err(DatabaseError::from)?;
        if let Some(guard) = &self.guard
            && let Err(error) = guard.told.tell(number)
        {
            // The change is durable; only the guard against a damaged file lags behind.
            tracing::error!("cannot tell the generation of the catalog: {error}");
        }
        Ok(outcome)
    }

    /// A reader that is free, else the next one in turn; none where the
    /// catalog is pinned.
    fn reader(&self) -> Option<MutexGuard<'_, SqliteConnection>> {
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

    /// Returns when the file or its log was last written, by the file system's clock.
    pub(crate) fn written_at(&self) -> Option<UnixMicros> {
        let log = self.path.with_extension("sqlite-wal");
        let modified_at = |path: &Path| std::fs::metadata(path).ok()?.modified().ok();
        let latest = modified_at(&log).max(modified_at(&self.path))?;
        let since = latest.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_micros()).ok().map(UnixMicros)
    }

    /// Returns which of its files was removed, replaced or truncated since it was opened.
    pub(crate) fn lost_file(&self) -> Option<String> {
        let guard = self.guard.as_ref()?;
        match self.connection.try_lock() {
            // Nobody writes, so the length is what the header says.
            Ok(_still) => guard.watch.check_length().err(),
            Err(_) => guard.watch.check().err(),
        }
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, SqliteConnection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
