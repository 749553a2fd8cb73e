//! Inspects a database without changing anything, also beside the process that writes it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// Returns the version of SQLite in this binary.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// The schema versions that an inspection finds before anything is opened for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    /// That of the file.
    pub found: i64,
    /// The newest version that this binary knows.
    pub known: i64,
}

/// Opens the file at `path` for reading, and leaves no file behind.
///
/// Where no process has the file open, SQLite would create its shared-memory
/// file beside it, which would then belong to the user who inspects. The file is
/// opened as one that nobody changes in that case; what a crash left in the
/// log is not seen then.
///
/// # Errors
///
/// The file does not exist or is no database.
pub fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let mut shared = path.as_os_str().to_owned();
    shared.push("-shm");
    let is_open = Path::new(&shared).exists();
    let uri = uri(path, if is_open { "" } else { "?immutable=1" });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

/// Returns the schema version of the file.
///
/// # Errors
///
/// The file is no database.
pub fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn uri(path: &Path, query: &str) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str(query);
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opening, sql};

    #[test]
    fn an_inspection_leaves_no_file_behind_and_sees_what_a_writer_committed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b?%.sqlite");
        let opening = || Opening {
            path: &path,
            pragmas: "",
            migrations: &[sql!("CREATE TABLE t (x)")],
            reach: None,
        };
        let names = || std::fs::read_dir(directory.path()).unwrap().count();
        let writer = opening().open().unwrap();
        writer.execute("INSERT INTO t VALUES (1)", []).unwrap();
        let seen = |at: &Path| -> (i64, i64) {
            let reader = open_read_only(at).unwrap();
            let count = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
            (schema_version(&reader).unwrap(), count.unwrap())
        };
        assert_eq!(seen(&path), (1, 1));
        drop(writer);
        assert_eq!(names(), 1);
        assert_eq!(seen(&path), (1, 1));
        assert_eq!(names(), 1);
        assert!(open_read_only(&directory.path().join("none")).is_err());
    }
}
