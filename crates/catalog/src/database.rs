//! Queries the two databases that can hold a catalog through one interface.
//!
//! A statement is written once, with `?1` for its first parameter, and is
//! checked on both. Where the two differ in more than a word, the statement
//! stands beside its twin and [`Connection::choose`] takes one of them.

#![expect(
    clippy::needless_pass_by_value,
    reason = "parameters and errors are written in place"
)]

#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod sqlite;
mod value;

use std::ops::ControlFlow;

use trialog_sqlite::seal;

use crate::error::CatalogError;

pub(crate) use value::{Column, Parameter, Value};

/// An error of a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// PostgreSQL refused.
    #[cfg(feature = "postgres")]
    #[error("{}", postgres::describe(.0))]
    Postgres(::postgres::Error),
    /// PostgreSQL cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// A query that must return a row returned none.
    #[error("there is no row")]
    NoRow,
    /// A column does not hold what it should.
    #[error("column {column}: {what}")]
    Column {
        /// Its number, from 0.
        column: usize,
        /// What is wrong with it.
        what: String,
    },
    /// What was read is not what was written.
    #[error("{0}")]
    Corrupt(String),
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self::NoRow,
            other => Self::Sqlite(other),
        }
    }
}

impl DatabaseError {
    /// Returns whether a retry may succeed: the database cannot be reached now.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => postgres::is_transient(error),
            _ => false,
        }
    }
}

/// The reason why a transaction is rolled back.
#[derive(Debug)]
pub enum Abort<E = CatalogError> {
    /// The database failed; the caller of the transaction adds the action.
    Database(DatabaseError),
    /// The change is not allowed.
    Refused(E),
}

