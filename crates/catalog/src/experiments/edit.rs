//! Changing the registry: each change with its entry in the audit trail.

use serde_json::{Map, Value, json};
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::{ExperimentId, HoldoutName};

use super::{Experiment, find, insert, next_change, search, to_json};
use crate::audit::{self, Edit, Event, Subject};
use crate::connection::Catalog;
use crate::database::{self, Connection, DatabaseError, params};
use crate::error::CatalogError;
use crate::holdouts::Holdout;
use crate::neighbours::Names;
use crate::{configuration, layers, metrics, sequence, surfaces};

/// A step from one status to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Stop,
    Archive,
}

impl Step {
    fn action(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Archive => "archive",
        }
    }

    fn leads_to(self) -> Status {
        match self {
            Self::Start => Status::Running,
            Self::Stop => Status::Stopped,
            Self::Archive => Status::Archived,
        }
    }

    /// What to do instead, where the step cannot be taken from `status`.
    fn mend(self, status: Status) -> Option<&'static str> {
        const NEW: &str = "it does not start again, register a new one";
        const PUT_AWAY: &str = "it is put away for good, register a new one";
        match (self, status) {
            (Self::Start, Status::Draft)
            | (Self::Stop, Status::Running)
            | (Self::Archive, Status::Draft | Status::Stopped) => None,
            (_, Status::Unregistered) => Some("register it first with POST /v1/experiments"),
            (Self::Start, Status::Running) => Some("it was started already"),
            (Self::Start, Status::Stopped) => Some(NEW),
            (Self::Start | Self::Stop, Status::Archived) => Some(PUT_AWAY),
            (Self::Stop, Status::Stopped) => Some("it was stopped already"),
            (Self::Stop, Status::Draft) => Some("start it first"),
            (Self::Archive, Status::Running) => Some("stop it first"),
            (Self::Archive, Status::Archived) => Some("it was archived already"),
        }
    }
}

impl Catalog {
    /// Registers an experiment; one that was `unregistered` becomes a draft.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Exists`] where the id is taken.
    pub fn create_experiment(
        &self,
        definition: &Definition,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        self.write("create an experiment", |transaction| {
            self.register(transaction, definition, edit)
        })
    }

    /// Registers experiments, all or none.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Exists`] where an id is taken.
    pub fn create_experiments(
        &self,
        definitions: &[Definition],
        edit: &Edit,
    ) -> Result<(), CatalogError> {
        self.write("create experiments", |transaction| {
            for definition in definitions {
                self.register(transaction, definition, edit)?;
            }
            Ok(())
        })
    }

    /// Replaces a definition with what `change` makes of the present one.
    ///
    /// # Errors
    ///
    /// The experiment is not known, `edit` names another state of it, or what
    /// `change` says.
    pub fn change_experiment<E: From<CatalogError>>(
        &self,
        id: &ExperimentId,
        edit: &Edit,
        change: impl FnOnce(&Experiment) -> Result<Definition, E>,
    ) -> Result<Experiment, E> {
        let failed = CatalogError::database("change an experiment", self.place());
        let mut refused = None;
        let outcome = self.write("change an experiment", |transaction| {
            let known = self.to_edit(transaction, id, edit)?;
            match change(&known) {
                Ok(definition) if definition == known.definition => Ok(known),
                Ok(definition) => {
                    let changed = Experiment {
                        definition,
                        ..known.clone()
                    };
                    self.fitted(transaction, &changed)?;
                    let action = note_locked(transaction, edit, &known, &changed, &failed)?;
                    update(transaction, edit, action, &known, changed).map_err(&failed)
                }
                Err(error) => {
                    refused = Some(error);
                    Ok(known)
                }
            }
        })?;
        refused.map_or(Ok(outcome), Err)
    }

    /// Starts a draft.
    ///
    /// # Errors
    ///
    /// The experiment is not known or not a draft, or `edit` names another state of it.
    pub fn start_experiment(
        &self,
        id: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        self.step(id, edit, Step::Start)
    }

    /// Stops a running experiment; events still count by their own times.
    ///
    /// # Errors
    ///
    /// The experiment is not known or not running, or `edit` names another state of it.
    pub fn stop_experiment(
        &self,
        id: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        self.step(id, edit, Step::Stop)
    }

