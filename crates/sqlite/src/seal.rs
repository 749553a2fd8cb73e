//! Seals rows with a checksum for each.
//!
//! SQLite finds a broken structure, not a changed value. A table with a
//! column `seal` is *sealed*: every insert and update through a connection
//! that [`install`] prepared stores the CRC-32 of all other columns, key
//! included, in that column. [`find_broken`] compares them all; a reader of
//! single rows compares with [`is_sound`]. CRC-32 finds every error within 32
//! consecutive bits, so one flipped byte cannot pass.
//!
//! A row that is gone has no checksum. Where there is a table [`SUMS`], it has
//! a row for each sealed table whose rows are counted and their seals added up,
//! in the same transaction as every change; [`find_broken`] counts and adds
//! them anew.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

/// The table of the tables that are counted: `name`, `n_rows`, `sum`.
const SUMS: &str = "sealed_tables";

/// A table with a column `seal`.
struct Table {
    name: String,
    /// All columns but `seal`, in order.
    columns: Vec<String>,
    keys: Vec<String>,
    /// Whether its rows are counted.
    is_counted: bool,
}

impl Table {
    /// The call that computes the seal from columns named with `prefix`.
    fn expected(&self, prefix: &str) -> String {
        let columns: Vec<_> = (self.columns.iter())
            .map(|column| format!("{prefix}{column}"))
            .collect();
        format!("row_seal({})", columns.join(", "))
    }

    fn triggers(&self) -> String {
        let name = &self.name;
        let keys: Vec<_> = (self.keys.iter())
            .map(|key| format!("{key} = new.{key}"))
            .collect();
        let set = format!(
            "BEGIN UPDATE {name} SET seal = {} WHERE {}; END;",
            self.expected("new."),
            keys.join(" AND ")
        );
        format!(
            "CREATE TEMP TRIGGER IF NOT EXISTS seal_{name}_insert AFTER INSERT ON main.{name} WHEN new.seal IS NULL {set}
             CREATE TEMP TRIGGER IF NOT EXISTS seal_{name}_update AFTER UPDATE OF {} ON main.{name} {set}",
            self.columns.join(", ")
        )
    }

    /// What keeps the number of rows and the sum of their seals. Rows that are inserted with their
    /// seal are counted by who inserts them: once for many rows, with [`count_inserted`].
    fn counting_triggers(&self) -> String {
        let name = &self.name;
        let add =
            |n_rows: &str, sum: &str| format!("BEGIN {}; END;", add_to_sums(name, n_rows, sum));
        let (new, old) = ("ifnull(new.seal, 0)", "ifnull(old.seal, 0)");
        format!(
            "CREATE TEMP TRIGGER IF NOT EXISTS count_{name}_insert AFTER INSERT ON main.{name} WHEN new.seal IS NULL {}
             CREATE TEMP TRIGGER IF NOT EXISTS count_{name}_delete AFTER DELETE ON main.{name} {}
             CREATE TEMP TRIGGER IF NOT EXISTS count_{name}_seal AFTER UPDATE OF seal ON main.{name} {}",
            add("1", "0"),
            add("-1", &format!("-{old}")),
            add("0", &format!("{new} - {old}")),
        )
    }
}

/// The statement that adds to what is counted of `table`.
fn add_to_sums(table: &str, n_rows: &str, sum: &str) -> String {
    format!(
        "UPDATE {SUMS} SET n_rows = n_rows + {n_rows}, sum = sum + {sum} WHERE name = '{table}'"
    )
}

/// Counts `n_rows` rows of `table` that were inserted with their seals, which add up to `sum`.
///
/// # Errors
///
/// The database cannot be written.
pub fn count_inserted(
    connection: &Connection,
    table: &str,
    n_rows: usize,
    sum: i64,
) -> rusqlite::Result<()> {
    let sql = add_to_sums(table, "?1", "?2");
    connection.prepare_cached(&sql)?.execute((n_rows, sum))?;
    Ok(())
}

fn has_sums(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1)";
    connection.query_row(sql, [SUMS], |row| row.get(0))
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut statement = connection.prepare(
        "SELECT m.name FROM main.sqlite_schema m, pragma_table_info(m.name) c
         WHERE m.type = 'table' AND c.name = 'seal' ORDER BY m.name",
    )?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    names
        .into_iter()
        .map(|name| table(connection, name))
        .collect()
}

