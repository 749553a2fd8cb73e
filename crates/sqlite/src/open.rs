//! Opens a file: checks the log, then the pages, then the schema, then the last commit, then the
//! rows.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::OpenError;
use crate::inspect::schema_version;
use crate::migrate::{Migrated, Migration, migrate};
use crate::told::ToldFile;
use crate::{seal, wal};

/// The options of opening a SQLite file.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The file; it is created where it is absent.
    pub path: &'a Path,
    /// Statements before the file enters WAL mode, such as its page size.
    pub pragmas: &'a str,
    /// The steps to the newest schema, from an empty file on.
    pub migrations: &'a [Migration],
    /// The recorded last commit; `None` if none is recorded.
    pub reach: Option<Reach<'a>>,
}

/// The last commit of a file, by itself and as recorded outside of it.
#[derive(Debug, Clone, Copy)]
pub struct Reach<'a> {
    /// The [`ToldFile`] with the number of the last durable commit.
    pub told: &'a Path,
    /// The number of the last commit that the database holds.
    pub reached: fn(&Connection) -> rusqlite::Result<u64>,
}

impl Reach<'_> {
    /// Finds what is wrong with the file at `path` before it is opened: it is missing or empty.
    pub(crate) fn check_file(&self, path: &Path) -> Result<(), OpenError> {
        if std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
            return Ok(());
        }
        match ToldFile::read(self.told)? {
            None | Some(0) => Ok(()),
            Some(told) => Err(damaged(
                path,
                format!(
                    "it is missing or empty, but changes up to {told} were acknowledged, as `{}` records",
                    self.told.display()
                ),
            )),
        }
    }

    /// Finds what is missing in the database that `connection` has open.
    pub(crate) fn check(&self, connection: &Connection, path: &Path) -> Result<(), OpenError> {
        let reached = || match schema_version(connection)? {
            // Without any table: the log with all of them is gone.
            0 => Ok(0),
            _ => (self.reached)(connection),
        };
        let Some(told) = ToldFile::read(self.told)? else {
            return Ok(());
        };
        let reached = reached().map_err(|error| failed(path, error))?;
        if reached >= told {
            return Ok(());
        }
        Err(damaged(
            path,
            format!(
                "it ends at {reached}, but changes up to {told} were acknowledged, as `{}` records: \
                 its log `{}` lost its end, or the file is older than the others",
                self.told.display(),
                crate::pin::log_of(path).display()
            ),
        ))
    }
}

impl Opening<'_> {
    /// Opens the file, in WAL mode with `synchronous = FULL`, and brings its
    /// schema up to date.
    ///
    /// # Errors
    ///
    /// A damaged log, page or sealed row; a file that has not come as far as
    /// was told; a schema from the future; a file that cannot be opened or
    /// written.
    pub fn open(self) -> Result<Connection, OpenError> {
        if let Some(reach) = &self.reach {
            reach.check_file(self.path)?;
        }
        wal::check(&self.log_path())?;
        let mut connection = Connection::open(self.path).map_err(|error| self.failed(error))?;
        // A file that is refused keeps its log, from which it may yet be mended.
        self.keep_log(&connection, true)?;
        self.check_pages(&connection)?;
        let version = schema_version(&connection).map_err(|error| self.failed(error))?;
        if version == 0 {
            self.check_reach(&connection)?;
        }
        seal::register(&connection).map_err(|error| self.failed(error))?;
        let migrated = migrate(&mut connection, self.migrations, seal::fill)
            .map_err(|error| self.failed(error))?;
        match migrated {
            Migrated::Newer { found, needs } => {
                return Err(OpenError::NewerSchema {
                    path: self.path.to_owned(),
                    found,
                    known: self.migrations.len() as i64,
                    needs,
                });
            }
            Migrated::UpToDate(true) => {
                tracing::info!(file = %self.path.display(), "brought the schema up to date");
            }
            Migrated::UpToDate(false) => {}
        }
        self.check_reach(&connection)?;
        seal::install(&connection).map_err(|error| self.failed(error))?;
        if let Some(what) = seal::find_broken(&connection).map_err(|error| self.failed(error))? {
            return Err(damaged(self.path, what));
        }
        self.keep_log(&connection, false)?;
        Ok(connection)
    }

    fn check_reach(&self, connection: &Connection) -> Result<(), OpenError> {
        match &self.reach {
            Some(reach) => reach.check(connection, self.path),
            None => Ok(()),
        }
    }

    fn keep_log(&self, connection: &Connection, keep: bool) -> Result<(), OpenError> {
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
            .map(drop)
            .map_err(|error| self.failed(error))
    }

    fn check_pages(&self, connection: &Connection) -> Result<(), OpenError> {
        let pragmas = self.pragmas;
        connection
            .execute_batch(&format!(
                "{pragmas} PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            ))
            .map_err(|error| self.failed(error))?;
        let sound: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.failed(error))?;
        if sound == "ok" {
            Ok(())
        } else {
            Err(damaged(self.path, sound))
        }
    }

    fn log_path(&self) -> PathBuf {
        crate::pin::log_of(self.path)
    }

    fn failed(&self, error: rusqlite::Error) -> OpenError {
        failed(self.path, error)
    }
}

fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        what,
    }
}

fn failed(path: &Path, error: rusqlite::Error) -> OpenError {
    if is_damage(&error) {
        return damaged(path, error.to_string());
    }
    OpenError::Database {
        action: "open the database",
        path: path.to_owned(),
        source: error,
    }
}

/// Returns whether SQLite reports that the file does not hold what was written to it.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    const STEPS: &[Migration] = &[
        sql!("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)"),
        sql!("ALTER TABLE t ADD COLUMN seal INTEGER"),
    ];

    fn open(path: &Path, migrations: &[Migration]) -> Result<Connection, OpenError> {
        Opening {
            path,
            pragmas: "",
            migrations,
            reach: None,
        }
        .open()
    }

    #[test]
    fn steps_that_are_missing_are_taken_and_rows_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let old = open(&path, &STEPS[..1]).unwrap();
        old.execute("INSERT INTO t VALUES (1, 'x')", []).unwrap();
        drop(old);
        let new = open(&path, STEPS).unwrap();
        let sealed: bool = new
            .query_row("SELECT seal IS NOT NULL FROM t", [], |row| row.get(0))
            .unwrap();
        assert!(sealed, "rows from before are sealed");
    }

    #[test]
    fn an_older_binary_refuses_and_says_what_it_takes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(open(&path, STEPS).unwrap());
        let refused = open(&path, &STEPS[..1]).unwrap_err().to_string();
        let needs = format!("run trialog {} or newer", env!("CARGO_PKG_VERSION"));
        assert!(refused.contains(&needs), "{refused}");
    }

    #[test]
    fn a_row_that_was_changed_behind_our_back_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = open(&path, STEPS).unwrap();
        connection
            .execute("INSERT INTO t (k, v) VALUES (7, 'x')", [])
            .unwrap();
        drop(connection);
        let other = Connection::open(&path).unwrap();
        other.execute("UPDATE t SET v = 'y'", []).unwrap();
        drop(other);
        let refused = open(&path, STEPS).unwrap_err().to_string();
        assert!(
            refused.contains("`t`") && refused.contains("k = 7"),
            "{refused}"
        );
    }
}