    /// Puts away a draft or a stopped experiment, for good.
    ///
    /// # Errors
    ///
    /// The experiment is not known, runs or is put away, or `edit` names
    /// another state of it.
    pub fn archive_experiment(
        &self,
        id: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        self.step(id, edit, Step::Archive)
    }

    fn register(
        &self,
        transaction: &Connection<'_>,
        definition: &Definition,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        let id = &definition.experiment_id;
        let failed = CatalogError::database("create an experiment", self.place());
        let known = find(transaction, id.as_str()).map_err(&failed)?;
        if (known.as_ref()).is_some_and(|known| known.status != Status::Unregistered) {
            return Err(CatalogError::Exists(id.clone()));
        }
        layers::fit(transaction, Status::Draft, definition, &failed)?;
        match known {
            Some(known) => {
                let completed = Experiment {
                    definition: definition.clone(),
                    status: Status::Draft,
                    ..known.clone()
                };
                update(transaction, edit, "register", &known, completed).map_err(&failed)
            }
            None => create(transaction, definition, edit).map_err(&failed),
        }
    }

    fn step(&self, id: &ExperimentId, edit: &Edit, step: Step) -> Result<Experiment, CatalogError> {
        let failed = CatalogError::database("change an experiment's status", self.place());
        self.write("change an experiment's status", |transaction| {
            let known = self.to_edit(transaction, id, edit)?;
            if let Some(mend) = step.mend(known.status) {
                return Err(CatalogError::WrongStatus {
                    experiment: id.clone(),
                    status: known.status,
                    mend,
                });
            }
            let mut changed = Experiment {
                status: step.leads_to(),
                ..known.clone()
            };
            match step {
                Step::Start => changed.started_at = Some(edit.at),
                Step::Stop => changed.stopped_at = Some(edit.at),
                Step::Archive => changed.archived_at = Some(edit.at),
            }
            self.fitted(transaction, &changed)?;
            update(transaction, edit, step.action(), &known, changed).map_err(&failed)
        })
    }

    /// Gives `changed` the buckets that it asks for.
    fn fitted(
        &self,
        transaction: &Connection<'_>,
        changed: &Experiment,
    ) -> Result<(), CatalogError> {
        let failed = CatalogError::database("share out a layer", self.place());
        layers::fit(transaction, changed.status, &changed.definition, &failed)
    }

    /// The experiment `id`, in a state that `edit` may change.
    pub(crate) fn to_edit(
        &self,
        transaction: &Connection<'_>,
        id: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        let failed = CatalogError::database("read an experiment", self.place());
        let Some(known) = find(transaction, id.as_str()).map_err(&failed)? else {
            let there_are = Names::EXPERIMENTS.instead_of(transaction, id.as_str());
            return Err(CatalogError::NoExperiment(
                id.clone(),
                there_are.map_err(failed)?,
            ));
        };
        if let Some(holdout) = id.as_str().strip_prefix(HoldoutName::PREFIX) {
            return Err(CatalogError::OfHoldout {
                experiment: id.clone(),
                holdout: holdout.to_owned(),
            });
        }
        edit.check(|| format!("experiment `{id}`"), known.change)?;
        Ok(known)
    }
}

/// Notes what results are tested with and changes after the start, if anything does and that is
/// confirmed; gives the word for the audit trail.
fn note_locked(
    transaction: &Connection<'_>,
    edit: &Edit,
    known: &Experiment,
    changed: &Experiment,
    failed: &impl Fn(DatabaseError) -> CatalogError,
) -> Result<&'static str, CatalogError> {
    if !known.is_started() {
        return Ok("change");
    }
    let locked = known.definition.locked_changes(&changed.definition);
    if locked.is_empty() {
        return Ok("change");
    }
    let fields: Vec<String> = locked.into_iter().map(str::to_owned).collect();
    note_locked_fields(transaction, edit, known, fields, failed)?;
    Ok("change_after_start")
}

/// Notes that `fields` of a started experiment change, where that is confirmed.
pub(crate) fn note_locked_fields(
    transaction: &Connection<'_>,
    edit: &Edit,
    known: &Experiment,
    fields: Vec<String>,
    failed: &impl Fn(DatabaseError) -> CatalogError,
) -> Result<(), CatalogError> {
    let experiment = known.definition.experiment_id.clone();
    if !edit.confirmed {
        return Err(CatalogError::Locked { experiment, fields });
    }
    sequence::note_change(transaction, experiment.as_str(), &fields, edit).map_err(failed)
}