fn table(connection: &Connection, name: String) -> rusqlite::Result<Table> {
    let mut statement = connection
        .prepare("SELECT name, pk FROM pragma_table_info(?1) WHERE name <> 'seal' ORDER BY cid")?;
    let columns: Vec<(String, i64)> = statement
        .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let keys = (columns.iter().filter(|column| column.1 > 0))
        .map(|column| column.0.clone())
        .collect();
    let columns = columns.into_iter().map(|column| column.0).collect();
    let is_counted = has_sums(connection)?
        && connection.query_row(
            &format!("SELECT EXISTS (SELECT 1 FROM {SUMS} WHERE name = ?1)"),
            [&name],
            |row| row.get(0),
        )?;
    Ok(Table {
        name,
        columns,
        keys,
        is_counted,
    })
}

/// Registers the function that computes seals with `connection`.
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("row_seal", -1, flags, |values| {
        Ok(seal((0..values.len()).map(|at| values.get_raw(at))))
    })
}

/// Seals the rows that have no seal yet, after a migration added the column.
pub(crate) fn fill(connection: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    for table in tables(connection)? {
        let (name, expected) = (&table.name, table.expected(""));
        connection.execute_batch(&format!(
            "UPDATE {name} SET seal = {expected} WHERE seal IS NULL"
        ))?;
        if table.is_counted {
            connection.execute_batch(&format!(
                "UPDATE {SUMS} SET n_rows = counted.n_rows, sum = counted.sum FROM ({}) AS counted WHERE name = '{name}'",
                count_of(name)
            ))?;
        }
    }
    Ok(())
}

fn count_of(table: &str) -> String {
    format!("SELECT count(*) AS n_rows, ifnull(sum(seal), 0) AS sum FROM {table}")
}

/// Makes `connection` seal what it writes.
pub(crate) fn install(connection: &Connection) -> rusqlite::Result<()> {
    for table in tables(connection)? {
        connection.execute_batch(&table.triggers())?;
        if table.is_counted {
            connection.execute_batch(&table.counting_triggers())?;
        }
    }
    Ok(())
}

