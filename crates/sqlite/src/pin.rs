//! Opens a second connection that sees one moment of a file, and copies or checks that moment.
//!
//! In WAL mode a reader keeps the state at which it began, whatever is written
//! meanwhile. A backup and a verification read through such a connection, so
//! that neither holds up the writer.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;
use crate::migrate::{Migration, brought_by};
use crate::open::Reach;
use crate::{seal, wal};

/// Pages that are copied at a time.
const STEP_PAGES: i32 = 4_096;

/// Opens the file at `path` for reading only, at its present moment.
///
/// # Errors
///
/// The file is absent or cannot be read, or it has another schema than
/// `migrations` lead to.
pub fn pin(path: &Path, migrations: &[Migration]) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| failed("read", path, error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let begin = || -> rusqlite::Result<i64> {
        seal::register(&connection)?;
        connection.execute_batch("BEGIN")?;
        // The first read is what fixes the moment.
        connection.query_row("PRAGMA user_version", [], |row| row.get(0))
    };
    let (found, known) = (begin().map_err(failed)?, migrations.len() as i64);
    if found > known {
        let needs = brought_by(&connection, found).map_err(failed)?;
        let path = path.to_owned();
        return Err(OpenError::NewerSchema {
            path,
            found,
            known,
            needs,
        });
    }
    if found < known {
        let path = path.to_owned();
        return Err(OpenError::OlderSchema { path, found, known });
    }
    Ok(connection)
}

/// Finds that the file at `path` is missing or empty, where it ever held something.
///
/// # Errors
///
/// [`OpenError::Damaged`] then.
pub fn check_file(path: &Path, reach: &Reach<'_>) -> Result<(), OpenError> {
    reach.check_file(path)
}

/// Opens a connection as [`pin`] does to a file that no process has open, and checks that no
/// recorded commit is lost.
///
/// # Errors
///
/// As [`pin`], and [`OpenError::Damaged`] where the file lost its end or is absent.
pub fn pin_reached(
    path: &Path,
    migrations: &[Migration],
    reach: &Reach<'_>,
) -> Result<Connection, OpenError> {
    reach.check_file(path)?;
    let connection = pin(path, migrations)?;
    reach.check(&connection, path)?;
    Ok(connection)
}

/// Lists all damage in the file of `connection`: in its structure, its indexes and its sealed
/// rows.
///
/// # Errors
///
/// The file cannot be read, or is damaged so far that SQLite gives up.
pub fn find_damage(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found: Vec<String> = connection
        .prepare("PRAGMA integrity_check(10)")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    found.retain(|line| line != "ok");
    found.extend(seal::find_broken(connection)?);
    Ok(found)
}

/// Finds damage in the log of the file at `path`, to which no process writes.
///
/// # Errors
///
/// [`OpenError::Damaged`] for damage, else why the log cannot be read.
pub fn check_log(path: &Path) -> Result<(), OpenError> {
    wal::check(&log_of(path))
}

pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Copies what `from` sees to a new file, durably, and checks the copy.
///
/// # Errors
///
/// Damage in `from`, or a file that cannot be written.
pub fn copy(from: &Connection, source: &Path, to: &Path) -> Result<(), OpenError> {
    let failed = |error| failed("copy", source, error);
    let mut copy = Connection::open(to).map_err(failed)?;
    {
        let backup = Backup::new(from, &mut copy).map_err(failed)?;
        // `from` holds its moment, so no other writer makes the copy start anew.
        while backup.step(STEP_PAGES).map_err(failed)? != StepResult::Done {}
    }
    seal::register(&copy).map_err(failed)?;
    if let Some(what) = find_damage(&copy).map_err(failed)?.into_iter().next() {
        let path = source.to_owned();
        return Err(OpenError::Damaged { path, what });
    }
    // Without its log, so that the copy is the one file.
    let _: String = copy
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))?;
    (File::open(to).and_then(|file| file.sync_all())).map_err(|source| OpenError::Io {
        action: "sync",
        path: to.to_owned(),
        source,
    })
}

/// Removes every trace of what was deleted: free pages, and the log.
///
/// # Errors
///
/// The file cannot be written, or a reader keeps the log in use.
pub fn scrub(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| failed("remove what was deleted from", path, error);
    connection.execute_batch("VACUUM").map_err(failed)?;
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(failed)?;
    if busy == 0 {
        return Ok(());
    }
    Err(OpenError::InUse {
        path: path.to_owned(),
    })
}

fn failed(action: &'static str, path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    if crate::is_damage(&error) {
        let what = error.to_string();
        return OpenError::Damaged { path, what };
    }
    OpenError::Database {
        action,
        path,
        source: error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opening, sql};

    const STEPS: &[Migration] = &[sql!(
        "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT, seal INTEGER)"
    )];

    fn open(path: &Path) -> Connection {
        let opening = Opening {
            path,
            pragmas: "",
            migrations: STEPS,
            reach: None,
        };
        opening.open().unwrap()
    }

    fn count(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn a_pinned_connection_and_its_copy_keep_their_moment() {
        let directory = tempfile::tempdir().unwrap();
        let (path, to) = (directory.path().join("db"), directory.path().join("copy"));
        let writer = open(&path);
        writer
            .execute("INSERT INTO t (v) VALUES ('x')", [])
            .unwrap();
        let pinned = pin(&path, STEPS).unwrap();
        writer
            .execute("INSERT INTO t (v) VALUES ('y')", [])
            .unwrap();
        assert_eq!((count(&pinned), count(&writer)), (1, 2));
        copy(&pinned, &path, &to).unwrap();
        assert_eq!(count(&open(&to)), 1);
        assert!(find_damage(&pinned).unwrap().is_empty());
    }

    #[test]
    fn a_copy_is_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let _writer = open(&path);
        let into = directory.path().join("into");
        std::fs::create_dir(&into).unwrap();
        copy(&pin(&path, STEPS).unwrap(), &path, &into.join("copy")).unwrap();
        assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1);
    }

    #[test]
    fn what_was_deleted_is_in_no_file_once_it_is_scrubbed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let writer = open(&path);
        let secret = "x7f".repeat(5_000);
        writer
            .execute("INSERT INTO t (v) VALUES (?1)", [&secret])
            .unwrap();
        writer.execute("DELETE FROM t", []).unwrap();
        scrub(&writer, &path).unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(
                !bytes
                    .windows(6)
                    .any(|window| window == &secret.as_bytes()[..6])
            );
        }
    }

    #[test]
    fn a_log_that_a_reader_keeps_is_said_to_be_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let writer = open(&path);
        writer
            .busy_timeout(std::time::Duration::from_millis(1))
            .unwrap();
        let _pinned = pin(&path, STEPS).unwrap();
        writer
            .execute("INSERT INTO t (v) VALUES ('y')", [])
            .unwrap();
        assert!(matches!(
            scrub(&writer, &path),
            Err(OpenError::InUse { .. })
        ));
    }
}
