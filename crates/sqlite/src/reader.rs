//! Opens connections that only read, beside the one that writes.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;
use crate::open::is_damage;
use crate::seal;

/// Opens `path`, which [`crate::Opening`] has opened before and holds open,
/// for reading: readers and the writer do not wait for each other.
///
/// # Errors
///
/// The file cannot be opened.
pub fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        seal::register(&connection)?;
        Ok(connection)
    };
    open().map_err(|source: rusqlite::Error| {
        let path = path.to_owned();
        if is_damage(&source) {
            let what = source.to_string();
            return OpenError::Damaged { path, what };
        }
        OpenError::Database {
            action: "open the database for reading",
            path,
            source,
        }
    })
}
