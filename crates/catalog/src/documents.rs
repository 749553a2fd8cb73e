//! Named documents of the registry: experiments, metric definitions, layers and holdouts.
//!
//! A kind says what it is by implementing [`Document`]. Reading, creating, changing and deleting
//! are the same for all of them: one transaction, with its entry in the audit trail.

use std::fmt::Display;
use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use trialog_model::time::UnixMicros;

use crate::audit::{self, Edit, Event, Subject};
use crate::connection::Catalog;
use crate::database::{
    self, Abort, Cells, Connection, Optional, Parameters, Row, cells, corrupt, params, unreadable,
};
use crate::error::CatalogError;

/// The fields of a state, as the audit trail compares them.
pub(crate) type Fields = Map<String, Value>;

/// The table of a kind of document: its first column is the name, and a column `seal` with a
/// checksum follows after the last.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
}

impl Table {
    /// Returns the column of the name.
    pub(crate) fn key(self) -> &'static str {
        self.columns.first().copied().unwrap_or_default()
    }

    /// Lists all columns as a query does, the seal last.
    pub(crate) fn all_columns(self) -> String {
        format!("{}, seal", self.columns.join(", "))
    }

    /// Makes the query for all columns of the rows that `condition` selects.
    pub(crate) fn select(self, condition: &str) -> String {
        format!(
            "SELECT {} FROM {} {condition}",
            self.all_columns(),
            self.name
        )
    }

    /// Returns the place of a column that every row has.
    fn position(self, column: &str) -> usize {
        let position = self.columns.iter().position(|name| *name == column);
        position.unwrap_or(self.columns.len())
    }

    /// Writes a row over the one with the same name.
    fn upsert(
        self,
        transaction: &Connection<'_>,
        columns: &[&str],
        values: &Cells<'_>,
    ) -> database::Result<()> {
        let numbers: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let set: Vec<String> = (columns.iter())
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
            self.name,
            columns.join(", "),
            numbers.join(", "),
            self.key(),
            set.join(", "),
        );
        transaction.execute(&sql, values).map(drop)
    }

    /// Deletes the row of `name`.
    pub(crate) fn delete(self, transaction: &Connection<'_>, name: &str) -> database::Result<()> {
        let sql = format!("DELETE FROM {} WHERE {} = ?1", self.name, self.key());
        transaction.execute(&sql, [name]).map(drop)
    }
}

/// The columns of a table that has no others.
pub(crate) const COLUMNS: [&str; 5] =
    ["name", "definition", "created_at", "updated_at", "revision"];

/// The fields that every kind has, to be replaced where they change.
#[derive(Debug)]
pub struct Common<'d, T> {
    pub(crate) definition: &'d mut T,
    pub(crate) created_at: UnixMicros,
    pub(crate) updated_at: &'d mut UnixMicros,
    /// The number of its state.
    pub(crate) state: &'d mut i64,
}

/// The methods of [`Document`] that lend the fields which every kind has; `$state` is the one
/// with the number of its state.
macro_rules! common_fields {
    ($state:ident) => {
        fn common(&mut self) -> $crate::documents::Common<'_, Self::Definition> {
            $crate::documents::Common {
                definition: &mut self.definition,
                created_at: self.created_at,
                updated_at: &mut self.updated_at,
                state: &mut self.$state,
            }
        }

        fn definition(&self) -> &Self::Definition {
            &self.definition
        }

        fn state(&self) -> i64 {
            self.$state
        }
    };
}
pub(crate) use common_fields;

/// Which documents to list, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only those with this in their texts, in any case.
    pub search: Option<String>,
    /// Only those whose name comes after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

/// A kind of named document: what it is, how it is stored, and what happens beside that.
///
/// Its row has [`COLUMNS`], and those that [`Document::FURTHER`] names.
pub trait Document: Clone {
    /// The type of its name.
    type Name: Display;
    /// What people define of it.
    type Definition: Clone + PartialEq + Serialize + DeserializeOwned;

