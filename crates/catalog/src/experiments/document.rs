//! An experiment as a named document: its row, its audit trail, and what depends on it.

use serde_json::{Map, Value, json};
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::{ExperimentId, HoldoutName, Variant};
use trialog_model::time::UnixMicros;

use super::life::{self, Life};
use super::steps::{Step, check_step};
use super::{Experiment, next_change, search};
use crate::audit::{self, Edit, Subject};
use crate::database::{self, Abort, Connection, Row, params, unreadable};
use crate::documents::{self, Deletable, Document, Table, to_json};
use crate::error::CatalogError;
use crate::{configuration, layers, links, metrics, results, sequence, warnings};

impl Document for Experiment {
    type Name = ExperimentId;
    type Definition = Definition;

    const SUBJECT: Subject = Subject::Experiment;
    const TABLE: Table = Table {
        name: "experiments",
        columns: &[
            "experiment_id",
            "status",
            "definition",
            "created_at",
            "updated_at",
            "started_at",
            "stopped_at",
            "revision",
            "computed_revision",
            "recompute_at",
            "failure",
            "archived_at",
            "owner",
            "change",
            "ship",
            "life",
        ],
    };

    documents::common_fields!(change);

    fn name_of(definition: &Definition) -> &ExperimentId {
        &definition.experiment_id
    }

    fn from_row(row: &Row<'_>) -> database::Result<Self> {
        let status: String = row.get(1)?;
        let life = row.get::<Option<String>>(15)?;
        let life = Life::from_column(life.as_deref()).map_err(|error| unreadable(15, error))?;
        Ok(Self {
            status: Status::parse(&status)
                .ok_or_else(|| unreadable(1, format!("`{status}` is no status")))?,
            definition: documents::definition(row, 2)?,
            defined_metrics: Vec::new(),
            ranges: Vec::new(),
            created_at: row.get(3)?,
            updated_at: row.get(4)?,
            started_at: row.get(5)?,
            stopped_at: row.get(6)?,
            archived_at: row.get(11)?,
            decision: life.decision,
            pauses: life.pauses,
            at_stop: life.at_stop,
            revision: row.get(7)?,
            change: row.get(13)?,
            failure: row.get(10)?,
        })
    }

    /// Adds the definitions of its metrics and the buckets of its layer.
    fn complete(mut self, connection: &Connection<'_>) -> database::Result<Self> {
        self.defined_metrics = metrics::defined(connection, &self.definition)?;
        if self.definition.layer.is_some() {
            self.ranges = layers::ranges_of(connection, &self.definition.experiment_id)?;
        }
        Ok(self)
    }

    fn is_placeholder(&self) -> bool {
        self.status == Status::Unregistered
    }

    fn created(definition: Definition, at: UnixMicros, placeholder: Option<&Self>) -> Self {
        let unknown = || Self {
            created_at: at,
            ..Self::from_definition(definition.clone())
        };
        Self {
            status: Status::Draft,
            ..placeholder.map_or_else(unknown, |known| known.redefined(definition.clone()))
        }
    }