impl<E> From<DatabaseError> for Abort<E> {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl<E: From<CatalogError>> From<CatalogError> for Abort<E> {
    fn from(error: CatalogError) -> Self {
        Self::Refused(error.into())
    }
}

impl Abort {
    /// Converts to the error of a caller that can reject a change for other reasons.
    pub(crate) fn into_callers<E: From<CatalogError>>(self) -> Abort<E> {
        match self {
            Self::Database(error) => Abort::Database(error),
            Self::Refused(error) => Abort::Refused(error.into()),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, DatabaseError>;

/// Builds the error for a column that does not hold the expected type.
pub(crate) fn unreadable(column: usize, what: impl ToString) -> DatabaseError {
    let what = what.to_string();
    DatabaseError::Column { column, what }
}

/// Builds the error for data that are not as they were written.
pub(crate) fn corrupt(what: String) -> DatabaseError {
    DatabaseError::Corrupt(what)
}

/// A database inside a transaction.
pub enum Connection<'a> {
    Sqlite(&'a rusqlite::Connection),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Session<'a>),
}

impl<'a> Connection<'a> {
    /// Returns the statement `sql`, prepared once.
    pub(crate) fn prepare_cached<'s>(&'s self, sql: &'s str) -> Result<Statement<'s, 'a>> {
        let connection = self;
        Ok(Statement { connection, sql })
    }

    /// Runs `sql` and returns the number of rows that it changed.
    pub(crate) fn execute(&self, sql: &str, parameters: impl Parameters) -> Result<usize> {
        let values = parameters.values();
        match self {
            Self::Sqlite(connection) => sqlite::execute(connection, sql, &values),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => session.execute(sql, &values),
        }
    }

    /// Returns the first row of `sql`; [`DatabaseError::NoRow`] if there is none.
    pub(crate) fn query_row<T>(
        &self,
        sql: &str,
        parameters: impl Parameters,
        map: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut map = Some(map);
        let mut found = None;
        self.each(sql, parameters, |row| {
            if let Some(map) = map.take() {
                found = Some(map(row)?);
            }
            Ok(ControlFlow::Break(()))
        })?;
        found.ok_or(DatabaseError::NoRow)
    }

    /// Passes the rows of `sql` to `each` until it breaks.
    pub(crate) fn each(
        &self,
        sql: &str,
        parameters: impl Parameters,
        each: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let values = parameters.values();
        match self {
            Self::Sqlite(connection) => sqlite::each(connection, sql, &values, each),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => session.each(sql, &values, each),
        }
    }

    /// Inserts rows into `columns` of a table, many with each statement, because each statement is
    /// a round trip to the server.
    pub(crate) fn insert_all(
        &self,
        table: &str,
        columns: &[&str],
        rows: &[Cells<'_>],
    ) -> Result<()> {
        self.insert_chunks(table, columns, None, rows, |_| ())
    }

    /// Inserts rows as [`Self::insert_all`] does into a table whose rows SQLite seals. `columns` are
    /// all of its columns but the seal, in the order of the table. Each row is written once, with
    /// its seal, and not a second time by the trigger that adds a missing one; rows are counted
    /// once for all.
    pub(crate) fn insert_sealed(
        &self,
        table: &str,
        columns: &[&str],
        rows: &[Cells<'_>],
    ) -> Result<()> {
        let connection = match self {
            Self::Sqlite(connection) => connection,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => return self.insert_all(table, columns, rows),
        };
        let mut sum = 0;
        self.insert_chunks(table, columns, Some("row_seal"), rows, |seal| sum += seal)?;
        Ok(trialog_sqlite::seal::count_inserted(
            connection,
            table,
            rows.len(),
            sum,
        )?)
    }

    /// `seal` names the function that computes the column `seal` from the other columns; `sealed`
    /// gets the seal of each row.
    fn insert_chunks(
        &self,
        table: &str,
        columns: &[&str],
        seal: Option<&str>,
        rows: &[Cells<'_>],
        mut sealed: impl FnMut(i64),
    ) -> Result<()> {
        for some in rows.chunks(ROWS_OF_A_STATEMENT) {
            let mut number = 0;
            let mut row = || {
                let cells: Vec<String> = (columns.iter())
                    .map(|_| {
                        number += 1;
                        format!("?{number}")
                    })
                    .collect();
                let cells = cells.join(", ");
                match seal {
                    Some(seal) => format!("({cells}, {seal}({cells}))"),
                    None => format!("({cells})"),
                }
            };
            let values: Vec<String> = some.iter().map(|_| row()).collect();
            let values = values.join(", ");
            let columns = columns.join(", ");
            let cells: Vec<&dyn Parameter> = some.iter().flatten().map(AsRef::as_ref).collect();
            if seal.is_none() {
                let sql = format!("INSERT INTO {table} ({columns}) VALUES {values}");
                self.execute(&sql, cells.as_slice())?;
                continue;
            }
            let sql =
                format!("INSERT INTO {table} ({columns}, seal) VALUES {values} RETURNING seal");
            self.each(&sql, cells.as_slice(), |row| {
                sealed(row.get(0)?);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    }

    /// Returns the one of two statements that is for this database.
    pub(crate) fn choose<'s>(&self, sqlite: &'s str, postgres: &'s str) -> &'s str {
        match self {
            Self::Sqlite(_) => sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => postgres,
            #[cfg(not(feature = "postgres"))]
            #[expect(unreachable_patterns, reason = "without it there is one database")]
            _ => postgres,
        }
    }
}

/// The cells of a row to insert.
pub(crate) type Cells<'c> = Vec<Box<dyn Parameter + 'c>>;

/// Rows that a statement inserts at most; there is a statement for each number of them.
const ROWS_OF_A_STATEMENT: usize = 32;

/// A statement on a connection.
pub(crate) struct Statement<'s, 'a> {
    connection: &'s Connection<'a>,
    sql: &'s str,
}

impl Statement<'_, '_> {
    pub(crate) fn execute(&mut self, parameters: impl Parameters) -> Result<usize> {
        self.connection.execute(self.sql, parameters)
    }

    pub(crate) fn query_row<T>(
        &mut self,
        parameters: impl Parameters,
        map: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.connection.query_row(self.sql, parameters, map)
    }

    /// Returns all rows.
    pub(crate) fn query_map<T>(
        &mut self,
        parameters: impl Parameters,
        mut map: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<std::vec::IntoIter<Result<T>>> {
        let mut rows = Vec::new();
        self.connection.each(self.sql, parameters, |row| {
            rows.push(map(row));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows.into_iter())
    }
}

/// A row of a result.
pub enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    #[cfg(feature = "postgres")]
    Postgres(&'r ::postgres::Row),
}

impl Row<'_> {
    /// Returns the value in a column, counted from 0.
    pub(crate) fn get<T: Column>(&self, column: usize) -> Result<T> {
        let value = match self {
            Self::Sqlite(row) => sqlite::value(row, column)?,
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => postgres::value(row, column)?,
        };
        T::read(&value).ok_or_else(|| unreadable(column, format!("{value:?} has the wrong type")))
    }

    /// Returns whether the row, which has all columns of its table in order and then the seal, is
    /// as it was written. PostgreSQL has checksums of its own, so its rows have no seal.
    pub(crate) fn is_sound(&self, n_columns: usize) -> Result<bool> {
        match self {
            Self::Sqlite(row) => Ok(seal::is_sound(row, n_columns)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Ok(true),
        }
    }
}

/// A row that may be absent.
pub(crate) trait Optional<T> {
    fn optional(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(DatabaseError::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The parameters of a statement.
pub(crate) trait Parameters {
    fn values(&self) -> Vec<Value<'_>>;
}

impl<T: Parameter, const N: usize> Parameters for [T; N] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(Parameter::value).collect()
    }
}

impl Parameters for &[&dyn Parameter] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(|parameter| parameter.value()).collect()
    }
}

impl Parameters for &Cells<'_> {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(|cell| cell.value()).collect()
    }
}

/// The cells of a row.
macro_rules! cells {
    ($($cell:expr),* $(,)?) => {
        vec![$(Box::new($cell) as Box<dyn $crate::database::Parameter + '_>),*]
    };
}
pub(crate) use cells;

/// Parameters of several types.
macro_rules! params {
    ($($parameter:expr),* $(,)?) => {
        &[$(&$parameter as &dyn $crate::database::Parameter),*][..]
    };
}
pub(crate) use params;