    /// What the audit trail and messages call it.
    const SUBJECT: Subject;
    /// Where it is stored.
    const TABLE: Table;
    /// The columns that not every kind has.
    const FURTHER: &'static [&'static str] = &[];

    /// Lends the fields that every kind has.
    fn common(&mut self) -> Common<'_, Self::Definition>;

    /// Returns its definition.
    fn definition(&self) -> &Self::Definition;

    /// Returns the name that `definition` gives.
    fn name_of(definition: &Self::Definition) -> &Self::Name;

    /// Returns the number of its state, which is its entity tag.
    fn state(&self) -> i64;

    /// Reads a row of the table, without what other tables have about it.
    fn from_row(row: &Row<'_>) -> database::Result<Self> {
        let at = |column: &str| Self::TABLE.position(column);
        let definition = definition(row, at("definition"))?;
        let mut found = Self::created(definition, row.get(at("created_at"))?, None);
        let common = found.common();
        *common.updated_at = row.get(at("updated_at"))?;
        *common.state = row.get(at("revision"))?;
        found.read_further(row)?;
        Ok(found)
    }

    /// Reads the columns that not every kind has.
    fn read_further(&mut self, _row: &Row<'_>) -> database::Result<()> {
        Ok(())
    }

    /// Returns the cells of the columns that not every kind has.
    fn further(&self) -> Cells<'static> {
        Vec::new()
    }

    /// Adds what other tables have about it.
    fn complete(self, _connection: &Connection<'_>) -> database::Result<Self> {
        Ok(self)
    }

    /// Whether it is only known by its name, so that a definition may be created over it.
    fn is_placeholder(&self) -> bool {
        false
    }

    /// Makes the first state of `definition`; `placeholder` is what was known of its name.
    fn created(definition: Self::Definition, at: UnixMicros, placeholder: Option<&Self>) -> Self;

    /// Makes the next state, with another definition.
    fn redefined(&self, definition: Self::Definition) -> Self {
        let mut next = self.clone();
        *next.common().definition = definition;
        next
    }

    /// Checks that people may change it.
    fn check_editable(&self) -> Result<(), CatalogError> {
        Ok(())
    }

    /// Checks, before it is written, that `current` may take the place of `known`, and does what
    /// comes first. Returns the action for the audit trail.
    fn prepare(
        _transaction: &Connection<'_>,
        _edit: &Edit,
        known: Option<&Self>,
        _current: &Self,
    ) -> Result<&'static str, Abort> {
        Ok(action(known))
    }

    /// Writes its row over that of `known`, with the next number, and returns what was written.
    fn write(
        mut self,
        transaction: &Connection<'_>,
        edit: &Edit,
        known: Option<&Self>,
    ) -> database::Result<Self> {
        let common = self.common();
        *common.updated_at = edit.at;
        *common.state = known.map_or(1, |known| known.state() + 1);
        let mut row: Cells<'static> = cells![
            Self::name_of(common.definition).to_string(),
            to_json(common.definition),
            common.created_at,
            *common.updated_at,
            *common.state,
        ];
        row.extend(self.further());
        let columns = [&COLUMNS, Self::FURTHER].concat();
        Self::TABLE.upsert(transaction, &columns, &row)?;
        Ok(self)
    }

    /// Updates what depends on it, once it is written.
    fn follow_up(
        &self,
        _transaction: &Connection<'_>,
        _edit: &Edit,
        _action: &'static str,
        _known: Option<&Self>,
    ) -> database::Result<()> {
        Ok(())
    }

    /// Whether one of its texts has `needle`, which is in lower case.
    fn has(&self, _needle: &str) -> bool {
        true
    }

    /// Returns the fields that the audit trail compares.
    fn fields(&self) -> Map<String, Value> {
        audit::fields(self.definition())
    }
}

/// A kind of document that can be deleted.
pub trait Deletable: Document {
    /// Checks that nothing forbids to delete it.
    fn check_deletable(&self, transaction: &Connection<'_>) -> Result<(), Abort>;

    /// Removes it.
    fn remove(&self, transaction: &Connection<'_>) -> database::Result<()> {
        let name = Self::name_of(self.definition()).to_string();
        Self::TABLE.delete(transaction, &name)
    }
}

/// The usual action for the audit trail: `create` where nothing was known, else `change`.
pub(crate) fn action<D>(known: Option<&D>) -> &'static str {
    match known {
        Some(_) => "change",
        None => "create",
    }
}