    /// An experiment that measures a holdout changes with that only.
    fn check_editable(&self) -> Result<(), CatalogError> {
        let id = &self.definition.experiment_id;
        let holdout = id.as_str().strip_prefix(HoldoutName::PREFIX);
        // Events may name a holdout that there is none of: then nothing measures one.
        match holdout.filter(|_| !self.is_placeholder()) {
            Some(holdout) => Err(CatalogError::OfHoldout {
                experiment: id.clone(),
                holdout: holdout.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Allocates the buckets that it asks for, and notes what results are tested with and
    /// changes after the start.
    fn prepare(
        transaction: &Connection<'_>,
        edit: &Edit,
        known: Option<&Self>,
        current: &Self,
    ) -> Result<&'static str, Abort> {
        layers::allocate_buckets(transaction, current.status, &current.definition)?;
        let Some(known) = known else {
            return Ok("create");
        };
        if known.is_placeholder() {
            return Ok("register");
        }
        let locked = known.definition.locked_changes(&current.definition);
        if !known.is_started() || locked.is_empty() {
            return Ok("change");
        }
        let fields = locked.into_iter().map(str::to_owned).collect();
        note_locked_fields(transaction, edit, known, fields)?;
        Ok("change_after_start")
    }

    fn write(
        self,
        transaction: &Connection<'_>,
        edit: &Edit,
        known: Option<&Self>,
    ) -> database::Result<Self> {
        let Some(known) = known else {
            return insert(transaction, self, edit.at);
        };
        let mut changed = self;
        changed.updated_at = edit.at;
        changed.change = next_change(transaction)?;
        if changed.definition != known.definition {
            changed.revision += 1;
        }
        update(transaction, &changed)?;
        let current = (changed.change, changed.status, &changed.definition);
        links::sync(transaction, Some(&known.definition), &changed.definition)?;
        configuration::touch(transaction)?;
        search::index(transaction, Some(known.change), current)?;
        Ok(changed)
    }

    fn fields(&self) -> Map<String, Value> {
        let text = |time: Option<UnixMicros>| json!(time.map(UnixMicros::to_rfc3339));
        let mut fields = audit::fields(&self.definition);
        fields.insert("status".to_owned(), json!(self.status));
        fields.insert("started_at".to_owned(), text(self.started_at));
        fields.insert("stopped_at".to_owned(), text(self.stopped_at));
        fields.insert("archived_at".to_owned(), text(self.archived_at));
        fields.extend(life::fields(self));
        fields
    }
}

impl Deletable for Experiment {
    fn check_deletable(&self, _transaction: &Connection<'_>) -> Result<(), Abort> {
        Ok(check_step(self, Step::Delete)?)
    }

    /// Removes it with its results; its audit trail and what retention dropped of its events
    /// stay. If more events come in, it is unregistered again.
    fn remove(&self, transaction: &Connection<'_>) -> database::Result<()> {
        let id = &self.definition.experiment_id;
        // First, since a run that publishes its results waits for this row, or makes us wait.
        Self::TABLE.delete(transaction, id.as_str())?;
        results::remove(transaction, id.as_str())?;
        sequence::forget(transaction, id.as_str())?;
        warnings::remove(transaction, id.as_str())?;
        layers::release(transaction, id)?;
        links::remove(transaction, id)?;
        search::remove(transaction, self.change)?;
        configuration::note_deleted(transaction, self.change)
    }
}

/// Inserts an experiment that is not known yet. Its revisions begin after those of a deleted
/// one of the same id, which a run may be computing.
pub(super) fn insert(
    transaction: &Connection<'_>,
    new: Experiment,
    now: UnixMicros,
) -> database::Result<Experiment> {
    let change = next_change(transaction)?;
    let inserted = Experiment {
        created_at: now,
        updated_at: now,
        revision: change,
        change,
        ..new
    };
    let definition = &inserted.definition;
    transaction.execute(
        "INSERT INTO experiments
         (experiment_id, status, definition, created_at, updated_at, revision, computed_revision,
          owner, change)
         VALUES (?1, ?2, ?3, ?4, ?4, ?6, 0, ?5, ?6)",
        params![
            definition.experiment_id.as_str(),
            inserted.status.as_str(),
            to_json(definition),
            now.0,
            definition.owner,
            change
        ],
    )?;
    links::sync(transaction, None, definition)?;
    search::index(transaction, None, (change, inserted.status, definition))?;
    Ok(inserted)
}

/// Writes the row of a known experiment; what runs note in it stays.
fn update(transaction: &Connection<'_>, changed: &Experiment) -> database::Result<()> {
    let life = Life {
        decision: changed.decision.clone(),
        pauses: changed.pauses.clone(),
        at_stop: changed.at_stop.clone(),
    };
    transaction.execute(
        "UPDATE experiments SET status = ?2, definition = ?3, updated_at = ?4, started_at = ?5,
             stopped_at = ?6, archived_at = ?7, revision = ?8, owner = ?9, change = ?10,
             ship = ?11, life = ?12
         WHERE experiment_id = ?1",
        params![
            changed.definition.experiment_id.as_str(),
            changed.status.as_str(),
            to_json(&changed.definition),
            changed.updated_at,
            changed.started_at,
            changed.stopped_at,
            changed.archived_at,
            changed.revision,
            changed.definition.owner,
            changed.change,
            changed.ships().map(Variant::as_str),
            life.to_column(),
        ],
    )?;
    Ok(())
}

/// Notes that `fields` of a started experiment change, where that is confirmed.
pub(crate) fn note_locked_fields(
    transaction: &Connection<'_>,
    edit: &Edit,
    known: &Experiment,
    fields: Vec<String>,
) -> Result<(), Abort> {
    let experiment = known.definition.experiment_id.clone();
    if !edit.confirmed {
        return Err(CatalogError::Locked { experiment, fields }.into());
    }
    Ok(sequence::note_change(
        transaction,
        experiment.as_str(),
        &fields,
        edit,
    )?)
}

/// Gives `known` the next number, with an entry in the audit trail that names the `fields` that
/// are tested with otherwise from now on, or are confirmed.
pub(crate) fn note_fields(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    known: &Experiment,
    fields: &[String],
) -> database::Result<Experiment> {
    let changed = known.clone().write(transaction, edit, Some(known))?;
    let after = Map::from_iter([("fields".to_owned(), json!(fields))]);
    let id = &known.definition.experiment_id;
    documents::record::<Experiment>(transaction, edit, action, id, (None, Some(&after)))?;
    changed.complete(transaction)
}
