//! Inspects the catalog of a directory without opening it for writing.

use std::path::Path;

use rusqlite::Connection;
use trialog_model::time::UnixMicros;
use trialog_sqlite::{SchemaVersions, open_read_only, schema_version};

use crate::error::CatalogError;
use crate::schema::MIGRATIONS;

/// The findings of an inspection of `catalog.sqlite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspected {
    /// The schema version of the file, and the newest that this binary knows.
    pub schema: SchemaVersions,
    /// When the latest of the last runs ended: results computed then carry it.
    pub last_computed_at: Option<UnixMicros>,
    /// API keys that are accepted.
    pub n_usable_keys: u64,
}

/// The schema version that brought API keys.
const KEYS_SINCE: i64 = 3;

/// Inspects the catalog in `directory` without changing it; `None` if there is none.
///
/// # Errors
///
/// The file cannot be read, or is no database.
pub fn inspect(directory: &Path, now: UnixMicros) -> Result<Option<Inspected>, CatalogError> {
    let path = directory.join("catalog.sqlite");
    if !path.exists() {
        return Ok(None);
    }
    let failed = inspection_failed(&path);
    let connection = open_read_only(&path).map_err(&failed)?;
    let found = schema_version(&connection).map_err(&failed)?;
    let last_computed_at = if found == 0 {
        None
    } else {
        last_computed_at(&connection).map_err(&failed)?
    };
    let n_usable_keys = if found < KEYS_SINCE {
        0
    } else {
        usable_keys(&connection, now).map_err(&failed)?
    };
    Ok(Some(Inspected {
        schema: SchemaVersions {
            found,
            known: MIGRATIONS.len() as i64,
        },
        last_computed_at: last_computed_at.map(UnixMicros),
        n_usable_keys,
    }))
}

fn inspection_failed(path: &Path) -> impl Fn(rusqlite::Error) -> CatalogError {
    let place = path.display().to_string();
    move |error| CatalogError::database("inspect the schema and the keys", &place)(error.into())
}

fn last_computed_at(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(finished_at) FROM
        (SELECT finished_at FROM pipeline_runs ORDER BY run_id DESC LIMIT 100)";
    connection.query_row(sql, [], |row| row.get(0))
}

fn usable_keys(connection: &Connection, now: UnixMicros) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM api_keys
        WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)";
    connection.query_row(sql, [now.0], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    #[test]
    fn the_schema_and_the_end_of_the_last_run_are_seen_beside_the_writer() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(inspect(directory.path(), UnixMicros(9)).unwrap(), None);
        let catalog = Catalog::open(directory.path()).unwrap();
        let seen = inspect(directory.path(), UnixMicros(9)).unwrap().unwrap();
        assert_eq!(seen.schema.found, seen.schema.known);
        assert_eq!(seen.last_computed_at, None);
        let run = catalog.begin_run("command", 1, UnixMicros(5)).unwrap();
        catalog.fail_run(run, "no", UnixMicros(7)).unwrap();
        let seen = inspect(directory.path(), UnixMicros(9)).unwrap().unwrap();
        assert_eq!(seen.last_computed_at, Some(UnixMicros(7)));
    }
}
