//! Holdouts, each with the experiment that measures it.

use serde_json::{Map, Value, json};
use trialog_model::experiment::Status;
use trialog_model::holdout::HoldoutDefinition;
use trialog_model::ids::{ExperimentId, HoldoutName};
use trialog_model::time::UnixMicros;
use trialog_sqlite::{Migration, sql};

use crate::audit::{self, Edit, Event, Subject};
use crate::connection::Catalog;
use crate::database::{self, Connection, Optional, Row, corrupt, params};
use crate::error::CatalogError;
use crate::experiments::{measure, to_json};
use crate::neighbours::Names;

/// A holdout as the catalog knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    /// What it is.
    pub definition: HoldoutDefinition,
    /// Draft, running or stopped.
    pub status: Status,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was changed last.
    pub updated_at: UnixMicros,
    /// When it was started.
    pub started_at: Option<UnixMicros>,
    /// When it was stopped.
    pub stopped_at: Option<UnixMicros>,
    /// Counts its states.
    pub revision: i64,
}

/// An experiment that a holdout keeps units out of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InScope {
    /// The experiment.
    pub experiment_id: ExperimentId,
    /// Whether it ended and ships a variant; else it runs.
    pub ships: bool,
}

pub(crate) const CREATE_TABLE: Migration = sql!(
    "CREATE TABLE holdouts (
        name       TEXT    PRIMARY KEY,
        status     TEXT    NOT NULL,
        definition TEXT    NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        started_at INTEGER,
        stopped_at INTEGER,
        revision   INTEGER NOT NULL,
        seal       INTEGER
    ) WITHOUT ROWID;"
);

/// All columns of `holdouts` in the table's order, then the seal.
const COLUMNS: &str =
    "name, status, definition, created_at, updated_at, started_at, stopped_at, revision, seal";
const N_COLUMNS: usize = 8;

fn holdout(row: &Row<'_>) -> database::Result<Holdout> {
    if !row.is_sound(N_COLUMNS)? {
        let name: String = row.get(0)?;
        return Err(corrupt(format!(
            "the holdout `{name}` does not match its checksum"
        )));
    }
    let (status, text): (String, String) = (row.get(1)?, row.get(2)?);
    let time = |column: usize| -> database::Result<Option<UnixMicros>> {
        Ok(row.get::<Option<i64>>(column)?.map(UnixMicros))
    };
    Ok(Holdout {
        definition: serde_json::from_str(&text)
            .map_err(|error| corrupt(format!("a holdout cannot be read: {error}")))?,
        status: Status::parse(&status)
            .ok_or_else(|| corrupt(format!("`{status}` is no status")))?,
        created_at: UnixMicros(row.get(3)?),
        updated_at: UnixMicros(row.get(4)?),
        started_at: time(5)?,
        stopped_at: time(6)?,
        revision: row.get(7)?,
    })
}

fn find(connection: &Connection<'_>, name: &str) -> database::Result<Option<Holdout>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM holdouts WHERE name = ?1"))?
        .query_row([name], holdout)
        .optional()
}

/// The holdouts that run.
pub(crate) fn running(connection: &Connection<'_>) -> database::Result<Vec<Holdout>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM holdouts WHERE status = 'running' ORDER BY name"
        ))?
        .query_map(params![], holdout)?
        .collect()
}

impl Catalog {
    /// The holdout `name`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoHoldout`] where there is none.
    pub fn holdout(&self, name: &HoldoutName) -> Result<Holdout, CatalogError> {
        let found = self.read("read a holdout", |connection| {
            match find(connection, name.as_str())? {
                Some(found) => Ok(Ok(found)),
                None => Names::HOLDOUTS
                    .instead_of(connection, name.as_str())
                    .map(Err),
            }
        })?;
        found.map_err(|there_are| CatalogError::NoHoldout(name.clone(), there_are))
    }

    /// At most `limit` holdouts in the order of their names, those after `after`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn list_holdouts(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Holdout>, CatalogError> {
        self.read("list holdouts", |connection| {
            let sql =
                format!("SELECT {COLUMNS} FROM holdouts WHERE name > ?1 ORDER BY name LIMIT ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            statement
                .query_map(params![after.unwrap_or_default(), limit], holdout)?
                .collect()
        })
    }

