//! Migrates schemas: each step leads from one version to the next.
//!
//! The version is SQLite's `user_version`. Beside it the table
//! `schema_versions` says which version of Trialog brought each one, so that
//! an older binary can say what it would take to read the file.

use rusqlite::{Connection, OptionalExtension, Transaction};

/// A step from the previous schema version to the next one.
pub type Migration = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// Defines a [`Migration`] that is SQL alone.
///
/// ```
/// const STEPS: &[trialog_sqlite::Migration] = &[trialog_sqlite::sql!("CREATE TABLE t (x)")];
/// ```
#[macro_export]
macro_rules! sql {
    ($text:expr) => {
        |transaction| transaction.execute_batch($text)
    };
}

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_versions (
    version INTEGER PRIMARY KEY,
    trialog TEXT NOT NULL
)";

/// The outcome of a migration.
pub(crate) enum Migrated {
    /// It has the newest version now; `true` where it had an older one.
    UpToDate(bool),
    /// It has a version from the future.
    Newer { found: i64, needs: String },
}

/// Runs the missing steps in one transaction.
pub(crate) fn migrate(
    connection: &mut Connection,
    steps: &[Migration],
    after: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<Migrated> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = steps.len() as i64;
    if found > known {
        let needs = brought_by(connection, found)?;
        return Ok(Migrated::Newer { found, needs });
    }
    if found == known {
        return Ok(Migrated::UpToDate(false));
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(VERSIONS)?;
    for (version, step) in (1..).zip(steps).skip(found.unsigned_abs() as usize) {
        step(&transaction)?;
        transaction.execute(
            "INSERT OR REPLACE INTO schema_versions (version, trialog) VALUES (?1, ?2)",
            (version, env!("CARGO_PKG_VERSION")),
        )?;
    }
    after(&transaction)?;
    transaction.execute_batch(&format!("PRAGMA user_version = {known}"))?;
    transaction.commit()?;
    Ok(Migrated::UpToDate(found > 0))
}

/// Returns the version of Trialog that migrated to `version`, if the file records it.
pub(crate) fn brought_by(connection: &Connection, version: i64) -> rusqlite::Result<String> {
    let sql = "SELECT trialog FROM schema_versions WHERE version = ?1";
    let told = match connection.prepare(sql) {
        Ok(mut statement) => statement
            .query_row([version], |row| row.get(0))
            .optional()?,
        Err(_) => None,
    };
    Ok(told.unwrap_or_else(|| "of a later version".to_owned()))
}
