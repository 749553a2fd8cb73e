//! Opening: the log is checked, then the pages, then the schema, then the rows.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::OpenError;
use crate::migrate::{Migrated, Migration, migrate};
use crate::{seal, wal};

/// How a SQLite file is opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The file; it is created where it is absent.
    pub path: &'a Path,
    /// Statements before the file enters WAL mode, such as its page size.
    pub pragmas: &'a str,
    /// The steps to the newest schema, from an empty file on.
    pub migrations: &'a [Migration],
}

impl Opening<'_> {
    /// Opens the file, in WAL mode with `synchronous = FULL`, and brings its
    /// schema up to date.
    ///
    /// # Errors
    ///
    /// A damaged log, page or sealed row; a schema from the future; a file
    /// that cannot be opened or written.
    pub fn open(self) -> Result<Connection, OpenError> {
        wal::check(&self.log_path())?;
        let mut connection = Connection::open(self.path).map_err(|error| self.failed(error))?;
        self.check_pages(&connection)?;
        seal::register(&connection).map_err(|error| self.failed(error))?;
        let migrated = migrate(&mut connection, self.migrations, seal::fill)
            .map_err(|error| self.failed(error))?;
        match migrated {
            Migrated::Newer { found, needs } => Err(OpenError::NewerSchema {
                path: self.path.to_owned(),
                found,
                known: self.migrations.len() as i64,
                needs,
            }),
            Migrated::UpToDate(was_older) => {
                if was_older {
                    tracing::info!(file = %self.path.display(), "brought the schema up to date");
                }
                seal::install(&connection).map_err(|error| self.failed(error))?;
                match seal::find_broken(&connection).map_err(|error| self.failed(error))? {
                    Some(what) => Err(self.damaged(what)),
                    None => Ok(connection),
                }
            }
        }
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
            Err(self.damaged(sound))
        }
    }

    fn log_path(&self) -> PathBuf {
        crate::pin::log_of(self.path)
    }

    fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged {
            path: self.path.to_owned(),
            what,
        }
    }

    fn failed(&self, error: rusqlite::Error) -> OpenError {
        if is_damage(&error) {
            return self.damaged(error.to_string());
        }
        OpenError::Database {
            action: "open the database",
            path: self.path.to_owned(),
            source: error,
        }
    }
}

/// Whether SQLite says that the file does not hold what was written to it.
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