    /// Experiments, at most `limit`, that `holdout` keeps units out of: those that run,
    /// and those that ship a variant.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn in_scope(
        &self,
        holdout: &HoldoutDefinition,
        limit: usize,
    ) -> Result<Vec<InScope>, CatalogError> {
        self.read("look for experiments in a scope", |connection| {
            let running = "SELECT experiment_id FROM experiments WHERE status = 'running' ORDER BY experiment_id";
            let shipping = "SELECT experiment_id FROM experiments WHERE ship IS NOT NULL ORDER BY experiment_id";
            let mut covered = Vec::new();
            for (sql, ships) in [(running, false), (shipping, true)] {
                let mut statement = connection.prepare_cached(sql)?;
                for id in statement.query_map(params![], crate::experiments::id)? {
                    let experiment_id = id?;
                    let is_other = !experiment_id.as_str().starts_with(HoldoutName::PREFIX);
                    if is_other && holdout.covers(&experiment_id) && covered.len() < limit {
                        covered.push(InScope {
                            experiment_id,
                            ships,
                        });
                    }
                }
            }
            Ok(covered)
        })
    }

    /// Creates a draft of a holdout, with the experiment that measures it.
    ///
    /// # Errors
    ///
    /// [`CatalogError::HoldoutExists`] where the name is taken.
    pub fn create_holdout(
        &self,
        definition: &HoldoutDefinition,
        edit: &Edit,
    ) -> Result<Holdout, CatalogError> {
        let failed = CatalogError::database("create a holdout", self.place());
        let name = &definition.name;
        self.write("create a holdout", |transaction| {
            if find(transaction, name.as_str()).map_err(&failed)?.is_some() {
                return Err(CatalogError::HoldoutExists(name.clone()));
            }
            let created = Holdout {
                definition: definition.clone(),
                status: Status::Draft,
                created_at: edit.at,
                updated_at: edit.at,
                started_at: None,
                stopped_at: None,
                revision: 1,
            };
            store(transaction, edit, "create", None, &created).map_err(&failed)?;
            Ok(created)
        })
    }

    /// Replaces a definition with what `change` makes of the present one.
    ///
    /// # Errors
    ///
    /// There is no such holdout, `edit` names another state of it, or what `change` says.
    pub fn change_holdout<E: From<CatalogError>>(
        &self,
        name: &HoldoutName,
        edit: &Edit,
        change: impl FnOnce(&Holdout) -> Result<HoldoutDefinition, E>,
    ) -> Result<Holdout, E> {
        let failed = CatalogError::database("change a holdout", self.place());
        let mut refused = None;
        let outcome = self.write("change a holdout", |transaction| {
            let known = self.holdout_to_edit(transaction, name, edit)?;
            match change(&known) {
                Ok(definition) if definition == known.definition => Ok(known),
                Ok(definition) => {
                    let changed = Holdout {
                        definition,
                        ..known.clone()
                    };
                    next(transaction, edit, "change", &known, changed).map_err(&failed)
                }
                Err(error) => {
                    refused = Some(error);
                    Ok(known)
                }
            }
        })?;
        refused.map_or(Ok(outcome), Err)
    }

    /// Starts a draft: its units are held out from now on.
    ///
    /// # Errors
    ///
    /// There is no such draft, or `edit` names another state of it.
    pub fn start_holdout(&self, name: &HoldoutName, edit: &Edit) -> Result<Holdout, CatalogError> {
        self.step_holdout(name, edit, "start")
    }

    /// Stops a running holdout: its units are let in from now on.
    ///
    /// # Errors
    ///
    /// There is no such running holdout, or `edit` names another state of it.
    pub fn stop_holdout(&self, name: &HoldoutName, edit: &Edit) -> Result<Holdout, CatalogError> {
        self.step_holdout(name, edit, "stop")
    }

    fn step_holdout(
        &self,
        name: &HoldoutName,
        edit: &Edit,
        action: &'static str,
    ) -> Result<Holdout, CatalogError> {
        let failed = CatalogError::database("change a holdout's status", self.place());
        self.write("change a holdout's status", |transaction| {
            let known = self.holdout_to_edit(transaction, name, edit)?;
            let mut changed = known.clone();
            match (action, known.status) {
                ("start", Status::Draft) => {
                    changed.status = Status::Running;
                    changed.started_at = Some(edit.at);
                }
                ("stop", Status::Running) => {
                    changed.status = Status::Stopped;
                    changed.stopped_at = Some(edit.at);
                }
                (_, status) => {
                    let mend = match (action, status) {
                        ("stop", Status::Draft) => "start it first",
                        ("stop", _) => "it was stopped already",
                        (_, Status::Running) => "it was started already",
                        _ => "it does not start again, register a new one",
                    };
                    return Err(CatalogError::HoldoutStatus {
                        holdout: name.clone(),
                        status,
                        mend,
                    });
                }
            }
            next(transaction, edit, action, &known, changed).map_err(&failed)
        })
    }

    /// The holdout `name`, in a state that `edit` may change.
    fn holdout_to_edit(
        &self,
        transaction: &Connection<'_>,
        name: &HoldoutName,
        edit: &Edit,
    ) -> Result<Holdout, CatalogError> {
        let failed = CatalogError::database("read a holdout", self.place());
        let Some(known) = find(transaction, name.as_str()).map_err(&failed)? else {
            let there_are = Names::HOLDOUTS.instead_of(transaction, name.as_str());
            return Err(CatalogError::NoHoldout(
                name.clone(),
                there_are.map_err(failed)?,
            ));
        };
        edit.check(|| format!("holdout `{name}`"), known.revision)?;
        Ok(known)
    }
}

