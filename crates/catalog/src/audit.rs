//! Records the audit trail: who changed what, when, and how.
//!
//! An entry is written in the transaction of the change that it records, so
//! neither exists without the other.

use std::fmt;

use serde_json::{Map, Value};
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, Row, corrupt, params, unreadable};
use crate::error::CatalogError;

/// The words for actors without an access key.
const WORDS: [&str; 3] = ["anonymous", "local", "retention"];
/// What the name of a key begins with where it is one of the words.
const KEY_PREFIX: &str = "key:";

/// The author of a change: the name of an access key, or a reserved word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(String);

impl Actor {
    /// Creates an actor with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the actor for a client without a key.
    pub fn anonymous() -> Self {
        Self::new("anonymous")
    }

    /// Returns the actor for a person or process with access to the data directory.
    pub fn local() -> Self {
        Self::new("local")
    }

    /// Returns the actor for the access key `name`: its name, unless the name is reserved.
    ///
    /// Earlier versions gave keys such names.
    ///
    /// ```
    /// use trialog_catalog::audit::Actor;
    /// assert_eq!(Actor::of_key("ops").as_str(), "ops");
    /// assert_eq!(Actor::of_key("local").as_str(), "key:local");
    /// ```
    pub fn of_key(name: &str) -> Self {
        match Self::is_reserved(name) {
            true => Self(format!("{KEY_PREFIX}{name}")),
            false => Self::new(name),
        }
    }

    /// Returns whether no key may have `name`, because the audit trail reserves it.
    pub fn is_reserved(name: &str) -> bool {
        let plain = name.trim().to_lowercase();
        WORDS.contains(&plain.as_str()) || plain.starts_with(KEY_PREFIX)
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The author and time of a change, and the state of the object that the author saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: UnixMicros,
    /// The states that the change may be made to, by their numbers; any where absent.
    pub if_match: Option<Vec<i64>>,
    /// Whether what results are tested with may change after the start.
    pub confirmed: bool,
}

impl Edit {
    /// Creates a change by `actor` that does not depend on the present state.
    pub fn new(actor: Actor, at: UnixMicros) -> Self {
        Self {
            actor,
            at,
            if_match: None,
            confirmed: false,
        }
    }

    /// Checks that `current`, the state of `what`, is one that was seen.
    pub(crate) fn check(
        &self,
        what: impl FnOnce() -> String,
        current: i64,
    ) -> Result<(), CatalogError> {
        match &self.if_match {
            Some(seen) if !seen.contains(&current) => Err(CatalogError::Stale {
                what: what(),
                current,
            }),
            _ => Ok(()),
        }
    }
}

/// A kind of object that the catalog stores by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An experiment.
    Experiment,
    /// A metric definition.
    Metric,
    /// A layer.
    Layer,
    /// A holdout.
    Holdout,
    /// An API key.
    Key,
}

impl Subject {
    /// Returns the word for it in JSON, in the catalog and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Metric => "metric",
            Self::Layer => "layer",
            Self::Holdout => "holdout",
            Self::Key => "API key",
        }
    }

    /// Returns the word with its article, for messages.
    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Experiment => "an experiment",
            Self::Metric => "a metric",
            Self::Layer => "a layer",
            Self::Holdout => "a holdout",
            Self::Key => "an API key",
        }
    }

    /// Returns what to do instead of creating an object whose name is taken.
    pub(crate) fn instead_of_creating(self) -> &'static str {
        match self {
            Self::Key => "revoke it first, or give the new one another name",
            _ => "change it instead",
        }
    }
}

/// A change as the audit trail shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number, which grows.
    pub entry: i64,
    /// When.
    pub at: UnixMicros,
    /// Who.
    pub actor: Actor,
    /// What kind of thing was changed.
    pub subject: String,
    /// Which.
    pub name: String,
    /// How: `create`, `register`, `change`, `start`, `stop`, `resume`, `decide`, `archive`,
    /// `delete`.
    pub action: String,
    /// The changed fields before; absent where there was nothing.
    pub from: Option<Value>,
    /// The changed fields after; absent where nothing is left.
    pub to: Option<Value>,
}