/// Writes into the audit trail that fields of `experiment` that changed after its start are
/// confirmed, or that those of a metric's definition changed.
pub(crate) fn record_of_lock(
    transaction: &Connection<'_>,
    edit: &Edit,
    (experiment, action): (&str, &'static str),
    fields: &[String],
) -> database::Result<()> {
    let event = Event {
        subject: Subject::Experiment,
        name: experiment,
        action,
    };
    let after = Map::from_iter([("fields".to_owned(), json!(fields))]);
    audit::record(transaction, edit, event, None, Some(&after))
}

fn create(
    transaction: &Connection<'_>,
    definition: &Definition,
    edit: &Edit,
) -> database::Result<Experiment> {
    let id = definition.experiment_id.as_str();
    insert(transaction, definition, Status::Draft, edit.at)?;
    let created = find(transaction, id)?.ok_or(DatabaseError::NoRow)?;
    let event = Event {
        subject: Subject::Experiment,
        name: id,
        action: "create",
    };
    audit::record(transaction, edit, event, None, Some(&fields(&created)))?;
    Ok(created)
}

/// Makes `changed` of `known`, with the next number and an entry in the audit trail.
fn update(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    known: &Experiment,
    mut changed: Experiment,
) -> database::Result<Experiment> {
    let time = |time: Option<trialog_model::time::UnixMicros>| time.map(|time| time.0);
    let id = known.definition.experiment_id.as_str();
    changed.updated_at = edit.at;
    changed.change = next_change(transaction)?;
    if changed.definition != known.definition {
        changed.revision += 1;
    }
    transaction
        .prepare_cached(
            "UPDATE experiments SET status = ?2, definition = ?3, updated_at = ?4, started_at = ?5, stopped_at = ?6, archived_at = ?7, revision = ?8, owner = ?9, change = ?10 WHERE experiment_id = ?1",
        )?
        .execute(params![
            id,
            changed.status.as_str(),
            to_json(&changed.definition),
            changed.updated_at.0,
            time(changed.started_at),
            time(changed.stopped_at),
            time(changed.archived_at),
            changed.revision,
            changed.definition.owner,
            changed.change,
        ])?;
    let current = (changed.change, changed.status, &changed.definition);
    metrics::note_names(transaction, Some(&known.definition), &changed.definition)?;
    surfaces::note(transaction, Some(&known.definition), &changed.definition)?;
    configuration::touch(transaction)?;
    search::index(transaction, Some(known.change), current)?;
    let event = Event {
        subject: Subject::Experiment,
        name: id,
        action,
    };
    let (before, after) = (fields(known), fields(&changed));
    audit::record(transaction, edit, event, Some(&before), Some(&after))?;
    super::completed(transaction, changed)
}

/// Makes the experiment that measures `holdout` what the holdout says now.
pub(crate) fn measure(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    holdout: &Holdout,
) -> database::Result<()> {
    let definition = holdout.definition.measurement();
    let id = definition.experiment_id.as_str();
    if find(transaction, id)?.is_none() {
        create(transaction, &definition, edit)?;
    }
    let known = find(transaction, id)?.ok_or(DatabaseError::NoRow)?;
    // The weights stay those of the start: units that were let in later do not fit them,
    // and the sample ratio says so.
    let variants = match holdout.status {
        Status::Draft => definition.variants.clone(),
        _ => known.definition.variants.clone(),
    };
    let changed = Experiment {
        definition: Definition {
            variants,
            ..definition
        },
        status: holdout.status,
        started_at: holdout.started_at,
        stopped_at: holdout.stopped_at,
        ..known.clone()
    };
    if changed == known {
        return configuration::touch(transaction);
    }
    update(transaction, edit, action, &known, changed)?;
    Ok(())
}

/// What the audit trail compares.
fn fields(experiment: &Experiment) -> Map<String, Value> {
    let text =
        |time: Option<trialog_model::time::UnixMicros>| json!(time.map(|time| time.to_rfc3339()));
    let mut fields = audit::fields(&experiment.definition);
    fields.insert("status".to_owned(), json!(experiment.status));
    fields.insert("started_at".to_owned(), text(experiment.started_at));
    fields.insert("stopped_at".to_owned(), text(experiment.stopped_at));
    fields.insert("archived_at".to_owned(), text(experiment.archived_at));
    fields
}