/// Describes the first sealed row that does not match its seal, or the first index of a sealed
/// table that does not match the table.
///
/// # Errors
///
/// The file cannot be read.
pub fn find_broken(connection: &Connection) -> rusqlite::Result<Option<String>> {
    for table in tables(connection)? {
        let name = &table.name;
        let sound: String =
            connection.query_row(&format!("PRAGMA integrity_check('{name}')"), [], |row| {
                row.get(0)
            })?;
        if sound != "ok" {
            return Ok(Some(sound));
        }
        let key: Vec<_> = (table.keys.iter())
            .map(|key| format!("'{key} = ' || {key}"))
            .collect();
        let sql = format!(
            "SELECT {} FROM {name} WHERE seal IS NOT {} LIMIT 1",
            key.join(" || ', ' || "),
            table.expected("")
        );
        let broken: Option<String> = connection
            .prepare(&sql)?
            .query_row([], |row| row.get(0))
            .optional()?;
        if let Some(key) = broken {
            return Ok(Some(format!(
                "the row {key} of `{name}` does not match its checksum"
            )));
        }
        if table.is_counted
            && let Some(what) = find_missing(connection, name)?
        {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// Finds rows that are missing, or that Trialog did not write.
fn find_missing(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let pair = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let found = connection.query_row(&count_of(table), [], pair)?;
    let written = connection.query_row(
        &format!("SELECT n_rows, sum FROM {SUMS} WHERE name = ?1"),
        [table],
        pair,
    )?;
    Ok((found != written).then(|| {
        format!(
            "`{table}` has {} rows where {} were written, or others than were written",
            found.0, written.0
        )
    }))
}

/// Returns whether `row`, which has all columns of its table in order and then the seal, is as it
/// was written.
///
/// # Errors
///
/// The row has fewer than `n_columns + 1` columns.
pub fn is_sound(row: &Row<'_>, n_columns: usize) -> rusqlite::Result<bool> {
    let stored: Option<i64> = row.get(n_columns)?;
    let mut values = Vec::with_capacity(n_columns);
    for column in 0..n_columns {
        values.push(row.get_ref(column)?);
    }
    Ok(stored == Some(seal(values.into_iter())))
}

fn seal<'a>(values: impl Iterator<Item = ValueRef<'a>>) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for value in values {
        let (tag, bytes): (u8, &[u8]) = match &value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => (1, &number.to_le_bytes()),
            ValueRef::Real(number) => (2, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        hasher.update(&[tag]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    i64::from(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (a TEXT, b INTEGER, v REAL, w BLOB, seal INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
                 CREATE TABLE plain (x)",
            )
            .unwrap();
        register(&connection).unwrap();
        install(&connection).unwrap();
        connection
    }

    #[test]
    fn whatever_is_written_is_sealed() {
        let connection = database();
        connection
            .execute_batch(
                "INSERT INTO t (a, b, v) VALUES ('x', 1, 2), ('y', 2, 2.5);
                 UPDATE t SET v = 3 WHERE a = 'x';
                 INSERT INTO t (a, b, v) VALUES ('y', 2, 9) ON CONFLICT DO UPDATE SET w = x'00ff';
                 INSERT INTO plain VALUES (1)",
            )
            .unwrap();
        assert_eq!(find_broken(&connection).unwrap(), None);
        let sound: Vec<bool> = connection
            .prepare("SELECT a, b, v, w, seal FROM t")
            .unwrap()
            .query_map([], |row| is_sound(row, 4))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(sound, [true, true]);
    }

    /// A database that counts the rows of its sealed table.
    fn counting_database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (a TEXT, b INTEGER, v REAL, w BLOB, seal INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
                 CREATE TABLE sealed_tables (name TEXT PRIMARY KEY, n_rows INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
                 INSERT INTO sealed_tables VALUES ('t', 0, 0)",
            )
            .unwrap();
        register(&connection).unwrap();
        install(&connection).unwrap();
        connection
    }

    #[test]
    fn a_row_that_is_gone_or_that_nobody_wrote_is_found() {
        for spoil in [
            "DELETE FROM t WHERE a = 'x'",
            "INSERT INTO t SELECT 'z', b, v, w, row_seal('z', b, v, w) FROM t WHERE a = 'x'",
            "DELETE FROM t",
        ] {
            let connection = counting_database();
            connection
                .execute_batch(
                    "INSERT INTO t (a, b, v) VALUES ('x', 1, 2), ('y', 2, 2.5), ('w', 3, 3);
                     UPDATE t SET v = 3 WHERE a = 'x';
                     INSERT INTO t (a, b, v) VALUES ('y', 2, 9) ON CONFLICT DO UPDATE SET w = x'00ff';
                     DELETE FROM t WHERE a = 'w'",
                )
                .unwrap();
            assert_eq!(find_broken(&connection).unwrap(), None);
            for trigger in [
                "seal_t_insert",
                "count_t_insert",
                "count_t_delete",
                "count_t_seal",
            ] {
                connection
                    .execute_batch(&format!("DROP TRIGGER {trigger}"))
                    .unwrap();
            }
            connection.execute_batch(spoil).unwrap();
            let found = find_broken(&connection).unwrap().unwrap();
            assert!(found.contains("`t` has"), "{spoil}: {found}");
        }
    }

    #[test]
    fn rows_that_come_with_their_seal_are_counted_together() {
        let connection = counting_database();
        let sums: Vec<i64> = connection
            .prepare("INSERT INTO t (a, b, v, w, seal) VALUES ('x', 1, 2.0, NULL, row_seal('x', 1, 2.0, NULL)), ('y', 2, 3.0, NULL, row_seal('y', 2, 3.0, NULL)) RETURNING seal")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(find_broken(&connection).unwrap().is_some());
        count_inserted(&connection, "t", sums.len(), sums.iter().sum()).unwrap();
        assert_eq!(find_broken(&connection).unwrap(), None);
        connection
            .execute_batch("UPDATE t SET v = 4 WHERE a = 'x'; DELETE FROM t WHERE a = 'y'")
            .unwrap();
        assert_eq!(find_broken(&connection).unwrap(), None);
    }

    #[test]
    fn a_changed_value_or_seal_is_found() {
        for spoil in [
            "UPDATE t SET v = 2.25",
            "UPDATE t SET a = 'z'",
            "UPDATE t SET seal = NULL",
            "UPDATE t SET seal = seal + 1",
        ] {
            let connection = database();
            connection
                .execute_batch("INSERT INTO t (a, b, v) VALUES ('x', 1, 2)")
                .unwrap();
            connection
                .execute_batch("DROP TRIGGER seal_t_update")
                .unwrap();
            connection.execute_batch(spoil).unwrap();
            assert!(find_broken(&connection).unwrap().is_some(), "{spoil}");
        }
    }
}