/// A change that is being recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) subject: Subject,
    pub(crate) name: &'a str,
    pub(crate) action: &'static str,
}

/// Writes that `event` led from `before` to `after`; fields that are the same
/// in both are left out.
pub(crate) fn record(
    transaction: &Connection<'_>,
    edit: &Edit,
    event: Event<'_>,
    before: Option<&Map<String, Value>>,
    after: Option<&Map<String, Value>>,
) -> database::Result<()> {
    let from = before.map(|fields| Value::Object(other_than(fields, after)).to_string());
    let to = after.map(|fields| Value::Object(other_than(fields, before)).to_string());
    transaction
        .prepare_cached(
            "INSERT INTO audit (at, actor, subject, name, action, before, after)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            edit.at.0,
            edit.actor.as_str(),
            event.subject.as_str(),
            event.name,
            event.action,
            from,
            to
        ])?;
    Ok(())
}

/// Returns the fields of a definition for comparison.
pub(crate) fn fields(definition: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(definition) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a definition is an object with text keys and finite numbers only"),
    }
}

/// Returns the fields that `other` does not have with the same value.
fn other_than(
    fields: &Map<String, Value>,
    other: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let is_same =
        |field: &String, value: &Value| other.and_then(|other| other.get(field)) == Some(value);
    (fields.iter())
        .filter(|(field, value)| !is_same(field, value))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

/// All columns of `audit` in the table's order, then the seal.
const COLUMNS: &str = "entry, at, actor, subject, name, action, before, after, seal";
const N_COLUMNS: usize = 8;

fn entry(row: &Row<'_>) -> database::Result<Entry> {
    let entry: i64 = row.get(0)?;
    if !row.is_sound(N_COLUMNS)? {
        return Err(corrupt(format!(
            "entry {entry} of the audit trail does not match its checksum"
        )));
    }
    let json = |column: usize| -> database::Result<Option<Value>> {
        let text: Option<String> = row.get(column)?;
        let value = text.map(|text| serde_json::from_str(&text)).transpose();
        value.map_err(|error| unreadable(column, error))
    };
    Ok(Entry {
        entry,
        at: UnixMicros(row.get(1)?),
        actor: Actor(row.get(2)?),
        subject: row.get(3)?,
        name: row.get(4)?,
        action: row.get(5)?,
        from: json(6)?,
        to: json(7)?,
    })
}

impl Catalog {
    /// Returns at most `limit` entries after number `after`, oldest first: all, or those about one
    /// object.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn audit(
        &self,
        about: Option<(Subject, &str)>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, CatalogError> {
        self.read("read the audit trail", |connection| match about {
            Some((subject, name)) => connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM audit
                     WHERE subject = ?1 AND name = ?2 AND entry > ?3 ORDER BY entry LIMIT ?4"
                ))?
                .query_map(params![subject.as_str(), name, after, limit], entry)?
                .collect(),
            None => connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM audit WHERE entry > ?1 ORDER BY entry LIMIT ?2"
                ))?
                .query_map(params![after, limit], entry)?
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_kept() {
        let fields = |text: &str| -> Map<String, Value> { serde_json::from_str(text).unwrap() };
        let before = fields(r#"{"a":1,"b":null,"c":[1]}"#);
        let after = fields(r#"{"a":1,"b":"x","c":[2]}"#);
        assert_eq!(
            other_than(&before, Some(&after)),
            fields(r#"{"b":null,"c":[1]}"#)
        );
        assert_eq!(
            other_than(&after, Some(&before)),
            fields(r#"{"b":"x","c":[2]}"#)
        );
        assert_eq!(other_than(&after, None), after);
    }
}