/// Makes `changed` of `known`.
fn next(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    known: &Holdout,
    changed: Holdout,
) -> database::Result<Holdout> {
    let changed = Holdout {
        updated_at: edit.at,
        revision: known.revision + 1,
        ..changed
    };
    store(transaction, edit, action, Some(known), &changed)?;
    Ok(changed)
}

/// Writes `current` instead of `before`, with its entry in the audit trail and the
/// experiment that measures it.
fn store(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    before: Option<&Holdout>,
    current: &Holdout,
) -> database::Result<()> {
    let definition = &current.definition;
    let time = |time: Option<UnixMicros>| time.map(|time| time.0);
    transaction.execute(
        "INSERT INTO holdouts (name, status, definition, created_at, updated_at, started_at, stopped_at, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (name) DO UPDATE SET status = excluded.status, definition = excluded.definition, updated_at = excluded.updated_at, started_at = excluded.started_at, stopped_at = excluded.stopped_at, revision = excluded.revision",
        params![
            definition.name.as_str(),
            current.status.as_str(),
            to_json(definition),
            current.created_at.0,
            current.updated_at.0,
            time(current.started_at),
            time(current.stopped_at),
            current.revision
        ],
    )?;
    let event = Event {
        subject: Subject::Holdout,
        name: definition.name.as_str(),
        action,
    };
    let known = before.map(fields);
    audit::record(
        transaction,
        edit,
        event,
        known.as_ref(),
        Some(&fields(current)),
    )?;
    measure(transaction, edit, action, current)
}

/// What the audit trail compares.
fn fields(holdout: &Holdout) -> Map<String, Value> {
    let text = |time: Option<UnixMicros>| json!(time.map(UnixMicros::to_rfc3339));
    let mut fields = audit::fields(&holdout.definition);
    fields.insert("status".to_owned(), json!(holdout.status));
    fields.insert("started_at".to_owned(), text(holdout.started_at));
    fields.insert("stopped_at".to_owned(), text(holdout.stopped_at));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;

    fn edit() -> Edit {
        Edit::new(Actor::new("mia"), UnixMicros(1_700_000_000_000_000))
    }

    fn q3(size: f64) -> HoldoutDefinition {
        let text = format!(r#"{{"name":"q3","size":{size},"metrics":{{"primary":["purchase"]}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_experiment_that_measures_a_holdout_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let (name, id) = (q3(0.05).name, q3(0.05).name.experiment_id());
        catalog
            .add_unregistered(std::slice::from_ref(&id), 9, UnixMicros(1))
            .unwrap();
        catalog.create_holdout(&q3(0.05), &edit()).unwrap();
        assert!(matches!(
            catalog.create_holdout(&q3(0.1), &edit()),
            Err(CatalogError::HoldoutExists(_))
        ));
        let measured = catalog.experiment(&id).unwrap();
        assert_eq!(
            (measured.status, measured.definition),
            (Status::Draft, q3(0.05).measurement())
        );
        assert!(
            catalog
                .stop_holdout(&name, &edit())
                .unwrap_err()
                .to_string()
                .contains("start it first")
        );
        let refused = catalog
            .start_experiment(&id, &edit())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("/v1/holdouts/q3"), "{refused}");
        catalog.start_holdout(&name, &edit()).unwrap();
        assert_eq!(catalog.experiment(&id).unwrap().status, Status::Running);
        let smaller = |_: &Holdout| Ok::<_, CatalogError>(q3(0.01));
        assert_eq!(
            catalog
                .change_holdout(&name, &edit(), smaller)
                .unwrap()
                .definition,
            q3(0.01)
        );
        let configuration = catalog.configuration().unwrap();
        assert_eq!(
            configuration.rules.holdouts[0].event_types[0].as_str(),
            "purchase"
        );
        assert!(configuration.rules.experiments.is_empty());
        let stopped = catalog.stop_holdout(&name, &edit()).unwrap();
        assert_eq!(stopped.stopped_at, Some(edit().at));
        assert_eq!(catalog.experiment(&id).unwrap().status, Status::Stopped);
        assert!(catalog.configuration().unwrap().rules.holdouts.is_empty());
        let audit = catalog
            .audit(Some((Subject::Holdout, "q3")), 0, 10)
            .unwrap();
        let actions: Vec<_> = audit.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["create", "start", "change", "stop"]);
    }
}