/// Reads a row, and checks that it is what was written.
pub(crate) fn read_row<D: Document>(row: &Row<'_>) -> database::Result<D> {
    if row.is_sound(D::TABLE.columns.len())? {
        return D::from_row(row);
    }
    let name: String = row.get(0)?;
    Err(corrupt(format!(
        "the definition of {} `{name}` does not match its checksum",
        D::SUBJECT.as_str()
    )))
}

/// Reads the rows that `condition` selects, without what other tables have about them.
pub(crate) fn rows<D: Document>(
    connection: &Connection<'_>,
    condition: &str,
    parameters: impl Parameters,
) -> database::Result<Vec<D>> {
    let sql = D::TABLE.select(condition);
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(parameters, read_row)?.collect()
}

/// Reads the documents that `condition` selects.
pub(crate) fn select<D: Document>(
    connection: &Connection<'_>,
    condition: &str,
    parameters: impl Parameters,
) -> database::Result<Vec<D>> {
    complete(connection, rows(connection, condition, parameters)?)
}

/// Adds what other tables have about `found`.
fn complete<D: Document>(connection: &Connection<'_>, found: Vec<D>) -> database::Result<Vec<D>> {
    let complete = |found: D| found.complete(connection);
    found.into_iter().map(complete).collect()
}

/// Reads the definition in a column.
pub(crate) fn definition<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> database::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

/// Writes a definition as its column holds it.
pub(crate) fn to_json(definition: &impl Serialize) -> String {
    serde_json::to_string(definition).expect("a definition has text keys and finite numbers only")
}

/// Reads the document `name`, if there is one.
pub(crate) fn find<D: Document>(
    connection: &Connection<'_>,
    name: &str,
) -> database::Result<Option<D>> {
    let sql = D::TABLE.select(&format!("WHERE {} = ?1", D::TABLE.key()));
    let found = connection.prepare_cached(&sql)?.query_row([name], read_row);
    let complete = |found: D| found.complete(connection);
    found.optional()?.map(complete).transpose()
}

/// Reads the document `name`.
///
/// # Errors
///
/// [`CatalogError::NotFound`] where there is none.
pub(crate) fn get<D: Document>(connection: &Connection<'_>, name: &D::Name) -> Result<D, Abort> {
    let name = name.to_string();
    match find(connection, &name)? {
        Some(found) => Ok(found),
        None => Err(not_found::<D>(connection, name)?.into()),
    }
}

fn not_found<D: Document>(
    connection: &Connection<'_>,
    name: String,
) -> database::Result<CatalogError> {
    Ok(CatalogError::NotFound {
        subject: D::SUBJECT,
        there_are: D::TABLE.instead_of(connection, &name)?,
        name,
    })
}

/// Reads the document `name` in a state that `edit` may change.
///
/// # Errors
///
/// There is none, `edit` names another state of it, or people do not change it.
pub(crate) fn to_edit<D: Document>(
    transaction: &Connection<'_>,
    name: &D::Name,
    edit: &Edit,
) -> Result<D, Abort> {
    let known: D = get(transaction, name)?;
    known.check_editable()?;
    edit.check(
        || format!("{} `{name}`", D::SUBJECT.as_str()),
        known.state(),
    )?;
    Ok(known)
}

/// Creates the document that `definition` defines.
///
/// # Errors
///
/// [`CatalogError::Exists`] where the name is taken.
pub(crate) fn create<D: Document>(
    transaction: &Connection<'_>,
    definition: &D::Definition,
    edit: &Edit,
) -> Result<D, Abort> {
    let name = D::name_of(definition).to_string();
    let known: Option<D> = find(transaction, &name)?;
    let known = known.as_ref();
    if known.is_some_and(|known| !known.is_placeholder()) {
        let subject = D::SUBJECT;
        return Err(CatalogError::Exists { subject, name }.into());
    }
    let created = D::created(definition.clone(), edit.at, known);
    let action = D::prepare(transaction, edit, known, &created)?;
    Ok(store(transaction, edit, action, known, created)?)
}

/// Writes `current` over `known`, with its entry in the audit trail and what depends on it.
pub(crate) fn store<D: Document>(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    known: Option<&D>,
    current: D,
) -> database::Result<D> {
    let current = current.write(transaction, edit, known)?;
    let before = known.map(D::fields);
    record::<D>(
        transaction,
        edit,
        action,
        D::name_of(current.definition()),
        (before.as_ref(), Some(&current.fields())),
    )?;
    current.follow_up(transaction, edit, action, known)?;
    current.complete(transaction)
}

