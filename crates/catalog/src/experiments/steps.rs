//! The steps of an experiment's life: starting, stopping, resuming, deciding, archiving.

use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::{ExperimentId, Variant};
use trialog_model::life::{Decision, Pause};
use trialog_model::nearest::there_are;

use super::Experiment;
use super::life::{AtStop, MAX_PAUSES, MAX_SHIPPED};
use crate::audit::Edit;
use crate::connection::Catalog;
use crate::database::{Abort, Connection, params};
use crate::documents::{self, store};
use crate::error::CatalogError;
use crate::holdouts;
use crate::layers::{allocate_buckets, claim};

/// A step from one status to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
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
        const AGAIN: &str = "resume it (`trialog experiments resume`), or register a new one";
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
            (_, Status::Unregistered) => Some("register it first"),
            (Self::Start, Status::Running) => Some("it was started already"),
            (Self::Start, Status::Stopped) => Some(AGAIN),
            (Self::Start | Self::Stop | Self::Resume, Status::Archived) => Some(PUT_AWAY),
            (Self::Decide, Status::Archived) => Some(
                "it is put away for good, and its decision stays as it is: register a new one to ship a variant",
            ),
            (Self::Decide, Status::Running) => {
                Some("stop it first (`trialog experiments stop`), then decide")
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

/// Checks that `step` can be taken from the state `known`.
pub(super) fn check_step(known: &Experiment, step: Step) -> Result<(), CatalogError> {
    match step.mend(known.status) {
        Some(mend) => Err(CatalogError::WrongStatus {
            experiment: known.definition.experiment_id.clone(),
            status: known.status,
            mend,
        }),
        None => Ok(()),
    }
}

/// Reads the experiment `id` in a state that `edit` may change and from which `step` can be
/// taken.
fn to_step(
    transaction: &Connection<'_>,
    id: &ExperimentId,
    edit: &Edit,
    step: Step,
) -> Result<Experiment, Abort> {
    let known = documents::to_edit(transaction, id, edit)?;
    check_step(&known, step)?;
    Ok(known)
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
        self.create(definition, edit)
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
                documents::create::<Experiment>(transaction, definition, edit)?;
            }
            Ok(())
        })
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
        self.write("record a decision", |transaction| {
            let known = to_step(transaction, id, edit, Step::Decide)?;
            if let Some(ship) = &ship {
                check_ship(&known, ship)?;
            }
            if ship.is_some() && known.ships().is_none() {
                let n_shipped: u64 = transaction.query_row(
                    "SELECT count(*) FROM experiments WHERE ship IS NOT NULL",
                    params![],
                    |row| row.get(0),
                )?;
                if n_shipped >= MAX_SHIPPED {
                    return Err(CatalogError::TooManyShipped(MAX_SHIPPED).into());
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
            let action = Step::Decide.action();
            Ok(store(transaction, edit, action, Some(&known), decided)?)
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

    fn step(&self, id: &ExperimentId, edit: &Edit, step: Step) -> Result<Experiment, CatalogError> {
        self.write("change an experiment's status", |transaction| {
            let known = to_step(transaction, id, edit, step)?;
            let mut changed = known.clone();
            match step {
                Step::Start => {
                    changed.status = Status::Running;
                    changed.started_at = Some(edit.at);
                }
                Step::Stop => {
                    let running = holdouts::running(transaction)?;
                    changed.at_stop = Some(AtStop::new(&known, &running));
                    changed.status = Status::Stopped;
                    changed.stopped_at = Some(edit.at);
                }
                Step::Resume => {
                    check_resume(transaction, &known)?;
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
            allocate_buckets(transaction, changed.status, &changed.definition)?;
            let action = step.action();
            Ok(store(transaction, edit, action, Some(&known), changed)?)
        })
    }
}

/// Checks that `known` may go on where it was stopped, and gives it back its buckets.
fn check_resume(transaction: &Connection<'_>, known: &Experiment) -> Result<(), Abort> {
    let id = &known.definition.experiment_id;
    let refused = |reason: String| {
        Abort::from(CatalogError::NoResume {
            experiment: id.clone(),
            reason,
        })
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
    let running = holdouts::running(transaction)?;
    if let Some(reason) = at_stop.difference(&known.definition, &running) {
        return Err(refused(reason));
    }
    let Some(layer) = &known.definition.layer else {
        return Ok(());
    };
    match claim(transaction, layer, id, &at_stop.ranges)? {
        Some(owner) => Err(refused(format!(
            "experiment `{owner}` owns buckets of the layer `{layer}` now that were its own: stop that one first, or register a new experiment"
        ))),
        None => Ok(()),
    }
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
