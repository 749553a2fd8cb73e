//! Changing the registry: each change with its entry in the audit trail.

use serde_json::{Map, Value, json};
use trialog_model::experiment::{Definition, Status};
use trialog_model::holdout::remaining;
use trialog_model::ids::{ExperimentId, HoldoutName, Variant};
use trialog_model::nearest::there_are;

use super::life::{self, AtStop, Decision, Life, MAX_PAUSES, MAX_SHIPPED, Pause};
use super::{Experiment, find, insert, next_change, search, to_json};
use crate::audit::{self, Edit, Event, Subject};
use crate::connection::Catalog;
use crate::database::{self, Connection, DatabaseError, params};
use crate::error::CatalogError;
use crate::holdouts::{self, Holdout};
use crate::neighbours::Names;
use crate::sequence::{BreakReason, NewBreak};
use crate::{configuration, layers, metrics, results, sequence, surfaces, warnings};

/// A step from one status to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Stop,
    Resume,
    Decide,
    Archive,
    Delete,
}

impl Step {
    fn action(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Resume => "resume",
            Self::Decide => "decide",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }

    /// What to do instead, where the step cannot be taken from `status`.
    fn mend(self, status: Status) -> Option<&'static str> {
        const AGAIN: &str =
            "resume it (`trialog experiments resume`, POST .../resume), or register a new one";
        const PUT_AWAY: &str = "it is put away for good, register a new one";
        match (self, status) {
            (Self::Start, Status::Draft)
            | (Self::Stop, Status::Running)
            | (Self::Resume | Self::Decide, Status::Stopped)
            | (Self::Archive, Status::Draft | Status::Stopped)
            | (Self::Delete, Status::Draft | Status::Unregistered) => None,
            (Self::Delete, Status::Running) => Some(
                "only drafts and unregistered experiments can be deleted; stop it first, then archive it, which keeps its results",
            ),
            (Self::Delete, Status::Stopped) => Some(
                "only drafts and unregistered experiments can be deleted; archive it, which keeps its results",
            ),
            (Self::Delete, Status::Archived) => Some(
                "only drafts and unregistered experiments can be deleted; it stays archived, and lists leave it out",
            ),
            (_, Status::Unregistered) => Some("register it first with POST /v1/experiments"),
            (Self::Start, Status::Running) => Some("it was started already"),
            (Self::Start, Status::Stopped) => Some(AGAIN),
            (Self::Start | Self::Stop | Self::Resume, Status::Archived) => Some(PUT_AWAY),
            (Self::Decide, Status::Archived) => Some(
                "it is put away for good, and its decision stays as it is: register a new one to ship a variant",
            ),
            (Self::Decide, Status::Running) => {
                Some("stop it first (`trialog experiments stop`, POST .../stop), then decide")
            }
            (Self::Resume, Status::Running) => Some("it runs already"),
            (Self::Stop, Status::Stopped) => Some("it was stopped already"),
            (Self::Stop | Self::Resume, Status::Draft) => Some("start it first"),
            (Self::Decide, Status::Draft) => {
                Some("it never ran: start it, or archive or delete it")
            }
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

    /// Resumes a stopped experiment without a decision, if everything that its assignment
    /// depends on is as it was when it was stopped.
    ///
    /// # Errors
    ///
    /// The experiment is not known or not stopped, `edit` names another state of it, or
    /// [`CatalogError::NoResume`] says what is not as it was.
    pub fn resume_experiment(
        &self,
        id: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        self.step(id, edit, Step::Resume)
    }

    /// Records what was decided after a stopped experiment: from now on everybody gets
    /// `ship`, if it is a variant. A later decision takes the place of this one.
    ///
    /// # Errors
    ///
    /// The experiment is not known or not stopped, has no such variant, or `edit` names
    /// another state of it; or as many experiments ship a variant as may.
    pub fn decide_experiment(
        &self,
        id: &ExperimentId,
        ship: Option<Variant>,
        reason: &str,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        let failed = CatalogError::database("record a decision", self.place());
        self.write("record a decision", |transaction| {
            let known = self.to_step(transaction, id, edit, Step::Decide)?;
            if let Some(ship) = &ship {
                check_ship(&known, ship)?;
            }
            if ship.is_some() && known.ships().is_none() {
                let n_shipped = transaction.query_row(
                    "SELECT count(*) FROM experiments WHERE ship IS NOT NULL",
                    params![],
                    |row| row.get::<u64>(0),
                );
                if n_shipped.map_err(&failed)? >= MAX_SHIPPED {
                    return Err(CatalogError::TooManyShipped(MAX_SHIPPED));
                }
            }
            let decision = Decision {
                ship,
                reason: reason.to_owned(),
                by: edit.actor.as_str().to_owned(),
                at: edit.at,
            };
            let decided = Experiment {
                decision: Some(decision),
                ..known.clone()
            };
            update(transaction, edit, Step::Decide.action(), &known, decided).map_err(&failed)
        })
    }

    /// Deletes a draft or an unregistered experiment with its results, and gives it as it
    /// was. Its events stay; if more of them come in, it is unregistered again.
    ///
    /// # Errors
    ///
    /// The experiment is not known, was started, or `edit` names another state of it.
    pub fn delete_experiment(
        &self,
        id: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        let failed = CatalogError::database("delete an experiment", self.place());
        self.write("delete an experiment", |transaction| {
            let known = self.to_step(transaction, id, edit, Step::Delete)?;
            remove(transaction, edit, &known).map_err(&failed)?;
            Ok(known)
        })
    }

    /// Puts away a draft or a stopped experiment, for good: a variant that it ships is not
    /// answered with any more.
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
            let known = self.to_step(transaction, id, edit, step)?;
            let mut changed = known.clone();
            match step {
                Step::Start => {
                    changed.status = Status::Running;
                    changed.started_at = Some(edit.at);
                }
                Step::Stop => {
                    let running = holdouts::running(transaction).map_err(&failed)?;
                    changed.at_stop = Some(AtStop::new(&known, &running));
                    changed.status = Status::Stopped;
                    changed.stopped_at = Some(edit.at);
                }
                Step::Resume => {
                    self.check_resume(transaction, &known)?;
                    changed.status = Status::Running;
                    changed
                        .pauses
                        .extend(known.stopped_at.map(|from| Pause { from, to: edit.at }));
                    changed.stopped_at = None;
                    changed.at_stop = None;
                }
                Step::Archive => {
                    changed.status = Status::Archived;
                    changed.archived_at = Some(edit.at);
                }
                Step::Decide | Step::Delete => {}
            }
            self.fitted(transaction, &changed)?;
            update(transaction, edit, step.action(), &known, changed).map_err(&failed)
        })
    }

    /// Checks that `known` may go on where it was stopped, and gives it back its buckets.
    fn check_resume(
        &self,
        transaction: &Connection<'_>,
        known: &Experiment,
    ) -> Result<(), CatalogError> {
        let failed = CatalogError::database("resume an experiment", self.place());
        let id = &known.definition.experiment_id;
        let refused = |reason: String| CatalogError::NoResume {
            experiment: id.clone(),
            reason,
        };
        if known.decision.is_some() {
            let reason = "a decision about it is recorded: register a new experiment";
            return Err(refused(reason.to_owned()));
        }
        if known.pauses.len() >= MAX_PAUSES {
            return Err(refused(format!(
                "it was resumed {MAX_PAUSES} times, which is the most: register a new experiment"
            )));
        }
        let Some(at_stop) = &known.at_stop else {
            let reason = "it was stopped by an older version, which did not note what assignment depended on: register a new experiment";
            return Err(refused(reason.to_owned()));
        };
        let running = holdouts::running(transaction).map_err(&failed)?;
        if let Some(reason) = at_stop.difference(&known.definition, &running) {
            return Err(refused(reason));
        }
        let Some(layer) = &known.definition.layer else {
            return Ok(());
        };
        match layers::claim(transaction, layer, id, &at_stop.ranges).map_err(failed)? {
            Some(owner) => Err(refused(format!(
                "experiment `{owner}` owns buckets of the layer `{layer}` now that were its own: stop that one first, or register a new experiment"
            ))),
            None => Ok(()),
        }
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

    /// The experiment `id`, in a state that `edit` may change and from which `step` can be
    /// taken.
    fn to_step(
        &self,
        transaction: &Connection<'_>,
        id: &ExperimentId,
        edit: &Edit,
        step: Step,
    ) -> Result<Experiment, CatalogError> {
        let known = self.to_edit(transaction, id, edit)?;
        match step.mend(known.status) {
            Some(mend) => Err(CatalogError::WrongStatus {
                experiment: id.clone(),
                status: known.status,
                mend,
            }),
            None => Ok(known),
        }
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
        let holdout = id.as_str().strip_prefix(HoldoutName::PREFIX);
        // Events may name a holdout that there is none of: then nothing measures one.
        if let Some(holdout) = holdout.filter(|_| known.status != Status::Unregistered) {
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

/// Gives `known` the next number, with an entry in the audit trail that names what is tested
/// with other `fields` from now on, or with confirmed ones.
pub(crate) fn note_fields(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    known: &Experiment,
    names: &[String],
) -> database::Result<Experiment> {
    let changed = store(transaction, edit, known, known.clone())?;
    let event = Event {
        subject: Subject::Experiment,
        name: known.definition.experiment_id.as_str(),
        action,
    };
    let after = Map::from_iter([("fields".to_owned(), json!(names))]);
    audit::record(transaction, edit, event, None, Some(&after))?;
    super::completed(transaction, changed)
}

/// Checks that `ship` is a variant of `experiment`.
fn check_ship(experiment: &Experiment, ship: &Variant) -> Result<(), CatalogError> {
    let names = experiment.definition.variants.iter();
    let names: Vec<&str> = names.map(|declared| declared.variant.as_str()).collect();
    if names.contains(&ship.as_str()) {
        return Ok(());
    }
    Err(CatalogError::NoVariant {
        experiment: experiment.definition.experiment_id.clone(),
        variant: ship.clone(),
        there_are: there_are(ship.as_str(), &names, false),
    })
}

/// Removes an experiment and everything that is known of it but its audit trail and what
/// retention dropped of its events.
/// Removes an experiment with its results, and notes by whom.
fn remove(transaction: &Connection<'_>, edit: &Edit, known: &Experiment) -> database::Result<()> {
    clear(transaction, known)?;
    let event = Event {
        subject: Subject::Experiment,
        name: known.definition.experiment_id.as_str(),
        action: Step::Delete.action(),
    };
    audit::record(transaction, edit, event, Some(&fields(known)), None)
}

/// Removes all that is stored of an experiment.
pub(super) fn clear(transaction: &Connection<'_>, known: &Experiment) -> database::Result<()> {
    let id = &known.definition.experiment_id;
    // First, since a run that publishes its results waits for this row, or makes us wait.
    transaction.execute(
        "DELETE FROM experiments WHERE experiment_id = ?1",
        [id.as_str()],
    )?;
    results::remove(transaction, id.as_str())?;
    sequence::forget(transaction, id.as_str())?;
    warnings::remove(transaction, id.as_str())?;
    layers::release(transaction, id)?;
    metrics::forget_names(transaction, id.as_str())?;
    surfaces::forget(transaction, id.as_str())?;
    search::remove(transaction, known.change)?;
    configuration::note_deleted(transaction, known.change)
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
    changed: Experiment,
) -> database::Result<Experiment> {
    let changed = store(transaction, edit, known, changed)?;
    let event = Event {
        subject: Subject::Experiment,
        name: known.definition.experiment_id.as_str(),
        action,
    };
    let (before, after) = (fields(known), fields(&changed));
    audit::record(transaction, edit, event, Some(&before), Some(&after))?;
    super::completed(transaction, changed)
}

/// Makes `changed` of `known`, with the next number.
fn store(
    transaction: &Connection<'_>,
    edit: &Edit,
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
    let life = Life {
        decision: changed.decision.clone(),
        pauses: changed.pauses.clone(),
        at_stop: changed.at_stop.clone(),
    };
    transaction
        .prepare_cached(
            "UPDATE experiments SET status = ?2, definition = ?3, updated_at = ?4, started_at = ?5, stopped_at = ?6, archived_at = ?7, revision = ?8, owner = ?9, change = ?10, ship = ?11, life = ?12 WHERE experiment_id = ?1",
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
            changed.ships().map(Variant::as_str),
            life.to_column(),
        ])?;
    let current = (changed.change, changed.status, &changed.definition);
    metrics::note_names(transaction, Some(&known.definition), &changed.definition)?;
    surfaces::note(transaction, Some(&known.definition), &changed.definition)?;
    configuration::touch(transaction)?;
    search::index(transaction, Some(known.change), current)?;
    Ok(changed)
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
    let is_draft = holdout.status == Status::Draft;
    let variants = match is_draft {
        true => definition.variants.clone(),
        false => remaining(&definition, &known.definition),
    };
    let lets_in = !is_draft && variants != known.definition.variants;
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
    if lets_in {
        // Past looks saw units who are left out from now on.
        let new = NewBreak {
            experiment: known.definition.experiment_id.as_str(),
            reason: BreakReason::Holdout,
            at: edit.at,
            actor: edit.actor.as_str(),
            fields: "",
        };
        sequence::note_break(transaction, &new)?;
    }
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
    fields.extend(life::fields(experiment));
    fields
}