/// Writes an entry of the audit trail: `action` led from the first fields to the second.
pub(crate) fn record<D: Document>(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    name: &D::Name,
    (before, after): (Option<&Fields>, Option<&Fields>),
) -> database::Result<()> {
    let event = Event {
        subject: D::SUBJECT,
        name: &name.to_string(),
        action,
    };
    audit::record(transaction, edit, event, before, after)
}

impl Catalog {
    /// Reads the document `name`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] where there is none.
    pub fn get<D: Document>(&self, name: &D::Name) -> Result<D, CatalogError> {
        let name = name.to_string();
        let action = format!("read {}", D::SUBJECT.with_article());
        self.read(&action, |connection| match find(connection, &name)? {
            Some(found) => Ok(Ok(found)),
            None => not_found::<D>(connection, name).map(Err),
        })?
    }

    /// Lists documents in the order of their names.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn list<D: Document>(&self, listing: &Listing) -> Result<Vec<D>, CatalogError> {
        let key = D::TABLE.key();
        let sql = D::TABLE.select(&format!("WHERE {key} > ?1 ORDER BY {key} LIMIT ?2"));
        let needle = listing.search.as_deref().map(str::to_lowercase);
        // A search compares the texts of rows one after the other until it has found enough.
        let most = needle.as_ref().map_or(listing.limit, |_| u32::MAX);
        let after = listing.after.as_deref().unwrap_or_default();
        let action = format!("list {}s", D::SUBJECT.as_str());
        self.read(&action, |connection| {
            let mut page: Vec<D> = Vec::new();
            connection.each(&sql, params![after, most], |row| {
                if page.len() >= listing.limit as usize {
                    return Ok(ControlFlow::Break(()));
                }
                let found: D = read_row(row)?;
                if needle.as_ref().is_none_or(|needle| found.has(needle)) {
                    page.push(found);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            complete(connection, page)
        })
    }

    /// Creates the document that `definition` defines. An experiment that was `unregistered`
    /// becomes a draft; experiments that name an event type which becomes a metric are due.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Exists`] where the name is taken.
    pub fn create<D: Document>(
        &self,
        definition: &D::Definition,
        edit: &Edit,
    ) -> Result<D, CatalogError> {
        let action = format!("create {}", D::SUBJECT.with_article());
        self.write(&action, |transaction| create(transaction, definition, edit))
    }

    /// Replaces a definition with what `change` makes of the present state. Experiments whose
    /// results mean something else by it are due.
    ///
    /// # Errors
    ///
    /// There is no such document, `edit` names another state of it, or what `change` says.
    pub fn change<D: Document, E: From<CatalogError>>(
        &self,
        name: &D::Name,
        edit: &Edit,
        change: impl FnOnce(&D) -> Result<D::Definition, E>,
    ) -> Result<D, E> {
        let action = format!("change {}", D::SUBJECT.with_article());
        self.write(&action, |transaction| {
            let known: D = to_edit(transaction, name, edit).map_err(Abort::into_callers)?;
            let definition = change(&known).map_err(Abort::Refused)?;
            if definition == *known.definition() {
                return Ok(known);
            }
            let changed = known.redefined(definition);
            let action = D::prepare(transaction, edit, Some(&known), &changed)
                .map_err(Abort::into_callers)?;
            Ok(store(transaction, edit, action, Some(&known), changed)?)
        })
    }

    /// Deletes a document and returns its last state.
    ///
    /// # Errors
    ///
    /// There is no such document, `edit` names another state of it, or something forbids it: an
    /// experiment was started, experiments name a metric, or own buckets of a layer.
    pub fn delete<D: Deletable>(&self, name: &D::Name, edit: &Edit) -> Result<D, CatalogError> {
        let action = format!("delete {}", D::SUBJECT.with_article());
        self.write(&action, |transaction| {
            let known: D = to_edit(transaction, name, edit)?;
            known.check_deletable(transaction)?;
            known.remove(transaction)?;
            let fields = known.fields();
            record::<D>(transaction, edit, "delete", name, (Some(&fields), None))?;
            Ok(known)
        })
    }
}
